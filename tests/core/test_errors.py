"""One tree: every error crosses a wire or a process as itself, says little, and never prints a million characters."""

from __future__ import annotations

import json
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core import errors
from tarmac.core.errors import TarmacError, bounded, from_json, nearest, tree
from tarmac.store import postgres, sqlite


def classes(cls: type[TarmacError] = TarmacError) -> Iterator[type[TarmacError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from classes(below)


@pytest.mark.parametrize("cls", list(classes()), ids=str)
def test_an_error_arrives_as_it_was_raised(cls: type[TarmacError]) -> None:
    raised = cls("what happened", hint="do this", detail={"n": 1})
    over_the_wire = from_json(json.loads(json.dumps(raised.to_json())))
    from_a_process = pickle.loads(pickle.dumps(raised))
    for arrived in (over_the_wire, from_a_process):
        assert type(arrived) is cls
        assert (arrived.message, arrived.hint, arrived.detail) == ("what happened", "do this", {"n": 1})
        assert str(arrived) == "what happened"
    assert 400 <= cls.status < 600
    assert cls.exit_code in (1, 2)


def test_every_class_has_a_code_of_its_own_and_a_line_in_the_tree() -> None:
    every = list(classes())
    codes = [cls.code for cls in every]
    assert sorted(codes) == sorted(set(codes))
    assert tree() == {cls.code: cls for cls in every}
    drawn = errors.__doc__ or ""
    assert [cls.__name__ for cls in every if f"{cls.__name__} " not in drawn and cls is not TarmacError] == []


@settings(deadline=None)
@given(st.text(max_size=5000), st.integers(min_value=3, max_value=300))
def test_what_is_quoted_is_short_and_on_one_line(text: str, limit: int) -> None:
    shown = bounded(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()


def test_a_huge_name_makes_a_short_error() -> None:
    huge = "x\n\x00" * 1_000_000
    for error in (
        errors.NotFound.named("run", huge, [huge[:300]]),
        errors.Conflict.exists("run", huge),
        errors.UnknownKey.at("tarmac.toml", huge, [f"key{n}" for n in range(10_000)]),
        errors.NotAWorkspace.at(huge),
        errors.Forbidden.to(huge, "runs.create", "write", huge),
        TarmacError(huge),
    ):
        assert len(error.message) <= errors.LONGEST_MESSAGE
        assert len(json.dumps(error.to_json())) < 20_000
    assert "\n" not in errors.NotFound.named("run", huge).message


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["error", "code", "message", "hint", "detail", "x"]), inner, max_size=5)
        ),
        max_leaves=12,
    )
)
def test_whatever_a_foreign_server_answers_becomes_an_error_of_ours(document: object) -> None:
    for answer in (document, {"error": document}):
        error = from_json(answer)
        assert isinstance(error, TarmacError)
        assert error.hint is None or isinstance(error.hint, str)
        assert isinstance(error.detail, dict)


def test_the_nearest_name_ignores_case_and_gives_up_on_the_far() -> None:
    assert nearest("BASLINE", ["baseline", "final"]) == "baseline"
    assert nearest("zzz", ["baseline", "final"]) is None
    assert nearest("", []) is None


def test_no_error_of_the_databases_drivers_leaks(tmp_path: Path) -> None:
    """Every class the drivers have becomes one of ours, and the ones people can mend say how."""
    for below in vars(sqlite3).values():
        if isinstance(below, type) and issubclass(below, sqlite3.Error):
            assert isinstance(sqlite.translate(below("broken"), tmp_path), TarmacError)
    for below in [*vars(psycopg.errors).values(), *vars(psycopg).values()]:
        if isinstance(below, type) and issubclass(below, psycopg.Error):
            assert isinstance(postgres.translate(below("broken"), "postgresql://h/d"), TarmacError)
    assert isinstance(postgres.translate(psycopg.errors.DiskFull("no"), "here"), errors.Full)
    assert isinstance(postgres.translate(psycopg.OperationalError("no"), "here"), errors.Unreachable)
    junk = tmp_path / "store.db"
    junk.write_bytes(b"this is no database" * 1000)
    with pytest.raises(errors.Damaged, match="damaged"), sqlite.SQLiteDatabase(junk).read() as connection:
        connection.all("SELECT * FROM runs")

"""Tables against each other: rows by key, cells, columns; in memory and on disk alike."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Invalid, UnknownKey
from tarmac.data.tables import comparing
from tarmac.data.tables.comparing import compare
from tarmac.data.tables.measuring import measure
from tarmac.data.tables.records import Cell, TableDiff


class Frame:
    """A table at hand, in small batches."""

    def __init__(self, frame: pl.DataFrame, batch: int = 3) -> None:
        self._table = frame.to_arrow()
        self._batch = batch

    @property
    def schema(self) -> pa.Schema:
        return self._table.schema

    def batches(self, columns: Any = None) -> Any:
        chosen = self._table if columns is None else self._table.select(columns)
        return iter(chosen.to_batches(max_chunksize=self._batch))


def diff(one: pl.DataFrame, other: pl.DataFrame, *key: str) -> TableDiff:
    profiles = measure([one], one.schema), measure([other], other.schema)
    return compare(Frame(one), Frame(other), key, profiles)


ONE = pl.DataFrame({"id": [1, 2, 3, 4], "name": ["a", "b", None, "d"], "x": [1.0, 2.0, 3.0, float("nan")]})


def test_rows_are_matched_by_their_key() -> None:
    other = pl.DataFrame({"id": [5, 4, 3, 1], "name": ["e", "d", "c", "A"], "x": [5.0, float("nan"), 3.0, 1.5]})
    found = diff(ONE, other, "id")
    assert (found.rows, found.added, found.removed, found.changed) == ((4, 4), 1, 1, 2)
    assert found.changed_by_column == {"name": 2, "x": 1}
    assert found.cells == [
        Cell(key="1", column="name", before="'a'", after="'A'"),
        Cell(key="3", column="name", before="null", after="'c'"),
        Cell(key="1", column="x", before="1.0", after="1.5"),
    ]
    assert (found.added_keys, found.removed_keys) == (["5"], ["2"])
    assert not found.same


def test_the_same_rows_in_another_order_are_the_same() -> None:
    for key in (["id"], []):
        found = diff(ONE, ONE.reverse(), *key)
        assert found.same
        assert found.changed_by_column == {}


def test_without_a_key_rows_come_and_go() -> None:
    one = pl.DataFrame({"a": ["x", "x", "y"]})
    found = diff(one, pl.DataFrame({"a": ["x", "z", "z"]}))
    assert (found.added, found.removed, found.changed) == (2, 2, 0)
    assert (found.added_keys, found.removed_keys) == (["'z'", "'z'"], ["'x'", "'y'"])


def test_columns_come_go_and_change_their_type() -> None:
    other = ONE.drop("x").with_columns(pl.col("id").cast(pl.Float64), y=pl.lit(1))
    found = diff(ONE, other, "id")
    assert (found.columns_added, found.columns_removed) == (["y"], ["x"])
    assert [(c.name, c.before, c.after) for c in found.columns_retyped] == [("id", "Int64", "Float64")]
    assert (found.added, found.removed, found.changed) == (0, 0, 0)
    assert not found.same


def test_distributions_are_compared() -> None:
    one = pl.DataFrame({"n": range(1000), "c": ["a"] * 500 + ["b"] * 500})
    other = pl.DataFrame({"n": range(500, 1500), "c": ["a"] * 900 + ["c"] * 100})
    by_name = {shift.column: shift for shift in diff(one, other).shifts}
    assert by_name["n"].distance == pytest.approx(0.5, abs=by_name["n"].error)
    assert by_name["n"].mean == (499.5, 999.5)
    assert by_name["c"].distance == pytest.approx(0.5)
    assert (by_name["c"].new, by_name["c"].gone) == (["c"], ["b"])


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(Invalid, match="the key is no key: 1 rows repeat"):
        diff(ONE, ONE.with_columns(id=pl.Series([1, 1, 2, 3])), "id")
    with pytest.raises(UnknownKey, match="no key `idd`"):
        diff(ONE, ONE, "idd")


def test_empty_tables() -> None:
    assert diff(ONE.head(0), ONE, "id").added == 4
    assert diff(ONE, ONE.head(0), "id").removed == 4
    assert diff(ONE.head(0), ONE.head(0), "id").same


rows = st.dictionaries(st.integers(0, 12), st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2)), max_size=12)


@settings(deadline=None, max_examples=25)
@given(rows, rows, st.booleans())
def test_what_is_told_is_what_differs(one: Any, other: Any, on_disk: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if on_disk:
            patch.setattr(comparing, "MOST_ROWS_IN_MEMORY", 2)
            patch.setattr(comparing, "MOST_CHANGED_IN_MEMORY", 1)
        schema = {"id": pl.Int64, "t": pl.String, "n": pl.Int64}
        frames = [
            pl.DataFrame([{"id": k, "t": t, "n": n} for k, (t, n) in side.items()], schema=schema)
            for side in (one, other)
        ]
        found = compare(Frame(frames[0]), Frame(frames[1]), ["id"], None)
    assert found.added == len(other.keys() - one.keys())
    assert found.removed == len(one.keys() - other.keys())
    changed = [key for key in one.keys() & other.keys() if one[key] != other[key]]
    assert found.changed == len(changed)
    assert found.changed_by_column.get("t", 0) == sum(one[key][0] != other[key][0] for key in changed)
    assert found.changed_by_column.get("n", 0) == sum(one[key][1] != other[key][1] for key in changed)
    assert {int(key) for key in found.added_keys} <= other.keys() - one.keys()

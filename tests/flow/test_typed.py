"""What steps hand on comes back as it was: value for value, type for type, and equal things have equal digests."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from collections import namedtuple
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Unstorable
from tarmac.flow.records import Leaf
from tarmac.flow.typed import files_of, pack, unpack


class Colour(enum.Enum):
    RED = 1


class Point(msgspec.Struct):
    x: int
    y: Any


@dataclasses.dataclass(frozen=True)
class Pair:
    left: Any
    right: int = 3


Row = namedtuple("Row", "a b")


def again(value: Any) -> Any:
    packed = pack(value, "it")
    blobs = packed.blobs

    def fetch(digest: str) -> bytes:
        data = blobs[digest]
        return data if isinstance(data, bytes) else data.read_bytes()

    def placed(leaf: Leaf) -> Path:
        found = blobs[leaf.files[0].digest]
        assert isinstance(found, Path)
        return found

    assert {file.digest for file in files_of(packed.output)} == blobs.keys()
    assert pack(value, "it").output.digest == packed.output.digest
    return unpack(packed.output, fetch, placed)


SIMPLE: list[Any] = [
    None, True, 0, -1, 2**63, 2**64, -(2**70), 1.5, -0.0, math.inf, "", "ž\x00", b"\x00\xff", bytearray(b"a"), 1 + 2j,
    dt.datetime(2026, 3, 29, 2, 30, tzinfo=dt.UTC), dt.date(2026, 1, 1), dt.time(1, 2), dt.timedelta(-1, 3),
    decimal.Decimal("1.10"), uuid.UUID(int=5), Colour.RED, Point(1, [2]), Pair((1, 2)), Row(1, {2}), Path("not/there"),
    {"a": [1, (2, {3: "c"})], "b": frozenset({1, "x"})}, {(1, 2): 3}, [[], {}, (), set()], "x" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("value", SIMPLE, ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}")
def test_plain_values(value: Any) -> None:
    found = again(value)
    assert type(found) is type(value)
    assert found == value
    assert not pack(value, "it").output.pickled


def test_what_looks_alike_has_digests_of_its_own() -> None:
    alike = [1, 1.0, True, "1", b"1", (1,), [1], {1}, frozenset({1}), {"1": 1}, {1: 1}, None, Colour.RED]
    digests = [pack(value, "it").output.digest for value in alike]
    assert len(set(digests)) == len(alike)
    assert pack({"b", "a", "c"}, "it").output.digest == pack({"c", "b", "a"}, "it").output.digest


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(plain)
def test_any_plain_value(value: Any) -> None:
    try:
        found = again(value)
    except Unstorable:  # text that is no Unicode
        assert "\\ud" in repr(value)
        return
    assert found == value
    assert repr(found) == repr(value)


def test_arrays() -> None:
    import numpy as np

    for value in (
        np.arange(6, dtype="int16").reshape(2, 3), np.zeros((0, 4)), np.array("text"), np.array([1, 2])[::-1],
        np.asfortranarray(np.ones((50, 50))), np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    ):  # fmt: skip
        found = again(value)
        assert found.dtype == value.dtype
        assert np.array_equal(found, value)
        assert found.flags.writeable
    assert type(again(np.float64(1.5))) is np.float64
    assert again({"x": [np.arange(3), (np.ones(2000), "b")]})["x"][1][0].sum() == 2000
    assert pack(np.array([object()], dtype=object), "it").output.pickled


def test_frames() -> None:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    frame = pl.DataFrame({"a": [1, None, 3], "b": ["x", "y", None], "c": [[1], [], None]})
    assert again(frame).equals(frame)
    assert again(frame["a"]).equals(frame["a"])
    assert (
        pack(pl.concat([frame, frame]), "it").output.digest
        == pack(pl.concat([frame, frame]).rechunk(), "it").output.digest
    )
    table = pa.table({"a": [1, 2]})
    assert again(table).equals(table)
    for other in (
        pd.DataFrame({"a": [1.5, 2], "b": pd.Categorical(["x", "y"])}, index=pd.Index(["r", "s"], name="row")),
        pd.DataFrame({"at": pd.date_range("2026-01-01", periods=3, tz="Europe/Prague")}),
    ):
        pd.testing.assert_frame_equal(again(other), other)
        assert not pack(other, "it").output.pickled
    series = pd.Series([1, 2, 3], name="n")
    pd.testing.assert_series_equal(again(series), series)
    odd = pd.DataFrame({0: [1], 1: [object]})
    assert pack(odd, "it").output.pickled


def test_models_are_pickles_and_say_so() -> None:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0], [1]], [0, 1])
    assert pack(model, "it").output.pickled
    assert again(model).predict([[1]]) == [1]
    assert again({"model": model})["model"].predict([[0]]) == [0]


def test_files_and_folders(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text")
    assert again(file).read_text() == "text"
    before = pack(file, "it").output.digest
    file.write_text("other")
    assert pack(file, "it").output.digest != before
    folder = tmp_path / "folder"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "b.bin").write_bytes(b"\x00" * 5000)
    (folder / "c.txt").write_text("c")
    output = pack(folder, "it").output
    assert [name.path for name in output.leaves[0].files] == ["c.txt", "in/b.bin"]


@pytest.mark.parametrize(
    ("value", "said"),
    [((i for i in range(3)), "a generator"), (open, None), (lambda: 1, "a `function`"), (math, "a module")],
)
def test_what_cannot_be_stored_is_named(value: Any, said: str | None) -> None:
    if said is None:
        assert pack(value, "it").output.pickled
        return
    with pytest.raises(Unstorable, match=said):
        pack(value, "it")

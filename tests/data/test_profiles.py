"""Profiles: counts are exact, sketches are as wrong as they say and no more, and parts merge into the whole."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Invalid, NewerFormat
from tarmac.data.tables.measuring import measure
from tarmac.formats.profile import (
    ColumnProfile,
    Numbers,
    Profile,
    Quantiles,
    Top,
    from_document,
    merge,
    to_document,
)


def profile(frame: pl.DataFrame, batch: int = 1000) -> Profile:
    return measure((frame[start : start + batch] for start in range(0, frame.height, batch)), frame.schema)


def of(values: Any, dtype: Any = None) -> ColumnProfile:
    return profile(pl.DataFrame({"a": pl.Series(values, dtype=dtype)})).columns[0]


def assert_ranks(quantiles: Quantiles, values: np.ndarray[Any, Any]) -> None:
    assert quantiles.count == len(values)
    for value in np.unique(np.concatenate([values, values - 1e-9, values + 1e-9, [-1e30, 1e30]])):
        assert abs(quantiles.rank(value) - (values <= value).sum()) <= quantiles.error + 1e-6


def assert_counts(top: Top, values: list[Any]) -> None:
    true, found = Counter(values), dict(top.values)
    for value, count in true.items():
        assert 0 <= count - found.get(value, 0) <= top.error
    if top.complete:
        assert found == true


def test_what_is_counted_is_exact() -> None:
    found = of([3.0, math.nan, None, math.inf, 0.0, -0.0, 5.0, 5.0])
    assert (found.kind, found.rows, found.nulls, found.infinite) == ("number", 8, 2, 1)
    assert found.numbers is not None
    assert (found.numbers.lowest, found.numbers.highest, found.numbers.zeros) == (0, 5, 2)
    assert found.numbers.mean == pytest.approx(13 / 5)
    assert found.numbers.deviation == pytest.approx(np.std([3, 0, 0, 5, 5]))
    assert found.distinct is not None
    assert (found.distinct.count, found.distinct.exact) == (3, True)
    assert found.numbers.quantiles == Quantiles(count=5, values=[0, 0, 3, 5, 5], error=0)
    assert found.top is not None
    assert found.top.values == [(0.0, 2), (5.0, 2), (3.0, 1)]


@pytest.mark.parametrize(
    ("values", "kind", "lengths"),
    [
        (["", "é", "abc", None], "text", (0, 3)),
        ([b"", b"abc"], "bytes", (0, 3)),
        ([[1], [1, 2], None], "list", (1, 2)),
        ([True, False, None], "boolean", None),
        ([{"x": 1}], "other", None),
        ([None, None], "other", None),
    ],
)
def test_other_kinds(values: Any, kind: str, lengths: tuple[int, int] | None) -> None:
    found = of(values)
    assert found.kind == kind
    assert found.nulls == sum(value is None for value in values)
    assert (found.lengths and (found.lengths.lowest, found.lengths.highest)) == lengths


def test_times_are_seconds() -> None:
    found = of(["2020-01-01", "1969-12-31"], pl.String)
    assert found.kind == "text"
    times = profile(pl.DataFrame({"a": ["2020-01-01", "1969-12-31"]}).select(pl.col("a").str.to_date())).columns[0]
    assert times.numbers is not None
    assert (times.kind, times.numbers.lowest, times.numbers.highest) == ("date", -86400, 1577836800)


@pytest.mark.parametrize("shape", ["normal", "lognormal", "few", "atoms", "sorted", "times", "whole"])
def test_a_rank_is_wrong_by_no_more_than_is_said(shape: str) -> None:
    rng = np.random.default_rng(7)
    count = 60_000
    values = {
        "normal": lambda: rng.normal(size=count),
        "lognormal": lambda: rng.lognormal(sigma=4, size=count),
        "few": lambda: rng.integers(0, 5, count).astype(float),
        "atoms": lambda: np.where(rng.random(count) < 0.7, 0.0, rng.normal(size=count)),
        "sorted": lambda: np.arange(count) / 7,
        "times": lambda: 1.7e9 + rng.random(count) * 60,
        "whole": lambda: rng.integers(-(10**9), 10**9, count),
    }[shape]()
    found = of(values)
    assert found.numbers is not None
    quantiles = found.numbers.quantiles
    assert quantiles.error <= 0.005 * count
    probes = np.quantile(values, np.linspace(0, 1, 300))
    ordered = np.sort(values)
    for probe in probes:
        assert abs(quantiles.rank(float(probe)) - np.searchsorted(ordered, probe, "right")) <= quantiles.error + 1e-6
    assert found.numbers.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
    assert found.numbers.deviation == pytest.approx(values.std(), rel=1e-9)
    edges, bins = found.numbers.histogram(20)
    true, _ = np.histogram(values, np.array(edges))
    assert np.abs(np.array(bins) - true).max() <= 2 * quantiles.error + 1


def test_how_many_are_different_is_about_right() -> None:
    for count in (1_000, 40_000):
        for values in (np.arange(count) * 3, np.arange(count) / 7, [f"user-{n}" for n in range(count)]):
            found = of(values).distinct
            assert found is not None
            assert not found.exact
            assert abs(found.count / count - 1) < 0.25, "four standard errors"


def test_equal_numbers_are_one_whatever_their_type() -> None:
    parts = [pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": [1.0, 2.5]})]
    found = merge([profile(part) for part in parts]).columns[0]
    assert (found.kind, found.distinct and found.distinct.count) == ("number", 3)


def test_whole_numbers_too_long_for_a_fraction_stay_apart() -> None:
    found = of([2**53, 2**53 + 1, 2**60, 2**60 + 1]).distinct
    assert found is not None
    assert found.count == 4


def test_frequent_texts_among_many_are_found_within_the_error() -> None:
    rng = np.random.default_rng(3)
    values = [f"rare-{n}" for n in range(30_000)] + ["often"] * 2_000 + ["seldom"] * 300
    rng.shuffle(values)
    found = profile(pl.DataFrame({"a": values}), batch=8_000).columns[0].top
    assert found is not None
    assert not found.complete
    assert_counts(found, values)
    assert found.values[0][0] == "often"
    assert found.error < 100


def test_a_measure_has_no_frequent_values_and_long_texts_are_no_categories() -> None:
    assert of(np.random.default_rng(1).normal(size=5_000)).top is None
    assert of(["x" * 300, "y"]).top is None


cells = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, 0.0, 1.0, 1.0]))
tables = st.lists(cells, max_size=600)


@settings(deadline=None, max_examples=40)
@given(st.lists(tables, min_size=1, max_size=5))
def test_parts_merge_into_the_whole(parts: list[list[float | None]]) -> None:
    frames = [pl.DataFrame({"a": part}, schema={"a": pl.Float64}) for part in parts]
    merged = merge([profile(frame, 97) for frame in frames]).columns[0]
    whole = profile(pl.concat(frames)).columns[0]
    for name in ("rows", "nulls", "infinite", "distinct"):
        assert getattr(merged, name) == getattr(whole, name)
    values = np.array([v for part in parts for v in part if v is not None and math.isfinite(v)])
    assert (merged.numbers is None) is (len(values) == 0)
    if merged.numbers is None or whole.numbers is None:
        return
    for name in ("lowest", "highest", "zeros"):
        assert getattr(merged.numbers, name) == getattr(whole.numbers, name)
    assert merged.numbers.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
    assert merged.numbers.deviation == pytest.approx(values.std(), rel=1e-6, abs=1e-6)
    for numbers in (merged.numbers, whole.numbers):
        assert_ranks(numbers.quantiles, values)
        assert numbers.quantiles.error <= 0.005 * len(values) * (len(parts) + 1)
    if merged.top is not None:
        assert_counts(merged.top, values.tolist())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "é", "", None, "c"]), max_size=30), min_size=1, max_size=4))
def test_texts_merge_exactly_while_they_are_few(parts: list[list[str | None]]) -> None:
    frames = [pl.DataFrame({"a": part}, schema={"a": pl.String}) for part in parts]
    merged, whole = merge([profile(frame, 7) for frame in frames]), profile(pl.concat(frames))
    assert msgspec.structs.replace(merged.columns[0], lengths=None) == msgspec.structs.replace(
        whole.columns[0], lengths=None
    )
    one, other = merged.columns[0].lengths, whole.columns[0].lengths
    assert (one and one.quantiles) == (other and other.quantiles)


def test_a_column_that_a_part_does_not_have_is_null_there() -> None:
    merged = merge([profile(pl.DataFrame({"a": [1], "b": [1]})), profile(pl.DataFrame({"a": [1, 2]}))])
    assert [(column.name, column.rows, column.nulls) for column in merged.columns] == [("a", 3, 0), ("b", 3, 2)]
    assert merge([]) == Profile(rows=0, columns=[])


def test_a_profile_is_kept_as_json() -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [True, False]})
    found = profile(frame)
    assert from_document(msgspec.json.decode(msgspec.json.encode(to_document(found)))) == found
    with pytest.raises(NewerFormat):
        from_document({"format": 2})
    with pytest.raises(Invalid, match="no profile"):
        from_document({"rows": "x"})


def test_an_empty_table_has_columns() -> None:
    found = profile(pl.DataFrame(schema={"a": pl.Int64, "b": pl.String}))
    assert [(column.name, column.rows, column.numbers) for column in found.columns] == [("a", 0, None), ("b", 0, None)]


def test_a_histogram_of_one_value_has_one_bin() -> None:
    numbers = of([4, 4]).numbers
    assert isinstance(numbers, Numbers)
    assert numbers.histogram(10) == ([4, 4], [2])

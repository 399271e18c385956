"""The profile of a table, made in one pass over its batches. `formats/profile.py` says what the figures are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tarmac.data.tables import hashes
from tarmac.formats.profile import (
    MOST_HASHES,
    QUANTILES,
    ColumnProfile,
    Distinct,
    Numbers,
    Profile,
    Quantiles,
    Scalar,
    Top,
    cut_top,
    distinct_of,
)
from tarmac.formats.table import kind_of

if TYPE_CHECKING:
    import polars as pl

FINE, COARSE = 2048, 512
"""How many values stand for a batch while a table is measured; the latter where there are many columns."""
MANY = 200
FAN = 16
MOST_COUNTED = 4096
LONGEST_VALUE = 200
"""Longer texts are no categories and not counted one by one."""


class TableMeter:
    """Takes the batches of one table, all with the same columns."""

    def __init__(self, schema: Any) -> None:
        fine = FINE if len(schema) <= MANY else COARSE
        self._columns = [ColumnMeter(name, dtype, fine) for name, dtype in schema.items()]
        self._rows = 0
        self._threads = ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1, len(self._columns))))

    def take(self, frame: pl.DataFrame) -> None:
        self._rows += frame.height
        if frame.height:
            list(self._threads.map(lambda meter: meter.take(frame[meter.name]), self._columns))

    def finish(self) -> Profile:
        columns = list(self._threads.map(ColumnMeter.finish, self._columns))
        self._threads.shutdown()
        return Profile(rows=self._rows, columns=columns)


def measure(frames: Iterable[pl.DataFrame], schema: Any) -> Profile:
    """The profile of a table that is at hand."""
    meter = TableMeter(schema)
    for frame in frames:
        meter.take(frame)
    return meter.finish()


class ColumnMeter:
    def __init__(self, name: str, dtype: Any, fine: int) -> None:
        self.name = name
        self._dtype = dtype
        self._kind = kind_of(dtype)
        self._rows = 0
        self._nulls = 0
        self._infinite = 0
        self._numbers = NumbersMeter(fine)
        self._lengths = NumbersMeter(fine)
        self._top: TopMeter | None = TopMeter()
        self._distinct: DistinctMeter | None = DistinctMeter()

    def take(self, column: pl.Series) -> None:
        self._rows += len(column)
        nulls = column.null_count()
        self._nulls += nulls
        there = column.drop_nulls() if nulls else column
        if not len(there):
            return
        if self._kind in ("integer", "number"):
            self._take_numbers(there)
        elif self._kind in ("date", "time"):
            self._take_ordered(seconds(there))
        elif self._kind == "text":
            self._take_texts(there)
        elif self._kind == "boolean":
            self._take_booleans(there)
        else:
            self._take_others(there)

    def _take_numbers(self, column: pl.Series) -> None:
        import polars as pl

        if column.dtype.is_decimal() or column.dtype in (pl.UInt64, pl.Int128, pl.UInt128):
            column = column.cast(pl.Float64)
        values = column.to_numpy()
        if values.dtype.kind == "f":
            values = values.astype("f8", copy=False)
        self._take_ordered(values)

    def _take_ordered(self, values: Any) -> None:
        """One sort gives quantiles, frequent values and what is different."""
        import numpy as np

        if values.dtype.kind in "iu" and (counted := _counted(values)) is not None:
            different, counts = counted
        else:
            ordered = self._without_infinite(_sorted(self._without_nan(values)))
            if not len(ordered):
                return
            starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
            different, counts = ordered[starts], np.diff(np.append(starts, len(ordered)))
        self._numbers.take(different, counts)
        if self._distinct is not None:
            self._distinct.take(hashes.of_numbers(different))
        if self._top is not None and len(different) > max(MOST_COUNTED // 4, len(values) // 2):
            self._top = None  # a measure, not a category
        if self._top is not None:
            self._top.take(different, counts)

    def _without_nan(self, values: Any) -> Any:
        if values.dtype.kind != "f" or (there := values == values).all():
            return values
        self._nulls += len(values) - int(there.sum())
        return values[there]

    def _without_infinite(self, ordered: Any) -> Any:
        import numpy as np

        if ordered.dtype.kind != "f" or not len(ordered) or (ordered[0] > -np.inf and ordered[-1] < np.inf):
            return ordered
        low, high = np.searchsorted(ordered, -np.inf, "right"), np.searchsorted(ordered, np.inf)
        self._infinite += int(low) + len(ordered) - int(high)
        return ordered[low:high]

    def _take_texts(self, column: pl.Series) -> None:
        import polars as pl

        column = column.cast(pl.String)
        self._take_lengths(column.str.len_chars())
        counted = column.alias("value").value_counts(name="count")
        values, counts = counted["value"], counted["count"].to_numpy()
        if self._distinct is not None:
            self._distinct.take(hashes.of_texts(values))
        if self._top is not None:
            self._top.take(values, counts)
            if self._top.has_longer_than(LONGEST_VALUE):
                self._top = None

    def _take_lengths(self, lengths: pl.Series) -> None:
        import numpy as np

        values = lengths.to_numpy()
        different, counts = _counted(values) or np.unique(values, return_counts=True)
        self._lengths.take(different, counts)

    def _take_others(self, column: pl.Series) -> None:
        import polars as pl

        self._top = self._distinct = None
        if self._kind == "list":
            self._take_lengths(column.list.len() if column.dtype == pl.List else column.arr.len())
        elif self._kind == "bytes":
            self._take_lengths(column.bin.size())

    def _take_booleans(self, column: pl.Series) -> None:
        assert self._top is not None
        assert self._distinct is not None
        yes = int(column.sum())
        there = [(value, count) for value, count in ((True, yes), (False, len(column) - yes)) if count]
        self._top.add([value for value, _ in there], [count for _, count in there])
        self._distinct.take(hashes.of_booleans([value for value, _ in there]))

    def finish(self) -> ColumnProfile:
        there = self._rows > self._nulls
        return ColumnProfile(
            name=self.name,
            kind=self._kind,
            dtype=str(self._dtype),
            rows=self._rows,
            nulls=self._nulls,
            infinite=self._infinite,
            distinct=self._distinct.finish() if self._distinct is not None and there else None,
            numbers=self._numbers.finish(),
            lengths=self._lengths.finish(),
            top=self._frequent() if there and self._kind in COUNTED else None,
        )

    def _frequent(self) -> Top | None:
        """None if nothing is known to be frequent."""
        found = self._top.finish() if self._top is not None else None
        return None if found is None or not found.values or found.error >= found.values[0][1] else found


_MAGNITUDE = (1 << 63) - 1
COUNTED = ("integer", "number", "text", "boolean", "date")


def seconds(column: pl.Series) -> Any:
    """Days and times as seconds since 1970."""
    import polars as pl

    return column.cast(pl.Datetime("us")).cast(pl.Int64).to_numpy() / 1e6


class NumbersMeter:
    """Moments, and quantiles from levels of samples: `FAN` samples of one level become one of the next."""

    def __init__(self, fine: int) -> None:
        self._fine = fine
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._zeros = 0
        self._lowest = self._highest = 0.0
        self._levels: list[list[tuple[int, Any, float]]] = []

    def take(self, values: Any, counts: Any) -> None:
        """More values: the different ones in order, all finite, and how often each comes."""
        import numpy as np

        values, count = values.astype("f8", copy=False), int(counts.sum())
        low, high = float(values[0]), float(values[-1])
        self._lowest = low if not self._count else min(low, self._lowest)
        self._highest = high if not self._count else max(high, self._highest)
        zero = int(np.searchsorted(values, 0))
        if zero < len(values) and values[zero] == 0:
            self._zeros += int(counts[zero])
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float((values * counts).sum() / count)
            apart = values - mean
            squares = float((apart * apart * counts).sum())
            total, between = self._count + count, mean - self._mean
            self._squares += squares + between * between * self._count * count / total
            self._mean += between * count / total
        self._count = total
        self._add(0, _picked(values, counts, count, self._fine))

    def _add(self, level: int, sample: tuple[int, Any, float]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(sample)
        if len(self._levels[level]) == FAN:
            full, self._levels[level] = self._levels[level], []
            self._add(level + 1, _joined(full, self._fine))

    def finish(self) -> Numbers | None:
        if not self._count:
            return None
        samples = [sample for level in self._levels for sample in level]
        if len(samples) == 1 and self._count > QUANTILES:
            samples = [_joined(samples, QUANTILES)]
        elif len(samples) > 1:
            samples = [_joined(samples, min(self._count, QUANTILES))]
        ((count, values, error),) = samples
        return Numbers(
            lowest=self._lowest,
            highest=self._highest,
            mean=self._mean,
            deviation=float(max(0.0, self._squares / self._count) ** 0.5),
            zeros=self._zeros,
            quantiles=Quantiles(count=count, values=values.tolist(), error=error),
        )


def _sorted(values: Any) -> Any:
    """In order. Fractions are sorted as the whole numbers that their bits are: a third of the time."""
    import polars as pl

    if values.dtype.kind != "f":
        return pl.Series(values).sort(multithreaded=False).to_numpy()
    bits = (values + 0.0).view("i8")  # -0.0 becomes 0.0
    ordered = pl.Series(bits ^ ((bits >> 63) & _MAGNITUDE)).sort(multithreaded=False).to_numpy()
    return (ordered ^ ((ordered >> 63) & _MAGNITUDE)).view("f8")


def _counted(values: Any) -> tuple[Any, Any] | None:
    """The different whole numbers in order and how often each comes; None if they lie too far apart to be counted."""
    import numpy as np

    low, high = int(values.min()), int(values.max())
    if high - low > 4 * len(values):
        return None
    counts = np.bincount((values - values.dtype.type(low)).astype("i8"))
    there = np.flatnonzero(counts)
    return there + low, counts[there]


def _picked(values: Any, counts: Any, count: int, most: int) -> tuple[int, Any, float]:
    """At most so many values for all: those in the middle of equal steps."""
    import numpy as np

    if count <= most:
        return count, np.repeat(values, counts), 0.0
    step = count / most
    places = ((np.arange(most) + 0.5) * step).astype("i8")
    if len(values) < count:
        places = np.searchsorted(np.cumsum(counts), places, "right")
    return count, values[places], step / 2


def _joined(samples: list[tuple[int, Any, float]], most: int) -> tuple[int, Any, float]:
    """One sample for several: ranks add up, and errors with them; picking adds half a step."""
    import numpy as np

    values = np.concatenate([values for _, values, _ in samples])
    weights = np.concatenate([np.full(len(values), count / len(values)) for count, values, _ in samples])
    count, error = sum(count for count, _, _ in samples), sum(error for _, _, error in samples)
    order = np.argsort(values, kind="stable")
    if len(values) <= most and (weights == 1).all():
        return count, values[order], error
    ends = np.cumsum(weights[order])
    step = float(ends[-1]) / most
    places = np.searchsorted(ends, (np.arange(most) + 0.5) * step, "right")
    return count, values[order][np.minimum(places, len(values) - 1)], error + step / 2


class TopMeter:
    """Counts of up to `MOST_COUNTED` values; what is dropped to make room is remembered as a bound."""

    def __init__(self) -> None:
        self._counts: dict[Scalar, int] = {}
        self._error = 0
        self._complete = True

    def take(self, values: Any, counts: Any) -> None:
        """The different values of a batch, as an array or a column, and how often each comes."""
        import numpy as np

        if len(values) > MOST_COUNTED:
            left_out = int(np.partition(counts, len(counts) - MOST_COUNTED - 1)[len(counts) - MOST_COUNTED - 1])
            most = np.flatnonzero(counts > left_out)
            values, counts = values[most], counts[most]
            self._leave_out(left_out)
        self.add(values.to_list() if hasattr(values, "to_list") else values.tolist(), counts.tolist())

    def add(self, values: list[Any], counts: list[int]) -> None:
        mine = self._counts
        for value, count in zip(values, counts, strict=True):
            mine[value] = mine.get(value, 0) + count
        if len(mine) > 4 * MOST_COUNTED:
            ordered = sorted(mine.items(), key=lambda item: -item[1])
            self._counts = dict(ordered[:MOST_COUNTED])
            self._leave_out(ordered[MOST_COUNTED][1])

    def _leave_out(self, most: int) -> None:
        self._error += most
        self._complete = False

    def has_longer_than(self, most: int) -> bool:
        return any(len(value) > most for value in self._counts if isinstance(value, str))

    def finish(self) -> Top:
        return cut_top(self._counts, self._error, complete=self._complete)


class DistinctMeter:
    """The smallest hashes that were seen."""

    def __init__(self) -> None:
        self._smallest: Any = None

    def take(self, found: Any) -> None:
        import numpy as np

        if self._smallest is not None and len(self._smallest) == MOST_HASHES:
            found = found[found < self._smallest[-1]]
        if not len(found):
            return
        known = found if self._smallest is None else np.concatenate([self._smallest, found])
        if len(known) > 8 * MOST_HASHES:  # hashes of one batch are of different values
            known = np.partition(known, 2 * MOST_HASHES)[: 2 * MOST_HASHES]
        self._smallest = np.unique(known)[:MOST_HASHES]

    def finish(self) -> Distinct:
        return distinct_of(set() if self._smallest is None else set(self._smallest.tolist()))

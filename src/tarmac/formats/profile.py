"""What is in a table, column by column: counts, ranges, quantiles, frequent values, lengths.

Profiles of parts are merged into that of the whole. Counts, nulls, ranges, means and deviations are then those of the
whole but for rounding. Quantiles and frequent values are sketches, and each says how wrong it may be: `error` is a
bound that is kept along with the figures, not an estimate. Only `distinct` is one. `docs/decisions` has the reasons.

Times are seconds since 1970 in UTC.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import msgspec

from tarmac.core.errors import Invalid, NewerFormat, bounded

FORMAT = 1
QUANTILES = 256
MOST_TOP = 100
MOST_HASHES = 256
_HASHES = 1 << 64

Scalar = bool | int | float | str


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Values at equally spaced ranks: the j-th of m stands for the ranks from j/m to (j+1)/m of `count` values."""

    count: int
    values: list[float]
    error: float = 0.0
    """How many values, at most, a rank that is read off here is wrong by."""

    def rank(self, value: float) -> float:
        """About how many values are at most `value`."""
        return self.count * bisect_right(self.values, value) / len(self.values) if self.values else 0.0

    def below(self, value: float) -> float:
        """About how many values are less than `value`."""
        return self.count * bisect_left(self.values, value) / len(self.values) if self.values else 0.0

    def at(self, share: float) -> float | None:
        """The value that about this share of all is at most."""
        if not self.values:
            return None
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """Of the finite values: numbers, times, or lengths of texts and lists."""

    lowest: float
    highest: float
    mean: float
    deviation: float
    zeros: int
    quantiles: Quantiles

    def histogram(self, bins: int) -> tuple[list[float], list[float]]:
        """Edges of bins of one width, and about how many values are in each."""
        if self.lowest == self.highest:
            return [self.lowest, self.highest], [float(self.quantiles.count)]
        width = (self.highest - self.lowest) / bins
        edges = [self.lowest + i * width for i in range(bins)] + [self.highest]
        ranks = [0.0, *(self.quantiles.below(edge) for edge in edges[1:-1]), float(self.quantiles.count)]
        return edges, [high - low for low, high in pairwise(ranks)]


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """The most frequent values, most frequent first."""

    values: list[tuple[Scalar, int]]
    error: int = 0
    """A count is too low by at most this; 0 and `complete`: these are all values there are, counted."""
    complete: bool = True


class Distinct(msgspec.Struct, frozen=True, kw_only=True):
    """How many different values there are, from the smallest of their hashes."""

    hashes: bytes
    """64 bits each, in order. Fewer than `MOST_HASHES`: one for each value."""

    @property
    def count(self) -> int:
        known = self.numbers()
        if len(known) < MOST_HASHES:
            return len(known)
        return round((MOST_HASHES - 1) / ((known[-1] + 1) / _HASHES))

    @property
    def exact(self) -> bool:
        return len(self.hashes) < 8 * MOST_HASHES

    def numbers(self) -> tuple[int, ...]:
        return struct.unpack(f"<{len(self.hashes) // 8}Q", self.hashes)


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    kind: str
    """What a contract calls its type."""
    dtype: str
    rows: int
    nulls: int = 0
    """NaN among them."""
    infinite: int = 0
    distinct: Distinct | None = None
    numbers: Numbers | None = None
    lengths: Numbers | None = None
    top: Top | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    rows: int
    columns: list[ColumnProfile]

    def column(self, name: str) -> ColumnProfile | None:
        return next((column for column in self.columns if column.name == name), None)


def to_document(profile: Profile) -> dict[str, Any]:
    """As it is kept in a version's document."""
    document: dict[str, Any] = msgspec.to_builtins(profile)
    return document


def from_document(document: Any) -> Profile:
    found = document.get("format") if isinstance(document, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise NewerFormat.of("a profile", found, FORMAT)
    try:
        return msgspec.convert(document, Profile)
    except msgspec.ValidationError as error:
        raise Invalid(f"this is no profile: {bounded(error, 300)}") from None


# ------------------------------------------------------------------------------------------------------------- merging


def merge(profiles: Sequence[Profile]) -> Profile:
    """The profile of all rows of these together. One merge of many is more exact than many of two."""
    if not profiles:
        return Profile(rows=0, columns=[])
    names = dict.fromkeys(column.name for profile in profiles for column in profile.columns)
    rows = sum(profile.rows for profile in profiles)
    merged = []
    for name in names:
        found = [column for profile in profiles if (column := profile.column(name)) is not None]
        absent = rows - sum(column.rows for column in found)
        merged.append(_merge_columns(found, absent))
    return Profile(rows=rows, columns=merged)


def _merge_columns(parts: Sequence[ColumnProfile], absent: int) -> ColumnProfile:
    """A column that some parts do not have is null in their rows."""
    filled = [part for part in parts if part.rows > part.nulls] or parts[:1]
    kind, dtype = _one(filled, "kind"), _one(filled, "dtype")
    alike = kind != "other" or all(part.kind == "other" for part in filled)
    return ColumnProfile(
        name=parts[0].name,
        kind=kind,
        dtype=dtype,
        rows=sum(part.rows for part in parts) + absent,
        nulls=sum(part.nulls for part in parts) + absent,
        infinite=sum(part.infinite for part in parts),
        distinct=_all_or_none(filled, "distinct", merge_distinct) if alike else None,
        numbers=merge_numbers([part.numbers for part in filled if part.numbers is not None]) if alike else None,
        lengths=merge_numbers([part.lengths for part in filled if part.lengths is not None]) if alike else None,
        top=_all_or_none(filled, "top", merge_top) if alike else None,
    )


def _one(parts: Sequence[ColumnProfile], what: Literal["kind", "dtype"]) -> str:
    found = {getattr(part, what) for part in parts}
    if len(found) == 1:
        return str(found.pop())
    return "number" if found == {"integer", "number"} else "time" if found == {"date", "time"} else "other"


def _all_or_none(parts: Sequence[ColumnProfile], what: str, combine: Any) -> Any:
    found = [getattr(part, what) for part in parts]
    return None if any(one is None for one in found) else combine(found)


def merge_numbers(parts: Sequence[Numbers]) -> Numbers | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    count = sum(part.quantiles.count for part in parts)
    mean = math.fsum(part.mean * (part.quantiles.count / count) for part in parts)
    spread = math.fsum(part.quantiles.count / count * (part.deviation**2 + (part.mean - mean) ** 2) for part in parts)
    return Numbers(
        lowest=min(part.lowest for part in parts),
        highest=max(part.highest for part in parts),
        mean=mean,
        deviation=math.sqrt(spread),
        zeros=sum(part.zeros for part in parts),
        quantiles=merge_quantiles([part.quantiles for part in parts]),
    )


def merge_quantiles(parts: Sequence[Quantiles]) -> Quantiles:
    """Ranks add up, so errors do; picking `QUANTILES` of all values adds half the distance between two."""
    weighted = sorted((value, part.count / len(part.values)) for part in parts for value in part.values)
    count, error = sum(part.count for part in parts), sum(part.error for part in parts)
    if len(weighted) <= QUANTILES and len({weight for _, weight in weighted}) == 1:
        return Quantiles(count=count, values=[value for value, _ in weighted], error=error)
    ends = list(accumulate(weight for _, weight in weighted))
    step = ends[-1] / QUANTILES
    places = (bisect_right(ends, (j + 0.5) * step) for j in range(QUANTILES))
    values = [weighted[min(place, len(weighted) - 1)][0] for place in places]
    return Quantiles(count=count, values=values, error=error + step / 2)


def merge_top(parts: Sequence[Top]) -> Top:
    counts: dict[Scalar, int] = {}
    for part in parts:
        for value, count in part.values:
            counts[value] = counts.get(value, 0) + count
    error = sum(part.error for part in parts)
    return cut_top(counts, error, complete=all(part.complete for part in parts))


def cut_top(counts: dict[Scalar, int], error: int, *, complete: bool) -> Top:
    """The most frequent of these. A value that is left out may come up again, so its count is part of the error."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    kept, dropped = ordered[:MOST_TOP], ordered[MOST_TOP:]
    if dropped:
        error += dropped[0][1]
    return Top(values=kept, error=error, complete=complete and not dropped)


def merge_distinct(parts: Sequence[Distinct]) -> Distinct:
    return distinct_of({number for part in parts for number in part.numbers()})


def distinct_of(hashes: set[int]) -> Distinct:
    smallest = sorted(hashes)[:MOST_HASHES]
    return Distinct(hashes=struct.pack(f"<{len(smallest)}Q", *smallest))

"""Points of a curve: how they are grouped, summed up and packed.

A point is (step, time, value), 24 bytes: two integers and a double, so NaN and infinities are as they were. New points
lie on *sheets*, which neighbouring curves share (`sheets.py`); many of one curve are a compressed *segment*.
"""

from __future__ import annotations

import math
import operator
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from struct import Struct
from typing import TypeAlias

from tarmac.core.errors import Invalid

Point = tuple[int, int, float]
Columns: TypeAlias = "tuple[array[int], array[int], array[float]]"
SIZE = 24
LONGEST_SEGMENT = 4096
NOT_FINITE = {
    "NaN": math.nan, "nan": math.nan, "Infinity": math.inf, "inf": math.inf, "-Infinity": -math.inf, "-inf": -math.inf,
}  # fmt: skip
_LARGEST = 1 << 63


def group(points: Iterable[tuple[str, float | str, int, int]], now: int) -> dict[str, list[Point]]:
    """Points of a batch by their key, in order and each once. A time of 0 is now."""
    by_key: defaultdict[str, list[Point]] = defaultdict(list)
    for key, given, step, at in points:
        value = number(given) if isinstance(given, str) else given
        by_key[key].append((step, at or now, value))
    for key, found in by_key.items():
        if len(found) > 1 and any(before[:2] >= after[:2] for before, after in pairwise(found)):
            by_key[key] = in_order(found)
    return by_key


def bounds(points: Sequence[Point]) -> tuple[float | None, float | None]:
    """The lowest and the highest value; NaN is neither."""
    values = [point[2] for point in points]
    total = sum(values)
    if total != total:  # a NaN among them, or infinities of both signs
        values = [value for value in values if value == value]
    return (min(values), max(values)) if values else (None, None)


def in_order(points: list[Point]) -> list[Point]:
    """By step, time and value, equal ones once; NaN equals NaN here and comes last of its moment."""
    distinct = {(step, at, value if value == value else None): (step, at, value) for step, at, value in points}
    return sorted(distinct.values(), key=order)


def order(point: Point) -> tuple[int, int, bool, float]:
    step, at, value = point
    return (step, at, value != value, value if value == value else 0.0)


def number(text: str) -> float:
    """A value that JSON cannot write as a number."""
    try:
        return NOT_FINITE[text]
    except KeyError:
        raise Invalid(
            f"`{text[:40]}` is not a number", hint="NaN, Infinity and -Infinity are written as text"
        ) from None


def text(value: float | None) -> float | str:
    """A value as JSON can carry it; NULL in a summary stands for NaN."""
    if value is None or value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def pack(points: Sequence[Point]) -> bytes:
    return _layout(len(points)).pack(*chain.from_iterable(points))


@lru_cache(maxsize=2048)
def _layout(count: int) -> Struct:
    return Struct("<" + "qqd" * count)


def columns(data: bytes) -> Columns:
    """Steps, times and values, without making an object of every point."""
    integers, doubles = array("q"), array("d")
    integers.frombytes(data)
    doubles.frombytes(data)
    return integers[0::3], integers[1::3], doubles[2::3]


def as_columns(points: Sequence[Point]) -> Columns:
    return (
        array("q", [point[0] for point in points]),
        array("q", [point[1] for point in points]),
        array("d", [point[2] for point in points]),
    )


def cut(columns: Columns, start: int, end: int) -> Columns:
    steps, times, values = columns
    return steps[start:end], times[start:end], values[start:end]


def rows(columns: Columns) -> bytes:
    """Points one after another again."""
    steps, times, values = columns
    data = array("q", bytes(len(steps) * SIZE))
    data[0::3], data[1::3], data[2::3] = steps, times, array("q", values.tobytes())
    return data.tobytes()


def are_ordered(columns: Columns) -> bool:
    """Whether points stand in order already, as those of nearly every curve do."""
    steps, times, _ = columns
    if all(map(operator.lt, steps, steps[1:])):
        return True
    moments = list(zip(steps, times, strict=True))
    return all(map(operator.lt, moments, moments[1:]))


def ordered(columns: Columns) -> Columns:
    return columns if are_ordered(columns) else as_columns(sorted(zip(*columns, strict=True), key=order))


def squeeze(columns: Columns) -> bytes:
    """A segment as it is stored: by columns, so that what repeats lies together, then compressed."""
    steps, times, values = columns
    data = steps.tobytes() + times.tobytes() + values.tobytes()
    # of a short segment zlib takes longer to clear its usual tables than to compress it
    window, memory = (13, 6) if len(data) <= 32 * 1024 else (15, 8)
    packer = zlib.compressobj(1, zlib.DEFLATED, window, memory)
    return packer.compress(data) + packer.flush()


def expand(stored: bytes) -> Columns:
    data = zlib.decompress(stored)
    third = len(data) // 3
    steps, times, values = array("q"), array("q"), array("d")
    steps.frombytes(data[:third])
    times.frombytes(data[third : 2 * third])
    values.frombytes(data[2 * third :])
    return steps, times, values

"""A long curve cut down to few points, so that no peak is lost.

A curve is cut into stretches, and of each its lowest and its highest point are kept. Beside a long segment lies its
*outline*: its first and last point, and the lowest and the highest of each 64. Sampling reads outlines in place of
segments where a stretch has several of these units, and then a stretch ends where a unit ends.

    outline: first, last, then of each unit the two, in their order; 24 bytes each, as all points
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tarmac.track import points as pts
from tarmac.track.points import Columns

UNIT = 64
LEAST_OUTLINED = 2 * UNIT
"""A segment that is not longer than this is as quickly read as its outline."""
UNITS_IN_STRETCH = 2
"""Stretches shorter than this would lie beside their true places: then the points themselves are read."""


@dataclass(slots=True)
class Piece:
    """A part of a curve in order: its points, or its outline."""

    count: int
    columns: Columns
    outlined: bool = False

    @classmethod
    def of(cls, columns: Columns) -> Piece:
        return cls(len(columns[0]), columns)

    @property
    def first(self) -> tuple[int, int]:
        return self.columns[0][0], self.columns[1][0]

    @property
    def last(self) -> tuple[int, int]:
        place = 1 if self.outlined else -1
        return self.columns[0][place], self.columns[1][place]


def stretches(most: int) -> int:
    """How many a sample of so many points has: two of each, and the two ends of the curve."""
    return (most - 2) // 2


def by_outlines(total: int, most: int) -> bool:
    """Whether outlines are fine enough for such a sample."""
    return total > max(most, UNITS_IN_STRETCH * UNIT * stretches(most))


def outline(columns: Columns) -> bytes:
    """Of a segment whose points are in order."""
    steps, times, values = columns
    count = len(steps)
    chosen = [0, count - 1]
    real = not _has_nan(values)
    for start in range(0, count, UNIT):
        chosen += sorted(extremes(values, start, min(count, start + UNIT), real=real))
    return pts.pack([(steps[index], times[index], values[index]) for index in chosen])


def extremes(values: array[float], start: int, end: int, *, real: bool) -> tuple[int, int]:
    """Where the lowest and the highest of a stretch are. One of nothing but NaN is shown as what it is."""
    part = values[start:end]
    if real:
        return start + part.index(min(part)), start + part.index(max(part))
    numbers = [index for index in range(start, end) if values[index] == values[index]]
    if not numbers:
        return start, start
    return min(numbers, key=values.__getitem__), max(numbers, key=values.__getitem__)


def _has_nan(values: array[float]) -> bool:
    total = sum(values)
    return total != total  # or infinities of both signs: then the slower way is taken for nothing


def edges(pieces: Sequence[Piece], count: int) -> Iterator[tuple[int, int, int]]:
    """Where stretches end: the piece, the point in it, and the point in the whole curve."""
    total = sum(piece.count for piece in pieces)
    number = before = 0
    for stretch in range(count + 1):
        wanted = stretch * total // count
        while wanted > before + pieces[number].count:
            before += pieces[number].count
            number += 1
        inside, piece = wanted - before, pieces[number]
        if piece.outlined and inside != piece.count:
            inside = min(piece.count, (inside + UNIT // 2) // UNIT * UNIT)
        yield number, inside, before + inside


def sample(pieces: Sequence[Piece], most: int) -> Columns:
    """At most `most` points of a curve whose pieces stand in order."""
    steps, times, values = array("q"), array("q"), array("d")
    starts = []
    for piece in pieces:
        starts.append(len(steps))
        lead = 2 if piece.outlined else 0
        steps += piece.columns[0][lead:]
        times += piece.columns[1][lead:]
        values += piece.columns[2][lead:]
    chosen = []
    count = stretches(most)
    if count:
        ends = []
        for number, inside, _ in edges(pieces, count):
            piece = pieces[number]
            ends.append(starts[number] + (-(-inside // UNIT) * 2 if piece.outlined else inside))
        real = not _has_nan(values)
        for start, end in pairwise(ends):
            if start < end:
                chosen += sorted(extremes(values, start, end, real=real))
    return _joined(pieces, [(steps[index], times[index], values[index]) for index in chosen])


def _joined(pieces: Sequence[Piece], inner: list[pts.Point]) -> Columns:
    """The ends of the curve and what was chosen between them, each point once."""
    (steps, times, values), tail = pieces[0].columns, pieces[-1]
    place = 1 if tail.outlined else -1
    every = [
        (steps[0], times[0], values[0]),
        *inner,
        (tail.columns[0][place], tail.columns[1][place], tail.columns[2][place]),
    ]
    keep = [every[0]]
    for point in every[1:]:
        if point != keep[-1] and (point[2] == point[2] or point[:2] != keep[-1][:2] or keep[-1][2] == keep[-1][2]):
            keep.append(point)
    return (
        array("q", [point[0] for point in keep]),
        array("q", [point[1] for point in keep]),
        array("d", [point[2] for point in keep]),
    )

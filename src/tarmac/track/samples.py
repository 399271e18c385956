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


def edges(pieces: Sequence[Piece], count: int) -> Iterator[tuple[int, int]]:
    """Where so many stretches begin and end: in which piece, before which of its points."""
    if not count:
        return
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
        yield number, inside


def sample(pieces: Sequence[Piece], most: int) -> Columns:
    """At most `most` points of a curve whose pieces stand in order."""
    candidates, starts = _candidates(pieces)
    steps, times, values = candidates
    chosen = {0, len(steps) - 1}
    real = not _has_nan(values)
    for start, end in pairwise(_ends(pieces, starts, stretches(most))):
        part = values[start:end]
        if real and part:  # as `extremes` does, without a call for each
            chosen.add(start + part.index(min(part)))
            chosen.add(start + part.index(max(part)))
        elif part:
            chosen.update(extremes(values, start, end, real=False))
    keep = sorted(chosen)
    cut = (
        array("q", map(steps.__getitem__, keep)),
        array("q", map(times.__getitem__, keep)),
        array("d", map(values.__getitem__, keep)),
    )
    return _each_once(cut) if any(piece.outlined for piece in pieces) else cut


def _ends(pieces: Sequence[Piece], starts: Sequence[int], count: int) -> list[int]:
    """Where stretches end among the candidates."""
    if len(pieces) == 1 and not pieces[0].outlined and count:
        return [stretch * pieces[0].count // count for stretch in range(count + 1)]
    ends = []
    for number, inside in edges(pieces, count):
        ends.append(starts[number] + (-(-inside // UNIT) * 2 if pieces[number].outlined else inside))
    return ends


def _candidates(pieces: Sequence[Piece]) -> tuple[Columns, list[int]]:
    """The points that a sample is chosen from, and where those of each piece start."""
    if len(pieces) == 1 and not pieces[0].outlined:
        return pieces[0].columns, [0]
    found = array("q"), array("q"), array("d")
    starts = []
    for piece in pieces:
        if piece.outlined and piece is pieces[0]:
            _extend(found, piece.columns, 0, 1)
        starts.append(len(found[0]))
        _extend(found, piece.columns, 2 if piece.outlined else 0, None)
        if piece.outlined and piece is pieces[-1]:
            _extend(found, piece.columns, 1, 2)
    return found, starts


def _extend(found: Columns, more: Columns, start: int, end: int | None) -> None:
    found[0].extend(more[0][start:end])
    found[1].extend(more[1][start:end])
    found[2].extend(more[2][start:end])


def _each_once(sampled: Columns) -> Columns:
    """The same point may be the lowest, the highest and an end."""
    if pts.are_ordered(sampled):
        return sampled
    return pts.as_columns(pts.in_order(list(zip(*sampled, strict=True))))

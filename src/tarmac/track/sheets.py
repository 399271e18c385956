"""Sheets: the points of many curves in one row.

A run of a thousand metrics logs one point of each at a time. If each went into a row of its own, a batch of 24,000
bytes would touch a thousand pages; so what a batch brings for neighbouring curves, those whose numbers share a *part*,
is one sheet. When a part has many of them they are *sorted out*: a curve's points, now together, become a segment.

    packed or not (1 byte), number of curves − 1 (1), place of each curve in its part (1 each), points of each (2 each),
    then the points, curve after curve; packed: as a segment is
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby

from tarmac.track import points as pts
from tarmac.track.points import SIZE, Point

PART = 128
"""So many curves with neighbouring numbers lie on the same sheets: names get numbers in the order they come."""
LONGEST_CURVE = 512
"""More points of one curve than this are a segment at once."""
MOST_ROWS = 96
"""A part is sorted out when it has more sheets than this: who reads one of its curves looks into all of them."""
MOST_POINTS = 12_288
"""Or when it has more points than this."""
LONGEST_PACKED = 4096


@dataclass(slots=True)
class Sheet:
    """One row, opened."""

    places: bytes
    starts: list[int]
    data: bytes

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        starts, data = self.starts, self.data
        for index, place in enumerate(self.places):
            yield place, data[starts[index] : starts[index + 1]]

    def of(self, place: int) -> bytes:
        """What it has of one curve."""
        index = self.places.find(place)
        return b"" if index < 0 else self.data[self.starts[index] : self.starts[index + 1]]


def part_of(key: int) -> int:
    return key // PART


def write(curves: Mapping[int, Sequence[Point]]) -> bytes:
    """A sheet of new points."""
    points = list(chain.from_iterable(curves.values()))
    return _head(0, curves, list(map(len, curves.values()))) + pts.pack(points)


def rewrite(curves: Mapping[int, bytes]) -> bytes:
    """A sheet of points that were on others, compressed."""
    data = pts.squeeze(pts.columns(b"".join(curves.values())))
    return _head(1, curves, [len(points) // SIZE for points in curves.values()]) + data


def _head(packed: int, keys: Collection[int], counts: Sequence[int]) -> bytes:
    return bytes((packed, len(keys) - 1)) + bytes([key % PART for key in keys]) + array("H", counts).tobytes()


def read(stored: bytes) -> Sheet:
    count = stored[1] + 1
    counts = array("H", stored[2 + count : 2 + 3 * count])
    data = stored[2 + 3 * count :]
    if stored[0]:
        data = pts.rows(pts.expand(data))
    return Sheet(stored[2 : 2 + count], [0, *accumulate(n * SIZE for n in counts)], data)


def by_place(stored: Iterable[bytes]) -> dict[int, bytes]:
    """All points of a part, by curve, in the order they were written."""
    pieces: defaultdict[int, list[bytes]] = defaultdict(list)
    for (places, is_single), together in groupby(map(read, stored), key=_shape):
        if is_single:  # one point of the same curves again and again: whole columns at once
            steps, times, values = pts.columns(b"".join([sheet.data for sheet in together]))
            wide = len(places)
            for index, place in enumerate(places):
                pieces[place].append(pts.rows((steps[index::wide], times[index::wide], values[index::wide])))
        else:
            for sheet in together:
                for place, data in sheet:
                    pieces[place].append(data)
    return {place: b"".join(pieces[place]) for place in sorted(pieces)}


def _shape(sheet: Sheet) -> tuple[bytes, bool]:
    return sheet.places, len(sheet.data) == len(sheet.places) * SIZE


def is_full(run: int, part: int, rows: int, points: int) -> bool:
    """Whether a part should be sorted out. Parts and runs that began together do not come to it together."""
    more = 1 + (run * 29 + part * 37) % 64 / 96
    return rows > MOST_ROWS * more or points > MOST_POINTS * more

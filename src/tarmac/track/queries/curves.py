"""Curves in the store, read: whole, or sampled so that no peak is lost."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from struct import Struct

from tarmac.store.sql import Reader
from tarmac.track import points as pts
from tarmac.track import samples, sheets
from tarmac.track.points import Columns
from tarmac.track.samples import Piece

AT_ONCE = 500_000
"""So many points may be in memory at once; more than one curve is read at a time only if they have fewer."""
SEGMENT, OUTLINE, TAIL, SHEET = range(4)
_moment = Struct("<qq").unpack_from


def whole(read: Reader, run: int, key: int) -> Columns:
    """One curve, in order."""
    return _joined(pieces(read, run, [key]).get(key, []))


def sampled(read: Reader, run: int, totals: Mapping[int, int], most: int) -> dict[int, Columns]:
    """Curves of one run, given with how long they are, each cut down to so many points."""
    found: dict[int, Columns] = {}
    for outlined in (False, True):
        wanted = {key: n for key, n in totals.items() if samples.by_outlines(n, most) is outlined}
        for keys in portions(wanted):
            for key, parts in pieces(read, run, keys, outlined=outlined).items():
                cut = _sample(parts, most)
                found[key] = _cut(whole(read, run, key), most) if cut is None else cut
    return found


def _sample(parts: Sequence[Piece], most: int) -> Columns | None:
    """None if outlines have to be mixed to be in order: then it takes the points."""
    if not any(part.outlined for part in parts):
        return _cut(_joined(parts), most)
    return samples.sample(parts, most) if _are_in_order(parts) else None


def _cut(curve: Columns, most: int) -> Columns:
    return curve if len(curve[0]) <= most else samples.sample([Piece.of(curve)], most)


def portions(totals: Mapping[int, int]) -> Iterator[list[int]]:
    """Curves that may be read in one statement: they share their sheets."""
    for _, together in groupby(sorted(totals), key=sheets.part_of):
        keys: list[int] = []
        for key in together:
            if keys and sum(totals[k] for k in keys) + totals[key] > AT_ONCE:
                yield keys
                keys = []
            keys.append(key)
        yield keys


def pieces(
    read: Reader, run: int, keys: Sequence[int], *, outlined: bool = False, between: tuple[int, int] | None = None
) -> dict[int, list[Piece]]:  # fmt: skip
    """The parts of curves of one portion, by when they begin: long ones as outlines, or only those that may have points
    between two steps. One statement reads them all, because points may move from one table to another at any moment."""
    some, part = f"run = :run AND key IN ({', '.join(map(str, keys))})", sheets.part_of(keys[0])
    parts = []
    segments = f"SELECT {SEGMENT}, key, number, n, points FROM metric_segments s WHERE {some}"
    its = "SELECT 1 FROM metric_outlines o WHERE o.run = s.run AND o.key = s.key AND o.number = s.number"
    if outlined:
        segments += f" AND NOT EXISTS ({its})"
        parts.append(f"SELECT {OUTLINE}, key, number, n, points FROM metric_outlines WHERE {some}")
    elif between is not None:
        segments += f" AND NOT EXISTS ({its} AND (o.last_step < {between[0]} OR o.first_step > {between[1]}))"
    parts += [
        segments,
        f"SELECT {TAIL}, key, 0, 0, points FROM metric_tails WHERE {some}",
        f"SELECT {SHEET}, part, number, n, points FROM metric_sheets WHERE run = :run AND part = {part}",
    ]
    found: dict[int, list[Piece]] = {key: [] for key in keys}
    loose: dict[int, list[bytes]] = {key: [] for key in keys}
    for kind, key, _, n, stored in sorted(read.all(" UNION ALL ".join(parts), run=run), key=lambda row: row[:3]):
        if kind == SEGMENT:
            found[key].append(Piece.of(pts.expand(stored)))
        elif kind == OUTLINE:
            found[key].append(Piece(n, pts.columns(stored), outlined=True))
        elif kind == TAIL:
            loose[key].append(bytes(stored))
        else:
            sheet = sheets.read(bytes(stored))
            for place in keys:
                if data := sheet.of(place % sheets.PART):
                    loose[place].append(data)
    return {key: _by_beginning(found[key], loose[key]) for key in keys if found[key] or loose[key]}


def _by_beginning(found: list[Piece], loose: list[bytes]) -> list[Piece]:
    """Loose points are many small pieces: those between two segments become one."""
    marks: list[tuple[tuple[int, int], Piece | bytes]] = [(piece.first, piece) for piece in found]
    marks += [(_moment(data), data) for data in loose]
    marks.sort(key=lambda mark: mark[0])
    parts: list[Piece] = []
    for is_loose, together in groupby((part for _, part in marks), key=lambda part: isinstance(part, bytes)):
        if is_loose:
            parts.append(Piece.of(pts.columns(b"".join(together))))  # type: ignore[arg-type]
        else:
            parts += together  # type: ignore[arg-type]
    return parts


def _are_in_order(parts: Sequence[Piece]) -> bool:
    one_by_one = all(before.last < after.first for before, after in pairwise(parts))
    return one_by_one and all(part.outlined or pts.are_ordered(part.columns) for part in parts)


def _joined(parts: Sequence[Piece]) -> Columns:
    if len(parts) == 1:
        return pts.ordered(parts[0].columns)
    steps, times, values = array("q"), array("q"), array("d")
    for part in parts:
        steps += part.columns[0]
        times += part.columns[1]
        values += part.columns[2]
    return pts.ordered((steps, times, values))

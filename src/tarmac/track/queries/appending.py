"""New points of curves: onto sheets, and from there into segments; summaries are right after each request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tarmac.store.sql import Row, Tx
from tarmac.track import points as pts
from tarmac.track import samples, sheets
from tarmac.track.points import SIZE, Columns, Point
from tarmac.track.queries import curves

SUMMARY = ("run", "key", "last", "last_step", "last_at", "min", "max", "n", "tail_n", "segments")
WORTH_A_SEGMENT = 16
WORTH_PACKING = 128
_FEW_KEYS = 60
_IN_ONE_BATCH = 1 << 20
"""A request has fewer points than this, so neither it nor what it sorts out needs more numbers."""
_LEAST = {
    "sqlite": "coalesce({0}(metrics.{0}, excluded.{0}), metrics.{0}, excluded.{0})",
    "postgres": "{1}(metrics.{0}, excluded.{0})",
}
_LAST = "last = excluded.last, last_step = excluded.last_step, last_at = excluded.last_at, "


def _merge(kind: str, *, is_newest: bool) -> str:
    """How a summary takes in new points; NULL is the least known and the most known of nothing."""
    low, high = _LEAST[kind].format("min", "LEAST"), _LEAST[kind].format("max", "GREATEST")
    return (
        f"ON CONFLICT (run, key) DO UPDATE SET {_LAST if is_newest else ''}min = {low}, max = {high}, "
        "n = metrics.n + excluded.n"
    )


@dataclass(slots=True)
class Written:
    """What came of a batch of points."""

    new: int = 0
    repeated: int = 0


@dataclass(slots=True)
class Rows:
    """What is to be inserted for one run, and the numbers it takes."""

    run: int
    number: int
    segments: list[Row] = field(default_factory=list)
    outlines: list[Row] = field(default_factory=list)
    sheets: list[Row] = field(default_factory=list)

    def take_number(self) -> int:
        self.number += 1
        return self.number

    def add_curve(self, key: int, columns: Columns) -> None:
        """Points of one curve in order, as segments."""
        for start in range(0, len(columns[0]), pts.LONGEST_SEGMENT):
            part = pts.cut(columns, start, start + pts.LONGEST_SEGMENT)
            steps, count, number = part[0], len(part[0]), self.take_number()
            self.segments.append((self.run, key, number, count, pts.squeeze(part)))
            if count > samples.LEAST_OUTLINED:
                self.outlines.append((self.run, key, number, count, steps[0], steps[-1], samples.outline(part)))

    def insert(self, tx: Tx) -> None:
        if self.sheets:
            tx.insert("metric_sheets", ("run", "part", "number", "n", "points"), self.sheets)
        if self.segments:
            tx.insert("metric_segments", ("run", "key", "number", "n", "points"), self.segments)
        if self.outlines:
            names = ("run", "key", "number", "n", "first_step", "last_step", "points")
            tx.insert("metric_outlines", names, self.outlines)


def write(tx: Tx, run: int, groups: Mapping[int, list[Point]]) -> Written:
    """Add the new points of each curve, which are in order, and bring its summary up to date."""
    done = Written()
    new = dict(sorted(groups.items()))
    heads = _heads(tx, run, new)
    for key, unseen in _unseen(tx, run, heads, groups):
        done.repeated += len(groups[key]) - len(unseen)
        if unseen:
            new[key] = unseen
        else:
            del new[key]
    if not new:
        return done
    done.new = sum(map(len, new.values()))
    rows = Rows(run, _next_number(tx, run))
    keys, start = list(new), 0
    while start < len(keys):
        part = sheets.part_of(keys[start])
        end = bisect_left(keys, (part + 1) * sheets.PART, start)
        _lay(rows, part, {key: new[key] for key in keys[start:end]})
        start = end
    rows.insert(tx)
    behind = [key for key in heads if key in new and _ends_before(new[key], heads[key])]
    if behind:
        summaries = [_summary(run, key, new.pop(key)) for key in behind]
        tx.insert("metrics", SUMMARY, summaries, otherwise=_merge(tx.kind, is_newest=False))
    if new:
        summaries = [_summary(run, key, points) for key, points in new.items()]
        tx.insert("metrics", SUMMARY, summaries, otherwise=_merge(tx.kind, is_newest=True))
    _sort_out_full(tx, run, rows.number, {row[1] for row in rows.sheets})
    return done


def _next_number(tx: Tx, run: int) -> int:
    batches: int = tx.value("UPDATE runs SET batches = batches + 1 WHERE key = :run RETURNING batches", run=run)
    return batches * _IN_ONE_BATCH


def _summary(run: int, key: int, points: list[Point]) -> Row:
    step, at, value = points[-1]
    last = low = high = None if value != value else value
    if len(points) > 1:
        low, high = pts.bounds(points)
    return (run, key, last, step, at, low, high, len(points), 0, 0)


def _ends_before(points: list[Point], head: Row) -> bool:
    """Whether the newest point of a curve stays what it was."""
    _, step, at, value, _ = head
    return pts.order((step, at, float("nan") if value is None else value)) > pts.order(points[-1])


def _lay(rows: Rows, part: int, curves: dict[int, list[Point]]) -> None:
    """Neighbouring curves onto a sheet; of one curve that has many points a segment is made."""
    count = sum(map(len, curves.values()))
    if count > sheets.LONGEST_CURVE:
        for key in [key for key, points in curves.items() if len(points) > sheets.LONGEST_CURVE]:
            points = curves.pop(key)
            rows.add_curve(key, pts.as_columns(points))
            count -= len(points)
    if curves:
        rows.sheets.append((rows.run, part, rows.take_number(), count, sheets.write(curves)))


# --- is it new? ---


def _heads(tx: Tx, run: int, groups: Mapping[int, list[Point]]) -> dict[int, Row]:
    """The curves that do not end before the new points begin: only they may have some of them already."""
    step, at = min([points[0][:2] for points in groups.values()])
    some = f"AND key IN ({', '.join(map(str, groups))})" if len(groups) <= _FEW_KEYS else ""
    rows = tx.all(
        f"SELECT key, last_step, last_at, last, n FROM metrics "
        f"WHERE run = :run AND (last_step, last_at) >= (:step, :at) {some}",
        run=run,
        step=step,
        at=at,
    )
    return {row[0]: row for row in rows if row[0] in groups and groups[row[0]][0][:2] <= (row[1], row[2])}


def _unseen(
    tx: Tx, run: int, heads: Mapping[int, Row], groups: Mapping[int, list[Point]]
) -> Iterator[tuple[int, list[Point]]]:
    """Those of the new points that their curves do not have yet: a repeated request stores nothing twice."""
    for keys in curves.portions({key: head[4] for key, head in heads.items()}):
        first = min(groups[key][0][0] for key in keys)
        last = max(groups[key][-1][0] for key in keys)
        found = curves.pieces(tx, run, keys, between=(first, last))
        for key in keys:
            have: set[tuple[float, ...]] = set()
            for piece in found.get(key, []):
                have.update(map(_identity, zip(*piece.columns, strict=True)))
            yield key, [point for point in groups[key] if _identity(point) not in have]


def _identity(point: tuple[float, ...]) -> tuple[float, ...]:
    step, at, value = point
    return (step, at, value) if value == value else (step, at)


# --- from sheets to segments ---


def _sort_out_full(tx: Tx, run: int, number: int, parts: set[int]) -> None:
    some = f"AND part IN ({', '.join(map(str, parts))})" if 0 < len(parts) <= _FEW_KEYS else ""
    counted = tx.all(f"SELECT part, count(*), sum(n) FROM metric_sheets WHERE run = :run {some} GROUP BY part", run=run)
    rows = Rows(run, number)
    for part, count, points in counted:
        if part in parts and sheets.is_full(run, part, count, points):
            _sort_out(tx, rows, part, WORTH_A_SEGMENT, {})
    rows.insert(tx)


def _sort_out(tx: Tx, rows: Rows, part: int, least: int, tails: Mapping[int, bytes]) -> None:
    """Take a part's sheets away: curves with so many points go into segments, the others together onto packed ones."""
    stored = tx.all(
        "SELECT points FROM metric_sheets WHERE run = :run AND part = :part ORDER BY number", run=rows.run, part=part
    )
    tx.run("DELETE FROM metric_sheets WHERE run = :run AND part = :part", run=rows.run, part=part)
    found = sheets.by_place(bytes(row[0]) for row in stored)
    for key, tail in tails.items():
        found[key % sheets.PART] = tail + found.get(key % sheets.PART, b"")
    left: dict[int, bytes] = {}
    room = sheets.LONGEST_PACKED * SIZE
    for place, data in sorted(found.items()):
        key = part * sheets.PART + place
        if len(data) >= least * SIZE:
            rows.add_curve(key, pts.ordered(pts.columns(data)))
            continue
        if len(data) > room:
            _lay_packed(rows, part, left)
            left, room = {}, sheets.LONGEST_PACKED * SIZE
        left[key] = data
        room -= len(data)
    _lay_packed(rows, part, left)


def _lay_packed(rows: Rows, part: int, left: dict[int, bytes]) -> None:
    if left:
        count = sum(map(len, left.values())) // SIZE
        rows.sheets.append((rows.run, part, rows.take_number(), count, sheets.rewrite(left)))


def settle(tx: Tx, run: int) -> None:
    """The run has ended: what lies on sheets is packed, which takes a third of the room."""
    tails: dict[int, dict[int, bytes]] = {}
    for key, points in tx.all("SELECT key, points FROM metric_tails WHERE run = :run", run=run):
        tails.setdefault(sheets.part_of(key), {})[key] = bytes(points)
    counted = tx.all("SELECT part, count(*), sum(n) FROM metric_sheets WHERE run = :run GROUP BY part", run=run)
    parts = {part for part, count, points in counted if count > 1 or points >= WORTH_PACKING} | tails.keys()
    if not parts:
        return
    rows = Rows(run, _next_number(tx, run))
    for part in sorted(parts):
        _sort_out(tx, rows, part, sheets.LONGEST_CURVE, tails.get(part, {}))
    tx.run("DELETE FROM metric_tails WHERE run = :run", run=run)
    rows.insert(tx)

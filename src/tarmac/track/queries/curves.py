"""Curves in the store: written by appending, read whole or sampled so that no peak is lost."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tarmac.store.sql import Reader, Row, Tx
from tarmac.track import points as pts
from tarmac.track.points import Group, Point

SUMMARY = ("run", "key", "last", "last_step", "last_at", "min", "max", "n", "tail_n", "segments")
_FEW_KEYS = 60
WORTH_PACKING = 16
_OVERWRITE = "ON CONFLICT (run, key) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in SUMMARY[2:])
_APPEND = {
    # SQLite joins bytes as text of the same bytes
    "sqlite": "ON CONFLICT (run, key) DO UPDATE SET points = CAST(points || excluded.points AS BLOB)",
    "postgres": "ON CONFLICT (run, key) DO UPDATE SET points = metric_tails.points || excluded.points",
}


@dataclass(slots=True)
class Written:
    """What came of a batch of points."""

    new: int = 0
    repeated: int = 0


def write(tx: Tx, run: int, groups: dict[int, Group]) -> Written:
    """Append the new points of each curve and bring its summary up to date."""
    before = _summaries(tx, run, list(groups))
    summaries: list[Row] = []
    tails: list[Row] = []
    moved: list[Row] = []
    done = Written()
    for key, group in groups.items():
        old = before.get(key)
        fresh = group
        if old is not None and group.first <= (old[3], old[4]):
            unseen = _unseen(tx, run, key, group)
            done.repeated += len(group.points) - len(unseen)
            if not unseen:
                continue
            fresh = pts.shape(unseen)
        done.new += len(fresh.points)
        summary, tail, segments = _grow(tx, run, key, old, fresh)
        summaries.append(summary)
        if tail is not None:
            tails.append(tail)
        moved += segments
    if moved:
        tx.insert("metric_segments", ("run", "key", "number", "n", "points"), moved)
    if tails:
        tx.insert("metric_tails", ("run", "key", "points"), tails, otherwise=_APPEND[tx.kind])
    if summaries:
        tx.insert("metrics", SUMMARY, summaries, otherwise=_OVERWRITE)
    return done


def _summaries(tx: Tx, run: int, keys: Sequence[int]) -> dict[int, Row]:
    some = f"AND key IN ({', '.join(map(str, keys))})" if len(keys) <= _FEW_KEYS else ""
    rows = tx.all(f"SELECT {', '.join(SUMMARY)} FROM metrics WHERE run = :run {some}", run=run)
    return {row[1]: row for row in rows}


def _grow(tx: Tx, run: int, key: int, old: Row | None, group: Group) -> tuple[Row, Row | None, list[Row]]:
    """A curve with its new points: its summary, what goes into its tail, and segments if that gets too long."""
    step, at, value = group.last
    low, high, n, tail_n, segments = group.low, group.high, len(group.points), 0, 0
    last = None if value != value else value
    if old is not None:
        _, _, old_last, old_step, old_at, old_low, old_high, old_n, tail_n, segments = old
        old_value = float("nan") if old_last is None else old_last
        if pts.order((old_step, old_at, old_value)) > pts.order(group.last):
            step, at, last = old_step, old_at, old_last
        low = _least(low, old_low)
        high = _most(high, old_high)
        n += old_n
    packed: bytes | None = group.packed
    moved: list[Row] = []
    tail_n += len(group.points)
    if tail_n > pts.LONGEST_TAIL:
        whole = b"" if tail_n == len(group.points) else _take_tail(tx, run, key)
        whole += group.packed
        for start in range(0, len(whole), pts.LONGEST_SEGMENT * pts.SIZE):
            part = whole[start : start + pts.LONGEST_SEGMENT * pts.SIZE]
            moved.append((run, key, segments, len(part) // pts.SIZE, pts.squeeze(part)))
            segments += 1
        packed, tail_n = None, 0
    summary = (run, key, last, step, at, low, high, n, tail_n, segments)
    return summary, None if packed is None else (run, key, packed), moved


def _take_tail(tx: Tx, run: int, key: int) -> bytes:
    tail = tx.value("SELECT points FROM metric_tails WHERE run = :run AND key = :key", run=run, key=key)
    tx.run("DELETE FROM metric_tails WHERE run = :run AND key = :key", run=run, key=key)
    return bytes(tail or b"")


def _unseen(tx: Tx, run: int, key: int, group: Group) -> list[Point]:
    """Those of the new points that the curve does not have yet: a repeated request stores nothing twice."""
    have: set[tuple[float, ...]] = set()
    for data in stored(tx, run, key):
        have.update(map(_identity, zip(*data, strict=True)))
    return [point for point in group.points if _identity(point) not in have]


def _identity(point: Sequence[float]) -> tuple[float, ...]:
    step, at, value = point
    return (step, at, value) if value == value else (step, at)


def _least(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _most(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


Columns: TypeAlias = "tuple[array[int], array[int], array[float]]"


def stored(read: Reader, run: int, key: int) -> list[Columns]:
    """The parts of one curve, as they were written: in one statement, because a tail may move on at any moment."""
    rows = read.all(
        "SELECT number, points FROM metric_segments WHERE run = :run AND key = :key "
        "UNION ALL SELECT -1, points FROM metric_tails WHERE run = :run AND key = :key",
        run=run,
        key=key,
    )
    parts = [pts.expand_columns(bytes(points)) for number, points in sorted(rows) if number >= 0]
    return parts + [pts.columns(bytes(points)) for number, points in rows if number < 0]


def whole(read: Reader, run: int, key: int) -> Columns:
    """One curve, in order."""
    steps, times, values = array("q"), array("q"), array("d")
    for part in stored(read, run, key):
        steps += part[0]
        times += part[1]
        values += part[2]
    if _is_ordered(steps, times):
        return steps, times, values
    points = sorted(zip(steps, times, values, strict=True), key=pts.order)
    return (
        array("q", [point[0] for point in points]),
        array("q", [point[1] for point in points]),
        array("d", [point[2] for point in points]),
    )


def _is_ordered(steps: array[int], times: array[int]) -> bool:
    """Whether the points stand in order already, as those of nearly every curve do."""
    if all(map(operator.lt, steps, steps[1:])):
        return True
    moments = list(zip(steps, times, strict=True))
    return all(map(operator.lt, moments, moments[1:]))


def sample(curve: Columns, most: int) -> Columns:
    """At most `most` points that keep the first, the last, and each stretch's lowest and highest value."""
    steps, times, values = curve
    count = len(steps)
    if count <= most:
        return curve
    buckets = (most - 2) // 2  # none where there is room for the two ends only
    chosen = {0, count - 1}
    total = sum(values)
    has_nan = total != total  # or infinities of both signs: then the slower way is taken for nothing
    for bucket in range(buckets):
        start, end = bucket * count // buckets, (bucket + 1) * count // buckets
        part = values[start:end]
        if has_nan:
            real = [index for index in range(start, end) if values[index] == values[index]]
            if not real:
                chosen.add(start)  # a stretch of nothing but NaN is shown as what it is
                continue
            chosen.add(min(real, key=values.__getitem__))
            chosen.add(max(real, key=values.__getitem__))
        else:
            chosen.add(start + part.index(min(part)))
            chosen.add(start + part.index(max(part)))
    keep = sorted(chosen)
    return (
        array("q", [steps[index] for index in keep]),
        array("q", [times[index] for index in keep]),
        array("d", [values[index] for index in keep]),
    )


def settle(tx: Tx, run: int) -> None:
    """The run has ended: long tails become segments, which take a third of the room."""
    rows = tx.all(
        f"SELECT m.{', m.'.join(SUMMARY)}, t.points FROM metrics m "
        "JOIN metric_tails t ON t.run = m.run AND t.key = m.key WHERE m.run = :run AND m.tail_n >= :least",
        run=run,
        least=WORTH_PACKING,
    )
    if not rows:
        return
    tx.insert(
        "metric_segments",
        ("run", "key", "number", "n", "points"),
        [(run, row[1], row[9], row[8], pts.squeeze(bytes(row[10]))) for row in rows],
    )
    tx.insert("metrics", SUMMARY, [(*row[:8], 0, row[9] + 1) for row in rows], otherwise=_OVERWRITE)
    keys = ", ".join(str(row[1]) for row in rows)
    tx.run(f"DELETE FROM metric_tails WHERE run = :run AND key IN ({keys})", run=run)

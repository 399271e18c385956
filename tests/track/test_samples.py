"""Sampling by outlines: what is shown is what the points themselves would have shown of the same stretches."""

from __future__ import annotations

import math
import random
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.store.folder import WorkspaceFolder
from tarmac.track import points as pts
from tarmac.track import samples
from tarmac.track.operations import CreateRun, SampleCurves
from tarmac.track.points import Point
from tarmac.track.samples import Piece
from tarmac.workspace import Workspace
from tests.store.editing import database_of
from tests.track.test_curves import points_of, send

KINDS = {
    "plain": lambda chance: chance.gauss(0, 1),
    "NaN": lambda chance: math.nan if chance.random() < 0.5 else chance.gauss(0, 1),
    "nothing but NaN": lambda _: math.nan,
    "infinite": lambda chance: chance.choice([math.inf, -math.inf, 1.0, -1e308, 1e308]),
    "equal": lambda _: 0.5,
    "few": lambda chance: float(chance.randrange(3)),
}


def made(chance: random.Random, kinds: list[str], count: int) -> list[Point]:
    """Points in order; some share a step, and some a moment."""
    found: dict[tuple[int, int, float | str], Point] = {}
    step = at = 0
    while len(found) < count:
        step, at = step + chance.choice([0, 1, 1, 3]), at + chance.choice([0, 1])
        value = KINDS[kinds[len(found) * len(kinds) // count]](chance)
        found[step, at, "NaN" if value != value else value] = (step, at, value)
    return sorted(found.values(), key=pts.order)


def pieces_of(points: list[Point], ends: list[int], outlined: list[bool]) -> list[Piece]:
    found = []
    for (start, end), is_outlined in zip(pairwise(ends), outlined, strict=True):
        columns = pts.as_columns(points[start:end])
        if is_outlined:
            found.append(Piece(end - start, pts.columns(samples.outline(columns)), outlined=True))
        else:
            found.append(Piece.of(columns))
    return found


def canonical(point: Point) -> tuple[int, int, float | None]:
    return point[0], point[1], None if point[2] != point[2] else point[2]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 2, 5, 63, 64, 65, 129, 200, 400, 1000]), min_size=1, max_size=8),
    outlined=st.lists(st.booleans(), min_size=8, max_size=8),
    kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5),
    most=st.sampled_from([2, 3, 4, 5, 7, 10, 30, 100]),
    seed=st.integers(0, 1000),
)
def test_each_stretch_shows_its_extremes(
    sizes: list[int], outlined: list[bool], kinds: list[str], most: int, seed: int
) -> None:
    points = made(random.Random(seed), kinds, sum(sizes))
    ends = [0, *accumulate(sizes)]
    pieces = pieces_of(points, ends, outlined[: len(sizes)])
    cut = samples.sample(pieces, most)
    shown = [canonical(point) for point in zip(*cut, strict=True)]
    every = [canonical(point) for point in points]

    assert len(shown) <= most
    assert len(set(shown)) == len(shown), "each point once"
    chosen = set(shown)
    assert shown == [point for point in every if point in chosen], "real points, in their order"
    assert (shown[0], shown[-1]) == (every[0], every[-1])
    count = samples.stretches(most)
    borders = [ends[number] + inside for number, inside in samples.edges(pieces, count)]
    if count:
        assert (borders[0], borders[-1]) == (0, len(points)), "stretches cover the curve"
        assert borders == sorted(borders)
    for start, end in pairwise(borders):
        stretch = every[start:end]
        values = [value for _, _, value in stretch if value is not None]
        there = [point for point in stretch if point in chosen]
        if values:
            of_shown = [value for _, _, value in there if value is not None]
            assert (min(of_shown), max(of_shown)) == (min(values), max(values))
        elif stretch:
            assert there, "a stretch of nothing but NaN is shown as what it is"


@pytest.mark.slow
def test_long_curves_with_and_without_outlines(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    """Without them, as format 2 left them, the points are read: both ways no peak is lost."""
    chance = random.Random(4)
    run = anywhere(CreateRun()).id
    data = [float(step % 500 == 250) + chance.random() / 10 for step in range(60_000)]
    for place in (7, 20_000, 59_998):
        data[place] = math.nan
    data[31_000], data[45_000] = math.inf, -math.inf
    for start in range(0, len(data), 1000):
        send(anywhere, run, [("m", data[step], step, 1) for step in range(start, start + 1000)])

    def check(points: int) -> None:
        (curve,) = anywhere(SampleCurves(runs=[run], keys=["m"], points=points)).curves
        shown = points_of(curve)
        assert len(shown) <= points
        assert curve.total == 60_000
        assert (shown[0][0], shown[-1][0]) == (0, 59_999)
        assert {(31_000, 1, math.inf), (45_000, 1, -math.inf)} <= set(shown)
        assert all(value is None or value == data[step] for step, _, value in shown)
        if points >= 600:
            peaks = {step for step, _, value in shown if value is not None and value >= 1.0}
            assert set(range(250, 60_000, 500)) - {20_000} <= peaks

    with database_of(folder) as ask:
        ((count,),) = ask("SELECT count(*) FROM metric_outlines")
        assert count == 60
        for points in (4, 50, 600, 2000):
            check(points)
        ask("DELETE FROM metric_outlines WHERE number IN (SELECT number FROM metric_segments ORDER BY number LIMIT 30)")
        check(600)
        ask("DELETE FROM metric_outlines")
        check(600)
    send(anywhere, run, [("m", -3.0, 5, 2)])  # late: its place is among the first
    (curve,) = anywhere(SampleCurves(runs=[run], keys=["m"], points=600)).curves
    assert curve.total == 60_001
    assert points_of(curve)[0][0] == 0
    assert (5, 2, -3.0) in points_of(curve)

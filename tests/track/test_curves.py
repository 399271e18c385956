"""Points of curves: whatever is sent, in whatever order and however often, is there once and in order."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarmac import store as stores
from tarmac.core.errors import Invalid, NotFound, TarmacError
from tarmac.core.settings import Settings
from tarmac.store.folder import WorkspaceFolder
from tarmac.track import points as pts
from tarmac.track import sheets
from tarmac.track.operations import CreateRun, GetDetails, GetHistory, GetRun, LogRun, SampleCurves
from tarmac.track.records import Curve, Metric
from tarmac.workspace import Workspace, connect

LEAST, MOST = -(2**63), 2**63 - 1
Point = tuple[int, int, float]
Model = dict[str, set[tuple[int, int, float | None]]]

values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 5e-324, 1.7e308, -1.7e308]),
    st.floats(allow_nan=True, allow_infinity=True),
)
steps = st.one_of(st.integers(0, 5), st.integers(-3, 60), st.sampled_from([LEAST, LEAST + 1, MOST - 1, MOST]))
times = st.sampled_from([1, 2, 3, 1_700_000_000_000, 2**62])
batches = st.lists(
    st.lists(st.tuples(st.sampled_from(["loss", "Loss", 'a"b']), values, steps, times), max_size=40), max_size=8
)


def wire(value: float) -> float | str:
    return pts.text(value)


def number(value: float | str) -> float:
    return float(value)


def canonical(step: int, at: int, value: float) -> tuple[int, int, float | None]:
    return step, at, None if value != value else value


def in_order(model: set[tuple[int, int, float | None]]) -> list[tuple[int, int, float | None]]:
    """By step, time and value; NaN is the last of its moment."""
    return sorted(model, key=lambda point: (point[0], point[1], point[2] is None, point[2] or 0.0))


def history(workspace: Workspace, run: str, key: str) -> Curve:
    return workspace(GetHistory(run=run, key=key))


def points_of(curve: Curve) -> list[tuple[int, int, float | None]]:
    assert len(curve.steps) == len(curve.times) == len(curve.values)
    return [canonical(s, t, number(v)) for s, t, v in zip(curve.steps, curve.times, curve.values, strict=True)]


def send(workspace: Workspace, run: str, batch: list[tuple[str, float, int, int]]) -> tuple[int, int]:
    done = workspace(LogRun(id=run, metrics=[(key, wire(value), step, at) for key, value, step, at in batch]))  # type: ignore[misc]
    return done.points, done.repeated


def agree(workspace: Workspace, run: str, model: Model) -> None:
    """History and summary are the model's."""
    details = workspace(GetDetails(id=run))
    summaries: dict[str, Metric] = {metric.key: metric for metric in details.metrics}
    assert summaries.keys() == {key for key, points in model.items() if points}
    for key, summary in summaries.items():
        right = in_order(model[key])
        curve = history(workspace, run, key)
        assert points_of(curve) == right
        assert curve.total == summary.points == len(right)
        step, at, last = right[-1]
        assert (summary.step, summary.at) == (step, at)
        assert canonical(0, 0, number(summary.last)) == (0, 0, last)
        real = [value for _, _, value in right if value is not None]
        assert number(summary.min) == min(real) if real else summary.min == "NaN"
        assert number(summary.max) == max(real) if real else summary.max == "NaN"
        assert details.run.metrics[key] == summary.last


def play(workspace: Workspace, sent: list[list[tuple[str, float, int, int]]]) -> None:
    run, model = workspace(CreateRun()).id, Model()
    for batch in sent:
        fresh = 0
        given: Model = {}
        for key, value, step, at in batch:
            given.setdefault(key, set()).add(canonical(step, at, value))
        for key, points in given.items():
            fresh += len(points - model.setdefault(key, set()))
            model[key] |= points
        distinct = sum(map(len, given.values()))
        assert send(workspace, run, batch) == (fresh, distinct - fresh)
        assert send(workspace, run, batch) == (0, distinct), "sent again, nothing is stored twice"
    agree(workspace, run, model)


@pytest.mark.slow
@pytest.mark.parametrize(("sheets_of", "segment"), [(1, 1), (5, 16), (sheets.MOST_ROWS, pts.LONGEST_SEGMENT)])
def test_any_batches_come_to_what_a_set_of_points_comes_to(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, sheets_of: int, segment: int
) -> None:
    monkeypatch.setattr(sheets, "MOST_ROWS", sheets_of)
    monkeypatch.setattr(sheets, "LONGEST_CURVE", 2 * segment)
    monkeypatch.setattr(pts, "LONGEST_SEGMENT", segment)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(sent=batches)
    def holds(sent: list[list[tuple[str, float, int, int]]]) -> None:
        play(workspace, sent)

    holds()


@pytest.mark.parametrize("pair", [(math.inf, -math.inf), (-math.inf, math.inf), (1e308, 1e308), (math.nan, 1.0)])
def test_pairs_whose_sum_is_no_number(anywhere: Workspace, pair: tuple[float, float]) -> None:
    run = anywhere(CreateRun()).id
    assert send(anywhere, run, [("m", pair[0], 1, 1), ("m", pair[1], 2, 1)]) == (2, 0)
    agree(anywhere, run, {"m": {canonical(1, 1, pair[0]), canonical(2, 1, pair[1])}})


@pytest.mark.parametrize("size", [1, 127, 128, 129, 4095, 4096, 4097, 8193])
def test_sizes_around_the_ends_of_tails_and_segments(workspace: Workspace, size: int) -> None:
    """Sent whole, in parts that overlap, and backwards."""
    batch = [("m", math.sin(step), step, 1 + step) for step in range(size)]
    right = {canonical(step, at, value) for _, value, step, at in batch}
    whole, parts, back = (workspace(CreateRun()).id for _ in range(3))
    assert send(workspace, whole, batch) == (size, 0)
    for start in range(0, size, 1000):
        lap = min(start, 50)
        assert send(workspace, parts, batch[start - lap : start + 1000]) == (len(batch[start : start + 1000]), lap)
    for end in range(size, 0, -2000):
        send(workspace, back, batch[max(0, end - 2000) : end][::-1])
    for run in (whole, parts, back):
        agree(workspace, run, {"m": right})
        assert send(workspace, run, batch) == (0, size)


def test_one_by_one_over_the_end_of_a_tail(workspace: Workspace) -> None:
    run, right = workspace(CreateRun()).id, set()
    for step in range(300):
        assert send(workspace, run, [("m", float(step % 7), step, 1)]) == (1, 0)
        right.add(canonical(step, 1, float(step % 7)))
    agree(workspace, run, {"m": right})


def test_many_points_share_a_step(anywhere: Workspace) -> None:
    """They are told apart by time, then by value; none is lost."""
    run = anywhere(CreateRun()).id
    batch = [("m", float(value), 7, at) for at in (1, 2) for value in range(100)]
    assert send(anywhere, run, batch) == (200, 0)
    assert send(anywhere, run, [("m", math.nan, 7, 2)]) == (1, 0)
    curve = history(anywhere, run, "m")
    assert curve.total == 201
    assert curve.values[-1] == "NaN"
    assert curve.values[:200] == [float(value) for _ in (1, 2) for value in range(100)]
    assert anywhere(GetRun(id=run)).metrics == {"m": "NaN"}


def test_a_time_of_zero_is_now(workspace: Workspace) -> None:
    run = workspace(CreateRun())
    send(workspace, run.id, [("m", 1.0, 0, 0)])
    (at,) = history(workspace, run.id, "m").times
    assert run.started_at <= at <= run.started_at + 60_000


@pytest.mark.parametrize(
    ("point", "says"),
    [
        (("m", "many", 0, 1), "metrics"),
        (("m", 1.0, 2**63, 1), "metrics"),
        (("m", 1.0, 0, -1), "metrics"),
        (("m\n", 1.0, 0, 1), "metrics"),
        (("", 1.0, 0, 1), "metrics"),
    ],
)
def test_points_that_are_none(anywhere: Workspace, point: tuple[str, float, int, int], says: str) -> None:
    run = anywhere(CreateRun()).id
    with pytest.raises(Invalid, match=says):
        anywhere(LogRun(id=run, metrics=[("fine", 1.0, 0, 1), point]))
    assert anywhere(GetRun(id=run)).metrics == {}


def test_a_metric_that_is_not_there(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    send(anywhere, run, [("val/loss", 1.0, 0, 1)])
    with pytest.raises(NotFound) as caught:
        history(anywhere, run, "val/los")
    assert caught.value.hint == "did you mean `val/loss`?"


# ------------------------------------------------------------------------------------------------------------ sampling


def sampled(workspace: Workspace, run: str, most: int, *keys: str) -> Curve:
    (curve,) = workspace(SampleCurves(runs=[run], keys=list(keys), points=most)).curves
    return curve


def test_samples_keep_the_ends_and_the_extremes(workspace: Workspace) -> None:
    chance = random.Random(3)
    for size in (1, 2, 5, 100, 5000):
        for kind in ("plain", "some NaN", "infinite", "equal"):
            run = workspace(CreateRun()).id
            data = [chance.gauss(0, 1) for _ in range(size)]
            if kind == "some NaN":
                data = [math.nan if chance.random() < 0.4 else value for value in data]
            elif kind == "infinite" and size > 3:
                data[size // 3], data[size // 2] = math.inf, -math.inf
            elif kind == "equal":
                data = [0.5] * size
            send(workspace, run, [("m", value, step, 1) for step, value in enumerate(data)])
            every = points_of(history(workspace, run, "m"))
            real = [value for value in data if value == value]
            for most in (2, 3, 4, 5, 7, 10, 99, 1000, 10_000):
                curve = sampled(workspace, run, most)
                shown = points_of(curve)
                assert curve.total == size
                assert len(shown) <= most, f"{most} were asked for"
                assert len(shown) == size or size > most, "nothing is left out that would have had room"
                held_points = set(shown)
                assert shown == [point for point in every if point in held_points], "real points, in their order"
                assert (shown[0], shown[-1]) == (every[0], every[-1])
                held = [value for _, _, value in shown if value is not None]
                if most >= 4 and real:
                    assert (min(held), max(held)) == (min(real), max(real)), f"{kind} {size} {most}"


def test_samples_are_spread_over_the_curve(workspace: Workspace) -> None:
    """Each stretch has its own extremes: a peak anywhere is seen."""
    run = workspace(CreateRun()).id
    send(workspace, run, [("m", float(step % 100 == 50), step, 1) for step in range(10_000)])
    shown = sampled(workspace, run, 1000)
    peaks = [step for step, value in zip(shown.steps, shown.values, strict=True) if value == 1.0]
    assert peaks == list(range(50, 10_000, 100))


def test_a_curve_of_nothing_but_nan(workspace: Workspace) -> None:
    run = workspace(CreateRun()).id
    send(workspace, run, [("m", math.nan, step, 1) for step in range(500)])
    curve = sampled(workspace, run, 50)
    assert set(curve.values) == {"NaN"}
    assert (curve.steps[0], curve.steps[-1]) == (0, 499)
    assert len(curve.steps) <= 50


def test_curves_of_many_runs_at_once(anywhere: Workspace) -> None:
    runs = [anywhere(CreateRun()).id for _ in range(20)]
    for place, run in enumerate(runs):
        send(anywhere, run, [(key, place + step / 1000, step, 1) for key in ("a", "b", "c") for step in range(200)])
    found = anywhere(SampleCurves(runs=runs, keys=["b", "a", "never"], points=20)).curves
    assert [(curve.run, curve.key) for curve in found] == [(run, key) for run in runs for key in ("a", "b")]
    for curve in found:
        place = runs.index(curve.run)
        assert (curve.values[0], curve.values[-1], curve.total) == (float(place), place + 0.199, 200)
        assert len(curve.values) <= 20
    assert len(anywhere(SampleCurves(runs=runs[:1])).curves) == 3
    with pytest.raises(NotFound):
        anywhere(SampleCurves(runs=[*runs, "0" * 32]))


# ------------------------------------------------------------------------------------------------------------ together


@pytest.mark.postgres
@pytest.mark.slow
def test_two_servers_write_to_one_run(new_database: Callable[[], str], tmp_path: Path) -> None:
    """Each has its own writer: neither loses what the other wrote, and what both send is there once."""
    folder = WorkspaceFolder(tmp_path / ".tarmac")
    stores.create(folder, Settings(), new_database()).close()
    faults: list[TarmacError] = []
    with connect(tmp_path) as one, connect(tmp_path) as other:
        run = one(CreateRun()).id
        told = [0, 0, 0, 0]

        def write(number: int, workspace: Workspace) -> None:
            chance = random.Random(number)
            try:
                for start in range(0, 2000, 50):
                    # all send the shared curve; each also has one of its own
                    shared = [("shared", float(step), step, 1) for step in range(start, start + 50)]
                    own = [(f"own {number}", float(step), step, 1) for step in range(start, start + 50)]
                    chance.shuffle(shared)
                    new, repeated = send(workspace, run, shared + own)
                    assert new + repeated == 100
                    told[number] += new
            except TarmacError as error:
                faults.append(error)

        threads = [threading.Thread(target=write, args=(n, w)) for n, w in enumerate([one, other, one, other])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        right = {canonical(step, 1, float(step)) for step in range(2000)}
        agree(one, run, {"shared": right, **{f"own {number}": right for number in range(4)}})
        assert sum(told) == 5 * 2000

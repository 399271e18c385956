"""Runs of many metrics that log a point of each at a time: what lies on sheets is found like anything else."""

from __future__ import annotations

import math
import random
import signal
import time
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarmac import store as stores
from tarmac.core.settings import Settings
from tarmac.store import migrations
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import BackupStore, CheckStore
from tarmac.track import points as pts
from tarmac.track import sheets
from tarmac.track.operations import (
    CompareRuns,
    CountRuns,
    CreateRun,
    DeleteRuns,
    EndRun,
    GetDetails,
    ListRuns,
    PurgeRuns,
    ResumeRun,
    SampleCurves,
)
from tarmac.track.queries.removal import OWN_TABLES
from tarmac.workspace import Workspace, connect
from tests.store.editing import database_of
from tests.store.processes import end, start
from tests.track.test_curves import Model, agree, canonical, history, points_of, send

KEYS = 300
Batch = list[tuple[str, float, int, int]]


def name(key: int) -> str:
    return f"layer {key:03}"


def batch_of(step: int, chance: random.Random, keys: int = KEYS) -> Batch:
    """A point of each metric, some of them no numbers."""
    odd = [math.nan, math.inf, -math.inf, -0.0]
    values = [chance.choice(odd) if chance.random() < 0.02 else chance.gauss(0, 1) for _ in range(keys)]
    return [(name(key), value, step, 1_000 + step) for key, value in enumerate(values)]


def note(model: Model, batch: Batch) -> None:
    for key, value, step, at in batch:
        model.setdefault(key, set()).add(canonical(step, at, value))


def log_steps(workspace: Workspace, run: str, model: Model, steps: range, seed: int = 1) -> None:
    chance = random.Random(seed)
    for step in steps:
        batch = batch_of(step, chance)
        assert send(workspace, run, batch) == (KEYS, 0)
        note(model, batch)


def some_of(model: Model) -> Model:
    """Every part, and both ends of each: asking for all of them would take minutes."""
    wanted = [0, 1, 2, 126, 127, 128, 129, 255, 256, 257, KEYS - 1]
    return {name(key): model[name(key)] for key in wanted}


def agree_in_part(workspace: Workspace, run: str, model: Model) -> None:
    details = workspace(GetDetails(id=run))
    summaries = {metric.key: metric for metric in details.metrics}
    assert {key: metric.points for key, metric in summaries.items()} == {key: len(model[key]) for key in model}
    for key, right in some_of(model).items():
        ordered = sorted(right, key=lambda point: (point[0], point[1], point[2] is None, point[2] or 0.0))
        assert points_of(history(workspace, run, key)) == ordered
        real = [value for _, _, value in ordered if value is not None]
        assert (float(summaries[key].min), float(summaries[key].max)) == (min(real), max(real))
        assert canonical(0, 0, float(summaries[key].last))[2] == ordered[-1][2]


@pytest.mark.slow
def test_what_was_logged_wide_is_read_searched_and_sampled(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    """From a single sheet over sorting out to the end of the run and beyond."""
    run, model = anywhere(CreateRun(name="wide")).id, Model()
    other = anywhere(CreateRun(name="other")).id
    send(anywhere, other, [(name(3), 1e9, 1, 1)])
    log_steps(anywhere, run, model, range(3))
    agree_in_part(anywhere, run, model)
    log_steps(anywhere, run, model, range(3, 200), seed=2)
    with database_of(folder) as ask:
        ((lying,),) = ask("SELECT sum(n) FROM metric_sheets")
        ((moved,),) = ask("SELECT sum(n) FROM metric_segments")
    assert lying > 0
    assert moved > 0, "200 steps are enough for some to be sorted out"
    assert lying + moved == 200 * KEYS + 1
    agree_in_part(anywhere, run, model)

    # summaries are right at once, for filter, order and comparison
    batch = [(name(key), 100.0 + key, 200, 1_200) for key in range(KEYS)]
    send(anywhere, run, batch)
    note(model, batch)
    assert anywhere(CountRuns(filter=f'metrics."{name(3)}" = 103')).count == 1
    assert anywhere(CountRuns(filter=f'metrics."{name(3)}" < 103')).count == 0
    assert anywhere(CountRuns(filter=f'max(metrics."{name(299)}") >= 399')).count == 1
    page = anywhere(ListRuns(order=[f'metrics."{name(3)}"'])).runs
    assert [found.id for found in page] == [run, other]
    assert page[0].metrics == {name(key): 100.0 + key for key in range(KEYS)}
    (differs,) = [d for d in anywhere(CompareRuns(ids=[run, other])).differences if d.what == f"metrics.{name(3)}"]
    assert [float(value) for value in differs.values if value is not None] == [103.0, 1e9]

    # sent again, late, and mixed with what is new
    assert send(anywhere, run, batch) == (0, KEYS)
    late = [(name(key), 0.25, 100, 999) for key in range(KEYS)]
    assert send(anywhere, run, late + batch) == (KEYS, KEYS)
    note(model, late)
    agree_in_part(anywhere, run, model)

    for _ in range(2):
        curves = anywhere(SampleCurves(runs=[run], points=20)).curves
        assert [curve.key for curve in curves] == sorted(model)
        for curve in curves:
            real = [value for _, _, value in model[curve.key] if value is not None]
            shown = [float(value) for value in curve.values if value != "NaN"]
            assert (curve.total, len(curve.steps) <= 20) == (202, True)
            assert (min(shown), max(shown)) == (min(real), max(real))
            assert set(points_of(curve)) <= model[curve.key]
        anywhere(EndRun(id=run))
        agree_in_part(anywhere, run, model)
    anywhere(ResumeRun(id=run))
    log_steps(anywhere, run, model, range(300, 303), seed=3)
    agree_in_part(anywhere, run, model)
    assert anywhere.wait(anywhere(CheckStore())).faults == []


def test_batches_of_every_width_in_one_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and many metrics, few and many points of each, in any order: a curve's parts lie in every table."""
    monkeypatch.setattr(sheets, "MOST_ROWS", 6)
    monkeypatch.setattr(sheets, "LONGEST_CURVE", 40)
    monkeypatch.setattr(pts, "LONGEST_SEGMENT", 150)
    chance = random.Random(5)
    run, model, step = workspace(CreateRun()).id, Model(), 0
    for _ in range(120):
        keys = chance.sample(range(140), chance.choice([1, 2, 3, 140]))
        count = chance.choice([1, 1, 1, 5, 60]) if len(keys) < 10 else chance.choice([1, 1, 2])
        start_at = step if chance.random() < 0.8 else max(0, step - 200)
        batch = [
            (name(key), chance.choice([chance.random(), math.nan]), start_at + offset, 1)
            for key in keys
            for offset in range(count)
        ]
        new = {(key, canonical(s, at, value)) for key, value, s, at in batch}
        before = {(key, point) for key in model for point in model[key]}
        assert send(workspace, run, batch) == (len(new - before), len(new & before))
        note(model, batch)
        step = max(step, start_at + count)
        if chance.random() < 0.05:
            workspace(EndRun(id=run))
            workspace(ResumeRun(id=run))
    agree(workspace, run, model)
    workspace(EndRun(id=run))
    agree(workspace, run, model)


def test_purged_wide_runs_leave_nothing(workspace: Workspace, folder: WorkspaceFolder) -> None:
    run, model = workspace(CreateRun()).id, Model()
    log_steps(workspace, run, model, range(3))
    send(workspace, run, [("long", float(step), step, 1) for step in range(5000)])
    workspace(DeleteRuns(ids=[run]))
    time.sleep(0.002)
    done = workspace.wait(workspace(PurgeRuns(days=0)))
    assert (done.runs, done.points) == (1, 3 * KEYS + 5000)
    with database_of(folder) as ask:
        assert {table: ask(f"SELECT count(*) FROM {table}")[0][0] for table in OWN_TABLES} == dict.fromkeys(
            OWN_TABLES, 0
        )


@pytest.mark.slow
def test_wide_runs_are_in_a_backup(
    folder: WorkspaceFolder, address: str, tmp_path: Path, tarmac: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    model: Model = {}
    with connect(folder.path.parent) as workspace:
        run = workspace(CreateRun()).id
        log_steps(workspace, run, model, range(5))
        long = [("long", math.sin(step), step, 1) for step in range(20_000)]
        send(workspace, run, long)
        before = workspace(SampleCurves(runs=[run], keys=["long"], points=100))
        made = Path(workspace.wait(workspace(BackupStore(to=str(tmp_path / "backup")))).path)
    place = "sqlite" if address == "sqlite" else request.getfixturevalue("new_database")()
    assert tarmac("store", "restore", str(made), "--to", str(tmp_path / "back"), "--store", place).code == 0
    with connect(tmp_path / "back") as restored:
        assert restored(SampleCurves(runs=[run], keys=["long"], points=100)) == before
        log_steps(restored, run, model, range(5, 7))
        assert send(restored, run, long) == (0, 20_000)
        note(model, long)
        agree_in_part(restored, run, model)


@pytest.mark.slow
def test_who_is_killed_while_logging_wide_loses_nothing_acknowledged(folder: WorkspaceFolder) -> None:
    """Requests are there as a whole or not at all, also those in which sheets were sorted out."""
    script = """
        run = workspace(CreateRun()).id
        print(run, flush=True)
        for step in range(1_000_000):
            workspace(LogRun(id=run, metrics=[(f"layer {key:03}", step + key / 1000, step, 1) for key in range(300)]))
            print(step, flush=True)
    """
    children = [start(folder, script) for _ in range(3)]
    firsts = [child.stdout.readline().strip() for child in children if child.stdout]
    for place, child in enumerate(children):
        time.sleep(1.0 + place)  # long enough for sorting out
        child.send_signal(signal.SIGKILL)
    with connect(folder.path.parent) as workspace:
        for run, child in zip(firsts, children, strict=True):
            told = [int(line) for line in end(child).lines if line.strip().isdigit()]
            lengths = {metric.points for metric in workspace(GetDetails(id=run)).metrics}
            assert len(lengths) == 1, "each request is there as a whole"
            (length,) = lengths
            assert told[-1] + 1 <= length <= told[-1] + 2  # the last one may not have been told
            for key in (0, 127, 128, 299):
                curve = history(workspace, run, name(key))
                assert curve.steps == list(range(length))
                assert curve.values == [step + key / 1000 for step in range(length)]
        assert workspace.wait(workspace(CheckStore())).faults == []


def as_format_2(points: Batch) -> bytes:
    """A segment as it has been stored since format 2."""
    steps = array("q", [point[2] for point in points])
    times = array("q", [point[3] for point in points])
    values = array("d", [point[1] for point in points])
    return zlib.compress(steps.tobytes() + times.tobytes() + values.tobytes(), 1)


@pytest.mark.slow
def test_a_store_of_format_2_is_upgraded_and_goes_on(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments have no outlines and the newest points lie in tails: all is read, added to, and packed at the end."""
    every = migrations.known()
    folder = WorkspaceFolder(tmp_path / "old" / ".tarmac")
    folder.path.parent.mkdir()
    monkeypatch.setattr(migrations, "known", lambda folder=None: every[:2])
    stores.create(folder, Settings(), address).close()
    connect(folder.path.parent).close()  # makes the project
    run = "0" * 31 + "1"
    with database_of(folder) as ask:
        ask(
            "INSERT INTO experiments (key, project, id, name, note, created_at) "
            "SELECT 1000, key, '123', 'default', '', 1 FROM projects"
        )
        ask(
            "INSERT INTO runs (project, id, experiment, name, status, actor, started_at) "
            "SELECT project, ?, key, 'old', 'running', 'os:ada', 1 FROM experiments",
            run,
        )
    old: Batch = [("m", math.sin(step), step, 1_000 + step) for step in range(10_020)]
    with database_of(folder) as ask:
        ((key, project),) = ask("SELECT key, project FROM runs")
        ask("INSERT INTO names (key, project, name) VALUES (77, ?, 'm')", project)
        if address != "sqlite":
            ask("SELECT setval(pg_get_serial_sequence('names', 'key'), 77)")
        for number in range(10):
            part = old[number * 1000 : number * 1000 + 1000]
            ask("INSERT INTO metric_segments VALUES (?, 77, ?, 1000, ?)", key, number, as_format_2(part))
        tail = pts.pack([(step, at, value) for _, value, step, at in old[10_000:]])
        ask("INSERT INTO metric_tails VALUES (?, 77, ?)", key, tail)
        values = [value for _, value, _, _ in old]
        last = old[-1]
        ask(
            "INSERT INTO metrics VALUES (?, 77, ?, ?, ?, ?, ?, 10020, 20, 10)",
            key, last[1], last[2], last[3], min(values), max(values),
        )  # fmt: skip
    monkeypatch.undo()
    stores.upgrade(folder, Settings())

    model: Model = {}
    note(model, old)
    with connect(folder.path.parent) as workspace:
        agree(workspace, run, model)
        for most in (20, 1000):
            (curve,) = workspace(SampleCurves(runs=[run], points=most)).curves
            assert (len(curve.steps) <= most, curve.total) == (True, 10_020)
            assert {min(values), max(values), values[0], values[-1]} <= set(curve.values)
        assert send(workspace, run, old[9_990:]) == (0, 30)
        more: Batch = [("m", 2.0 + step, step, 20_000 + step) for step in range(10_020, 10_900)]
        for batch in (more[:3], more[3:], [("m", -5.0, 500, 1)]):
            assert send(workspace, run, batch) == (len(batch), 0)
            note(model, batch)
            agree(workspace, run, model)
        (curve,) = workspace(SampleCurves(runs=[run], points=20)).curves
        assert {-5.0, 2.0 + 10_899} <= set(curve.values)
        workspace(EndRun(id=run))
        agree(workspace, run, model)
    with database_of(folder) as ask:
        assert ask("SELECT count(*) FROM metric_tails") == [(0,)]

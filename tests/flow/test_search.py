"""Trials over a space: of a script, of a pipeline, of a function; in parallel, pruned, killed and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tarmac as public
from tarmac.core.errors import Conflict, Invalid, UnknownKey
from tarmac.flow.search.space import pairs, read
from tarmac.store.folder import WorkspaceFolder
from tarmac.track.operations import ListRuns
from tarmac.track.records import Run
from tarmac.workspace import Workspace
from tests.conftest import Ran, tarmac_environment

ONE_DATABASE = pytest.mark.parametrize("address", ["sqlite"], indirect=True)
SCRIPT = """
import argparse, tarmac
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--kind")
given = parser.parse_args()
with tarmac.run(params=vars(given), capture=False, meter=False) as run:
    run.log(loss=(given.x - 3) ** 2 + (given.kind == "worse"))
"""
PIPELINE = """
import tarmac

@tarmac.step
def load() -> int:
    return 3

@tarmac.step
def fit(rows: int, depth: int) -> float:
    return abs(depth - rows) + 0.5

@tarmac.pipeline
def train(depth: int = 1):
    return fit(load(), depth)

@tarmac.step
def told(value: float) -> dict:
    return {"loss": value}

@tarmac.pipeline
def parts(depth: int = 1):
    return "x", told(fit(load(), depth))
"""


@pytest.fixture
def home(folder: WorkspaceFolder, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder.path.parent)
    return folder.path.parent


def children(workspace: Workspace, run: str) -> list[Run]:
    return workspace(ListRuns(filter=f"parent = '{run}'", order=["started"])).runs


@ONE_DATABASE
@pytest.mark.slow
def test_a_script_is_tried(workspace: Workspace, home: Path, tarmac: Callable[..., Ran]) -> None:
    (home / "train.py").write_text(SCRIPT)
    words = (
        "search",
        "train.py",
        "--space",
        "x=0..6.0",
        "--space",
        "kind=better|worse",
        "--metric",
        "loss",
        "--seed",
        "1",
    )
    done = tarmac(*words, "--trials", "6", "--workers", "3", "--json", cwd=home)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert len(found["trials"]) == 6
    assert found["best"]["value"] == min(trial["value"] for trial in found["trials"])
    trials = children(workspace, found["run"])
    assert sorted(run.tags["tarmac.trial"] for run in trials) == list("012345")
    assert {run.status for run in trials} == {"finished"}
    for run in trials:
        assert float(run.tags["tarmac.trial.value"]) == run.metrics["loss"]
        assert run.params["x"] == str(json.loads(run.tags["tarmac.trial.params"])["x"])
    parent = workspace(ListRuns(filter="tags.`tarmac.search` LIKE '%'")).runs
    assert [(run.id, run.status, run.tags["tarmac.best"]) for run in parent] == [
        (found["run"], "finished", found["best"]["run"])
    ]
    # it goes on, knowing what it knows
    again = tarmac(*words, "--trials", "8", "--json", "--resume", found["run"], cwd=home)
    assert again.code == 0, again.err
    more = json.loads(again.out)
    assert (more["run"], len(more["trials"])) == (found["run"], 8)
    assert more["trials"][:6] == found["trials"]
    assert len(children(workspace, found["run"])) == 8


@ONE_DATABASE
@pytest.mark.slow
def test_a_pipeline_is_tried_by_what_it_returns(workspace: Workspace, home: Path, tarmac: Callable[..., Ran]) -> None:
    (home / "ours.py").write_text(PIPELINE)
    (home / "tarmac.toml").write_text(
        '[pipelines.train]\nentry = "ours:train"\n[pipelines.parts]\nentry = "ours:parts"\n'
    )
    done = tarmac("search", "train", "--space", "depth=1..5", "--trials", "4", "--seed", "3", cwd=home)
    assert done.code == 0, done.err
    assert done.out.startswith("best: depth=")
    run = done.err.split()[1]
    assert len(children(workspace, run)) == 4
    part = tarmac("search", "parts", "--space", "depth=1..5", "--trials", "2", "--metric", "1.loss", "--json", cwd=home)
    assert part.code == 0, part.err
    assert {one["value"] for one in json.loads(part.out)["trials"]} <= {0.5, 1.5, 2.5}
    for wrong, says in {
        ("train", "--space", "dept=1..5"): "did you mean `depth`?",
        ("train", "--space", "depth=1..5", "-p", "depth=3"): "both in the space and given",
        ("train", "--space", "depth=5..1"): "is no range",
        ("trian", "--space", "depth=1..5"): "did you mean `train`?",
        ("train.py", "--space", "depth=1..5"): "no script",
        ("train", "--space", "depth=1..5", "--resume", "f" * 32): "no run",
    }.items():
        done = tarmac("search", *wrong, cwd=home)
        assert done.code != 0
        assert says in done.err, done.err


@ONE_DATABASE
def test_a_function_is_tried_in_threads(workspace: Workspace, home: Path) -> None:
    together, most, lock = 0, 0, threading.Lock()

    def fit(x: float, kind: str, offset: float) -> float:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.05)
        run = public.current_run()
        assert run is not None
        run.log(loss=x)
        with lock:
            together -= 1
        if kind == "broken":
            raise ValueError(kind)
        return (x - 2) ** 2 + offset

    found = public.search(fit, {"x": (0.0, 4.0), "kind": ["a", "broken"]}, trials=8, workers=4, seed=0, offset=1.0)
    assert 1 < most <= 4
    assert found.best is not None
    assert found.best.value == min(trial.value for trial in found.trials if trial.value is not None)
    trials = {run.id: run for run in children(workspace, found.run)}
    assert len(trials) == 8
    for trial in found.trials:
        run = trials[trial.run]
        assert run.status == ("failed" if trial.params["kind"] == "broken" else "finished")
        assert run.metrics["loss"] == trial.params["x"]
        assert run.params == {"x": str(trial.params["x"]), "kind": trial.params["kind"]}
    more = public.search(fit, {"x": (0.0, 4.0), "kind": ["a", "broken"]}, trials=9, resume=found.run, offset=1.0)
    assert len(more.trials) == 9
    with pytest.raises(UnknownKey, match="fit"):
        public.search(fit, {"y": (0, 1)}, trials=1, offset=1.0)
    with pytest.raises(Conflict, match="none of 2 trials"):
        public.search(fit, {"x": (0.0, 4.0)}, trials=2, kind="broken", offset=0)
    with pytest.raises(Invalid, match="is of `fit`"):
        public.search(lambda x: x, {"x": (0.0, 1.0)}, resume=found.run)


@ONE_DATABASE
def test_what_is_worse_is_ended_early(workspace: Workspace, home: Path) -> None:
    steps: dict[int, int] = {}

    def fit(x: int, trial: Any) -> float:
        for step in range(10):
            steps[x] = step
            trial.report(x, step)
        return float(x)

    found = public.search(fit, {"x": range(10)}, trials=12, seed=0)
    states = {trial.state for trial in found.trials}
    assert states == {"finished", "pruned"}
    assert found.best is not None
    assert all(trial.params["x"] >= found.best.params["x"] for trial in found.trials)
    assert {run.status for run in children(workspace, found.run)} == {"finished", "failed"}


@ONE_DATABASE
@pytest.mark.slow
def test_a_search_that_is_killed_takes_its_trials_with_it_and_goes_on(
    workspace: Workspace, home: Path, tarmac: Callable[..., Ran]
) -> None:
    (home / "train.py").write_text(SCRIPT.replace("import argparse", "import pathlib, time, argparse") + (
        "    if not pathlib.Path('gate').exists() and pathlib.Path('first').exists():\n"
        "        pathlib.Path('up').touch()\n        time.sleep(300)\n    pathlib.Path('first').touch()\n"
    ))  # fmt: skip
    words = ["search", "train.py", "--space", "x=0..6.0", "--metric", "loss", "--trials", "3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tarmac", *words],
        cwd=home,
        env=tarmac_environment(OURS=str(home)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not (home / "up").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    def alive() -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"OURS={home}".encode() in (path / "environ").read_bytes():
                    words = (path / "cmdline").read_bytes()
                    if b"train.py" in words:
                        found.append(words.decode("utf-8", "replace"))
            except OSError:
                continue
        return found

    while alive():
        assert time.monotonic() < end, alive()
        time.sleep(0.05)
    (home / "gate").touch()
    run = workspace(ListRuns(filter="tags.`tarmac.search` LIKE '%'")).runs[0].id
    done = tarmac(*words, "--resume", run, "--json", cwd=home)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (len(found["trials"]), {trial["state"] for trial in found["trials"]}) == (3, {"finished"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1..10", "1..10"), ("0.001..0.1:log", "0.001..0.1:log"), ("16..256:16", "16..256:16"), ("a|b", "a|b"),
        ("1|2|4", "1|2|4"), ("-1..1", "-1..1"), ("1e-4..1:log", "0.0001..1.0:log"),
    ],
)  # fmt: skip
def test_spaces_are_read(text: str, shown: str) -> None:
    made = read({"x": text})["x"]
    assert made.text() == shown
    assert read({"x": made.text()})["x"] == made


@pytest.mark.parametrize(
    "wrong", ["", "5..1", "1..1", "0..1:log", "1..2:0", "1..10:0.5", "a", "a|a", "1..", "..2", "nan..1", "1..1e999"]
)
def test_spaces_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(Invalid):
        read({"x": wrong})


def test_pairs_and_python_spaces() -> None:
    with pytest.raises(Invalid, match="twice"):
        pairs(["x=1..2", "x=1..3"])
    with pytest.raises(Invalid, match="no part of a space"):
        pairs(["x"])
    with pytest.raises(Invalid, match="needs a space"):
        read({})
    made = read({"a": (1, 10), "b": (0.0, 1), "c": ["x", 2], "d": range(16, 257, 16)})
    assert [one.text() for one in made.values()] == ["1..10", "0.0..1", "x|2", "16..256:16"]
    for wrong in ([], ["one"], 5, None, range(0), {"a": 1}):
        with pytest.raises(Invalid):
            read({"x": wrong})

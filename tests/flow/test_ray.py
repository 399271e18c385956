"""Ray keeps the contract of executors, and the promises that take more than one machine: two nodes on this one."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tarmac.flow.executors import Executor
from tarmac.store import folder as folders
from tests.conftest import Server
from tests.contracts.executors import ExecutorContract, double
from tests.flow.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.ray]
if find_spec("ray") is None:
    pytest.skip("not run: ray is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


class Nodes:
    """A cluster of two nodes, with room for one step on each."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ray_nodes.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        told = self._told()
        self.address: str = told["address"]
        self.second: int = told["raylet"]
        """The process of the node that may be killed; the steps it runs are its children."""

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the cluster did not start"
        told: dict[str, Any] = json.loads(line)
        return told

    def _say(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._told()

    def kill_second(self) -> None:
        assert self._say() == {"killed": self.second}

    def add_second(self) -> None:
        self.second = self._say()["raylet"]

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        # before ray is imported, which reads them then
        for name, value in {**AUTH, "RAY_USAGE_STATS_ENABLED": "0", "GRPC_ENABLE_FORK_SUPPORT": "0"}.items():
            patch.setenv(name, value)
        made = Nodes()
        yield made
        made.stop()


@pytest.fixture(scope="module")
def cluster(nodes: Nodes) -> Iterator[Executor]:
    """One connection for the whole contract."""
    from tarmac.flow.executors import carried
    from tarmac.flow.executors.ray import Ray

    made = Ray(nodes.address, carried.pack(ROOT))
    yield made
    made.close()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class TestRay(ExecutorContract):
    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
        monkeypatch.chdir(ROOT)

    @pytest.fixture
    def executor(self, cluster: Executor) -> Executor:
        return cluster

    def test_a_worker_that_dies_loses_its_step_only(self, executor: Executor) -> None:
        fault = self.fault(self.do(executor, die))
        assert fault.lost
        assert "is gone (WorkerCrashedError)" in fault.message
        assert self.value(self.do(executor, double, 1, id="two")) == 2

    def test_what_cannot_be_sent_is_said(self, executor: Executor) -> None:
        fault = self.fault(self.do(executor, double, lambda: 1))
        assert "what it is given cannot be sent to another machine" in fault.message


# ---------------------------------------------------------------------------------------------------------- pipelines

MANY = """
    import os
    import numpy as np
    import tarmac
    from helper import scale

    @tarmac.step
    def load(path: tarmac.File) -> list[int]:
        print("reads", path.name)
        return [int(text) for text in path.read_text().split()]

    @tarmac.step(env=["GIVEN"])
    def large(n: int):
        assert os.environ["GIVEN"] == "yes"
        return np.arange(n, dtype="float64")

    @tarmac.step
    def square(x: int) -> int:
        return x * x

    @tarmac.step
    def write(values) -> tarmac.File:
        import pathlib, tempfile
        out = pathlib.Path(tempfile.mkdtemp()) / "report.txt"
        out.write_text(str(values))
        return out

    @tarmac.step
    def join(values: list, array, squares: list, report: tarmac.File) -> list:
        tarmac.current_run().log({"mass": float(array.sum())})
        return [scale(sum(values)), float(array.sum()), squares, report.read_text(), report.name]

    @tarmac.pipeline
    def main(path: tarmac.File = "input.bin"):
        values = load(path)
        squares = square(tarmac.each(values))
        return join(values, large(500_000), squares, write(squares))
    """


def test_a_pipeline_gives_the_same_there_as_here(nodes: Nodes, project: Project, serve: Callable[..., Server]) -> None:
    """Through a server: nothing but its URL is shared with the nodes."""
    project.write("pipe.py", MANY)
    project.write("helper.py", "def scale(x): return x * 10")
    project.write("input.bin", "1 2 3")
    server = serve(folders.at(project.folder))
    words = "-w", server.url
    there = project.run("pipe:main", *words, "--on", nodes.address, code=0, GIVEN="yes", **AUTH)
    assert there["result"] == [60, 124999750000.0, [1, 4, 9], "[1, 4, 9]", "report.txt"]
    assert set(there["steps"].values()) == {"ran"}
    here = project.run("pipe:main", *words, GIVEN="yes")
    assert here["result"] == there["result"]
    assert set(here["steps"].values()) == {"reused"}
    steps = {s["node"]: s["run"] for s in _steps(project, there["run"])}
    assert project.tarmac("runs", "logs", steps["load"]) == "reads input.bin\n"
    assert project.tarmac("runs", "ls", "--json").count('"mass"') > 0


SLOW = """
    import os, pathlib, time
    import tarmac

    @tarmac.step
    def slow(folder: str, n: int) -> int:
        mine = pathlib.Path(folder) / f"{n}-{time.time_ns()}"
        mine.write_text(f"{os.getppid()} {os.getpid()}")
        mine.rename(mine.with_suffix(".begun"))
        print("has begun", flush=True)
        while not (pathlib.Path(folder) / "go").exists():
            time.sleep(0.05)
        return n

    @tarmac.step
    def total(values: list[int]) -> int:
        return sum(values)

    @tarmac.pipeline
    def main(folder: str):
        return total([slow(folder, 1), slow(folder, 2)])
    """


def _steps(project: Project, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(project.tarmac("pipelines", "show", run, "--json"))["steps"]
    return found


def _begun(folder: Path, count: int, seconds: float = 90) -> list[tuple[int, int, str]]:
    """The steps that have begun: the raylet above each, its process, its file."""
    until = time.monotonic() + seconds
    while len(files := sorted(folder.glob("*.begun"))) < count:
        assert time.monotonic() < until, f"{len(files)} of {count} have begun"
        time.sleep(0.1)
    return [(*map(int, file.read_text().split()), file.name) for file in files]  # type: ignore[misc]


def test_a_node_that_is_killed_loses_nothing(nodes: Nodes, project: Project, tmp_path: Path) -> None:
    project.write("pipe.py", SLOW)
    driver = project.start("run", "pipe:main", "-p", f"folder={tmp_path}", "--on", nodes.address, **AUTH)
    begun = _begun(tmp_path, 2)
    lost = [name for raylet, _, name in begun if raylet == nodes.second]
    assert len(lost) == 1
    nodes.kill_second()
    (tmp_path / "go").touch()  # the other one ends, and makes room
    out, _ = driver.communicate(timeout=120)
    nodes.add_second()
    assert driver.returncode == 0, out
    assert out.splitlines()[-1] == "3"
    number = lost[0].partition("-")[0]
    assert len(list(tmp_path.glob(f"{number}-*.begun"))) == 2
    assert "it is run again" in out
    steps = {s["node"]: s["run"] for s in _steps(project, _run_of(out))}
    again = next(project.tarmac("runs", "logs", run) for node, run in steps.items() if node.startswith("slow"))
    assert "has begun" in again


def _run_of(out: str) -> str:
    return next(line for line in out.splitlines() if line.startswith("run ")).split()[1]


def test_ctrl_c_stops_what_runs_there(nodes: Nodes, project: Project, tmp_path: Path) -> None:
    project.write("pipe.py", SLOW)
    driver = project.start("run", "pipe:main", "-p", f"folder={tmp_path}", "--on", nodes.address, **AUTH)
    begun = _begun(tmp_path, 1)
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, out
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for _, pid, _ in begun):
        assert time.monotonic() < until, "it still runs"
        time.sleep(0.2)
    runs = json.loads(project.tarmac("runs", "ls", "--json"))["runs"]
    assert {run["status"] for run in runs} == {"killed"}

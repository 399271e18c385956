"""What a pipeline has to survive: kills, two runs at once, steps that misbehave, results and workspaces that go."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tarmac.flow.operations import NewestResults
from tarmac.people.operations import AddPerson, CreateToken
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import connect
from tests.conftest import Server
from tests.flow.conftest import Project

SLOW = """
    import os, pathlib, time, tarmac

    @tarmac.step
    def first() -> int:
        pathlib.Path("first.txt").open("a").write("x")
        return 1

    @tarmac.step(retries=0)
    def slow(x: int) -> int:
        pathlib.Path("slow.txt").open("a").write(f"{os.getpid()} ")
        until = time.monotonic() + WAIT
        while time.monotonic() < until and not pathlib.Path("go.txt").exists():
            time.sleep(0.02)
        return x + 1

    @tarmac.step
    def last(x: int) -> int:
        return x * 10

    @tarmac.pipeline
    def main():
        return last(slow(first()))
"""


def wait_for(file: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < until, f"{file.name} has not come"
        time.sleep(0.02)


def test_a_killed_driver_loses_what_it_was_doing_and_nothing_else(project: Project) -> None:
    project.write("pipe.py", SLOW.replace("WAIT", "60"))
    driver = project.start("run", "pipe:main")
    wait_for(project.folder / "slow.txt")
    time.sleep(1)  # what `first` made is kept within a moment
    driver.kill()
    driver.communicate()
    (project.folder / "go.txt").touch()
    done = project.run("pipe:main")
    assert done["result"] == 20
    assert done["steps"] == {"first": "reused", "slow": "ran", "last": "ran"}
    assert (project.folder / "first.txt").read_text() == "x"


def test_a_stopped_driver_ends_its_run(project: Project) -> None:
    project.write("pipe.py", SLOW.replace("WAIT", "60"))
    driver = project.start("run", "pipe:main")
    wait_for(project.folder / "slow.txt")
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "Traceback" not in out
    runs = json.loads(project.tarmac("runs", "ls", "--json"))["runs"]
    assert {run["name"]: run["status"] for run in runs}["slow"] == "killed"
    assert [run["status"] for run in runs if run["parent"] is None] == ["killed"]


def test_a_killed_worker_is_replaced(project: Project) -> None:
    project.write("pipe.py", SLOW.replace("WAIT", "60"))
    driver = project.start("run", "pipe:main", "--workers", "2", "--json")
    wait_for(project.folder / "slow.txt")
    os.kill(int((project.folder / "slow.txt").read_text().split()[0]), signal.SIGKILL)
    until = time.monotonic() + 60
    while len((project.folder / "slow.txt").read_text().split()) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    (project.folder / "go.txt").touch()
    out, _ = driver.communicate(timeout=60)
    assert driver.returncode == 0, out
    assert json.loads(out.splitlines()[-1])["result"] == 20


def test_two_runs_at_once_both_end_well(project: Project) -> None:
    project.write("pipe.py", SLOW.replace("WAIT", "0.5"))
    both = [project.start("run", "pipe:main", "--json") for _ in range(2)]
    for one in both:
        out, _ = one.communicate(timeout=90)
        assert one.returncode == 0, out
        assert json.loads(out.splitlines()[-1])["result"] == 20
    assert set(project.marks().values()) == {"reuse"}
    assert json.loads(project.tarmac("store", "check", "--json"))["faults"] == []


CHANGES = """
    import numpy as np, tarmac

    @tarmac.step
    def load() -> np.ndarray:
        return np.zeros(1000)

    @tarmac.step
    def spoil(a: np.ndarray, k: int) -> float:
        a += k
        return float(a.sum())

    @tarmac.step
    def read(a: np.ndarray) -> float:
        return float(a.sum())

    @tarmac.pipeline
    def main():
        a = load()
        return [spoil(a, 1), read(a), spoil(a, 2), read(a)]
"""


@pytest.mark.parametrize("words", [(), ("--workers", "2")])
def test_a_step_that_changes_what_it_is_given_changes_it_for_nobody_else(
    project: Project, words: tuple[str, ...]
) -> None:
    project.write("pipe.py", CHANGES)
    assert project.run("pipe:main", *words)["result"] == [1000, 0, 2000, 0]
    assert set(project.marks().values()) == {"reuse"}


def test_a_result_that_is_gone_is_made_again(project: Project) -> None:
    project.write("pipe.py", CHANGES)
    project.run()
    for file in (project.folder / ".tarmac" / "blobs").glob("??/*"):
        file.unlink()
    assert set(project.marks().values()) == {"reuse"}
    project.edit("pipe.py", "a += k\n    return float(a.sum())", "a += k\n    return float(a.mean())")
    done = project.run()
    assert done["result"] == [1, 0, 2, 0]
    assert done["steps"]["load"] == "ran"
    assert set(project.marks().values()) == {"reuse"}
    for file in (project.folder / ".tarmac" / "blobs").glob("??/*"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    project.edit("pipe.py", "float(a.mean())", "float(a.max())")
    assert project.run()["result"] == [1, 0, 2, 0]


SNEAKY = """
    import os, tarmac

    @tarmac.step(OPTIONS)
    def sneaky() -> str:
        with open("settings.txt") as file:
            return file.read() + os.environ.get("MODE", "")

    @tarmac.step
    def after(text: str) -> str:
        return text.upper()

    @tarmac.pipeline
    def main():
        return after(sneaky())
"""


def test_an_undeclared_read_is_not_reused_and_is_named(project: Project) -> None:
    project.write("pipe.py", SNEAKY.replace("OPTIONS", ""))
    project.write("settings.txt", "a")
    assert project.run()["result"] == "A"
    planned = project.plan()
    assert planned["sneaky"]["mark"] == "run"
    assert planned["sneaky"]["why"] == [
        "its result was not kept: it reads the file settings.txt (pipe.py:6)",
        "its result was not kept: it reads the variable MODE (pipe.py:7)",
    ]
    project.write("settings.txt", "b")
    done = project.run()
    assert (done["result"], done["steps"]) == ("B", {"sneaky": "ran", "after": "ran"})
    assert project.run()["steps"] == {"sneaky": "ran", "after": "reused"}


def test_a_declared_read_is_part_of_the_key(project: Project) -> None:
    project.write("pipe.py", SNEAKY.replace("OPTIONS", 'reads=["settings.txt"], env=["MODE"]'))
    project.write("settings.txt", "a")
    project.run()
    assert project.marks() == {"sneaky": "reuse", "after": "reuse"}
    project.write("settings.txt", "b")
    assert project.plan()["sneaky"]["why"] == ["the content of settings.txt has changed"]
    assert project.run("pipe:main", MODE="x")["result"] == "BX"
    assert project.run("pipe:main", MODE="x")["steps"]["sneaky"] == "reused"


MISBEHAVES = """
    import os, sys, threading, tarmac

    @tarmac.step(timeout=1)
    def hangs() -> int:
        while True:
            pass

    @tarmac.step
    def exits() -> int:
        sys.exit(3)

    @tarmac.step(executor="processes")
    def dies() -> int:
        os._exit(3)

    @tarmac.step
    def recurses(n: int = 0) -> int:
        return recurses.function(n + 1)

    @tarmac.step
    def loud() -> int:
        for _ in range(COUNT):
            sys.stdout.write("y" * 1_000_000)
        return 1

    @tarmac.step
    def forks() -> int:
        child = os.fork()
        if child == 0:
            return 5
        os.waitpid(child, 0)
        return 6
""" + "".join(
    f"""
    @tarmac.pipeline
    def run_{name}():
        return {name}()
"""
    for name in ("hangs", "exits", "dies", "recurses", "loud", "forks")
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hangs", "TimeoutError: it was not done after 1 s"),
        ("exits", "SystemExit: it called exit(3)"),
        ("dies", "its process ended with exit code 3"),
        ("recurses", "RecursionError"),
    ],
)
def test_a_step_that_misbehaves_fails_and_its_run_ends(project: Project, name: str, said: str) -> None:
    project.write("pipe.py", MISBEHAVES.replace("COUNT", "1"))
    error = project.run(f"pipe:run_{name}", code=1)["error"]
    assert said in error["message"]
    runs = json.loads(project.tarmac("runs", "ls", "--json"))["runs"]
    assert [run["status"] for run in runs] == ["failed", "failed"]


def test_a_step_that_forks_or_prints_a_gigabyte_is_done_with(project: Project) -> None:
    project.write("pipe.py", MISBEHAVES.replace("COUNT", "1000" if os.environ.get("TARMAC_PROVE") else "50"))
    assert project.run("pipe:run_forks")["result"] == 6
    done = project.run("pipe:run_loud")
    step = json.loads(project.tarmac("pipelines", "show", done["run"], "--json"))["steps"][0]["run"]
    log = project.tarmac("runs", "logs", step)
    assert len(log) < 3_000_000
    assert "characters are left out" in log


def test_a_clock_that_jumps_changes_nothing(project: Project) -> None:
    project.write(
        "pipe.py",
        """
        import time, tarmac

        real = time.time

        @tarmac.step(timeout=60)
        def jumps(by: int) -> int:
            time.time = lambda: real() + by
            time.time_ns = lambda: int((real() + by) * 1e9)
            return by

        @tarmac.step
        def after(x: list[int]) -> int:
            return sum(x)

        @tarmac.pipeline
        def main():
            return after([jumps(10_000_000), jumps(-10_000_000)])
        """,
    )
    assert project.run()["result"] == 0
    assert set(project.marks().values()) == {"reuse"}


def test_a_workspace_that_goes_away_is_waited_for(
    project: Project, folder: WorkspaceFolder, serve: Callable[..., Server]
) -> None:
    project.write("pipe.py", SLOW.replace("WAIT", "60"))
    with connect(folder.path.parent) as workspace:
        workspace(AddPerson(name="ada", role="admin"))
        token = workspace(CreateToken(person="ada")).token
    server = serve(folder)
    port = server.url.rpartition(":")[2]
    driver = project.start("run", "pipe:main", "--json", "-w", server.url, TARMAC_TOKEN=token)
    wait_for(project.folder / "slow.txt")
    server.process.kill()
    server.process.wait()
    (project.folder / "go.txt").touch()
    time.sleep(2)
    assert driver.poll() is None  # what it made is not kept yet
    serve(folder, "--port", port)
    out, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, out
    with connect(folder.path.parent) as workspace:
        kept = workspace(NewestResults(pipeline="main")).results
    assert {result.node for result in kept} == {"first", "slow", "last"}


def test_results_are_shared_through_a_server(
    project: Project, folder: WorkspaceFolder, serve: Callable[..., Server]
) -> None:
    project.write("pipe.py", CHANGES)
    server = serve(folder)
    assert project.run("pipe:main", "-w", server.url)["result"] == [1000, 0, 2000, 0]
    other = Project(project.folder.parent / "other")
    other.folder.mkdir()
    other.write("pipe.py", CHANGES)
    assert other.run("pipe:main", "-w", server.url)["steps"] == dict.fromkeys(
        ("load", "spoil", "read", "spoil-2", "read-2"), "reused"
    )

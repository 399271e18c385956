"""Every executor keeps the contract, and worker processes keep some promises that only they can."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarmac.flow.executors import Executor
from tarmac.flow.executors.mixed import Mixed
from tarmac.flow.executors.processes import Processes
from tarmac.flow.executors.threads import Threads
from tests.contracts.executors import ExecutorContract, double, spin

ROOT = str(Path(__file__).parents[2])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave_hard() -> None:
    os._exit(7)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where workers find what the tests define, and from where lines are named."""
    monkeypatch.setattr(sys, "path", [ROOT, *sys.path])
    monkeypatch.chdir(ROOT)


class TestThreads(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        made = Threads(2)
        yield made
        made.close()


class TestProcesses(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        made = Processes(2)
        yield made
        made.close()

    @pytest.mark.parametrize(
        ("function", "how"), [(die, "was killed (SIGKILL)"), (leave_hard, "ended with exit code 7")]
    )
    def test_a_worker_that_dies_loses_its_step_only(self, executor: Executor, function: object, how: str) -> None:
        fault = self.fault(self.do(executor, function))
        assert fault.lost
        assert how in fault.message
        assert self.value(self.do(executor, double, 1, id="two")) == 2

    def test_a_worker_ends_when_its_step_is_given_up(self, executor: Executor) -> None:
        executor.submit(self.task(spin, id="spin"))
        time.sleep(1)
        worker = executor._busy["spin"]._process  # type: ignore[attr-defined]
        from tarmac.flow.executors import Fault

        executor.stop("spin", Fault("TimeoutError", "enough"))
        assert self.wait(executor, "spin", 10).fault is not None
        assert worker.wait(20) == -signal.SIGKILL


class TestMixed(ExecutorContract):
    """As it is by default: in threads, until a task asks for a process."""

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        made = Mixed()
        yield made
        made.close()

    def test_a_task_may_ask_for_a_process(self, executor: Executor) -> None:
        outcome = self.do(executor, os.getpid, apart=True)
        assert outcome.fault is not None or self.value(outcome) != os.getpid()

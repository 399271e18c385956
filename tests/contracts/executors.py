"""What every executor promises: the driver knows no other."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tarmac.flow.executors import Executor, Fault, Outcome, Task
from tarmac.flow.executors.work import Here
from tarmac.flow.steps import Options
from tarmac.flow.typed import unpack


def double(x: Any) -> Any:
    return x * 2


def fail() -> None:
    raise ValueError("no such luck")


def flaky(path: str) -> str:
    with Path(path).open("a+") as file:
        file.write("x")
        file.seek(0)
        tries = len(file.read())
    if tries < 3:
        raise OSError(f"try {tries}")
    return "at last"


def leave() -> None:
    sys.exit(3)


def nap(seconds: float) -> float:
    print("asleep", flush=True)
    time.sleep(seconds)
    return seconds


def spin() -> None:
    while True:
        pass


def recurse(n: int) -> int:
    return recurse(n + 1)


def shout(n: int) -> None:
    for _ in range(n):
        print("y" * 100_000)


def fork() -> str:
    child = os.fork()
    if child == 0:
        return "child"
    os.waitpid(child, 0)
    return "parent"


def two() -> tuple[int, str]:
    return 1, "b"


def generator() -> Iterator[int]:
    return (i for i in range(3))


def threaded() -> str:
    made: list[str] = []
    thread = threading.Thread(target=lambda: (print("from a thread"), made.append("done")))  # type: ignore[func-returns-value]
    thread.start()
    thread.join()
    return made[0]


def peek(path: str) -> str:
    return Path(path).read_text() + os.environ.get("TARMAC_NOT_GIVEN", "")


def array(n: int) -> Any:
    import numpy as np

    return np.arange(n, dtype="float32")


class ExecutorContract:
    """Inherit it and say how the executor is made."""

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        raise NotImplementedError

    def do(self, executor: Executor, function: Any, *args: Any, id: str = "one", **fields: Any) -> Outcome:
        executor.submit(self.task(function, *args, id=id, **fields))
        return self.wait(executor, id)

    def task(self, function: Any, *args: Any, id: str = "one", **fields: Any) -> Task:
        options = fields.pop("options", Options())
        return Task(id, function.__name__, function, options, lambda: (list(args), {}), **fields)

    def wait(self, executor: Executor, id: str, seconds: float = 60) -> Outcome:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for outcome in executor.next(1):
                if outcome.id == id:
                    return outcome
        raise AssertionError(f"{id} has not come")

    def value(self, outcome: Outcome, part: int = 0) -> Any:
        packed = outcome.packed[part]
        return unpack(packed.output, lambda digest: packed.blobs[digest], lambda leaf: Path())  # type: ignore[arg-type, return-value]

    def test_a_result_comes_as_bytes_with_what_it_cost(self, executor: Executor) -> None:
        outcome = self.do(executor, double, [1, 2])
        assert outcome.fault is None
        assert self.value(outcome) == [1, 2, 1, 2]
        assert (outcome.values is not None) == executor.in_process
        assert outcome.seconds >= 0
        assert outcome.attempts == 1
        assert self.value(self.do(executor, array, 5, id="two")).tolist() == [0, 1, 2, 3, 4]

    def test_several_results(self, executor: Executor) -> None:
        outcome = self.do(executor, two, parts=2)
        assert [self.value(outcome, 0), self.value(outcome, 1)] == [1, "b"]
        assert "declared to return a tuple of 3" in self.fault(self.do(executor, two, id="b", parts=3)).message

    def fault(self, outcome: Outcome) -> Fault:
        assert outcome.fault is not None
        return outcome.fault

    def test_an_error_names_its_line_and_what_follows_is_done(self, executor: Executor) -> None:
        fault = self.fault(self.do(executor, fail))
        assert (fault.kind, fault.message, fault.lost) == ("ValueError", "no such luck", False)
        assert fault.where.startswith("tests/contracts/executors.py:")
        assert "ValueError: no such luck" in fault.traceback
        assert self.value(self.do(executor, double, 3, id="two")) == 6

    def test_it_is_tried_again(self, executor: Executor, tmp_path: Path) -> None:
        options = Options(retries=3, backoff=0.01)
        outcome = self.do(executor, flaky, str(tmp_path / "tries"), options=options)
        assert self.value(outcome) == "at last"
        assert outcome.attempts == 3
        assert "OSError: try 1; tried again in 0.01 s" in outcome.log
        fault = self.fault(
            self.do(executor, flaky, str(tmp_path / "b"), id="b", options=Options(retries=1, backoff=0.01))
        )
        assert fault.message == "try 2"

    @pytest.mark.parametrize(
        ("function", "kind"), [(leave, "SystemExit"), (lambda: recurse(0), "RecursionError")], ids=["exits", "recurses"]
    )
    def test_a_step_cannot_end_its_executor(self, executor: Executor, function: Any, kind: str) -> None:
        if kind == "RecursionError":
            outcome = self.do(executor, recurse, 0)
        else:
            outcome = self.do(executor, function)
        assert self.fault(outcome).kind == kind
        assert self.value(self.do(executor, double, 1, id="two")) == 2

    def test_many_are_done(self, executor: Executor) -> None:
        for number in range(30):
            executor.submit(self.task(double, number, id=str(number)))
        found: dict[str, Any] = {}
        until = time.monotonic() + 60
        while len(found) < 30 and time.monotonic() < until:
            found.update({outcome.id: self.value(outcome) for outcome in executor.next(1)})
        assert found == {str(number): number * 2 for number in range(30)}

    def test_a_task_is_given_up_at_once_and_others_go_on(self, executor: Executor) -> None:
        executor.submit(self.task(nap, 30, id="long"))
        until = time.monotonic() + 30
        while "asleep" not in executor.log("long") and time.monotonic() < until:
            time.sleep(0.02)
        executor.stop("long", Fault("TimeoutError", "enough"))
        outcome = self.wait(executor, "long", 10)
        assert self.fault(outcome).message == "enough"
        assert "asleep" in outcome.log
        assert self.value(self.do(executor, double, 2, id="after")) == 4

    def test_what_is_printed_is_kept_and_bounded(self, executor: Executor) -> None:
        outcome = self.do(executor, shout, 100)
        size, told = len(outcome.log), "characters are left out" in outcome.log
        assert (outcome.fault, told) == (None, True)
        assert 2_000_000 <= size < 2_300_000
        assert "from a thread" in self.do(executor, threaded, id="two").log

    def test_a_forked_copy_ends_with_the_step(self, executor: Executor) -> None:
        outcome = self.do(executor, fork)
        assert self.value(outcome) == "parent"
        assert executor.next(0.3) == []

    def test_what_cannot_be_stored_is_refused_or_handed_on(self, executor: Executor) -> None:
        assert "a generator, which cannot be stored" in self.fault(self.do(executor, generator)).message
        outcome = self.do(executor, generator, id="two", options=Options(cache=False))
        if executor.in_process:
            assert outcome.values is not None
            assert list(outcome.values[0]) == [0, 1, 2]
        else:
            assert "cannot be stored" in (outcome.unstorable or self.fault(outcome).message)

    def test_undeclared_reads_are_told_with_their_line(self, executor: Executor, tmp_path: Path) -> None:
        file = tmp_path / "secret.txt"
        file.write_text("x")
        outcome = self.do(executor, peek, str(file))
        assert len(outcome.undeclared) == 2
        assert outcome.undeclared[0].startswith(f"reads the file {file} (tests/contracts/executors.py:")
        assert outcome.undeclared[1].startswith("reads the variable TARMAC_NOT_GIVEN (tests/contracts/executors.py:")
        declared = Options(env=("TARMAC_NOT_GIVEN",))
        assert self.do(executor, peek, str(file), id="two", options=declared, allowed=(str(file),)).undeclared == []

    def test_items_are_done_one_by_one(self, executor: Executor) -> None:
        outcome = self.do(executor, double, Here, items=[1, "a", [2]])
        assert [self.value(outcome, index) for index in range(3)] == [2, "aa", [2, 2]]

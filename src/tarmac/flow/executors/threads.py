"""In this process, a thread for each step that runs: what steps hand on stays in memory."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import ExitStack

from tarmac.flow.executors import Fault, Outcome, Task, logs
from tarmac.flow.executors.logs import Show, StepLog
from tarmac.flow.executors.pressure import Pressure
from tarmac.flow.executors.work import perform

STACK = 64 * 1024 * 1024
"""A step that recurses deeply gets Python's error and not a crash."""


class Threads:
    """The default."""

    name = "threads"
    in_process = True

    def __init__(self, slots: int = 0, show: Show | None = None) -> None:
        self.slots = slots or max(2, os.cpu_count() or 1)
        self._show = show
        self._waiting: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: dict[str, tuple[StepLog, threading.Event]] = {}
        self._given_up: set[str] = set()
        self._threads = 0
        self._streams = ExitStack()
        self._streams.enter_context(logs.installed())
        self._pressure = Pressure(lambda: list(self._running))
        self._free = 0

    def submit(self, task: Task) -> None:
        log, stopped = StepLog(task.node, self._show, task.secrets), threading.Event()
        with self._lock:
            self._running[task.id] = log, stopped
            if self._free:
                self._free -= 1
            else:
                self._start()
        self._pressure.start()
        self._waiting.put(task)

    def _start(self) -> None:
        before = threading.stack_size(STACK)
        try:
            threading.Thread(target=self._work, name=f"tarmac-step-{self._threads}", daemon=True).start()
        finally:
            threading.stack_size(before)
        self._threads += 1

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            log, stopped = self._running[task.id]
            outcome = perform(task, log, stopped)
            outcome.held = min(self._pressure.take(task.id), outcome.cpu_seconds)
            with self._lock:
                given_up = task.id in self._given_up
                self._given_up.discard(task.id)
                self._running.pop(task.id, None)
                if not given_up:
                    self._free += 1
            if given_up:
                return  # another thread has taken its place
            self._done.put(outcome)

    def put(self, outcome: Outcome) -> None:
        """What came of a task elsewhere, to be heard here."""
        self._done.put(outcome)

    def next(self, seconds: float) -> list[Outcome]:
        found = []
        try:
            found.append(self._done.get(timeout=max(0.0, seconds)))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            return found

    def stop(self, id: str, why: Fault) -> None:
        """A thread cannot be killed: it is left to itself, asked to end, and what it still does is nobody's."""
        with self._lock:
            running = self._running.get(id)
            if running is None:
                return
            self._given_up.add(id)
        log, stopped = running
        stopped.set()
        self._done.put(Outcome(id, fault=why, log=log.text()))

    def log(self, id: str) -> str:
        running = self._running.get(id)
        return running[0].text() if running else ""

    def close(self) -> None:
        self._pressure.stop()
        self._streams.close()
        with self._lock:
            for _, stopped in self._running.values():
                stopped.set()
            for _ in range(self._threads):
                self._waiting.put(None)

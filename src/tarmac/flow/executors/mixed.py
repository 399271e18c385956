"""Threads of this process, and worker processes for the steps that should have one: the default."""

from __future__ import annotations

import threading
from typing import Any

from tarmac.flow.executors import Executor, Fault, Outcome, Task
from tarmac.flow.executors.logs import Show
from tarmac.flow.executors.threads import Threads


class Mixed:
    """Each task goes where it says. Processes are only started when one does."""

    name = "mixed"
    in_process = True

    def __init__(self, workers: int = 0, show: Show | None = None) -> None:
        self._workers = workers
        self._show = show
        self._threads = Threads(show=show)
        self._processes: Executor | None = None
        self.slots = workers or self._threads.slots
        self._where: dict[str, Executor] = {}

    def submit(self, task: Task) -> None:
        chosen: Executor = self._threads
        if task.apart or self._workers:
            chosen = self._apart()
        self._where[task.id] = chosen
        chosen.submit(task)

    def _apart(self) -> Executor:
        if self._processes is None:
            from tarmac.flow.executors.processes import Processes

            self._processes = Processes(self._workers or self.slots, self._show)
            threading.Thread(target=self._forward, args=(self._processes,), daemon=True).start()
        return self._processes

    def _forward(self, processes: Any) -> None:
        """What processes bring comes where the driver waits."""
        while self._processes is not None:
            for outcome in processes.next(0.5):
                self._threads.put(outcome)

    def next(self, seconds: float) -> list[Outcome]:
        found = self._threads.next(seconds)
        for outcome in found:
            self._where.pop(outcome.id, None)
        return found

    def stop(self, id: str, why: Fault) -> None:
        if (where := self._where.get(id)) is not None:
            where.stop(id, why)

    def log(self, id: str) -> str:
        where = self._where.get(id)
        return where.log(id) if where is not None else ""

    def close(self) -> None:
        self._threads.close()
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.close()

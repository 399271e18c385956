"""Jobs run in processes of their own: a crash, a leak or a long computation there harms nobody here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

from tarmac.core.errors import TarmacError
from tarmac.flow.jobs import end_lost, log_path
from tarmac.store import Store

PATIENCE_SECONDS = 10.0


class Spawner:
    """Starts the process of each job and says so when one is gone without a word."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._processes: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._watchers: list[threading.Thread] = []

    def start(self, id: str, attempt: int) -> None:
        folder = self._store.folder
        folder.jobs.mkdir(exist_ok=True)
        # a process group of its own keeps Ctrl-C away; a session of its own would get as much of the machine as we do
        apart: dict[str, Any] = {"process_group": 0} if sys.platform != "win32" else {}
        with log_path(self._store, id, attempt).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tarmac.door.child", str(folder.path.absolute()), id, str(attempt)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                **apart,
            )
        self._processes[id, attempt] = process
        watcher = threading.Thread(
            target=self._watch, args=(id, attempt, process), name=f"tarmac-job-{id[:8]}", daemon=True
        )
        self._watchers.append(watcher)
        watcher.start()

    def works_on(self, id: str) -> bool:
        """Whether a process that was started here works on it."""
        return any(known == id for known, _ in list(self._processes))

    def _watch(self, id: str, attempt: int, process: subprocess.Popen[bytes]) -> None:
        exit_code = process.wait()
        try:
            end_lost(self._store, id, attempt, exit_code)
        except TarmacError:
            return  # the store is away; the missing heartbeat says the same in a moment
        finally:
            self._processes.pop((id, attempt), None)

    def close(self) -> None:
        """Ask what still runs to stop at a clean place, where it can be resumed."""
        for process in list(self._processes.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for watcher in self._watchers:
            watcher.join(PATIENCE_SECONDS)
        for process in list(self._processes.values()):
            process.kill()

"""The part of `tarmac up` that starts pipelines: looks once a second, and runs a few at a time."""

from __future__ import annotations

import logging
import threading
import time

from tarmac.core import project_file
from tarmac.core.actor import os_user
from tarmac.core.clock import now
from tarmac.core.errors import TarmacError
from tarmac.door import catalog
from tarmac.door.dispatch import Door
from tarmac.flow.schedules.handlers import from_file
from tarmac.flow.schedules.queue import claim, recover
from tarmac.flow.schedules.ticking import Ticker
from tarmac.store.sql import Retry

LOOK_SECONDS = 1.0
RECOVER_SECONDS = 10.0

log = logging.getLogger("tarmac")


class Scheduler(threading.Thread):
    """Several servers on one store each have one; what falls due is taken by one of them."""

    def __init__(self, door: Door, at_once: int) -> None:
        super().__init__(name="tarmac-scheduler", daemon=True)
        self._door = door
        self._at_once = at_once
        self._ticker = Ticker(door.store)
        self._file = door.store.folder.path.parent / project_file.FILE_NAME
        self._read_at: int | None = None
        self._recover_at = 0.0
        self._mine: set[str] = set()
        self._over = threading.Event()

    def read_file(self) -> None:
        """The schedules of the project beside the workspace, when its file has changed."""
        try:
            changed_at = self._file.stat().st_mtime_ns
        except OSError:
            return
        if changed_at != self._read_at:
            self._read_at = changed_at
            from_file(self._door.store, self._file, os_user(), sorted(catalog.operations()))

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                self.read_file()
                self._ticker.tick(now())
                self._start()
            except (TarmacError, Retry) as error:
                log.warning("schedules: %s", error)

    def _start(self) -> None:
        jobs = self._door.jobs
        if self._at_once and time.monotonic() >= self._recover_at:
            self._recover_at = time.monotonic() + RECOVER_SECONDS
            for job, attempt in recover(self._door.store, now()):
                self._mine.add(job)
                jobs.start(job, attempt)
        self._mine = {job for job in self._mine if jobs.works_on(job)}
        while len(self._mine) < self._at_once:
            mine = claim(self._door.store, now())
            if mine is None:
                return
            self._mine.add(mine)
            jobs.start(mine, 1)

    def stop(self) -> None:
        self._over.set()
        self.join()

"""For how long steps of this process kept others from the interpreter: a clock that wakes up late tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

EVERY_SECONDS = 0.05
LATE_SECONDS = 0.004
"""The interpreter changes hands after 5 ms at most: whoever waits longer waits for one who does not let go."""


class Pressure:
    """Counts for each running task, while there are any."""

    def __init__(self, running: Callable[[], Iterable[str]]) -> None:
        self._running = running
        self._held: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        self._over = False

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="tarmac-pressure", daemon=True)
            self._thread.start()

    def take(self, id: str) -> float:
        return self._held.pop(id, 0.0)

    def stop(self) -> None:
        self._over = True

    def _watch(self) -> None:
        while not self._over:
            before = time.monotonic()
            time.sleep(EVERY_SECONDS)
            took = time.monotonic() - before
            if took - EVERY_SECONDS > LATE_SECONDS:
                for id in list(self._running()):
                    self._held[id] = self._held.get(id, 0.0) + took

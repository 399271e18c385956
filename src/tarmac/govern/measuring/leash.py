"""An end to what does not end by itself: a model's `predict` that hangs is stopped, and the rule refused."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tarmac.core.errors import Refused

SECONDS = 300.0


@contextmanager
def at_most(seconds: float, what: str) -> Iterator[None]:
    """Only where there are signals, and in the main thread; elsewhere the job can still be cancelled."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Refused(f"{what} took longer than {seconds:g} s and was stopped")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

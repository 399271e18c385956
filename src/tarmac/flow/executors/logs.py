"""What steps print: each step's own, though they share one process; bounded, and shown on as it comes."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

HEAD = 1_000_000
TAIL = 1_000_000

Show = Callable[[str, str], None]


class StepLog:
    """The beginning and the end of what a step prints; what is between is counted."""

    def __init__(self, node: str, show: Show | None = None, masks: tuple[str, ...] = ()) -> None:
        self.node = node
        self.show = show
        self._masks = tuple(mask for mask in masks if mask)
        self._head: list[str] = []
        self._head_room = HEAD
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._dropped = 0
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        for mask in self._masks:
            text = text.replace(mask, "***")
        with self._lock:
            kept, rest = text[: self._head_room], text[self._head_room :]
            if kept:
                self._head.append(kept)
                self._head_room -= len(kept)
            if rest:
                rest = self._shortened(rest)
                self._tail.append(rest)
                self._tail_size += len(rest)
                while self._tail_size - len(self._tail[0]) >= TAIL:
                    gone = len(self._tail.popleft())
                    self._tail_size -= gone
                    self._dropped += gone
        if self.show is not None:
            self.show(self.node, text)

    def _shortened(self, text: str) -> str:
        if len(text) <= TAIL:
            return text
        self._dropped += len(text) - TAIL
        return text[-TAIL:]

    def text(self) -> str:
        with self._lock:
            head, tail = "".join(self._head), "".join(self._tail)
        if self._dropped:
            head += f"\n… {self._dropped:,} characters are left out …\n"
        return (head + tail).replace("\x00", "")


class _Local(threading.local):
    log: StepLog | None = None


_local = _Local()


def current() -> StepLog | None:
    """The log of the step that this thread works for."""
    if _local.log is not None:
        return _local.log
    log: StepLog | None = getattr(threading.current_thread(), "tarmac_log", None)
    return log


class _Stream:
    """Stands in for `sys.stdout`: what a step prints goes to its log, everything else where it went before."""

    def __init__(self, real: IO[str]) -> None:
        self._tarmac_real = real

    def write(self, text: str) -> int:
        log = current()
        if log is None:
            return self._tarmac_real.write(text)
        log.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if current() is None:
            self._tarmac_real.flush()

    def isatty(self) -> bool:
        return current() is None and self._tarmac_real.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tarmac_real, name)


_users = 0
_installing = threading.Lock()


@contextmanager
def installed() -> Iterator[None]:
    """While steps are run in this process."""
    global _users
    with _installing:
        _users += 1
        _install()
    try:
        yield
    finally:
        with _installing:
            _users -= 1
            if not _users:
                for name in ("stdout", "stderr"):
                    stream = getattr(sys, name)
                    if isinstance(stream, _Stream):
                        setattr(sys, name, stream._tarmac_real)  # noqa: SLF001


def _install() -> None:
    """Before the streams as they are now: notebooks and test runners change them as well."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Stream):
            setattr(sys, name, _Stream(stream))


@contextmanager
def capturing(log: StepLog) -> Iterator[None]:
    """What this thread prints belongs to this log."""
    with _installing:
        _install()
    before, _local.log = _local.log, log
    try:
        yield
    finally:
        _local.log = before

"""Locks between processes: held by the kernel, so that a killed process lets go of them."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from tarmac.core.errors import Busy

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes], wait: bool) -> bool:
        while True:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                return True
            except OSError:
                if not wait:
                    return False
                time.sleep(0.002)

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes], wait: bool) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


_open_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An exclusive lock on a file, one holder on the machine; the kernel queues who waits.

    A forked child closes its copy unused: a copy kept open would hold the parent's lock beyond the parent's death.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._thread = threading.Lock()
        _open_locks.add(self)

    def acquire(self, *, wait: bool = True) -> bool:
        if not self._thread.acquire(blocking=wait):
            return False
        try:
            if self._file is None:
                self._file = self.path.open("ab")
            if _lock(self._file, wait):
                return True
        except BaseException:
            self._thread.release()
            raise
        self._thread.release()
        return False

    def release(self) -> None:
        assert self._file is not None
        _unlock(self._file)
        self._thread.release()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def forget(self) -> None:
        """In a forked child: drop the inherited file and whatever state the parent's threads had."""
        self.close()
        self._thread = threading.Lock()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock for one block of work, waiting for it."""
    lock = FileLock(path)
    try:
        with lock:
            yield
    finally:
        lock.close()


def acquire_or_refuse(path: Path, what: str, hint: str) -> FileLock:
    """The lock at once, or an error that says who is in the way."""
    lock = FileLock(path)
    if not lock.acquire(wait=False):
        lock.close()
        raise Busy(what, hint=hint)
    return lock


def _after_fork() -> None:
    for lock in list(_open_locks):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

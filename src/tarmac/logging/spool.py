"""The writing end of a spool: one `write` for each record, and never an error into training.

What a record costs is a few microseconds; once `append` has returned, the kernel has the record, and killing this
process loses nothing. While the disk is full, records wait in memory up to a bound; beyond it points are dropped and
counted, and the count is written where space was set aside for it when the spool was made.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path

from tarmac.core.locks import FileLock
from tarmac.formats import frames
from tarmac.formats.spool import LAST, LOG, AnyRecord, Begin, End, Lost, encode

WAITING_BYTES = 64 * 1024 * 1024
SET_ASIDE_BYTES = 4096
RETRY_SECONDS = 0.02


class Spool:
    """One writer's files in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.lost = 0
        self._lock = threading.RLock()  # a signal handler may log while the thread it interrupts is logging
        self._sequence = 0
        self.size = 0
        self._busy = False
        self._pending: tuple[bytes, int] | None = None
        self._rest = b""
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._waiting_bytes = 0
        self._try_after = 0.0
        self._alive = FileLock(folder / "alive")
        self._alive.acquire(wait=False)
        self._last = _set_aside(folder / LAST)
        self._file = _not_standard(os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _APPEND, 0o600))

    @classmethod
    def make(cls, folder: Path, record: Begin) -> Spool:
        """A new spool at `folder`. Whoever carries it sees it locked and begun, or not at all."""
        hidden = folder.with_name(f".{folder.name}.new")
        spool = cls(hidden)
        spool._put(frames.header() + frames.encode(0, encode(record)), 0)
        hidden.rename(folder)
        spool.folder = folder
        return spool

    def append(self, record: AnyRecord, points: int = 0) -> bool:
        """Hand a record to the kernel, or keep it until there is space; False if there was none for it."""
        payload = encode(record)
        with self._lock:
            if self._file < 0:
                return False
            self._sequence += 1
            return self._put(frames.encode(self._sequence, payload), points)

    def close(self, end: End | None) -> None:
        """Write the end, and what had to be dropped; let go of the files."""
        with self._lock:
            if self._file < 0:
                return
            if self._pending is not None:
                self._settle()
            if self._waiting:
                self._drain()
            if self.lost and not self._waiting:
                self.append(Lost(self.lost, "the disk was full"))
            if end is not None:
                self.append(end)
            if self._waiting:  # to the end
                self._write_last(end)
            self._release()

    def forget(self) -> None:
        """In a forked child: these files are the parent's."""
        self._lock = threading.RLock()
        self._waiting.clear()
        self._release()

    def _release(self) -> None:
        os.close(self._file)
        os.close(self._last)
        self._file = self._last = -1
        self._alive.close()

    def _put(self, frame: bytes, points: int) -> bool:
        if self._busy:  # a signal handler logs while the thread it interrupts is in here: that one writes it
            return self._keep(frame, points)
        self._busy = True
        try:
            if self._pending is not None:
                self._settle()
            if self._waiting:
                kept = self._keep(frame, points)
                if time.monotonic() >= self._try_after:
                    self._drain()
                    self._try_after = time.monotonic() + RETRY_SECONDS
                return kept
            self._pending = (frame, points)
            self._write()
            if self._waiting and self._waiting[0][0] is not self._rest:
                self._drain()
            return True
        finally:
            self._busy = False

    def _write(self) -> None:
        """As much of what is pending as the disk takes; the rest waits."""
        assert self._pending is not None
        try:
            written = os.write(self._file, self._pending[0])
        except OSError:
            written = 0
        self._account(written)

    def _account(self, written: int) -> None:
        assert self._pending is not None
        frame, points = self._pending
        self.size += written
        self._rest = b""
        if written < len(frame):
            self._rest = frame[written:]
            self._waiting.appendleft((self._rest, points))
            self._waiting_bytes += len(self._rest)
        self._pending = None

    def _settle(self) -> None:
        """Ctrl-C came between a write and our knowing of it: the file says how much was written. Nothing is cut."""
        assert self._pending is not None
        self._account(min(len(self._pending[0]), max(0, os.fstat(self._file).st_size - self.size)))

    def _keep(self, frame: bytes, points: int) -> bool:
        """In memory, until there is space or the one who writes gets to it."""
        # what says how the run went has room that points do not have
        room = WAITING_BYTES if points else WAITING_BYTES + (1 << 20)
        if self._waiting_bytes + len(frame) > room:
            self.lost += points
            return False
        self._waiting.append((frame, points))
        self._waiting_bytes += len(frame)
        return True

    def _drain(self) -> None:
        while self._waiting:
            self._pending = self._waiting[0]
            self._waiting.popleft()
            self._waiting_bytes -= len(self._pending[0])
            self._write()
            if self._rest:
                return

    def _write_last(self, end: End | None) -> None:
        """In the space that was set aside, which a full disk cannot refuse."""
        self.lost += sum(points for _, points in self._waiting)
        records: list[AnyRecord] = [Lost(self.lost, "the disk was full to the end")]
        if end is not None:
            records.append(end)
        data = frames.header() + b"".join(
            frames.encode(self._sequence + number, encode(record)) for number, record in enumerate(records)
        )
        os.lseek(self._last, 0, os.SEEK_SET)
        os.write(self._last, data[:SET_ASIDE_BYTES])


_APPEND = os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _not_standard(file: int) -> int:
    """The same file beyond the standard ones: where those are closed, what a library prints would go into it."""
    if file > 2 or os.name == "nt":
        return file
    import fcntl

    moved = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(file)
    return moved


def _set_aside(path: Path) -> int:
    """A file whose blocks are there already, to be written over in place."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    os.write(file, bytes(SET_ASIDE_BYTES))
    return _not_standard(file)

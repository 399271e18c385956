"""The prediction log: what was asked and answered, into frames of columns, without a caller waiting for it.

A request costs one append of a tuple. A thread makes columns of what came together and writes them, and if it cannot
keep up, or the disk is full, predictions are left out of the log and counted; an answer never suffers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tarmac.core.ids import short
from tarmac.formats import segments

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

MIB = 1024 * 1024
MOST_HELD = 16 * MIB
LARGEST_TENSOR = 64 * 1024
"""Of one prediction; of a larger one only shape and digest are kept."""
SEGMENT_BYTES = 32 * MIB
SEGMENT_SECONDS = 60.0
WRITE_SECONDS = 0.5
BESIDE = 200
"""Bytes that a prediction takes beside its arrays."""

log = logging.getLogger("tarmac.serve")


class Journal:
    """One worker's log: `add` from the loop, files by a thread."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._entries: deque[tuple[Any, ...]] = deque()
        self._truths: deque[tuple[str, str, float, Any, dict[str, Any], int]] = deque()
        self._held = 0
        self._open: dict[str, _Segment] = {}
        self._stop = threading.Event()
        self._complained = 0.0
        self._full = False
        self.lost = 0
        self.written = 0
        self._thread = threading.Thread(target=self._write_on, name="prediction log", daemon=True)

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def add(
        self, endpoint: str, version: str, id: str, at: float, micros: int, key: str | None, rows: int, inputs: Arrays,
        outputs: Arrays,
    ) -> None:  # fmt: skip
        size = BESIDE
        for array in inputs.values():
            size += array.nbytes
        for array in outputs.values():
            size += array.nbytes
        if self._held + size > MOST_HELD:
            self.lost += 1
            return
        self._held += size
        self._entries.append((endpoint, version, id, at, micros, key, rows, inputs, outputs, size))

    def add_truth(self, id: str, endpoint: str, at: float, truth: Any, facts: dict[str, Any], size: int) -> bool:
        """Whether there is room for it: whoever brings the truth is told, and may come again."""
        if self._held + size + BESIDE > MOST_HELD or self._full:
            return False
        self._held += size + BESIDE
        self._truths.append((id, endpoint, at, truth, facts, size + BESIDE))
        return True

    def _write_on(self) -> None:
        while not self._stop.wait(WRITE_SECONDS):
            self._write()
        self._write()
        for segment in self._open.values():
            segment.close()

    def _write(self) -> None:
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for entry in entries:
            shape = tuple((name, a.dtype.str, a.shape[1:]) for part in entry[7:9] for name, a in part.items())
            groups.setdefault((entry[0], entry[1], shape), []).append(entry)
        self._full = False
        for (endpoint, version, _), found in groups.items():
            made = partial(segments.columns, endpoint, version, found, LARGEST_TENSOR)
            self._put(endpoint, made, len(found))
        truths = [self._truths.popleft() for _ in range(len(self._truths))]
        if truths:
            ids, endpoints, at, values, facts, sizes = (list(part) for part in zip(*truths, strict=True))
            self._put("", partial(segments.Truths, ids, endpoints, at, values, facts), len(truths))
            self._held -= sum(sizes)
        self._held -= sum(entry[9] for entry in entries)
        for name, segment in list(self._open.items()):
            if segment.full:
                segment.close()
                del self._open[name]

    def _put(self, endpoint: str, made: Callable[[], Any], count: int) -> None:
        try:
            self._segment(endpoint).write(segments.encode(made()))
            self.written += count
        except Exception as error:  # noqa: BLE001 - a log that fails must not take the answers with it
            self._full = True
            self.lost += count
            self._complain(error)

    def _segment(self, endpoint: str) -> _Segment:
        if endpoint not in self._open:
            lying = sum(file.stat().st_size for file in self._folder.glob("*.seg*"))
            if lying > self._most_bytes:
                raise OSError(f"{self._folder} holds {lying:,} bytes that nobody collected")
            self._open[endpoint] = _Segment(self._folder)
        return self._open[endpoint]

    def _complain(self, error: Exception) -> None:
        if time.monotonic() > self._complained:
            self._complained = time.monotonic() + 60
            log.warning("predictions are left out of the log: %s", error)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)


class _Segment:
    """A file that grows; under its final name it does not any more."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{int(time.time() * 1000):013d}-{short()}.seg"
        self._part = self._path.with_suffix(".seg.part")
        self._file: IO[bytes] = self._part.open("xb", buffering=0)
        self._file.write(segments.header())
        self._size = 0
        self._sequence = 0
        self._until = time.monotonic() + SEGMENT_SECONDS

    def write(self, payload: bytes) -> None:
        self._sequence += 1
        frame = segments.frame(self._sequence, payload)
        at = self._file.tell()
        try:
            if self._file.write(frame) != len(frame):
                raise OSError("no room left on the disk")
        except OSError:
            self._file.truncate(at)
            self._file.seek(at)
            raise
        self._size += len(frame)

    @property
    def full(self) -> bool:
        return self._size > SEGMENT_BYTES or time.monotonic() > self._until

    def close(self) -> None:
        self._file.close()
        self._part.replace(self._path)

"""A file of a version as a stream."""

from __future__ import annotations

import io
from typing import Any

from tarmac.data.depot import Depot
from tarmac.data.listing import Entry
from tarmac.data.reading import read_file


class FileStream(io.RawIOBase):
    """A file of a version as a stream that can be read from any place."""

    def __init__(self, depot: Depot, entry: Entry) -> None:
        self._depot = depot
        self._entry = entry
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = min(self._at + len(view), self._entry.size)
        if end <= self._at:
            return 0
        filled = 0
        for piece in read_file(self._depot, self._entry, self._at, end):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        self._at += filled
        return filled

"""The rows of a version, read where it lies."""

from __future__ import annotations

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, cast

from tarmac.core.errors import Refused
from tarmac.data.depot import Depot
from tarmac.data.listing import FILE, PROGRAM, Entry
from tarmac.data.stream import FileStream
from tarmac.data.tables import sources
from tarmac.data.tables.sources import File, Source

READ_AHEAD = 1024 * 1024


def source_of(depot: Depot, entries: Mapping[str, Entry], ref: str) -> Source:
    files = [
        File(path, entry.size, partial(_opened, depot, entry))
        for path, entry in entries.items()
        if entry.kind in (FILE, PROGRAM)
    ]
    if not is_table(entries):
        raise Refused(
            f"{ref} is no table: its files are of several kinds, or of none", hint="`.open()` reads its files"
        )
    return sources.open_table(files)


def is_table(entries: Mapping[str, Entry]) -> bool:
    """Whether all its files hold rows, in the same way."""
    return sources.table_format([path for path, entry in entries.items() if entry.kind in (FILE, PROGRAM)]) is not None


def _opened(depot: Depot, entry: Entry) -> BinaryIO:
    return cast("BinaryIO", _Aside(io.BufferedReader(FileStream(depot, entry), READ_AHEAD), depot))


class _Aside(io.RawIOBase):
    """A stream that is read in a thread of its own: readers of tables read from many, each with its connection."""

    def __init__(self, stream: io.BufferedReader, depot: Depot) -> None:
        self._stream = stream
        self._leave = depot.leave
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tarmac-table")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._thread.submit(self._stream.tell).result()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._thread.submit(self._stream.seek, offset, whence).result()

    def readinto(self, buffer: Any) -> int:
        return self._thread.submit(self._stream.readinto, buffer).result()

    def close(self) -> None:
        if not self.closed:
            self._thread.submit(self._stream.close).result()
            self._thread.submit(self._leave).result()
            self._thread.shutdown()
        super().close()

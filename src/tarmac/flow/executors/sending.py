"""Tasks and outcomes as they go to another machine and come back.

What the steps before have made is not sent: it is named, and read from the workspace where it is needed. Large results
go into the workspace where they are made. A file is named where both see it, and else goes through the workspace too.
"""

from __future__ import annotations

import io
import pickle
import platform
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from tarmac.core.errors import Conflict, NotFound
from tarmac.core.secrets import Secret
from tarmac.flow import typed
from tarmac.flow.connections import Connection
from tarmac.flow.executors import Given
from tarmac.flow.executors.carried import Source
from tarmac.flow.fetching import Gone, Results
from tarmac.flow.keeping import Door
from tarmac.flow.records import Leaf, Output
from tarmac.flow.steps import File
from tarmac.flow.typed import Packed

AT_ONCE = 500
SMALL = 256 * 1024
"""Bytes of a blob that is sent along: a larger one goes through the workspace."""
SMALL_TOGETHER = 2 * 1024 * 1024


class _Sender(pickle.Pickler):
    def __init__(self, out: io.BytesIO, source: Source | None, blobs: dict[str, bytes | Path] | None) -> None:
        super().__init__(out, protocol=5)
        self._source = source
        self._blobs = blobs

    def persistent_id(self, value: Any) -> Any:
        if type(value) is Given:
            return "given", value.node, value.output, value.blobs
        if isinstance(value, Connection):
            secret = value.opened().secret
            _, known = value.__reduce__()
            return "connection", known, secret.reveal() if secret is not None else None
        if isinstance(value, PurePath):
            return self._path(Path(value), isinstance(value, File))
        return None

    def _path(self, path: Path, is_file: bool) -> Any:
        """Where it is found: in the project's source, in the workspace, or at the same place."""
        inside = self._source.place(str(path)) if self._source is not None else None
        if inside is not None and path.is_file():
            return "source", inside, is_file
        if not path.exists():
            return "path", str(path), is_file, None
        if self._blobs is not None:
            packed = typed.pack(path, f"{path}")
            self._blobs.update(packed.blobs)
            return "kept", packed.output, is_file
        facts = path.stat()
        return "path", str(path.absolute()), is_file, (facts.st_size, facts.st_mtime_ns) if path.is_file() else ()


def dump(value: Any, source: Source | None, blobs: dict[str, bytes | Path] | None) -> bytes:
    """A value in bytes. What has to be put into the workspace for it is added to `blobs`; with None, both sides see the
    same files."""
    out = io.BytesIO()
    _Sender(out, source, blobs).dump(value)
    return out.getvalue()


class _Receiver(pickle.Unpickler):
    def __init__(self, data: bytes, root: Path, results: Results | None, found: Callable[[str], None]) -> None:
        super().__init__(io.BytesIO(data))
        self._root = root
        self._results = results
        self._found = found

    def persistent_load(self, pid: Any) -> Any:
        kind, *rest = pid
        return getattr(self, f"_{kind}")(*rest)

    def _given(self, node: str, output: Output, blobs: dict[str, bytes]) -> Any:
        def fetch(digest: str) -> bytes:
            data = blobs.get(digest)
            return data if data is not None else self._kept_results().fetch(digest)

        try:
            return typed.unpack(output, fetch, self._placed)
        except Gone as gone:
            gone.node = node
            raise

    def _kept_results(self) -> Results:
        if self._results is None:
            raise Gone("there is no workspace")
        return self._results

    def _placed(self, leaf: Leaf) -> Path:
        path = self._kept_results().placed(leaf)
        self._found(str(path))
        return path

    def _connection(self, known: tuple[str, str, str, str, str], secret: str | None) -> Connection:
        return Connection(*known, Secret(secret) if secret is not None else None)

    def _source(self, inside: str, is_file: bool) -> Path:
        return self._named(self._root / inside, is_file)

    def _kept(self, output: Output, is_file: bool) -> Path:
        path: Path = typed.unpack(output, self._kept_results().fetch, self._placed)
        return self._named(path, is_file)

    def _path(self, text: str, is_file: bool, facts: tuple[int, int] | tuple[()] | None) -> Path:
        path = Path(text)
        if facts is not None and not path.exists():
            raise NotFound(
                f"{path} is not on {platform.node()}",
                hint="a workspace that is a folder needs a disk that all machines share; or use a server, `tarmac up`",
            )
        if facts:
            here = path.stat()
            if (here.st_size, here.st_mtime_ns) != facts:
                raise Conflict(f"{path} on {platform.node()} is another file than the one that was given")
        return self._named(path, is_file)

    def _named(self, path: Path, is_file: bool) -> Path:
        self._found(str(path))
        return File(path) if is_file else path


def load(data: bytes, root: Path, results: Results | None, found: Callable[[str], None]) -> Any:
    """The value again. `found` is told each file and folder that is given with it."""
    return _Receiver(data, root, results, found).load()


def keep(door: Door, blobs: dict[str, bytes | Path]) -> None:
    """Put into the workspace what it does not have."""
    from tarmac.store.operations import FindMissing

    wanted = list(blobs)
    for start in range(0, len(wanted), AT_ONCE):
        for digest in door(FindMissing(digests=wanted[start : start + AT_ONCE])).missing:
            if door.put(blobs[digest]) != digest:
                raise Conflict(f"{blobs[digest]!s} was changed while it was sent")


def part_with_large(packed: list[Packed], door: Door | None) -> None:
    """Large bytes and files go into the workspace from here; small bytes travel with the outcome."""
    large, room = dict[str, bytes | Path](), SMALL_TOGETHER
    for one in packed:
        for digest, data in list(one.blobs.items()):
            if isinstance(data, bytes) and len(data) <= min(SMALL, room):
                room -= len(data)
            elif door is not None:
                large[digest] = one.blobs.pop(digest)
            elif isinstance(data, Path):
                one.blobs[digest] = data.read_bytes()
    if door is not None and large:
        keep(door, large)

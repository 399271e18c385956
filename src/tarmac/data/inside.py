"""A project of an open store as a depot: for jobs, which work where the packs are."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

from tarmac.core.actor import Actor
from tarmac.core.operation import Operation
from tarmac.store import Store
from tarmac.store.blobs import keeping

T = TypeVar("T")


class Inside:
    """Reads and writes packs; what is asked besides is asked of the tables."""

    def __init__(self, store: Store, key: int, project: str, actor: Actor) -> None:
        self.project = project
        self.place = str(store.folder.path)
        self._store = store
        self._key = key
        self._actor = actor

    def __call__(self, request: Operation[T]) -> T:
        raise TypeError(f"{type(request).__name__} is asked of the door")

    def put(self, data: bytes | Path | BinaryIO) -> str:
        assert isinstance(data, bytes)
        stored = self._store.blobs.put(io.BytesIO(data))
        keeping.keep(self._store, stored, self._key, self.project, self._actor)
        return stored.digest

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        blob = keeping.find(self._store, digest, self._key, self.project, self._actor)
        end = blob.size if end is None else min(end, blob.size)
        return self._store.blobs.read(blob.digest, blob.place, blob.size, blob.blocks, max(0, start), end)

    def locate(self, digest: str) -> Path | None:
        return None

    def leave(self) -> None:
        """A thread of this process needs nothing of its own."""

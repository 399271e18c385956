"""Content digests: BLAKE3, written as 64 hex digits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
from blake3 import blake3

BLOCK = 4 * 1024 * 1024
"""Large blobs keep one digest for each block of this size, so that a range can be verified without reading the rest."""


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


def digest_file(path: Path) -> str:
    hasher = blake3()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(BLOCK):
            hasher.update(piece)
    return hasher.hexdigest()


def tree_digest(files: Iterable[tuple[str, str, int]]) -> str:
    """One digest for paths, bytes and sizes of files, whatever store they lie in: they are given in order of path."""
    return digest(msgspec.json.encode(list(files)))


class BlockHasher:
    """The digest of a stream and of each of its blocks, in one pass and fixed memory."""

    def __init__(self) -> None:
        self._whole = blake3()
        self._block = blake3()
        self._room = BLOCK
        self._blocks: list[bytes] = []
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._whole.update(view)
        self.size += len(view)
        while view:
            piece = view[: self._room]
            self._block.update(piece)
            self._room -= len(piece)
            view = view[len(piece) :]
            if not self._room:
                self._blocks.append(self._block.digest())
                self._block, self._room = blake3(), BLOCK

    def hexdigest(self) -> str:
        return self._whole.hexdigest()

    def blocks(self) -> bytes:
        """32 bytes for each block; empty when there is one block only, because the digest itself proves that."""
        if self.size <= BLOCK:
            return b""
        last = [self._block.digest()] if self._room < BLOCK else []
        return b"".join(self._blocks + last)

"""Blobs as files in the workspace folder.

A file is written under a temporary name, synced, renamed and then held locked until its row is committed: gc takes a
file without a row only if it gets that lock, so it cannot take one that is just being added.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from blake3 import blake3

from tarmac.core.digest import BLOCK, BlockHasher
from tarmac.core.errors import Busy, Conflict, Damaged, Full, Internal, Invalid, ReadOnly, TarmacError
from tarmac.core.files import sync_folder
from tarmac.core.ids import short

if sys.platform != "win32":
    import fcntl

PIECE = 1024 * 1024
LEAST_PARKED = 8 * PIECE
SYNC_EVERY = 32 * PIECE


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that lies in its place and waits for its row."""

    digest: str
    size: int
    blocks: bytes
    place: str
    _file: IO[bytes]

    def settle(self) -> None:
        """The row is committed (or given up): gc may judge the file by its row from now on."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Lying:
    """A file found in the folder."""

    place: str
    size: int
    modified_at: int


def translate(error: OSError, place: object) -> TarmacError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full.at(place)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadOnly(f"{place} cannot be written: {error.strerror}")
    return Internal(f"{place}: {error.strerror}")


class Incoming:
    """One upload: written piece by piece, in fixed memory."""

    def __init__(self, folder: Path, parked: Path | None = None, offset: int = 0) -> None:
        self._folder = folder
        self._hasher = BlockHasher()
        self._synced = 0
        try:
            self._temporary, self._file = self._open() if parked is None else self._take_up(parked, offset)
        except OSError as error:
            raise translate(error, folder) from error

    def _open(self) -> tuple[Path, IO[bytes]]:
        while True:
            path = self._folder / "incoming" / short()
            file = path.open("xb", buffering=0)
            if sys.platform == "win32":  # there, an open file cannot be deleted anyway
                return path, file
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():
                return path, file
            file.close()  # a gc without grace took it before the lock was ours

    def _take_up(self, parked: Path, offset: int) -> tuple[Path, IO[bytes]]:
        """Go on with an upload that was cut off."""
        file: IO[bytes] = parked.open("r+b", buffering=0)
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise Busy("somebody else goes on with this upload", hint="send it whole, or try again") from None
        if os.fstat(file.fileno()).st_size < offset:
            file.close()
            raise Conflict(f"less than {offset} bytes of this upload are here", hint="ask how many: GET …/parked")
        file.truncate(offset)
        while piece := file.read(PIECE):
            self._hasher.update(piece)
        return parked, file

    def park(self, project: int, digest: str) -> None:
        """The sender is gone: keep what came, so that it can go on from there; gc takes it in the end."""
        self._file.close()
        if self._hasher.size < LEAST_PARKED:
            self._temporary.unlink(missing_ok=True)
        else:
            self._temporary.replace(self._folder / "incoming" / part_name(project, digest))

    def write(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
            if self._hasher.size - self._synced >= SYNC_EVERY:  # a disk given all at the end keeps others waiting
                os.fsync(self._file.fileno())
                self._synced = self._hasher.size
        except OSError as error:
            self.abandon()
            raise translate(error, self._folder) from error

    def finish(self, expected: str | None = None) -> Stored:
        """Durable in its place; `expected` is what the sender said it would be."""
        found = self._hasher.hexdigest()
        if expected is not None and found != expected:
            self.abandon()
            raise Invalid(
                f"the bytes have digest {found[:16]}…, not {expected[:16]}…",
                hint="they changed on the way or while they were read; send them again",
            )
        place = f"{found[:2]}/{found}.{short()}"
        target = self._folder / place
        try:
            os.fsync(self._file.fileno())
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                sync_folder(self._folder)
            self._temporary.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            self.abandon()
            raise translate(error, self._folder) from error
        return Stored(found, self._hasher.size, self._hasher.blocks(), place, self._file)

    def abandon(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def part_name(project: int, digest: str) -> str:
    """An upload that was cut off goes on in its own project only: nobody gets bytes there that they did not send."""
    return f"{project}-{digest}.part"


class FolderBlobs:
    """Files below one folder, two hex digits deep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def receive(self) -> Incoming:
        return Incoming(self.folder)

    def parked(self, project: int, digest: str) -> int:
        """How many bytes of an upload that was cut off are here."""
        try:
            return self._part(project, digest).stat().st_size
        except FileNotFoundError:
            return 0

    def resume(self, project: int, digest: str, offset: int) -> Incoming:
        if not self._part(project, digest).is_file():
            raise Conflict("nothing of this upload is here", hint="send it from the start")
        return Incoming(self.folder, self._part(project, digest), offset)

    def _part(self, project: int, digest: str) -> Path:
        return self.folder / "incoming" / part_name(project, digest)

    def put(self, stream: BinaryIO) -> Stored:
        incoming = self.receive()
        try:
            while piece := stream.read(PIECE):
                incoming.write(piece)
        except BaseException:
            incoming.abandon()
            raise
        return incoming.finish()

    def read(self, digest: str, place: str, size: int, blocks: bytes, start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end`, each verified before it is handed out, in pieces of one block at most."""
        try:
            with (self.folder / place).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    raise Damaged(f"blob {digest[:16]}… has {os.fstat(file.fileno()).st_size} bytes, not {size}")
                for number in range(start // BLOCK, -(-end // BLOCK)):
                    base = number * BLOCK
                    file.seek(base)
                    block = file.read(min(BLOCK, size - base))
                    proof = blocks[number * 32 : number * 32 + 32] if blocks else bytes.fromhex(digest)
                    if blake3(block).digest() != proof:
                        raise Damaged(
                            f"blob {digest[:16]}… is damaged in bytes {base}–{base + len(block)}",
                            hint="`tarmac store check` lists what needs it; restore it from a backup",
                        )
                    yield block[max(0, start - base) : end - base]
        except FileNotFoundError:
            raise Damaged(f"blob {digest[:16]}… is gone: its file {place} does not exist") from None
        except OSError as error:
            raise Internal(f"{self.folder / place}: {error.strerror}") from error

    def is_whole(self, digest: str, place: str, size: int, blocks: bytes) -> bool:
        """Whether all of it is still what it was: it is read through."""
        try:
            for _ in self.read(digest, place, size, blocks, 0, size):
                pass
        except (Damaged, Internal):
            return False
        return True

    def delete(self, place: str) -> None:
        (self.folder / place).unlink(missing_ok=True)

    def lying(self) -> Iterator[Lying]:
        """Every file there is, uploads in progress included."""
        for below in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            if not below.is_dir():
                continue
            with os.scandir(below) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        facts = entry.stat()
                        yield Lying(f"{below.name}/{entry.name}", facts.st_size, int(facts.st_mtime * 1000))

    @contextlib.contextmanager
    def hold(self, place: str) -> Iterator[bool]:
        """Whether nobody else holds the file; while this lasts nobody will."""
        try:
            file = (self.folder / place).open("rb")
        except OSError:
            yield False
            return
        with file:
            if sys.platform != "win32":
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield False
                    return
            yield True

"""What is remembered of folders that were logged or checked out: which version each is, and how its files looked then.

A file that looks as it did has the digest it had, and is not read again. One whose times are so near to the moment of
looking that a later change might not move them is remembered without its looks, so that it will be read.
"""

from __future__ import annotations

import contextlib
import os
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from tarmac.core.files import sync_folder
from tarmac.core.ids import short
from tarmac.core.locks import FileLock, acquire_or_refuse
from tarmac.data.scan import WIDTH, Level, Source

FORMAT = 1
TICK = 50_000_000
"""Nanoseconds in which a file system may give two changes the same time; some count whole seconds only."""
SECONDS = 2_000_000_000

_encode = msgspec.msgpack.Encoder().encode


def link_digest(target: str) -> bytes:
    """What stands for the content of a link."""
    return blake3(b"link\0" + target.encode(errors="surrogateescape")).digest()


class SeenLevel(msgspec.Struct, array_like=True, gc=False):
    """A folder: its files by name, how they looked, and what they held."""

    path: str
    names: str
    facts: bytes
    digests: bytes
    bare: bool

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """Path in the version, and digest; an empty folder has none."""
        if self.bare:
            yield self.path, b""
        head = f"{self.path}/" if self.path else ""
        for i, name in enumerate(self.names.split("\0") if self.digests else ()):
            yield head + name, self.digests[32 * i : 32 * i + 32]

    def by_name(self) -> dict[str, tuple[Sequence[int], bytes]]:
        """How each file looked, and its digest."""
        facts = array("q", self.facts)
        names = self.names.split("\0") if self.digests else []
        return {
            name: (facts[i * WIDTH : i * WIDTH + WIDTH], self.digests[32 * i : 32 * i + 32])
            for i, name in enumerate(names)
        }

    def looks_like(self, level: Level) -> bool:
        return self.facts == level.facts and self.bare == level.bare and self.names == "\0".join(level.names)

    def recall(self, level: Level) -> list[bytes]:
        """The digests of the level's files; nothing for one that has to be read."""
        count = len(level.names)
        if self.facts == level.facts and self.names == "\0".join(level.names):
            return [self.digests[32 * i : 32 * i + 32] for i in range(count)]
        width = WIDTH * 8
        known = {
            name: (self.facts[i * width : i * width + width], self.digests[32 * i : 32 * i + 32])
            for i, name in enumerate(self.names.split("\0") if self.digests else ())
        }
        found = []
        for i, name in enumerate(level.names):
            facts, digest = known.get(name, (b"", b""))
            found.append(digest if facts == level.facts[i * width : i * width + width] else b"")
        return found


class Seen(msgspec.Struct, array_like=True):
    """A folder that is a version, and the levels below it by where they lie."""

    format: int
    project: str
    name: str
    number: int
    digest: str
    levels: dict[str, SeenLevel]


class Journal(msgspec.Struct):
    """A checkout that began: what the folder was, and what it is to be. It is gone when the checkout is done."""

    project: str
    versions: list[str]

    @property
    def to(self) -> str:
        return self.versions[-1]


def remembered(level: Level, digests: Sequence[bytes], looked_at: int) -> SeenLevel:
    """What to keep of a level that was looked at in that moment (nanoseconds since 1970)."""
    facts = array("q", level.facts)
    for at in range(0, len(facts), WIDTH):
        newest = max(facts[at + 1], facts[at + 2])
        if newest >= looked_at - (SECONDS if facts[at + 1] % 1_000_000_000 == 0 else TICK):
            facts[at + 3] = -1  # no file has this inode
    return SeenLevel(level.path, "\0".join(level.names), facts.tobytes(), b"".join(digests), level.bare)


def moment() -> int:
    return time.time_ns()


class Memory:
    """Files in a folder of the workspace, or of the user where the workspace is a server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _place(self, sources: Sequence[Source], suffix: str) -> Path:
        text = "\0".join(f"{name}\0{path.absolute()}" for name, path in sources)
        return self._folder / f"{blake3(text.encode(errors='surrogateescape')).hexdigest()[:32]}.{suffix}"

    def load(self, sources: Sequence[Source]) -> Seen | None:
        """What is remembered; nothing if it cannot be read, because it can always be found out again."""
        try:
            found = msgspec.msgpack.decode(self._place(sources, "seen").read_bytes(), type=Seen)
        except (OSError, msgspec.DecodeError):
            return None
        return found if found.format == FORMAT else None

    def save(self, sources: Sequence[Source], seen: Seen) -> None:
        self._write(self._place(sources, "seen"), _encode(seen))

    def forget(self, sources: Sequence[Source]) -> None:
        self._place(sources, "seen").unlink(missing_ok=True)

    def lock(self, sources: Sequence[Source]) -> FileLock:
        """Held while a folder is written to: two at once would take each other's files away."""
        self._folder.mkdir(parents=True, exist_ok=True)
        what = f"somebody else checks out to {sources[0][1]} at this moment"
        return acquire_or_refuse(self._place(sources, "lock"), what, "wait until that is done")

    def journal(self, sources: Sequence[Source]) -> Journal | None:
        try:
            return msgspec.msgpack.decode(self._place(sources, "journal").read_bytes(), type=Journal)
        except (OSError, msgspec.DecodeError):
            return None

    def begin(self, sources: Sequence[Source], journal: Journal) -> None:
        self._write(self._place(sources, "journal"), _encode(journal), durable=True)

    def done(self, sources: Sequence[Source]) -> None:
        self._place(sources, "journal").unlink(missing_ok=True)

    def _write(self, place: Path, data: bytes, *, durable: bool = False) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f"{place.name}.{short()}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(place)
            if durable:
                sync_folder(place.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

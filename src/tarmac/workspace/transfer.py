"""Versions of data between workspaces: packs the other side lacks, then the version under its own number.

Packs are immutable and go one by one: a transfer that was cut off goes on behind the last one that arrived.
"""

from __future__ import annotations

import io
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, NamedTuple, TypeVar

from tarmac.core.errors import Damaged, TarmacError
from tarmac.core.operation import Operation
from tarmac.data import listing
from tarmac.data.operations import CommitData, GetData, GetListing
from tarmac.data.records import DataVersion, Origin
from tarmac.store.operations import FindMissing
from tarmac.workspace import Workspace

T = TypeVar("T")
Progress = Callable[[int, int, str], None]
ASKED_AT_ONCE = 500
IN_MEMORY = 128 * 1024 * 1024
AHEAD = 2
TRIES = 3


class Transferred(NamedTuple):
    """The version as it is on the other side, and what had to be sent for it."""

    version: DataVersion
    made: bool
    packs: int
    bytes: int


def transfer(
    source: Workspace, target: Workspace, ref: str, progress: Progress, *, repair: bool = False
) -> Transferred:
    """Bring a version to another workspace. With `repair` what is damaged there is sent again."""
    version = source(GetData(ref=ref))
    exact = f"{version.name}@v{version.number}"
    encoded = source(GetListing(ref=exact)).listing
    packs = [pack.hex() for pack in listing.decode(encoded).packs]
    sent = size = 0
    for _ in range(TRIES):
        wanted = missing(target, packs)
        if repair:
            wanted += [pack for pack in packs if pack not in set(wanted) and not is_whole(target, pack)]
            repair = False
        for count, length in enumerate(_send(source, target, wanted), start=1):
            sent, size = sent + 1, size + length
            progress(count, len(wanted), "packs")
        made = target(
            CommitData(
                name=version.name,
                listing=encoded,
                message=version.message,
                tags=version.tags,
                document=version.document,
                layout=version.layout,
                number=version.number,
                origin=version.origin
                or Origin(workspace=source.place, actor=version.actor, created_at=version.created_at),
            )
        )
        if made.version is not None:
            return Transferred(made.version, made.made, sent, size)
    raise Damaged(f"packs of {exact} are gone from {target.place} as soon as they arrive", hint="is a gc running?")


def missing(target: Workspace, packs: list[str]) -> list[str]:
    return [
        pack
        for start in range(0, len(packs), ASKED_AT_ONCE)
        for pack in target(FindMissing(digests=packs[start : start + ASKED_AT_ONCE])).missing
    ]


def is_whole(workspace: Workspace, pack: str) -> bool:
    """Whether all of a blob can be read."""
    try:
        for _ in workspace.read(pack):
            pass
    except Damaged:
        return False
    return True


def _send(source: Workspace, target: Workspace, packs: list[str]) -> Iterator[int]:
    """One pack after the other, the next one read while one is written; the bytes of each."""
    ahead: deque[tuple[str, Future[IO[bytes]]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="tarmac-transfer") as pool:
        try:
            for pack in packs:
                ahead.append((pack, pool.submit(_read, source, pack)))
                if len(ahead) == AHEAD:
                    yield _write(target, *ahead.popleft())
            while ahead:
                yield _write(target, *ahead.popleft())
        finally:
            for _, future in ahead:
                if not future.cancel():
                    future.add_done_callback(_close)
            pool.submit(source.leave)


def _close(future: Future[IO[bytes]]) -> None:
    if future.exception() is None:
        future.result().close()


def _read(source: Workspace, pack: str) -> IO[bytes]:
    held: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by who writes it on
    try:
        for piece in source.read(pack):
            held.write(piece)
    except BaseException:
        held.close()
        raise
    held.seek(0)
    return held


def _write(target: Workspace, pack: str, future: Future[IO[bytes]]) -> int:
    with future.result() as held:
        size = held.seek(0, io.SEEK_END)
        held.seek(0)
        if target.put(held) != pack:  # type: ignore[arg-type]
            raise Damaged(f"pack {pack[:16]}… is not what it was when it arrived", hint="try again")
        return size


class Healing:
    """A workspace whose damaged packs are fetched again, by themselves, from one that has them."""

    def __init__(self, workspace: Workspace, others: Callable[[], Iterator[Workspace]]) -> None:
        self.project = workspace.project
        self.place = workspace.place
        self.put = workspace.put
        self.leave = workspace.leave
        self.locate = workspace.locate
        self.healed: list[str] = []
        self._workspace = workspace
        self._others = others

    def __call__(self, request: Operation[T]) -> T:
        return self._workspace(request)

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        at = start
        try:
            for piece in self._workspace.read(digest, start, end):  # each was verified before it came
                at += len(piece)
                yield piece
        except Damaged:
            if not self._heal(digest):
                raise
            yield from self._workspace.read(digest, at, end)

    def _heal(self, digest: str) -> bool:
        for other in self._others():
            with other:
                try:
                    with _read(other, digest) as held:
                        self._workspace.put(held)  # type: ignore[arg-type]
                except TarmacError:
                    continue
                self.healed.append(digest)
                return True
        return False

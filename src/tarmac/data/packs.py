"""Packs: bytes of many files and pieces in one immutable blob, so that a thousand small things cost one write.

Where a pack lies is known by its digest, which is known only when it is whole: until then a place names the pack by a
number, and `settled` says the digest of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from blake3 import blake3

from tarmac.core.errors import Damaged, bounded
from tarmac.data.depot import Depot
from tarmac.data.listing import HERE, Place

K = TypeVar("K")

PACK = 64 * 1024 * 1024
GAP = 1024 * 1024
"""Bytes between two wanted stretches of a pack are read too, if there are no more than this."""
RUN = 32 * 1024 * 1024
MOST_NAMED = 5


class Wanted(NamedTuple):
    """Bytes to be fetched from a pack, and the digest that proves them."""

    place: Place
    length: int
    digest: bytes


class Packer:
    """Collects bytes and uploads them a pack at a time, while the next one is being filled."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._parts: list[bytes | memoryview] = []
        self._size = 0
        self._flushed: list[Future[str]] = []
        self._digests: dict[int, bytes] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="tarmac-pack")

    def add(self, data: bytes | memoryview) -> Place:
        if self._size and self._size + len(data) > PACK:
            self.flush()
        return self.append(data)

    def append(self, data: bytes | memoryview) -> Place:
        """Into the pack that is open, however full it is."""
        place = Place(_token(len(self._flushed)), self._size)
        self._parts.append(data)
        self._size += len(data)
        return place

    def flush(self) -> None:
        if not self._parts:
            return
        if self._flushed:
            self._flushed[-1].result()  # one pack on its way and one being filled: memory has an end
        data = b"".join(self._parts)
        self._parts, self._size = [], 0
        self._flushed.append(self._pool.submit(self._depot.put, data))

    def settled(self, place: Place) -> Place:
        """The place by the pack's digest; in the open one it is `HERE`."""
        number = _number(place.pack)
        if number is None:
            return place
        if number == len(self._flushed):
            return Place(HERE, place.offset)
        digest = self._digests.get(number)
        if digest is None:
            digest = self._digests[number] = bytes.fromhex(self._flushed[number].result())
        return Place(digest, place.offset)

    def finish(self) -> list[bytes]:
        """Digests of all packs, the open one last."""
        self.flush()
        return [bytes.fromhex(future.result()) for future in self._flushed]

    def close(self) -> None:
        self._pool.submit(self._depot.leave)
        self._pool.shutdown()


def _token(number: int) -> bytes:
    return b"\0" * 16 + (number + 1).to_bytes(16, "big")


def _number(pack: bytes) -> int | None:
    if pack == HERE or not pack.startswith(b"\0" * 16):
        return None
    return int.from_bytes(pack, "big") - 1


def fetch(
    depot: Depot, wanted: Iterable[tuple[K, Wanted]], named: Callable[[K], str] | None = None
) -> Iterator[tuple[K, bytes]]:
    """The bytes of each, verified; in the order of packs and places, so that each stretch is read once.

    What is damaged is named, where the caller knows names.
    """
    by_pack: dict[bytes, list[tuple[K, Wanted]]] = {}
    for key, one in wanted:
        by_pack.setdefault(one.place.pack, []).append((key, one))
    for pack, group in by_pack.items():
        group.sort(key=lambda item: item[1].place.offset)
        for run in _runs(group):
            start = run[0][1].place.offset
            end = max(one.place.offset + one.length for _, one in run)
            try:
                view = memoryview(b"".join(depot.read(pack.hex(), start, end)))
            except Damaged as error:
                raise _damaged(pack, run, named, error.message) from None
            for key, one in run:
                at = one.place.offset - start
                found = view[at : at + one.length]
                if blake3(found).digest() != one.digest:
                    where = f"bytes {one.place.offset}–{one.place.offset + one.length} are not what they were"
                    raise _damaged(pack, [(key, one)], named, where)
                yield key, bytes(found)


def _damaged(pack: bytes, run: Sequence[tuple[K, Wanted]], named: Callable[[K], str] | None, what: str) -> Damaged:
    names = [bounded(named(key)) for key, _ in run[:MOST_NAMED]] if named else []
    more = f" and {len(run) - MOST_NAMED} more" if len(run) > MOST_NAMED and named else ""
    files = f"; `{'`, `'.join(names)}`{more} lie there" if names else ""
    return Damaged(
        f"pack {pack.hex()[:16]}… is damaged: {what}{files}",
        hint="`tarmac data pull REF WORKSPACE --repair` fetches it again from a workspace that has it",
        detail={"pack": pack.hex()},
    )


def _runs(group: list[tuple[K, Wanted]]) -> Iterator[list[tuple[K, Wanted]]]:
    """Neighbours that are read at once."""
    run: list[tuple[K, Wanted]] = []
    end = 0
    for item in group:
        place, length = item[1].place, item[1].length
        if run and (place.offset - end > GAP or place.offset + length - run[0][1].place.offset > RUN):
            yield run
            run = []
        run.append(item)
        end = max(end, place.offset + length) if len(run) > 1 else place.offset + length
    if run:
        yield run

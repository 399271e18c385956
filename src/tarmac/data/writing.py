"""Writing a version: files are read, large ones cut, and what the version before does not have goes into packs."""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

from blake3 import blake3

from tarmac.core.errors import Invalid
from tarmac.data import chunks, listing
from tarmac.data.chunks import Piece
from tarmac.data.depot import Depot
from tarmac.data.listing import FOLDER, LINK, Entry, Listing, Part, Place, Recipe
from tarmac.data.packs import Packer
from tarmac.data.reading import read_entries, read_pieces
from tarmac.data.records import Layout
from tarmac.data.scan import Facts, Found, changed, row
from tarmac.store.operations import FindMissing

Progress = Callable[[int, int, str], None]
READERS = 2
READ_TOGETHER = 4 * 1024 * 1024
READ_AHEAD = 6
ASKED_AT_ONCE = 500
MOST_PIECES = 4_000_000
"""Of a larger version only the recipes of files that have the same name are compared with."""


class Item(NamedTuple):
    """A file or link that is to be in the version; its digest if that is known without reading."""

    found: Found
    digest: bytes
    facts: Facts


class Written(NamedTuple):
    """The listing, and the digest of each item in the order in which they were given."""

    listing: bytes
    digests: list[bytes]


class _Kept(NamedTuple):
    """Where a file's bytes are: in one place, or in pieces."""

    size: int
    place: Place | None
    pieces: list[Piece] | None


class Writing:
    """One attempt to write a version."""

    def __init__(self, depot: Depot, base: Listing | None, layout: Layout = "packed") -> None:
        self._depot = depot
        self._layout = layout
        self._base = base
        self._packer = Packer(depot)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="tarmac-read")
        self._entries: dict[bytes, Entry] = {}
        self._paths: dict[str, Recipe] = {}
        for entry in read_entries(depot, base.parts) if base else ():
            if entry.digest:
                self._entries[entry.digest] = entry
            if entry.recipe:
                self._paths[entry.path] = entry.recipe
        self._kept: dict[bytes, _Kept] = {}
        self._pieces: dict[bytes, Piece] = {}
        self._recipes: dict[bytes, Recipe] = {}

    def write(self, items: Sequence[Item], folders: Iterable[str], progress: Progress) -> Written:
        digests = [item.digest for item in items]
        unknown = [index for index, item in enumerate(items) if item.digest not in self._entries and not _is_link(item)]
        total, done = sum(items[index].found.size for index in unknown), 0
        write = self._write_whole if self._layout == "whole" else self._write_packed
        for index, digest in write(items, unknown):
            digests[index] = digest
            done += items[index].found.size
            progress(done, total, "bytes")
        entries = [self._entry(item.found, digest) for item, digest in zip(items, digests, strict=True)]
        entries += [Entry(folder, FOLDER) for folder in folders]
        entries.sort(key=lambda entry: entry.path)
        return Written(self._list(entries), digests)

    # --- files ---

    def _write_packed(self, items: Sequence[Item], unknown: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        small = [index for index in unknown if items[index].found.size <= chunks.LARGE]
        for index, data, digest in self._read_small(items, small):
            self._keep(digest, data)
            yield index, digest
        large = [index for index in unknown if items[index].found.size > chunks.LARGE]
        self._recall_pieces([items[index].found.path for index in large])
        for index in large:
            yield index, self._read_large(items[index])

    def _write_whole(self, items: Sequence[Item], unknown: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Each file a blob of its own: found where it is by its digest, and linked from there."""
        for start in range(0, len(unknown), ASKED_AT_ONCE):
            group = unknown[start : start + ASKED_AT_ONCE]
            digests = {index: items[index].digest or _hashed(items[index]) for index in group}
            absent = set(self._depot(FindMissing(digests=[digest.hex() for digest in digests.values()])).missing)
            for index, digest in digests.items():
                found, size = items[index].found, items[index].found.size
                if size and digest.hex() in absent:
                    if self._depot.put(Path(found.source)) != digest.hex():
                        raise changed(found.source, "it was written to")
                    absent.discard(digest.hex())
                if digest not in self._entries:
                    self._kept[digest] = _Kept(size, Place(digest, 0) if size else None, None)
                yield index, digest

    def _read_small(self, items: Sequence[Item], indexes: Sequence[int]) -> Iterator[tuple[int, bytes, bytes]]:
        """Files in their order, the next ones read and hashed by other threads meanwhile."""
        ahead: deque[tuple[list[int], Future[list[tuple[bytes, bytes]]]]] = deque()
        for group in _groups(items, indexes):
            ahead.append((group, self._readers.submit(_read_group, [items[index] for index in group])))
            if len(ahead) == READ_AHEAD:
                yield from _results(*ahead.popleft())
        while ahead:
            yield from _results(*ahead.popleft())

    def _keep(self, digest: bytes, data: bytes) -> None:
        if digest not in self._entries and digest not in self._kept:
            self._kept[digest] = _Kept(len(data), self._packer.add(data) if data else None, None)

    def _recall_pieces(self, paths: Sequence[str]) -> None:
        """The pieces that the base version has, as far as these files may share them."""
        if not paths or not self._paths:
            return
        every = sum(part.items for recipe in self._paths.values() for part in recipe.parts)
        chosen = (
            self._paths if every <= MOST_PIECES else {path: self._paths[path] for path in paths if path in self._paths}
        )
        for recipe in chosen.values():
            self._pieces.update((piece.digest, piece) for piece in read_pieces(self._depot, recipe.parts))

    def _read_large(self, item: Item) -> bytes:
        with _opened(item) as file:
            whole, size, pieces = blake3(), 0, []
            for data in chunks.cut(file):
                whole.update(data)
                size += len(data)
                digest = blake3(data).digest()
                piece = self._pieces.get(digest)
                if piece is None:
                    piece = self._pieces[digest] = Piece(digest, len(data), self._packer.add(data))
                pieces.append(piece)
            _check_same(item, os.fstat(file.fileno()), size)
        found = whole.digest()
        if found not in self._entries:
            self._kept.setdefault(found, _Kept(size, None, pieces))
        return found

    # --- the list ---

    def _entry(self, found: Found, digest: bytes) -> Entry:
        if found.kind == LINK:
            return Entry(found.path, LINK, target=found.target)
        if known := self._entries.get(digest):
            return Entry(found.path, found.kind, known.size, digest, known.place, known.recipe)
        kept = self._kept[digest]
        place = self._packer.settled(kept.place) if kept.place else None
        return Entry(found.path, found.kind, kept.size, digest, place, self._recipe(digest, kept.pieces))

    def _recipe(self, digest: bytes, pieces: Sequence[Piece] | None) -> Recipe | None:
        if pieces is None:
            return None
        if digest not in self._recipes:
            settled = [piece._replace(place=self._packer.settled(piece.place)) for piece in pieces]
            parts = tuple(
                self._page(chunks.encode_page(page), "", len(page), sum(p.length for p in page), chunks.tree(page))
                for page in chunks.pages(settled)
            )
            self._recipes[digest] = Recipe(parts, tuple(dict.fromkeys(piece.place.pack for piece in settled)))
        return self._recipes[digest]

    def _page(self, data: bytes, first: str, count: int, total: int, proof: bytes) -> Part:
        place = self._packer.settled(self._packer.append(data))
        return Part(first, count, total, proof, blake3(data).digest(), place, len(data))

    def _list(self, entries: Sequence[Entry]) -> bytes:
        """The listing of these entries; pages that the base version has are not written again."""
        there = {part.tree: part for part in self._base.parts} if self._base else {}
        parts = []
        for page in listing.pages(entries):
            proof = listing.tree(page)
            if proof not in there:
                total = sum(entry.size for entry in page)
                files = sum(entry.kind != FOLDER for entry in page)
                there[proof] = self._page(listing.encode_page(page), page[0].path, files, total, proof)
            parts.append(there[proof])
        flushed = self._packer.finish()
        last = flushed[-1] if flushed else listing.HERE
        return listing.encode(parts, needed_packs(entries, parts, last), last=last)

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._packer.close()


def needed_packs(entries: Iterable[Entry], parts: Iterable[Part], last: bytes) -> list[bytes]:
    """Every pack that something of a version lies in."""
    found = {part.place.pack for part in parts}
    for entry in entries:
        if entry.place:
            found.add(entry.place.pack)
        elif entry.recipe:
            found.update(entry.recipe.packs)
            found.update(part.place.pack for part in entry.recipe.parts)
    return sorted(last if pack == listing.HERE else pack for pack in found)


def _is_link(item: Item) -> bool:
    return item.found.kind == LINK


def _groups(items: Sequence[Item], indexes: Sequence[int]) -> Iterator[list[int]]:
    """Files that are read by one thread in one go."""
    group: list[int] = []
    size = 0
    for index in indexes:
        group.append(index)
        size += items[index].found.size + 4096
        if size > READ_TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group


def _results(group: list[int], read: Future[list[tuple[bytes, bytes]]]) -> Iterator[tuple[int, bytes, bytes]]:
    for index, (data, digest) in zip(group, read.result(), strict=True):
        yield index, data, digest


def _read_group(items: Sequence[Item]) -> list[tuple[bytes, bytes]]:
    return [_read(item) for item in items]


def _read(item: Item) -> tuple[bytes, bytes]:
    with _opened(item) as file:
        data = file.read()
        _check_same(item, os.fstat(file.fileno()), len(data))
    return data, blake3(data).digest()


def _hashed(item: Item) -> bytes:
    whole, size = blake3(), 0
    with _opened(item) as file:
        while piece := file.read(READ_TOGETHER):
            whole.update(piece)
            size += len(piece)
        _check_same(item, os.fstat(file.fileno()), size)
    return whole.digest()


def _opened(item: Item) -> BinaryIO:
    source = item.found.source
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        return open(os.open(source, flags), "rb", buffering=0)  # noqa: PTH123
    except FileNotFoundError:
        raise changed(source, "it is gone") from None
    except OSError as error:
        raise Invalid(f"{source} cannot be read: {error.strerror}") from None


def _check_same(item: Item, facts: os.stat_result, size: int) -> None:
    """It is still what was looked at, and all of it was read."""
    if array("q", row(facts)) != item.facts or size != facts.st_size:
        raise changed(item.found.source, "it was written to")

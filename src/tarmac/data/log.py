"""Logging: what lies in a folder becomes a version, and only what is new is packed and sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from blake3 import blake3

from tarmac.core.errors import Conflict, Invalid, NotFound
from tarmac.data import chunks, listing
from tarmac.data.chunks import Piece
from tarmac.data.depot import Depot
from tarmac.data.listing import Entry, Listing, Part, Place, Recipe
from tarmac.data.operations import CommitData, GetListing, Logged
from tarmac.data.packs import Packer
from tarmac.data.reading import read_entries, read_pieces
from tarmac.data.records import Layout
from tarmac.data.scan import Found, changed, scan

Progress = Callable[[int, int, str], None]
TRIES = 3


class LogRequest(NamedTuple):
    """What is to become a version."""

    name: str
    sources: Sequence[tuple[str, Path]]
    message: str = ""
    tags: dict[str, str] = {}
    layout: Layout | None = None


class Kept(NamedTuple):
    """Where the bytes of one file are, if packs that are not sent yet have got their digests."""

    digest: bytes
    size: int
    place: Place | None
    pieces: list[Piece] | None


def log(depot: Depot, request: LogRequest, document: dict[str, Any], progress: Progress) -> Logged:
    """The version; the latest one if nothing has changed since."""
    base = latest(depot, request.name)
    for _ in range(TRIES):
        found = scan(request.sources)
        if not found:
            raise Invalid(f"there is nothing to log in {request.sources[0][1]}", hint="a version has at least one file")
        writing = _Writing(depot, base, progress)
        with writing.packer:
            encoded = writing.write(found)
        _refuse_changes(found, scan(request.sources))
        answer = depot(
            CommitData(
                name=request.name,
                listing=encoded,
                message=request.message,
                tags=request.tags,
                document=document,
                layout=request.layout,
            )
        )
        if not answer.missing:
            return answer
        base = None  # gc has taken packs since: rely on nothing that was there
    raise Conflict(f"{len(answer.missing)} packs of {request.name} could not be kept", hint="log it again")


def latest(depot: Depot, name: str) -> Listing | None:
    """The list of files of the newest version, if there is one."""
    try:
        return listing.decode(depot(GetListing(ref=name)).listing)
    except NotFound:
        return None


def _refuse_changes(before: Sequence[Found], after: Sequence[Found]) -> None:
    """A version is a folder at one moment: whatever looks different now was changed while it was read."""
    for one, other in zip(before, after, strict=False):
        if one.path != other.path:
            raise changed(min(one, other).source, "it came or went")
        if one.kind != other.kind or one.target != other.target or _look(one) != _look(other):
            raise changed(one.source, "it was written to")
    if len(before) != len(after):
        longer = before if len(before) > len(after) else after
        raise changed(longer[min(len(before), len(after))].source, "it came or went")


def _look(found: Found) -> tuple[int, ...]:
    facts = found.facts
    return (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino) if facts else ()


class _Writing:
    """One attempt: reads files, packs what the base version does not have."""

    def __init__(self, depot: Depot, base: Listing | None, progress: Progress) -> None:
        self.packer = Packer(depot)
        self._depot = depot
        self._base = base
        self._progress = progress
        self._entries: dict[bytes, Entry] = {}
        self._kept: dict[bytes, Kept] = {}
        self._pieces: dict[bytes, Piece] = {}
        for entry in read_entries(depot, base.parts) if base else ():
            if entry.digest:
                self._entries[entry.digest] = entry

    def write(self, found: Sequence[Found]) -> bytes:
        total = sum(item.facts.st_size for item in found if item.facts)
        done = 0
        for entry in self._entries.values():
            if entry.recipe:
                self._pieces.update((piece.digest, piece) for piece in read_pieces(self._depot, entry.recipe))
        kept: list[Kept | None] = []
        for item in found:
            kept.append(self._file(item) if item.facts else None)
            done += item.facts.st_size if item.facts else 0
            self._progress(done, total, "bytes")
        recipes: dict[bytes, Recipe] = {}
        for one in kept:
            if one is not None and one.pieces is not None and one.digest not in recipes:
                recipes[one.digest] = self._recipe(one.pieces)
        entries = [self._entry(item, one, recipes) for item, one in zip(found, kept, strict=True)]
        return self._list(entries)

    def _file(self, item: Found) -> Kept:
        assert item.facts is not None
        try:
            with open(item.source, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each costs as much as reading
                before = os.fstat(file.fileno())
                kept = self._large(file) if before.st_size > chunks.LARGE else self._small(file)
                after = os.fstat(file.fileno())
        except OSError as error:
            raise Invalid(f"{item.source} cannot be read: {error.strerror}") from None
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or kept.size != after.st_size:
            raise changed(item.source, "it was written to")
        return kept

    def _small(self, file: BinaryIO) -> Kept:
        data = file.read()
        digest = blake3(data).digest()
        if digest in self._entries or digest in self._kept:
            return self._known(digest, len(data))
        kept = Kept(digest, len(data), self.packer.add(data) if data else None, None)
        self._kept[digest] = kept
        return kept

    def _large(self, file: BinaryIO) -> Kept:
        whole = blake3()
        size, pieces = 0, []
        for data in chunks.cut(file):
            whole.update(data)
            size += len(data)
            digest = blake3(data).digest()
            piece = self._pieces.get(digest)
            if piece is None:
                piece = self._pieces[digest] = Piece(digest, len(data), self.packer.add(data))
            pieces.append(piece)
        digest = whole.digest()
        if digest in self._entries or digest in self._kept:
            return self._known(digest, size)
        kept = self._kept[digest] = Kept(digest, size, None, pieces)
        return kept

    def _known(self, digest: bytes, size: int) -> Kept:
        return self._kept.get(digest) or Kept(digest, size, self._entries[digest].place, None)

    def _recipe(self, pieces: Sequence[Piece]) -> Recipe:
        settled = [piece._replace(place=self.packer.settled(piece.place)) for piece in pieces]
        parts = []
        for page in chunks.pages(settled):
            data = chunks.encode_page(page)
            place = self.packer.settled(self.packer.append(data))
            total = sum(piece.length for piece in page)
            parts.append(Part("", len(page), total, chunks.tree(page), blake3(data).digest(), place, len(data)))
        return Recipe(tuple(parts), tuple(dict.fromkeys(piece.place.pack for piece in settled)))

    def _entry(self, item: Found, kept: Kept | None, recipes: dict[bytes, Recipe]) -> Entry:
        if kept is None:
            return Entry(item.path, item.kind, target=item.target)
        place = self.packer.settled(kept.place) if kept.place else None
        recipe = recipes.get(kept.digest)
        if recipe is None and place is None and kept.digest in self._entries:
            recipe = self._entries[kept.digest].recipe
        return Entry(item.path, item.kind, kept.size, kept.digest, place, recipe)

    def _list(self, entries: Sequence[Entry]) -> bytes:
        """The listing of these entries; pages that the base version has are not written again."""
        there = {part.tree: part for part in self._base.parts} if self._base else {}
        parts = []
        for page in listing.pages(entries):
            proof = listing.tree(page)
            if proof not in there:
                data = listing.encode_page(page)
                place = self.packer.settled(self.packer.append(data))
                total = sum(entry.size for entry in page)
                there[proof] = Part(page[0].path, len(page), total, proof, blake3(data).digest(), place, len(data))
            parts.append(there[proof])
        flushed = self.packer.finish()
        last = flushed[-1] if flushed else listing.HERE
        return listing.encode(parts, needed_packs(entries, parts, last), last=last)


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

"""Packs of which little is needed any more: what lives in them is copied to new ones, and versions say where it is now.

No pack is changed. A version's list of files gets new places and stays what it is; the old packs go with a later gc.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set
from functools import partial
from typing import NamedTuple

import msgspec
from blake3 import blake3

from tarmac.data import chunks, listing
from tarmac.data import queries as rows
from tarmac.data.inside import Inside
from tarmac.data.listing import Entry, Listing, Part, Place, Recipe
from tarmac.data.packs import Packer, Wanted, fetch
from tarmac.data.queries import StoredVersion
from tarmac.data.reading import read_entries, read_pieces
from tarmac.data.writing import needed_packs
from tarmac.store.job import JobContext
from tarmac.store.sql import Batch, Tx

LIVING = 0.5
"""A pack of which less is needed is given up,"""
WORTH = 1024 * 1024
"""if so many bytes of it are needed by nobody: to move a few would only make others unneeded."""


class Repacked(NamedTuple):
    """How many packs were given up, and how many of their bytes had to be written again."""

    packs: int
    bytes: int


def repack(job: JobContext) -> Repacked:
    depot = Inside(job.store, job.project, job.project_name, job.actor)
    with job.store.database.read(snapshot=True) as connection:
        sizes = {bytes.fromhex(pack): size for pack, size in rows.sizes_of_packs(connection, job.project).items()}
        versions = list(rows.every_version(connection, job.project))
    living = _Living(depot)
    for number, version in enumerate(versions):
        living.add(listing.decode(version.listing))
        job.progress(number, len(versions), "versions looked at")
    given_up = {
        pack: places
        for pack, places in living.places.items()
        if _is_mostly_dead(sizes.get(pack, 0), sum(length for length, _ in places.values()))
    }
    if not given_up:
        return Repacked(0, 0)
    moving = _Moving(job, depot, given_up.keys(), _copy(depot, given_up, living.pages))
    for version in versions:
        moving.move(version)
        job.progress(len(moving.places), len(moving.places), "pieces moved")
    return Repacked(len(given_up), sum(given_up[old.pack][old.offset][0] for old in moving.places))


def _is_mostly_dead(size: int, living: int) -> bool:
    return living < LIVING * size and size - living > WORTH


class _Living:
    """Where something lies that a version needs: length and digest, by pack and offset."""

    def __init__(self, depot: Inside) -> None:
        self.places: dict[bytes, dict[int, tuple[int, bytes]]] = {}
        self.pages: set[Place] = set()
        self._depot = depot

    def add(self, listed: Listing) -> None:
        for part in listed.parts:
            if self._page(part):
                for entry in read_entries(self._depot, [part]):
                    self._entry(entry)

    def _entry(self, entry: Entry) -> None:
        if entry.place:
            self._note(entry.place, entry.size, entry.digest)
        for part in entry.recipe.parts if entry.recipe else ():
            if self._page(part):
                for piece in read_pieces(self._depot, [part]):
                    self._note(piece.place, piece.length, piece.digest)

    def _page(self, part: Part) -> bool:
        """Whether it was not looked at yet."""
        if part.place in self.pages:
            return False
        self.pages.add(part.place)
        self._note(part.place, part.length, part.digest)
        return True

    def _note(self, place: Place, length: int, digest: bytes) -> None:
        self.places.setdefault(place.pack, {})[place.offset] = (length, digest)


def _copy(
    depot: Inside, given_up: Mapping[bytes, Mapping[int, tuple[int, bytes]]], pages: Container[Place]
) -> dict[Place, Place]:
    """What lives in these packs, in new ones: old place to new. Pages name places, and so are written anew later."""
    moved: dict[Place, Place] = {}
    packer = Packer(depot)
    try:
        wanted = (
            (Place(pack, offset), Wanted(Place(pack, offset), length, digest))
            for pack, places in given_up.items()
            for offset, (length, digest) in places.items()
            if Place(pack, offset) not in pages
        )
        for place, data in fetch(depot, wanted):
            moved[place] = packer.add(data)
        packer.finish()
        return {old: packer.settled(new) for old, new in moved.items()}
    finally:
        packer.close()


class _Moving:
    """Lets versions say where their bytes are now. Pages that versions share are written once."""

    def __init__(self, job: JobContext, depot: Inside, given_up: Set[bytes], places: dict[Place, Place]) -> None:
        self.places = places
        self._job = job
        self._depot = depot
        self._given_up = given_up
        self._pages: dict[Place, Part] = {}
        """Pages of lists and of recipes that were written anew, by where they were."""

    def move(self, version: StoredVersion) -> bool:
        """False: nothing of it had to move, or somebody has deleted it in the meantime."""
        listed = listing.decode(version.listing)
        if not self._given_up & set(listed.packs):
            return False
        entries: list[Entry] = []
        packer = Packer(self._depot)
        try:
            parts = [self._list_page(packer, part, entries) for part in listed.parts]
            flushed = packer.finish()
        finally:
            packer.close()
        last = flushed[-1] if flushed else listing.HERE
        packs = needed_packs(entries, parts, last)
        for before, part in self._pages.items():
            if part.place.pack == listing.HERE:
                self._pages[before] = part._replace(place=Place(last, part.place.offset))
        encoded = listing.encode(parts, packs, last=last)
        done: bool = self._job.store.writer.call(
            partial(_commit, self._job, version, encoded, sorted({pack.hex() for pack in packs}))
        )
        return done

    def _list_page(self, packer: Packer, part: Part, entries: list[Entry]) -> Part:
        """The page with its new places; its entries are added to those of the version."""
        if part.place in self._pages:
            entries += read_entries(self._depot, [self._pages[part.place]])
            return self._pages[part.place]
        page = [self._entry(packer, entry) for entry in read_entries(self._depot, [part])]
        entries += page
        return self._write(packer, part, listing.encode_page(page))

    def _entry(self, packer: Packer, entry: Entry) -> Entry:
        if entry.place:
            return msgspec.structs.replace(entry, place=self.places.get(entry.place, entry.place))
        recipe = entry.recipe
        if recipe is None or not self._given_up & {*recipe.packs, *(part.place.pack for part in recipe.parts)}:
            return entry
        parts, packs = [], set()
        for part in recipe.parts:
            pieces = [
                piece._replace(place=self.places.get(piece.place, piece.place))
                for piece in read_pieces(self._depot, [part])
            ]
            packs |= {piece.place.pack for piece in pieces}
            known = self._pages.get(part.place)
            parts.append(known or self._write(packer, part, chunks.encode_page(pieces)))
        return msgspec.structs.replace(entry, recipe=Recipe(tuple(parts), tuple(sorted(packs))))

    def _write(self, packer: Packer, part: Part, data: bytes) -> Part:
        place = packer.settled(packer.append(data))
        new = part._replace(digest=blake3(data).digest(), place=place, length=len(data))
        self._pages[part.place] = new
        return new


def _commit(job: JobContext, version: StoredVersion, encoded: bytes, packs: Sequence[str], batch: Batch) -> bool:
    tx = Tx(batch, job.project, job.project_name, job.actor)
    return rows.move(tx, version.key, version.listing, encoded, packs)

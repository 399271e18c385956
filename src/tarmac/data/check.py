"""Is every version still whole? Its list of files is the one that was committed, and each file is where it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from blake3 import blake3

from tarmac.core.actor import os_user
from tarmac.core.errors import TarmacError
from tarmac.data import chunks, listing
from tarmac.data.inside import Inside
from tarmac.data.listing import Entry, Listing, Part
from tarmac.data.packs import Wanted, fetch
from tarmac.data.queries import every_version, packs_of
from tarmac.data.reading import read_entries, read_pieces
from tarmac.data.writing import needed_packs
from tarmac.store import Store
from tarmac.store.sql import Connection


def faults(store: Store, connection: Connection, read_bytes: bool) -> Iterator[str]:
    """One text for each version: empty, or what is wrong with it."""
    sound: set[bytes] = set()
    for version in every_version(connection):
        depot = Inside(store, version.project, version.project_name, os_user())
        try:
            listed = listing.decode(version.listing)
            told = {bytes.fromhex(pack) for pack in packs_of(connection, version.key)}
            if (listed.digest, listed.files, listed.size) != (version.digest, version.files, version.size):
                yield f"{version.name} was edited: its list of files is not the one that was committed"
            elif told != set(listed.packs):
                yield f"{version.name}: the packs that it counts as needed are not those of its list of files"
            else:
                yield _contents(depot, version.name, listed, sound, read_bytes=read_bytes)
        except TarmacError as error:
            yield f"{version.name}: {error.message}"


def _contents(depot: Inside, name: str, listed: Listing, sound: set[bytes], *, read_bytes: bool) -> str:
    entries: list[Entry] = []
    for part in listed.parts:
        page = list(read_entries(depot, [part]))
        if listing.tree(page) != part.tree:
            return f"{name}: a page of its list of files is not the one that was committed"
        entries += page
    if not set(needed_packs(entries, listed.parts, listing.HERE)) <= set(listed.packs):
        return f"{name}: a file lies in a pack that it does not count as needed"
    if read_bytes:
        for fault in _files(depot, entries, sound):
            return f"{name}: {fault}"
    return ""


def _files(depot: Inside, entries: Iterable[Entry], sound: set[bytes]) -> Iterator[str]:
    """Bytes that two versions share are looked at once."""
    fresh = [entry for entry in entries if entry.digest and entry.digest not in sound]
    small = [
        (entry, Wanted(entry.place, entry.size, entry.digest))
        for entry in fresh
        if entry.place and entry.place.pack != entry.digest  # a blob of its own has been read as one
    ]
    for entry, _ in fetch(depot, small, lambda entry: entry.path):
        sound.add(entry.digest)
    for entry in fresh:
        if entry.recipe is None or entry.digest in sound:
            continue
        whole = blake3()
        for part in entry.recipe.parts:
            whole.update(b"".join(_joined(depot, part)))
        if whole.digest() != entry.digest:
            yield f"`{entry.path}` is put together of other pieces than when it was logged"
        sound.add(entry.digest)


def _joined(depot: Inside, part: Part) -> list[bytes]:
    pieces = read_pieces(depot, [part])
    if chunks.tree(pieces) != part.tree:
        return []
    found = dict(fetch(depot, ((i, Wanted(p.place, p.length, p.digest)) for i, p in enumerate(pieces))))
    return [found[index] for index in range(len(pieces))]

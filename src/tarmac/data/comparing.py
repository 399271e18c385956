"""A folder against what it is known to be: what is there now, and whether somebody has a copy of it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from tarmac.core.errors import NotFound
from tarmac.data import listing
from tarmac.data.depot import Depot
from tarmac.data.listing import FOLDER, LINK, Entry
from tarmac.data.operations import GetListing
from tarmac.data.reading import read_entries
from tarmac.data.scan import Facts, Level, describe, hash_file, kind_of
from tarmac.data.seen import Journal, Seen, link_digest

Copies = dict[str, set[bytes]]
"""What a path may hold without being lost when it is overwritten: digests that some version has there."""


class Held(NamedTuple):
    """What a path in a folder holds now; without a digest it is none that was asked for."""

    kind: int
    digest: bytes
    facts: Facts


def proof(entry: Entry) -> bytes:
    """The digest that stands for an entry, links and folders included."""
    if entry.kind == LINK:
        return link_digest(entry.target)
    return b"" if entry.kind == FOLDER else entry.digest


def held_now(levels: Iterable[Level], seen: Seen | None, matters: Container[str]) -> dict[str, Held]:
    """Everything in a folder by its path. A file that may have changed is read if its path matters."""
    found: dict[str, Held] = {}
    for level in levels:
        before = seen.levels.get(level.source) if seen else None
        digests = before.recall(level) if before else [b""] * len(level.names)
        for index, digest in enumerate(digests):
            found[level.inside(level.names[index])] = _held(level, index, digest, matters)
        if level.bare and level.path:
            found[level.path] = Held(FOLDER, b"", ())
    return found


def _held(level: Level, index: int, digest: bytes, matters: Container[str]) -> Held:
    facts = level.look(index)
    source = level.on_disk(level.names[index])
    kind = kind_of(source, facts[4])
    if digest:
        return Held(kind, digest, facts)
    if kind == LINK:
        return Held(kind, link_digest(describe(level, index).target), facts)
    if level.inside(level.names[index]) in matters:
        return Held(kind, hash_file(source), facts)
    return Held(kind, b"", facts)


def copies(depot: Depot, seen: Seen | None, journal: Journal | None) -> Copies:
    """What is in versions: the one that the folder is, and those that an interrupted checkout was between."""
    found: Copies = {}
    for level in seen.levels.values() if seen else ():
        for path, digest in level.entries():
            found.setdefault(path, set()).add(digest)
    for ref in journal.versions if journal else ():
        for entry in _entries(depot, ref):
            found.setdefault(entry.path, set()).add(proof(entry))
    return found


def _entries(depot: Depot, ref: str) -> Iterator[Entry]:
    try:
        listed = depot(GetListing(ref=ref))
    except NotFound:  # deleted since: nothing of it is known, so nothing of it is overwritten
        return
    yield from read_entries(depot, listing.decode(listed.listing).parts)

"""Reading versions: the entries on their pages, the pieces of recipes, the bytes of files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from blake3 import blake3

from tarmac.core.errors import Damaged, bounded
from tarmac.data import chunks, listing
from tarmac.data.chunks import Piece
from tarmac.data.depot import Depot
from tarmac.data.listing import Entry, Part, Recipe
from tarmac.data.packs import Wanted, fetch


def read_entries(depot: Depot, parts: Sequence[Part]) -> Iterator[Entry]:
    """The entries of these pages, in order."""
    found = dict(_pages(depot, parts))
    for index, part in enumerate(parts):
        yield from listing.decode_page(found.pop(index), part.place.pack)


def find_entry(depot: Depot, parts: Sequence[Part], path: str) -> Entry | None:
    """One entry by its path: only its page is read."""
    at = bisect_right([part.first for part in parts], path) - 1
    if at < 0:
        return None
    return next((entry for entry in read_entries(depot, [parts[at]]) if entry.path == path), None)


def read_pieces(depot: Depot, parts: Sequence[Part]) -> list[Piece]:
    """The pieces on these pages of recipes, in order."""
    found = dict(_pages(depot, parts))
    return [piece for index, part in enumerate(parts) for piece in chunks.decode_page(found[index], part.place.pack)]


def _pages(depot: Depot, parts: Sequence[Part]) -> Iterator[tuple[int, bytes]]:
    wanted = ((i, Wanted(part.place, part.length, part.digest)) for i, part in enumerate(parts))
    return fetch(depot, wanted, lambda i: f"the list from {parts[i].first} on")


def read_file(depot: Depot, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Bytes of a file; only the pieces that have some of them are fetched."""
    end = entry.size if end is None else min(end, entry.size)
    if entry.place is not None and entry.place.pack == entry.digest:
        yield from _whole(depot, entry, start, end)
    elif entry.place is not None:
        ((_, data),) = fetch(depot, [(0, Wanted(entry.place, entry.size, entry.digest))])
        yield data[start:end]
    elif entry.recipe is not None:
        yield from _stretch(depot, entry.recipe, start, end)


def _whole(depot: Depot, entry: Entry, start: int, end: int) -> Iterator[bytes]:
    """A blob of its own: its blocks are verified where it lies, and all of it where it is read."""
    found = blake3()
    for piece in depot.read(entry.digest.hex(), start, end):
        found.update(piece)
        yield piece
    if (start, end) == (0, entry.size) and found.digest() != entry.digest:
        raise Damaged(f"`{bounded(entry.path)}` did not arrive whole", hint="ask for it again")


def _stretch(depot: Depot, recipe: Recipe, start: int, end: int) -> Iterator[bytes]:
    at = 0
    for part in recipe.parts:
        if at < end and at + part.total > start:
            yield from _page_stretch(depot, part, start - at, end - at)
        at += part.total


def _page_stretch(depot: Depot, part: Part, start: int, end: int) -> Iterator[bytes]:
    ((_, page),) = _pages(depot, [part])
    at, chosen = 0, []
    for piece in chunks.decode_page(page, part.place.pack):
        if at < end and at + piece.length > start:
            chosen.append((at, piece))
        at += piece.length
    wanted = ((offset, Wanted(piece.place, piece.length, piece.digest)) for offset, piece in chosen)
    found = dict(fetch(depot, wanted))
    for offset, _ in chosen:
        yield found.pop(offset)[max(0, start - offset) : end - offset]

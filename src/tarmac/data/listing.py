"""The list of files of a version: entries on pages, and the listing that names the pages.

Where a page ends is decided by paths alone, so a file that changes rewrites its own page and no other; a page that is
the same as in an earlier version is not stored again. A place is a pack and an offset in it.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from blake3 import blake3

from tarmac.core.errors import Damaged, NewerFormat, bounded

T = TypeVar("T")

FORMAT = 1
FILE, PROGRAM, FOLDER, LINK = range(4)
"""Kinds of entries; a program is a file with the executable bit, a folder is listed when it is empty."""
HERE = b"\0" * 32
"""In a pack's own pages: this very pack, whose digest is not known while it is written."""
ENTRIES_IN_PAGE = 1024
MOST_IN_PAGE = 4096


class Place(NamedTuple):
    """Bytes in a pack."""

    pack: bytes
    offset: int


class Part(NamedTuple):
    """A page of a listing, which has so many files, or of a recipe, which has so many pieces. `tree` proves names and
    bytes of what it lists, wherever those lie."""

    first: str
    items: int
    total: int
    tree: bytes
    digest: bytes
    place: Place
    length: int


class Recipe(NamedTuple):
    """How a large file is put together: pages that list its pieces, and every pack that those lie in."""

    parts: tuple[Part, ...]
    packs: tuple[bytes, ...]


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One file, link or empty folder. A small file has a place, a large one a recipe."""

    path: str
    kind: int
    size: int = 0
    digest: bytes = b""
    place: Place | None = None
    recipe: Recipe | None = None
    target: str = ""


class _Part(msgspec.Struct, array_like=True):
    first: str
    items: int
    total: int
    tree: bytes
    digest: bytes
    pack: int
    offset: int
    length: int


class _Recipe(msgspec.Struct, array_like=True):
    parts: list[_Part]
    packs: list[int]


class _Page(msgspec.Struct, array_like=True):
    format: int
    packs: list[bytes]
    paths: list[str]
    kinds: bytes
    sizes: bytes
    digests: bytes
    packed: bytes
    offsets: bytes
    recipes: dict[int, _Recipe]
    targets: dict[int, str]


class _Listing(msgspec.Struct, array_like=True):
    format: int
    packs: list[bytes]
    parts: list[_Part]


class Listing(NamedTuple):
    """What the store keeps of a version: its packs, and where the pages of its list lie."""

    packs: list[bytes]
    parts: list[Part]

    @property
    def digest(self) -> str:
        """Proves every name and every byte of the version, whatever packs they lie in."""
        hasher = blake3(b"tarmac data 1")
        for part in self.parts:
            hasher.update(part.tree)
        return hasher.hexdigest()

    @property
    def files(self) -> int:
        return sum(part.items for part in self.parts)

    @property
    def size(self) -> int:
        return sum(part.total for part in self.parts)


_encode = msgspec.msgpack.Encoder().encode
_page = msgspec.msgpack.Decoder(_Page)
_listing = msgspec.msgpack.Decoder(_Listing)


class _Packs:
    """Packs by number, in the order in which they are first named."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}

    def number(self, pack: bytes) -> int:
        return self.numbers.setdefault(pack, len(self.numbers))

    def part(self, part: Part) -> _Part:
        where = part.place
        return _Part(*part[:5], self.number(where.pack), where.offset, part.length)

    def recipe(self, recipe: Recipe) -> _Recipe:
        return _Recipe([self.part(part) for part in recipe.parts], [self.number(pack) for pack in recipe.packs])


def pages(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Entries in order of their paths, cut into pages."""
    start = 0
    for index, entry in enumerate(entries, start=1):
        ends = zlib.crc32(entry.path.encode()) % ENTRIES_IN_PAGE == 0
        if ends or index - start == MOST_IN_PAGE:
            yield entries[start:index]
            start = index
    if start < len(entries):
        yield entries[start:]


def tree(entries: Iterable[Entry]) -> bytes:
    """The digest of what entries are, not of where their bytes lie."""
    facts = [(entry.path, entry.kind, entry.size, entry.digest, entry.target) for entry in entries]
    return blake3(_encode(facts)).digest()


def encode_page(entries: Sequence[Entry]) -> bytes:
    packs = _Packs()
    places = [entry.place for entry in entries]
    page = _Page(
        FORMAT,
        [],
        [entry.path for entry in entries],
        bytes(entry.kind for entry in entries),
        numbers("Q", (entry.size for entry in entries)),
        b"".join(entry.digest.ljust(32, b"\0") for entry in entries),
        numbers("I", (packs.number(place.pack) if place else 0 for place in places)),
        numbers("I", (place.offset if place else 0 for place in places)),
        {i: packs.recipe(entry.recipe) for i, entry in enumerate(entries) if entry.recipe},
        {i: entry.target for i, entry in enumerate(entries) if entry.kind == LINK},
    )
    page.packs = list(packs.numbers)
    return _encode(page)


def decode_page(data: bytes, here: bytes) -> list[Entry]:
    """The entries of a page that lies in the pack `here`."""
    page = decoded(_page, data)
    packs = [here if pack == HERE else pack for pack in page.packs]
    sizes, packed, offsets = (
        read_numbers(*part) for part in (("Q", page.sizes), ("I", page.packed), ("I", page.offsets))
    )
    entries = []
    try:
        for i, (path, kind) in enumerate(zip(page.paths, page.kinds, strict=True)):
            recipe = _read_recipe(page.recipes[i], packs) if i in page.recipes else None
            held = kind <= PROGRAM
            entries.append(
                Entry(
                    path,
                    kind,
                    sizes[i],
                    page.digests[32 * i : 32 * i + 32] if held else b"",
                    Place(packs[packed[i]], offsets[i]) if held and sizes[i] and not recipe else None,
                    recipe,
                    page.targets[i] if kind == LINK else "",
                )
            )
    except (IndexError, KeyError, ValueError):
        raise _unreadable() from None
    return entries


def encode(parts: Sequence[Part], packs: Iterable[bytes], *, last: bytes) -> bytes:
    """A listing of pages; `last` is the pack in which those lie that were just written."""
    numbers = _Packs()
    for pack in packs:
        numbers.number(pack)
    moved = [part._replace(place=Place(last, part.place.offset)) if part.place.pack == HERE else part for part in parts]
    placed = [numbers.part(part) for part in moved]
    return _encode(_Listing(FORMAT, list(numbers.numbers), placed))


def decode(data: bytes) -> Listing:
    listing = decoded(_listing, data)
    try:
        return Listing(listing.packs, [_part(part, listing.packs) for part in listing.parts])
    except IndexError:
        raise _unreadable() from None


def _read_recipe(recipe: _Recipe, packs: Sequence[bytes]) -> Recipe:
    return Recipe(tuple(_part(part, packs) for part in recipe.parts), tuple(packs[number] for number in recipe.packs))


def _part(part: _Part, packs: Sequence[bytes]) -> Part:
    where = Place(packs[part.pack], part.offset)
    return Part(part.first, part.items, part.total, part.tree, part.digest, where, part.length)


def decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes) -> T:
    try:
        found = decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Damaged(f"a list of files cannot be read: {bounded(error)}") from None
    if found.format > FORMAT:  # type: ignore[attr-defined]
        raise NewerFormat.of("a list of files", found.format, FORMAT)  # type: ignore[attr-defined]
    return found


def _unreadable() -> Damaged:
    return Damaged("a list of files contradicts itself", hint="`tarmac store check` names what is damaged")


def numbers(kind: str, values: Iterable[int]) -> bytes:
    """Little-endian, whatever the machine."""
    numbers = array(kind, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def read_numbers(kind: str, data: bytes) -> array[int]:
    numbers = array(kind)
    try:
        numbers.frombytes(data)
    except ValueError:
        raise _unreadable() from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers

"""Large files as pieces, cut where their content says so: what changes in the middle changes a few pieces.

A recipe lists the pieces of one file, on pages that end where a piece's digest says so.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import msgspec
from blake3 import blake3

from tarmac.data.listing import FORMAT, HERE, Place, decoded, numbers, read_numbers

LARGE = 8 * 1024 * 1024
"""A file above this is cut into pieces."""
READ_AT_ONCE = 8 * 1024 * 1024
AVERAGE = 32 * 1024
SMALLEST = AVERAGE // 4
LARGEST = AVERAGE * 4
FIXED = 256 * 1024
"""How long pieces are where nothing is installed that finds better ends."""
PIECES_IN_PAGE = 1024
MOST_IN_PAGE = 4096


class Piece(NamedTuple):
    digest: bytes
    length: int
    place: Place


class _Recipe(msgspec.Struct, array_like=True):
    format: int
    packs: list[bytes]
    digests: bytes
    lengths: bytes
    packed: bytes
    offsets: bytes


_encode = msgspec.msgpack.Encoder().encode
_recipe = msgspec.msgpack.Decoder(_Recipe)


def cut(file: BinaryIO) -> Iterator[memoryview]:
    """The pieces of a file, one behind the other."""
    try:
        from pyfastcdc import FastCDC
    except ImportError:
        yield from _cut_evenly(file)
        return
    cutter = FastCDC(AVERAGE, min_size=SMALLEST, max_size=LARGEST)
    rest = memoryview(b"")
    while block := file.read(READ_AT_ONCE):
        data = memoryview(bytes(rest) + block if rest else block)
        last = None
        for chunk in cutter.cut_buf(data):
            if last is not None:
                yield last
            last = chunk.data
        rest = last if last is not None else memoryview(b"")  # it may go on in what comes next
    if rest:
        yield from (chunk.data for chunk in cutter.cut_buf(rest))


def _cut_evenly(file: BinaryIO) -> Iterator[memoryview]:
    while block := file.read(FIXED):
        yield memoryview(block)


def pages(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    start = 0
    for index, piece in enumerate(pieces, start=1):
        if int.from_bytes(piece.digest[:4], "little") % PIECES_IN_PAGE == 0 or index - start == MOST_IN_PAGE:
            yield pieces[start:index]
            start = index
    if start < len(pieces):
        yield pieces[start:]


def tree(pieces: Sequence[Piece]) -> bytes:
    """The digest of what pieces are, not of where they lie."""
    return blake3(b"".join(piece.digest + piece.length.to_bytes(8, "little") for piece in pieces)).digest()


def encode_page(pieces: Sequence[Piece]) -> bytes:
    packs: dict[bytes, int] = {}
    packed = [packs.setdefault(piece.place.pack, len(packs)) for piece in pieces]
    return _encode(
        _Recipe(
            FORMAT,
            list(packs),
            b"".join(piece.digest for piece in pieces),
            numbers("I", (piece.length for piece in pieces)),
            numbers("I", packed),
            numbers("I", (piece.place.offset for piece in pieces)),
        )
    )


def decode_page(data: bytes, here: bytes) -> list[Piece]:
    """The pieces on a page that lies in the pack `here`."""
    page = decoded(_recipe, data)
    packs = [here if pack == HERE else pack for pack in page.packs]
    columns: list[array[int]] = [read_numbers("I", part) for part in (page.lengths, page.packed, page.offsets)]
    return [
        Piece(page.digests[32 * i : 32 * i + 32], length, Place(packs[pack], offset))
        for i, (length, pack, offset) in enumerate(zip(*columns, strict=True))
    ]

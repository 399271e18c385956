"""What a place for blobs promises. A backend keeps the promises by inheriting these tests and giving itself as `blobs`.

A blob here is a file by its digest; whether it exists is said by rows, which `tests/store/test_blobs.py` proves.
"""

from __future__ import annotations

import io

import pytest

from tarmac.core.digest import BLOCK, digest
from tarmac.core.errors import Damaged, Invalid
from tarmac.store.blobs.folder import FolderBlobs, Stored

BIG = bytes(range(256)) * (9 * 4096)  # 9 MiB: three blocks
BIG_PLACES = [(0, 10), (BLOCK - 1, BLOCK + 1), (BLOCK, 2 * BLOCK), (2 * BLOCK - 3, len(BIG)), (0, len(BIG)), (5, 5)]


class BlobContract:
    """Written whole or not at all, read whole or by range, and never handed out damaged."""

    @pytest.fixture
    def blobs(self) -> FolderBlobs:
        raise NotImplementedError("a backend gives itself here")

    def damage(self, blobs: FolderBlobs, stored: Stored, at: int) -> None:
        """Flip one bit of what is stored."""
        raise NotImplementedError

    @staticmethod
    def read(blobs: FolderBlobs, stored: Stored, start: int = 0, end: int | None = None) -> bytes:
        end = stored.size if end is None else end
        return b"".join(blobs.read(stored.digest, stored.place, stored.size, stored.blocks, start, end))

    @pytest.mark.parametrize("data", [b"", b"x", b"\x00" * 100, BIG[:BLOCK], BIG[: BLOCK + 1], BIG])
    def test_what_was_put_can_be_read(self, blobs: FolderBlobs, data: bytes) -> None:
        stored = blobs.put(io.BytesIO(data))
        stored.settle()
        assert (stored.digest, stored.size) == (digest(data), len(data))
        assert self.read(blobs, stored) == data

    @pytest.mark.parametrize(("start", "end"), BIG_PLACES)
    def test_a_range_is_that_range(self, blobs: FolderBlobs, start: int, end: int) -> None:
        stored = blobs.put(io.BytesIO(BIG))
        stored.settle()
        assert self.read(blobs, stored, start, end) == BIG[start:end]

    @pytest.mark.parametrize("at", [0, BLOCK + 17, len(BIG) - 1])
    def test_one_flipped_bit_is_never_handed_out(self, blobs: FolderBlobs, at: int) -> None:
        stored = blobs.put(io.BytesIO(BIG))
        stored.settle()
        self.damage(blobs, stored, at)
        block = at // BLOCK
        named = f"damaged in bytes {block * BLOCK}–{min((block + 1) * BLOCK, len(BIG))}"
        with pytest.raises(Damaged, match=named):
            self.read(blobs, stored)
        with pytest.raises(Damaged, match=stored.digest[:16]):
            self.read(blobs, stored, at, at + 1)
        for other in {0, 1, 2} - {block}:  # what is whole can still be read
            assert self.read(blobs, stored, other * BLOCK, other * BLOCK + 9) == BIG[other * BLOCK : other * BLOCK + 9]

    def test_a_blob_that_is_gone_is_named(self, blobs: FolderBlobs) -> None:
        stored = blobs.put(io.BytesIO(b"soon gone"))
        stored.settle()
        blobs.delete(stored.place)
        blobs.delete(stored.place)  # twice is once
        with pytest.raises(Damaged, match="is gone"):
            self.read(blobs, stored)

    def test_the_same_bytes_twice_have_two_places(self, blobs: FolderBlobs) -> None:
        """So that deleting an old copy can never touch a new one."""
        one, two = blobs.put(io.BytesIO(b"same")), blobs.put(io.BytesIO(b"same"))
        one.settle()
        two.settle()
        assert one.digest == two.digest
        blobs.delete(one.place)
        assert self.read(blobs, two) == b"same"

    def test_what_is_not_what_its_sender_said_leaves_nothing(self, blobs: FolderBlobs) -> None:
        incoming = blobs.receive()
        incoming.write(b"changed on the way")
        with pytest.raises(Invalid, match="the bytes have digest"):
            incoming.finish("0" * 64)
        gone = blobs.receive()
        gone.write(b"given up")
        gone.abandon()

        def breaks() -> bytes:
            raise ConnectionResetError

        broken = io.BytesIO()
        broken.read = lambda size=-1: breaks()  # type: ignore[method-assign]
        with pytest.raises(ConnectionResetError):
            blobs.put(broken)
        assert list(blobs.lying()) == []

    def test_a_file_that_waits_for_its_row_is_held(self, blobs: FolderBlobs) -> None:
        incoming = blobs.receive()
        incoming.write(b"half")
        (lying,) = blobs.lying()
        with blobs.hold(lying.place) as free:
            assert not free
        stored = incoming.finish()
        with blobs.hold(stored.place) as free:
            assert not free
        stored.settle()
        with blobs.hold(stored.place) as free:
            assert free
        with blobs.hold("ab/nothing") as free:
            assert not free

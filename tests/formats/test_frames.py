"""Frames: whatever is cut off or flipped, a reader gets whole frames from the start, and never garbage."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Damaged, NewerFormat
from tarmac.formats import frames

records = st.lists(st.tuples(st.integers(min_value=0, max_value=(1 << 64) - 1), st.binary(max_size=80)), max_size=8)


def written(many: list[tuple[int, bytes]]) -> bytes:
    return frames.header() + b"".join(frames.encode(sequence, payload) for sequence, payload in many)


def found(data: bytes) -> list[tuple[int, bytes]]:
    return [(frame.sequence, frame.payload) for frame in frames.read(io.BytesIO(data))]


@settings(deadline=None)
@given(records, st.data())
def test_a_file_cut_anywhere_gives_the_frames_before_the_cut(
    many: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole = written(many)
    assert found(whole) == many
    cut = data.draw(st.integers(min_value=0, max_value=len(whole)))
    torn = found(whole[:cut])
    assert torn == many[: len(torn)]
    kept = 4 + sum(16 + len(payload) for _, payload in many[: len(torn)])
    assert kept <= cut or cut < 4
    if len(torn) < len(many):
        assert cut < kept + 16 + len(many[len(torn)][1]), "a frame that is whole was not read"
    if torn:
        *_, last = frames.read(io.BytesIO(whole[:cut]))
        assert last.end == kept
        again = frames.encode(7, b"after the crash")
        assert found(whole[: last.end] + again) == [*torn, (7, b"after the crash")]


@settings(deadline=None)
@given(records.filter(bool), st.data())
def test_a_flipped_bit_ends_the_file_there(many: list[tuple[int, bytes]], data: st.DataObject) -> None:
    whole = bytearray(written(many))
    at = data.draw(st.integers(min_value=4, max_value=len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(min_value=0, max_value=7))
    torn = found(bytes(whole))
    assert torn == many[: len(torn)]
    assert 4 + sum(16 + len(payload) for _, payload in torn) <= at


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_or_empty(data: bytes) -> None:
    try:
        assert found(data) == [] or data.startswith(b"TMF")
    except Damaged:
        assert data[:3] != b"TMF"
    except NewerFormat:
        assert data[3] > frames.FORMAT


def test_a_newer_format_is_refused_by_name() -> None:
    with pytest.raises(NewerFormat, match=r"segment\.bin has format 2"):
        list(frames.read(io.BytesIO(b"TMF\x02"), "segment.bin"))
    with pytest.raises(Damaged, match="does not start"):
        list(frames.read(io.BytesIO(b"PK\x03\x04 and so on")))


def test_a_length_that_cannot_be_true_takes_no_memory() -> None:
    lying = frames.header() + b"\xff\xff\xff\x3f" + b"\x00" * 12 + b"short"
    assert found(lying) == []
    assert found(frames.header() + b"\xff\xff\xff\xff" + b"\x00" * 12) == []

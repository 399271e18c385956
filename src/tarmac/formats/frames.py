"""Frames: records in a file that may be cut off at any byte.

A file starts with `TMF` and its format number. Each frame is its length, the CRC-32 of what follows, a sequence number
and the payload. A reader stops at the first frame that is not whole: what was acknowledged before is all there, and
what was being written when the process died is cut.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from tarmac.core.errors import Damaged, NewerFormat

FORMAT = 1
MAGIC = b"TMF"
LONGEST = 1 << 30

_HEAD = struct.Struct("<IIQ")
_SEQUENCE = struct.Struct("<Q")


class Frame(NamedTuple):
    sequence: int
    payload: bytes
    end: int
    """Where the next frame starts: the length to cut a torn file to."""


def header() -> bytes:
    return MAGIC + bytes([FORMAT])


def encode(sequence: int, payload: bytes) -> bytes:
    crc = zlib.crc32(payload, zlib.crc32(_SEQUENCE.pack(sequence)))
    return _HEAD.pack(len(payload), crc, sequence) + payload


def read(file: BinaryIO, name: str = "this file") -> Iterator[Frame]:
    """Every whole frame from the start of the file; a torn tail ends it without an error."""
    start = file.read(4)
    if len(start) < 4 and MAGIC.startswith(start[:3]):
        return
    if start[:3] != MAGIC:
        raise Damaged(f"{name} does not start as a file of frames does")
    if start[3] > FORMAT:
        raise NewerFormat.of(name, start[3], FORMAT)
    end = 4
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, crc, sequence = _HEAD.unpack(head)
        if length > LONGEST:
            return
        payload = file.read(length)
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(_SEQUENCE.pack(sequence))) != crc:
            return
        end += _HEAD.size + length
        yield Frame(sequence, payload, end)

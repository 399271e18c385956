"""What a run's spool holds: the records that training leaves for whoever carries them to the store.

A spool is a folder. Each file of frames in it has one writer: `log` the process that trains, `side` the carrier (how
the run was started, what it cost the machine), `last` the process again when the disk was full to the end. A record's
position is the byte after its frame, which is also where reading goes on.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layout
from typing import Any

import msgspec

from tarmac.core.errors import Damaged, NewerFormat
from tarmac.formats import frames

LOG, SIDE, LAST = "log", "side", "last"
WRITERS = (SIDE, LOG, LAST)
"""The files of a spool in the order in which they are read."""

_HEAD = Layout("<IIQ")
_START = len(frames.header())


class Record(msgspec.Struct, frozen=True, array_like=True):
    """New fields go to the end and have a default: an older reader passes over them."""


class Begin(Record, frozen=True, tag="begin"):
    """The first record: which run this is, who writes, and what to start it with."""

    run: str
    at: int
    project: str
    owner: bool
    """Whether this process starts and ends the run; a worker, or a script that `tarmac run` started, does not."""
    experiment: str | None = None
    name: str | None = None
    parent: str | None = None
    note: str = ""
    place: str = ""
    """The folder this spool was made in: one that lies elsewhere is a copy, and its writer may be alive."""
    host: str = ""
    pid: int = 0
    command: list[str] = []
    folder: str = ""
    """Where the command was started."""
    script: str = ""
    packages: list[str] = []
    """Where this interpreter looks for packages."""
    python: str = ""
    capture: bool = True
    meter: bool = True
    seeds: dict[str, Any] = {}
    adopts: bool = False
    """Whether this is the run that `tarmac run` started around the process."""
    offline: bool = False
    """Whether nothing is to be sent before somebody says so."""
    resume: bool = False
    """Whether the run exists and has to be let go on."""
    version: str = ""


class Points(Record, frozen=True, tag="p"):
    step: int
    at: int
    values: dict[str, float]


class Params(Record, frozen=True, tag="params"):
    values: dict[str, str]


class Tags(Record, frozen=True, tag="tags"):
    values: dict[str, str]


class Note(Record, frozen=True, tag="note"):
    text: str


class SavedFile(Record, frozen=True, tag="file"):
    """A file of the run; its bytes lie in the spool's folder `files` under `local`."""

    path: str
    local: str
    size: int


class Modelled(Record, frozen=True, tag="model"):
    """The files of a model, which came before, are whole: it may be packaged, and becomes a version of its name."""

    name: str
    files: list[SavedFile]


class Used(Record, frozen=True, tag="used"):
    name: str
    version: str
    about: str


class Facts(Record, frozen=True, tag="facts"):
    """How the run was started. Its source tree lies in the spool's folder `source`, if it could not be sent at once."""

    document: dict[str, Any]
    source: str | None


class Lost(Record, frozen=True, tag="lost"):
    """So many points had to be dropped."""

    points: int
    why: str


class End(Record, frozen=True, tag="end"):
    """The writer is done. Of an owner: how the run ended."""

    status: str
    at: int


AnyRecord = Begin | Points | Params | Tags | Note | SavedFile | Modelled | Used | Facts | Lost | End

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyRecord).decode


def read(path: Path, position: int = 0, most: int = 1 << 20) -> Iterator[tuple[AnyRecord, int]]:
    """The whole records after a position, each with its own, until about so many bytes are read.

    Ends at what is still being written, or was when the writer died.
    """
    try:
        with path.open("rb") as file:
            if position < _START:
                if not _has_header(file.read(_START), path):
                    return
                position = _START
            file.seek(position)
            data = file.read(max(most, _HEAD.size))
            if len(data) >= _HEAD.size:
                first = _HEAD.size + _HEAD.unpack_from(data)[0]
                if first > len(data) and first <= frames.LONGEST:
                    data += file.read(first - len(data))
    except FileNotFoundError:
        return
    view, at = memoryview(data), 0
    while at + _HEAD.size <= len(data):
        length, crc, _ = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        if end > len(data):
            return
        # the sequence is part of what is summed, and stands right before the payload
        if zlib.crc32(view[at + 8 : end]) != crc:
            if length == 0 and crc == 0:
                return  # space that was set aside and never written
            raise Damaged(f"{path} is damaged at byte {position + at}")
        try:
            record = _decode(view[at + _HEAD.size : end])
        except msgspec.ValidationError as error:
            raise NewerFormat(
                f"{path} holds a record this tarmac does not know: {error}",
                hint="send it with the tarmac that wrote it, or a newer one",
            ) from None
        except msgspec.DecodeError as error:
            raise Damaged(f"{path} is damaged at byte {position + at}: {error}") from None
        yield record, position + end
        at = end


def _has_header(start: bytes, path: Path) -> bool:
    if len(start) < _START:
        return False
    if start[:3] != frames.MAGIC:
        if not any(start):
            return False  # set aside and never written
        raise Damaged(f"{path} does not start as a file of frames does")
    if start[3] > frames.FORMAT:
        raise NewerFormat.of(str(path), start[3], frames.FORMAT)
    return True

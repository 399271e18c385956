"""Pins: which versions of data the code beside them uses, in a small text file that git merges line by line.

    # faces
    faces@v12 0a1b2c3d4e5f6071 data/faces

The lines around each pin are not there for people: they keep the changes of neighbours apart, so that these are no
conflict. The file's merge is `union`, so that two new names are none either. One name that was moved on both sides
stands there twice then, and is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tarmac.core import project_file
from tarmac.core.errors import Conflict, Invalid, NotFound, bounded
from tarmac.core.files import write_whole
from tarmac.data.operations import GetData
from tarmac.data.records import DataVersion
from tarmac.data.scan import path_problem
from tarmac.workspace import Workspace

FILE_NAME = "tarmac.pins"
HEAD = "# Which versions of data this code uses; `tarmac data pin` writes it, `tarmac data checkout` follows it.\n"
DIGITS = 16
ATTRIBUTE = f"{FILE_NAME} merge=union\n"
_LINE = re.compile(r"(?P<name>\w(?:[\w.-]*\w)?)@v(?P<number>[1-9]\d{0,18}) (?P<digest>[0-9a-f]{16}) (?P<path>\S.*)")


class Pin(NamedTuple):
    """A version by its number and the beginning of its digest, and the folder it belongs into."""

    name: str
    number: int
    digest: str
    path: str

    @property
    def ref(self) -> str:
        return f"{self.name}@v{self.number}"

    def __str__(self) -> str:
        return f"{self.ref} {self.digest} {self.path}"


def parse(text: str, where: object = FILE_NAME) -> dict[str, Pin]:
    found: dict[str, Pin] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or path_problem(match["path"]):  # it may come from somebody else's branch
            raise Invalid(
                f"{where}, line {number}: `{bounded(line)}` is not a pin",
                hint="like: faces@v12 0a1b2c3d4e5f6071 data/faces; write it with `tarmac data pin`",
            )
        pin = Pin(match["name"], int(match["number"]), match["digest"], match["path"])
        if found.setdefault(pin.name, pin) != pin:
            raise Conflict(
                f"{where}, line {number}: {pin.name} is pinned to v{found[pin.name].number} and to v{pin.number}",
                hint="two branches moved it: keep one of the lines",
            )
    return found


def render(pins: Iterable[Pin]) -> str:
    return f"{HEAD}\n" + "".join(f"# {pin.name}\n{pin}\n\n" for pin in sorted(pins))


def place(start: Path) -> Path:
    """Where the pins are: the nearest file, or where a new one belongs, beside `tarmac.toml` or the `.git` folder."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    project = project_file.find(start)
    if project is not None:
        return project.with_name(FILE_NAME)
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), start) / FILE_NAME


def read(file: Path) -> dict[str, Pin]:
    try:
        return parse(file.read_text(encoding="utf-8"), file)
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise Invalid(f"{file} is not text in UTF-8") from None


def pin(file: Path, version: DataVersion, folder: Path) -> Pin:
    """Pin a version to a folder, in place of what was pinned under its name."""
    pins = read(file)
    whole = Path(os.path.normpath(folder.absolute()))
    if not whole.is_relative_to(file.parent.absolute()) or whole == file.parent.absolute():
        raise Invalid(f"{folder} is not below {file.parent}", hint="pin to a folder beside the code")
    inside = whole.relative_to(file.parent.absolute()).as_posix()
    made = Pin(version.name, version.number, version.digest[:DIGITS], inside)
    pins[made.name] = made
    write_whole(file, render(pins.values()))
    _merge_by_lines(file)
    return made


def unpin(file: Path, name: str) -> Pin:
    pins = read(file)
    if name not in pins:
        raise NotFound.named("pin", name, pins, hint="`tarmac data pins` lists them")
    gone = pins.pop(name)
    write_whole(file, render(pins.values()))
    return gone


def refuse_another(workspace: Workspace, pin: Pin) -> None:
    """What is meant are the same files, not just the same number."""
    version = workspace(GetData(ref=pin.ref))
    if not version.digest.startswith(pin.digest):
        raise Conflict(
            f"{pin.ref} is pinned as {pin.digest}…, and is {version.digest[:DIGITS]}… in {workspace.place}",
            hint="it is another version with the same number: pull it from the workspace it was pinned in",
        )


def _merge_by_lines(file: Path) -> None:
    """Tell git how, where there is git."""
    if not any((folder / ".git").exists() for folder in (file.parent, *file.parent.parents)):
        return
    attributes = file.with_name(".gitattributes")
    text = attributes.read_text(encoding="utf-8") if attributes.exists() else ""
    if ATTRIBUTE.strip() not in text.splitlines():
        write_whole(attributes, f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{ATTRIBUTE}")

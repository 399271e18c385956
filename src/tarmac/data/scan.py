"""What lies in a folder: files, links inside it, empty folders. Anything else is refused by name.

A folder is looked at one level at a time; how its files look is kept in one row of numbers, so that a level where
nothing has changed is known by one comparison.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.places import FOLDER_NAME
from tarmac.data.listing import FILE, LINK, PROGRAM

PARTIAL = ".tarmac-partial-"
"""What a file is called while a checkout writes it: never part of a version."""
LONGEST_PATH = 4096
READ_AT_ONCE = 1024 * 1024
WIDTH = 5
"""Numbers that say how a file looks: size, times of its content and of itself, inode, mode."""

Source = tuple[str, Path]
"""What something is called in the version, and where it lies. A folder without a name is the whole version; a file has
its own name."""
Facts = Sequence[int]


class Level(NamedTuple):
    """One folder: what it is called in the version, where it lies, its files and links by name, and how each looks."""

    path: str
    source: str
    names: list[str]
    facts: bytes
    bare: bool
    """Nothing is in it, folders neither."""

    def look(self, index: int) -> Facts:
        return array("q", self.facts[index * WIDTH * 8 : (index + 1) * WIDTH * 8])

    def inside(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def on_disk(self, name: str) -> str:
        return os.path.join(self.source, name)  # noqa: PTH118 - a million Paths take their time


class Found(NamedTuple):
    """One file or link, by what it is called in the version."""

    path: str
    source: str
    kind: int
    size: int
    target: str = ""


def walk(sources: Iterable[Source]) -> Iterator[Level]:
    """Each folder below the sources."""
    single: dict[str, set[str]] = {}
    for name, source in sources:
        try:
            facts = source.stat()
        except OSError as error:
            raise NotFound(f"{source} cannot be read: {error.strerror}") from None
        if stat.S_ISDIR(facts.st_mode):
            yield from _below(name, str(source))
        else:
            kind_of(str(source), facts.st_mode)
            single.setdefault(str(source.parent), set()).add(source.name)
    for folder, names in single.items():
        looks = array("q")
        for file in sorted(names):
            looks.extend(row((Path(folder) / file).stat()))
        yield Level("", folder, sorted(names), looks.tobytes(), False)


def _below(path: str, source: str) -> Iterator[Level]:
    waiting = [(path, source)]
    while waiting:
        path, source = waiting.pop()
        files: list[os.DirEntry[str]] = []
        below = 0
        try:
            with os.scandir(source) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != FOLDER_NAME:
                            waiting.append((f"{path}/{entry.name}" if path else entry.name, entry.path))
                            below += 1
                    elif not entry.name.startswith(PARTIAL):
                        files.append(entry)
        except OSError as error:
            raise Invalid(f"{source} cannot be read: {error.strerror}") from None
        files.sort(key=_name)
        facts = array("q")
        for entry in files:
            try:
                facts.extend(row(entry.stat(follow_symlinks=False)))
            except OSError as error:
                raise changed(entry.path, error.strerror or "it is gone") from None
        yield Level(path, source, [entry.name for entry in files], facts.tobytes(), not files and not below)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def row(facts: os.stat_result) -> array[int]:
    return array(
        "q",
        (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino & 0x7FFFFFFFFFFFFFFF, facts.st_mode),
    )


def describe(level: Level, index: int) -> Found:
    """One file or link of a level; an error if it cannot be part of a version."""
    name, (size, _, _, _, mode) = level.names[index], level.look(index)
    source, path = level.on_disk(name), level.inside(name)
    if problem := path_problem(path):
        raise Invalid(f"{bounded(source.encode(errors='replace').decode(), 300)} cannot be kept: {problem}")
    kind = kind_of(source, mode)
    if kind != LINK:
        return Found(path, source, kind, size)
    try:
        return Found(path, source, kind, 0, inside_target(os.readlink(source), path, source))  # noqa: PTH115
    except OSError as error:
        raise changed(source, error.strerror or "it is gone") from None


def hash_file(source: str) -> bytes:
    """The digest of a file, read anew."""
    hasher = blake3()
    try:
        with open(source, "rb", buffering=0) as file:  # noqa: PTH123
            while piece := file.read(READ_AT_ONCE):
                hasher.update(piece)
    except OSError as error:
        raise Invalid(f"{source} cannot be read: {error.strerror}") from None
    return hasher.digest()


def changed(source: str, what: str) -> Invalid:
    return Invalid(
        f"{source} changed while it was logged: {what}",
        hint="nothing was logged; do it again when nobody writes there",
    )


def kind_of(source: str, mode: int) -> int:
    if stat.S_ISLNK(mode):
        return LINK
    if not stat.S_ISREG(mode):
        raise Invalid(f"{source} is neither a file nor a folder", hint="pipes, sockets and devices are not data")
    return PROGRAM if mode & 0o100 and sys.platform != "win32" else FILE


def path_problem(path: str) -> str:
    """Why a version can have no file of this name, or nothing. Names come from other machines too."""
    if not path or len(path) > LONGEST_PATH:
        return "its name is empty or longer than 4096 characters"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    if "\0" in path or "\\" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        return "its name has a backslash, or a part that means another folder"
    if path[1:2] == ":" and path[0].isalpha():
        return "its name begins like a drive"
    return ""


def inside_target(target: str, path: str, source: str) -> str:
    """The target of a link, if following it stays within the folder."""
    parts = path.split("/")[:-1]
    leaves = target.startswith("/") or target[1:2] == ":"
    for step in target.replace("\\", "/").split("/"):
        if step == "..":
            leaves = leaves or not parts
            parts = parts[:-1]
        elif step not in ("", "."):
            parts.append(step)
    if leaves or not target:
        raise Invalid(
            f"{source} is a link that leaves the folder: {bounded(target)}",
            hint="put what it points to into the folder, or remove the link",
        )
    return target


def clashes(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two names that are one where upper and lower case, or two ways to write one letter, do not differ."""
    seen: dict[str, str] = {}
    for path in paths:
        whole = ""
        for part in path.split("/"):
            whole = f"{whole}/{part}" if whole else part
            folded = unicodedata.normalize("NFC", whole).casefold()
            if seen.setdefault(folded, whole) != whole:
                return seen[folded], whole
    return None

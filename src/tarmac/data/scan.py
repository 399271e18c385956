"""What lies in a folder that is to be logged: files, links inside it, empty folders; anything else is refused by name."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.places import FOLDER_NAME
from tarmac.data.listing import FILE, FOLDER, LINK, PROGRAM

PARTIAL = ".tarmac-partial-"
"""What a file is called while a checkout writes it: never part of a version."""
LONGEST_PATH = 4096


class Found(NamedTuple):
    """One thing in the folder: what it is called in the version, where it lies, and how it looked."""

    path: str
    source: str
    kind: int
    facts: os.stat_result | None
    target: str = ""


def scan(sources: Iterable[tuple[str, Path]]) -> list[Found]:
    """Everything below the sources, each of which has a name in the version (none for a folder that is the version)."""
    found = [item for name, source in sources for item in _source(name, source)]
    found.sort(key=lambda item: item.path)
    for before, after in zip(found, found[1:], strict=False):
        if before.path == after.path:
            raise Invalid(
                f"`{bounded(after.path)}` would be in the version twice", hint=f"{before.source}, {after.source}"
            )
    return found


def _source(name: str, source: Path) -> Iterator[Found]:
    try:
        facts = source.stat()
    except OSError as error:
        raise NotFound(f"{source} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(facts.st_mode):
        yield from _folder(str(source), name, str(source))
    else:
        yield Found(_checked(name, str(source)), str(source), _kind(str(source), facts), facts)


def _folder(root: str, path: str, source: str) -> Iterator[Found]:
    """Depth first; folders that hold nothing are themselves an entry."""
    waiting = [(path, source)]
    while waiting:
        path, source = waiting.pop()
        try:
            with os.scandir(source) as entries:
                inside = [entry for entry in entries if not _is_ours(entry.name)]
        except OSError as error:
            raise Invalid(f"{source} cannot be read: {error.strerror}") from None
        if not inside and path:
            yield Found(_checked(path, source), source, FOLDER, None)
        for entry in inside:
            name = f"{path}/{entry.name}" if path else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append((name, entry.path))
            elif entry.is_symlink():
                target = inside_target(os.readlink(entry.path), name, entry.path)
                yield Found(_checked(name, entry.path), entry.path, LINK, None, target)
            else:
                facts = _facts(entry)
                yield Found(_checked(name, entry.path), entry.path, _kind(entry.path, facts), facts)


def _facts(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError as error:
        raise changed(entry.path, error.strerror or "it is gone") from None


def changed(source: str, what: str) -> Invalid:
    return Invalid(
        f"{source} changed while it was logged: {what}",
        hint="nothing was logged; do it again when nobody writes there",
    )


def _is_ours(name: str) -> bool:
    return name == FOLDER_NAME or name.startswith(PARTIAL)


def _kind(source: str, facts: os.stat_result) -> int:
    if not stat.S_ISREG(facts.st_mode):
        raise Invalid(f"{source} is neither a file nor a folder", hint="pipes, sockets and devices are not data")
    return PROGRAM if facts.st_mode & 0o100 else FILE


def _checked(path: str, source: str) -> str:
    if problem := path_problem(path):
        raise Invalid(f"{bounded(source.encode(errors='replace').decode(), 300)} cannot be kept: {problem}")
    return path


def path_problem(path: str) -> str:
    """Why a version can have no file of this name, or nothing. Names come from other machines too."""
    if not path or len(path) > LONGEST_PATH:
        return "its name is empty or longer than 4096 characters"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    if "\0" in path or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
        return "its name has a backslash, or a part that means another folder"
    if path[1:2] == ":" and path[0].isalpha():
        return "its name begins like a drive"
    return ""


def inside_target(target: str, path: str, source: str) -> str:
    """The target of a link, if following it stays within the folder."""
    parts = path.split("/")[:-1]
    steps = target.replace("\\", "/").split("/")
    leaves = target.startswith("/") or target[1:2] == ":"
    for step in steps:
        if step == "..":
            leaves = leaves or not parts
            parts = parts[:-1]
        elif step not in ("", "."):
            parts.append(step)
    if leaves:
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

"""Reading folders that somebody else has made: a link is reported and never followed, and so is all that is no file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tarmac.start.source import Missed

DEEPEST = 100


def walk(folder: Path, missed: Missed, what: str, head: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    """The files below a folder, by name, with their paths in it."""
    if depth > DEEPEST:
        missed.add(f"{what}: {head}", f"more than {DEEPEST} folders deep")
        return
    for entry in entries(folder, missed, f"{what}: {head}" if head else what):
        path = f"{head}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), missed, what, f"{path}/", depth + 1)
        else:
            yield path, Path(entry.path)


def entries(folder: Path, missed: Missed, what: str) -> list[os.DirEntry[str]]:
    """Files and folders directly in a folder, by name; nothing where there is no folder."""
    if folder.is_symlink():
        missed.add(f"{what}: {folder.name}", "a link; links are not followed")
        return []
    try:
        with os.scandir(folder) as found:
            all_of_them = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        missed.add(what, f"cannot be read: {error.strerror}")
        return []
    kept = []
    for entry in all_of_them:
        if entry.is_symlink():
            missed.add(f"{what}: {entry.name}", "a link; links are not followed")
        elif entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
            kept.append(entry)
        else:
            missed.add(f"{what}: {entry.name}", "neither a file nor a folder")
    return kept


def open_file(path: Path) -> BinaryIO:
    """For reading; refused if it has become a link meanwhile."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb")

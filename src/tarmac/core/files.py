"""Files: written so that a crash leaves the old one or the new one; and what lies below a folder."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.ids import short
from tarmac.core.names import RelativePath


def write_private(path: Path, text: str) -> None:
    """Write a whole file or nothing, readable by its owner only."""
    temporary = path.with_name(f"{path.name}.{short()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Write a whole file or nothing, with the rights that the one before had."""
    temporary = path.with_name(f"{path.name}.{short()}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows keeps no handle on folders and needs none."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def below(source: Path, to: str) -> Iterator[tuple[str, Path]]:
    """The regular files of a path, and what each is called in a run. A link or a device is an error, not skipped."""
    try:
        mode = source.lstat().st_mode
    except OSError as error:
        raise NotFound(f"{source} cannot be read: {error.strerror}") from None
    if stat.S_ISREG(mode):
        yield run_path((to or source.name).strip("/")), source
        return
    if not stat.S_ISDIR(mode):
        raise Invalid(f"{source} is neither a file nor a folder", hint="links and devices are not uploaded")
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted([*names, *(n for n in folders if (Path(folder) / n).is_symlink())]):
            path = Path(folder) / name
            if not stat.S_ISREG(path.lstat().st_mode):
                raise Invalid(f"{path} is not a regular file", hint="links and devices are not uploaded")
            inside = path.relative_to(source).as_posix()
            yield run_path((f"{to}/{inside}" if to else inside).strip("/")), path


def run_path(text: str) -> str:
    """What a file of a run is called, if it can be."""
    try:
        return msgspec.convert(text, RelativePath)
    except msgspec.ValidationError:
        raise Invalid(
            f"`{bounded(text)}` cannot be the name of a run's file", hint="no `..`, no control characters"
        ) from None

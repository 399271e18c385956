"""Folders for tests."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from tarmac.workspace import Workspace
from tarmac.workspace.datasets import DataSet


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files; a name that ends with a slash is an empty folder."""
    for name, content in files.items():
        place = folder / name
        if name.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder


def tree(folder: Path) -> dict[str, Any]:
    """Everything in a folder: bytes and executable bit, targets of links, empty folders."""
    found: dict[str, Any] = {}
    for place in sorted(folder.rglob("*")):
        name = place.relative_to(folder).as_posix()
        if place.is_symlink():
            found[name] = ("link", str(place.readlink()))
        elif place.is_dir():
            if not any(place.iterdir()):
                found[name] = ("folder",)
        else:
            found[name] = ("file", place.read_bytes(), bool(place.stat().st_mode & stat.S_IXUSR))
    return found


def data_set(workspace: Workspace, name: str = "faces") -> DataSet:
    return DataSet(workspace, name)

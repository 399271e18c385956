"""Writing files so that a crash leaves the old one or the new one, and a power cut what was promised."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tarmac.core.ids import short


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


def sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows keeps no handle on folders and needs none."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

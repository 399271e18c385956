"""A run whose records stay in their spool, and what was saved in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tarmac.core.clock import now
from tarmac.formats.spool import LOG, AnyRecord, Begin, SavedFile, read
from tarmac.logging.place import Place
from tarmac.logging.run import Run


def spooled(folder: Path, **more: Any) -> Run:
    """Nothing carries it: no process is started, and its end waits for nobody."""
    place = Place(str(folder / ".tarmac"), "default", folder / ".tarmac" / "spool", None, offline=True)
    return Run(place, Begin("ab" * 16, now(), "default", owner=True, experiment="baseline", name="first"), **more)


def spools(run: Run) -> list[Path]:
    root = run.place.spools
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def records(run: Run) -> list[AnyRecord]:
    found: list[AnyRecord] = []
    for spool in spools(run):
        position = 0
        while part := list(read(spool / LOG, position)):
            found += [record for record, _ in part]
            position = part[-1][1]
    return found


def saved(run: Run) -> dict[str, bytes]:
    """The bytes of each file by its path; the last one saved under a path counts."""
    bytes_of = {file.name: file for spool in spools(run) for file in (spool / "files").glob("*")}
    found = {}
    for record in records(run):
        if isinstance(record, SavedFile):
            found[record.path] = bytes_of[record.local].read_bytes()
            assert record.size == len(found[record.path])
    return found


def lying(run: Run) -> list[Path]:
    """Every file on the shelf, recorded or not."""
    return [file for spool in spools(run) for file in (spool / "files").glob("*")]

"""Checkout: a folder becomes a version; only what differs is written, each file whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tarmac.core.errors import Conflict, Damaged, bounded
from tarmac.core.ids import short
from tarmac.data.depot import Depot
from tarmac.data.listing import FOLDER, LINK, PROGRAM, Entry, Listing
from tarmac.data.packs import Wanted, fetch
from tarmac.data.reading import read_entries, read_file
from tarmac.data.scan import PARTIAL, inside_target, path_problem

Progress = Callable[[int, int, str], None]


def checkout(depot: Depot, wanted: Listing, target: Path, progress: Progress) -> int:
    """Write all of a version into an empty folder; how many files."""
    if target.exists() and any(target.iterdir()):
        raise Conflict(f"{target} is not empty")
    target.mkdir(parents=True, exist_ok=True)
    entries = [_trusted(entry) for entry in read_entries(depot, wanted.parts)]
    for entry in entries:
        _place(target, entry).parent.mkdir(parents=True, exist_ok=True)
        if entry.kind == FOLDER:
            _place(target, entry).mkdir(exist_ok=True)
        elif entry.kind == LINK:
            _place(target, entry).symlink_to(entry.target)
        elif not entry.size or entry.recipe:
            _write(_place(target, entry), entry, read_file(depot, entry))
    small = [(entry, Wanted(entry.place, entry.size, entry.digest)) for entry in entries if entry.place]
    for entry, data in fetch(depot, small):
        _write(_place(target, entry), entry, [data])
    return len(entries)


def _place(target: Path, entry: Entry) -> Path:
    return target / entry.path


def _write(place: Path, entry: Entry, data: object) -> None:
    partial = place.with_name(f"{PARTIAL}{short()}")
    with partial.open("xb") as file:
        for piece in data:  # type: ignore[attr-defined]
            file.write(piece)
    partial.chmod(0o755 if entry.kind == PROGRAM else 0o644)
    os.replace(partial, place)


def _trusted(entry: Entry) -> Entry:
    """Names come from whoever logged the version: none may lead out of the folder."""
    if problem := path_problem(entry.path):
        raise Damaged(f"the version has a file that cannot be written: {problem}: {bounded(entry.path)}")
    if entry.kind == LINK:
        inside_target(entry.target, entry.path, entry.path)
    return entry

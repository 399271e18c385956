"""What runtimes answered becomes data: versions of `predictions-NAME`, and of `truths` for what was right."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tarmac.core.digest import digest
from tarmac.core.errors import NotFound
from tarmac.data.operations import ListDataVersions
from tarmac.data.records import DataVersion
from tarmac.ship import collecting
from tarmac.ship.collecting import SignatureOf
from tarmac.workspace import Workspace
from tarmac.workspace.datasets import DataSet

if TYPE_CHECKING:
    import pyarrow as pa

TRUTHS = "truths"
SEGMENTS = "segments"
MOST_AT_ONCE = 32
"""Segments in one collection: their rows are held in memory once."""
ABANDONED_SECONDS = 300.0

log = logging.getLogger("tarmac.serve")


def collect(workspace: Workspace, folder: Path, signature_of: SignatureOf, *, ended: bool = False) -> int:
    """How many predictions and truths were kept. A segment goes only when its version is there; after a kill between
    the two the version is found again by the names of its segments, and nothing is kept twice."""
    list(collecting.abandoned(folder, before=time.time() - (0 if ended else ABANDONED_SECONDS)))
    kept = 0
    while paths := collecting.finished(folder)[:MOST_AT_ONCE]:
        kept += _keep(workspace, paths, signature_of)
        for path in paths:
            path.unlink()
    return kept


def _keep(workspace: Workspace, paths: Sequence[Path], signature_of: SignatureOf) -> int:
    parts = collecting.read(paths)
    tables = {f"predictions-{name}": table for name, table in collecting.predictions(parts, signature_of).items()}
    if (truths := collecting.truths(parts)) is not None:
        tables[TRUTHS] = truths
    mark = digest("\n".join(path.name for path in paths).encode())
    kept = 0
    for name, table in tables.items():
        data = DataSet(workspace, name)
        if not any(version.tags.get(SEGMENTS) == mark for version in _newest(data)):
            _log(data, table, mark)
        kept += table.num_rows
    return kept


def _newest(data: DataSet) -> list[DataVersion]:
    try:
        return list(data.workspace(ListDataVersions(name=data.name, limit=10)).versions)
    except NotFound:
        return []


def _log(data: DataSet, table: pa.Table, mark: str) -> None:
    from pyarrow import compute, parquet

    span = compute.min_max(table["at"])
    message = f"{table.num_rows:,} rows, {span['min'].as_py():%Y-%m-%d %H:%M:%S} to {span['max'].as_py():%H:%M:%S}"
    place = Path(tempfile.mkdtemp(prefix="tarmac-predictions-"))
    try:
        parquet.write_table(table, place / "part.parquet", compression="zstd")
        data.log(place, message=message, tags={SEGMENTS: mark})
    finally:
        shutil.rmtree(place, ignore_errors=True)

"""Files of runs: a mutable table of paths over blobs."""

from __future__ import annotations

from tarmac.core.errors import Conflict, Invalid, NotFound, bounded
from tarmac.core.operation import handles
from tarmac.store import manifests
from tarmac.store.blobs import rows as blobs
from tarmac.store.sql import Row, Tx
from tarmac.track import operations as ops
from tarmac.track.queries import files, rows


@handles(ops.AttachFiles)
def attach_files(request: ops.AttachFiles, tx: Tx) -> ops.Attached:
    row = _row(tx, request.id)
    paths = [file.path for file in request.files]
    if len(set(paths)) != len(paths):
        raise Invalid("a path stands in the list twice")
    if missing := manifests.absent(tx, request.files):
        tx.unchanged()
        return ops.Attached(files=0, missing=missing)
    _refuse_clash_within(paths)
    before = files.digests_at(tx, row[0], paths)
    fresh = [file for file in request.files if before.get(file.path) != file.digest]
    for file in fresh:
        _refuse_clash(tx, row[0], file.path)
    blobs.add_refs(tx, [file.digest for file in fresh], +1)
    blobs.add_refs(tx, [before[file.path] for file in fresh if file.path in before], -1)
    files.put(tx, row[0], fresh)
    tx.subject = f"runs/{request.id}"
    if not fresh:
        tx.unchanged()
    return ops.Attached(files=len(request.files))


def _refuse_clash_within(paths: list[str]) -> None:
    """The same among the files of one request, which are not in the table yet."""
    here = set(paths)
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if (above := "/".join(parts[:depth])) in here:
                raise Conflict(f"`{bounded(above)}` is a file in this list; `{bounded(path)}` cannot lie below it")


def _refuse_clash(tx: Tx, run: int, path: str) -> None:
    """A path is a file or a folder: it cannot be both, and no file has files below it."""
    parts = path.split("/")
    taken = files.first_of(tx, run, ["/".join(parts[:depth]) for depth in range(1, len(parts))])
    if taken:
        raise Conflict(f"`{bounded(taken)}` is a file of this run; `{bounded(path)}` cannot lie below it")
    if below := files.first_below(tx, run, path):
        raise Conflict(f"`{bounded(path)}` is a folder of this run: `{bounded(below)}` lies in it")


@handles(ops.DetachFiles)
def detach_files(request: ops.DetachFiles, tx: Tx) -> ops.Attached:
    row = _row(tx, request.id)
    gone = files.remove(tx, row[0], request.path)
    if not gone:
        known = [artifact.path for artifact in files.every(tx, row[0], "", 1000)]
        raise NotFound.named("file", request.path, known, hint="`tarmac runs files ID` lists them")
    blobs.add_refs(tx, gone, -1)
    tx.subject = f"runs/{request.id}"
    return ops.Attached(files=len(gone))


def _row(tx: Tx, id: str) -> Row:
    row = rows.run_row(tx, id)
    if row[2] is not None:
        raise Conflict(
            f"run {id} is in the trash", hint=f"`tarmac runs restore {id}`", detail={"state": "deleted", "run": id}
        )
    return row

"""Files of a project that belong to no run: paths over blobs, as those of a run are."""

from __future__ import annotations

from tarmac.core.errors import Conflict, Invalid, NotFound, bounded
from tarmac.core.operation import handles
from tarmac.store import manifests
from tarmac.store.blobs import rows as blobs
from tarmac.store.sql import Reader, Tx
from tarmac.track import operations as ops
from tarmac.track.queries import loose


@handles(ops.PutFiles)
def put_files(request: ops.PutFiles, tx: Tx) -> ops.Attached:
    paths = [file.path for file in request.files]
    if len(set(paths)) != len(paths):
        raise Invalid("a path stands in the list twice")
    if missing := manifests.absent(tx, request.files):
        tx.unchanged()
        return ops.Attached(files=0, missing=missing)
    for file in request.files:
        if taken := loose.in_the_way(tx, file.path):
            raise Conflict(f"`{bounded(taken)}` is there: `{bounded(file.path)}` cannot be a file as well")
        before = loose.digest_at(tx, file.path)
        if before == file.digest:
            continue
        blobs.add_refs(tx, [file.digest], +1)
        if before is not None:
            blobs.add_refs(tx, [before], -1)
        loose.put(tx, file)
    tx.subject = f"files/{paths[0]}"
    return ops.Attached(files=len(paths))


@handles(ops.RemoveFiles)
def remove_files(request: ops.RemoveFiles, tx: Tx) -> ops.Attached:
    gone = loose.remove(tx, request.path)
    if not gone:
        raise NotFound.named("file", request.path, hint="`tarmac files ls` lists them")
    blobs.add_refs(tx, gone, -1)
    tx.subject = f"files/{request.path}"
    return ops.Attached(files=len(gone))


@handles(ops.ListFiles)
def list_files(request: ops.ListFiles, read: Reader) -> ops.ArtifactPage:
    found = loose.folder(read, request.folder, request.after, request.limit)
    return ops.ArtifactPage(artifacts=found, next=found[-1].path if len(found) == request.limit else None)

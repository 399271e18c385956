"""Manifests: immutable lists of files over blobs. Data versions, packages and results are all of this kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tarmac.core.digest import tree_digest
from tarmac.core.errors import Conflict, Invalid, NotFound, bounded
from tarmac.core.ids import time_ordered
from tarmac.store.blobs import rows as blobs
from tarmac.store.records import File, Manifest
from tarmac.store.sql import Reader, Row, Tx

COLUMNS = "id, kind, digest, files, size, created_at"
HOLDERS: list[Callable[[Tx, str], str | None]] = []
"""Who may need a manifest: each names the thing that does, or nothing; stages add their own."""


def absent(tx: Tx, files: Sequence[File]) -> list[str]:
    """The digests that have to be uploaded first. The blobs that are there are kept until the transaction ends."""
    wanted = {file.digest for file in files}
    sizes = blobs.lock_sizes(tx, list(wanted))
    if missing := sorted(wanted - sizes.keys()):
        return missing
    for file in files:
        if (have := sizes[file.digest]) != file.size:
            raise Invalid(f"`{bounded(file.path)}` is said to have {file.size} bytes; its blob has {have}")
    return []


def commit(tx: Tx, kind: str, files: Sequence[File]) -> Manifest | list[str]:
    """The new manifest, or the digests that have to be uploaded first; never a manifest with a hole."""
    ordered = sorted(files, key=lambda file: file.path)
    check_paths(ordered)
    if missing := absent(tx, ordered):
        return missing
    blobs.add_refs(tx, list({file.digest for file in ordered}), +1)
    manifest = Manifest(
        id=time_ordered(),
        kind=kind,
        digest=manifest_digest(ordered),
        files=len(ordered),
        size=sum(file.size for file in ordered),
        created_at=tx.now,
    )
    key = tx.value(
        "INSERT INTO manifests (project, id, kind, digest, files, size, created_at) "
        "VALUES (:project, :id, :kind, :digest, :files, :size, :created_at) RETURNING key",
        project=tx.project,
        **msgspec.structs.asdict(manifest),
    )
    tx.insert(
        "manifest_files",
        ("manifest", "path", "digest", "size"),
        [(key, file.path, file.digest, file.size) for file in ordered],
    )
    return manifest


def check_paths(ordered: Sequence[File]) -> None:
    """Each path once, and none a file and a folder."""
    paths = {file.path for file in ordered}
    before = ""
    for path in (file.path for file in ordered):
        if path == before:
            raise Invalid(f"`{bounded(path)}` stands in the list twice")
        before = path
        # not only the neighbour: `a.txt` sorts between `a` and `a/b`
        folder = path.rpartition("/")[0]
        while folder:
            if folder in paths:
                raise Invalid(f"`{bounded(folder)}` cannot be a file and a folder (`{bounded(path)}`)")
            folder = folder.rpartition("/")[0]


def manifest_digest(ordered: Sequence[File]) -> str:
    """One digest for names and bytes of all files, whatever store they lie in."""
    return tree_digest((file.path, file.digest, file.size) for file in ordered)


def get(read: Reader, id: str) -> Manifest:
    return _manifest(_row(read, id)[1:])


def files(read: Reader, id: str, after: str, limit: int) -> list[File]:
    rows = read.all(
        "SELECT path, digest, size FROM manifest_files WHERE manifest = :key AND path > :after ORDER BY path LIMIT :n",
        key=_row(read, id)[0],
        after=after,
        n=limit,
    )
    return [File(path=path, digest=found, size=size) for path, found, size in rows]


def newest(read: Reader, before: str, limit: int) -> list[Manifest]:
    rows = read.all(
        f"SELECT {COLUMNS} FROM manifests WHERE project = :project AND id < :before ORDER BY id DESC LIMIT :n",
        project=read.project,
        before=before or "~",
        n=limit,
    )
    return [_manifest(row) for row in rows]


def refuse_needed(tx: Tx, id: str) -> None:
    """A list that something else is made of goes with that thing, not by itself."""
    for holder in HOLDERS:
        if thing := holder(tx, id):
            raise Conflict(f"manifest {bounded(id)} is what {thing} is made of", hint="it goes when that is purged")


def delete(tx: Tx, id: str) -> Manifest:
    """Forget the list; its blobs go with the next gc unless another manifest needs them."""
    key, *rest = _row(tx, id)
    digests = tx.all("SELECT DISTINCT digest FROM manifest_files WHERE manifest = :key", key=key)
    blobs.add_refs(tx, [row[0] for row in digests], -1)
    tx.run("DELETE FROM manifest_files WHERE manifest = :key", key=key)
    tx.run("DELETE FROM manifests WHERE key = :key", key=key)
    return _manifest(rest)


def _row(read: Reader, id: str) -> Row:
    lock = blobs.FOR_UPDATE[read.kind] if isinstance(read, Tx) else ""
    row = read.one(
        f"SELECT key, {COLUMNS} FROM manifests WHERE project = :project AND id = :id {lock}",
        project=read.project,
        id=id,
    )
    if row is None:
        raise NotFound.named("manifest", id, hint="`tarmac manifests ls` lists them")
    return row


def _manifest(row: Sequence[object]) -> Manifest:
    return Manifest(**dict(zip(COLUMNS.split(", "), row, strict=True)))  # type: ignore[arg-type]

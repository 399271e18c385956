"""The table of files that belong to no run."""

from __future__ import annotations

from tarmac.core.errors import NotFound
from tarmac.store.blobs import rows as blobs
from tarmac.store.records import File
from tarmac.store.sql import Reader, Tx
from tarmac.track.queries.files import direct
from tarmac.track.records import Artifact

blobs.REFERENCES.append("SELECT project, digest, count(*) AS n FROM loose_files GROUP BY project, digest")


def folder(read: Reader, path: str, after: str, limit: int) -> list[Artifact]:
    """What lies directly in a folder."""
    prefix = f"{path}/" if path else ""
    rows = read.all(
        "SELECT path, size, digest, at FROM loose_files WHERE project = :project AND path >= :low AND path < :high "
        "ORDER BY path",
        project=read.project,
        low=prefix,
        high=f"{path}0" if path else "\U0010ffff",  # "0" follows "/"
    )
    return direct(rows, prefix, after, limit)


def digest_at(read: Reader, path: str) -> str | None:
    found: str | None = read.value(
        "SELECT digest FROM loose_files WHERE project = :project AND path = :path", project=read.project, path=path
    )
    return found


def digest_of(read: Reader, path: str) -> str:
    """The blob behind one file."""
    found = digest_at(read, path)
    if found is None:
        raise NotFound.named("file", path, hint="`tarmac files ls` lists them")
    return found


def in_the_way(read: Reader, path: str) -> str | None:
    """A file that a folder of this path would have to be, or one that lies below it."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        if digest_at(read, above) is not None:
            return above
    below: str | None = read.value(
        "SELECT path FROM loose_files WHERE project = :project AND path > :low AND path < :high LIMIT 1",
        project=read.project,
        low=f"{path}/",
        high=f"{path}0",
    )
    return below


def put(tx: Tx, file: File) -> None:
    tx.insert(
        "loose_files",
        ("project", "path", "digest", "size", "at"),
        [(tx.project, file.path, file.digest, file.size, tx.now)],
        otherwise="ON CONFLICT (project, path) DO UPDATE SET digest = excluded.digest, size = excluded.size, "
        "at = excluded.at",
    )


def remove(tx: Tx, path: str) -> list[str]:
    """Take a file, or all below a folder, out; the digests they had."""
    rows = tx.all(
        "DELETE FROM loose_files WHERE project = :project AND (path = :path OR (path > :low AND path < :high)) "
        "RETURNING digest",
        project=tx.project,
        path=path,
        low=f"{path}/",
        high=f"{path}0",
    )
    return [digest for (digest,) in rows]

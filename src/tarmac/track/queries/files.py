"""The files of runs: paths over blobs."""

from __future__ import annotations

from collections.abc import Sequence

from tarmac.core.errors import NotFound
from tarmac.store.blobs import rows as blobs
from tarmac.store.records import File
from tarmac.store.sql import Reader, Row, Tx
from tarmac.track.queries import rows
from tarmac.track.records import Artifact

blobs.REFERENCES.append(
    "SELECT r.project AS project, a.digest AS digest, count(*) AS n FROM artifacts a JOIN runs r ON r.key = a.run "
    "GROUP BY r.project, a.digest"
)


def every(read: Reader, run: int, after: str, limit: int) -> list[Artifact]:
    rows = read.all(
        "SELECT path, size, digest, at FROM artifacts WHERE run = :run AND path > :after ORDER BY path LIMIT :n",
        run=run,
        after=after,
        n=limit,
    )
    return [Artifact(path=path, size=size, digest=digest, at=at) for path, size, digest, at in rows]


def below(read: Reader, run: int, path: str, limit: int) -> list[Artifact]:
    """The files at every depth of a folder; of all of them for the top."""
    rows = read.all(
        "SELECT path, size, digest, at FROM artifacts WHERE run = :run AND path >= :low AND path < :high "
        "ORDER BY path LIMIT :n",
        run=run,
        low=f"{path}/" if path else "",
        high=f"{path}0" if path else "\U0010ffff",  # "0" follows "/"
        n=limit,
    )
    return [Artifact(path=path, size=size, digest=digest, at=at) for path, size, digest, at in rows]


def folder(read: Reader, run: int, path: str, after: str, limit: int) -> list[Artifact]:
    """What lies directly in a folder: files, and folders with the size of all below them."""
    prefix = f"{path}/" if path else ""
    rows = read.all(
        "SELECT path, size, digest, at FROM artifacts WHERE run = :run AND path >= :low AND path < :high ORDER BY path",
        run=run,
        low=prefix,
        high=f"{path}0" if path else "\U0010ffff",  # "0" follows "/"
    )
    return direct(rows, prefix, after, limit)


def direct(rows: Sequence[Row], prefix: str, after: str, limit: int) -> list[Artifact]:
    """Of all that lies below a folder, what lies directly in it."""
    found: dict[str, Artifact] = {}
    for found_path, size, digest, at in rows:
        head, mark, _ = found_path[len(prefix) :].partition("/")
        name = prefix + head
        if not mark:
            found[name] = Artifact(path=name, size=size, digest=digest, at=at)
        else:
            below = found.get(name)
            found[name] = Artifact(path=name, size=size + (below.size if below else 0))
    names = sorted(name for name in found if name > after)
    return [found[name] for name in names[:limit]]


def digest_of(read: Reader, run: str, path: str) -> str:
    """The blob behind one file."""
    key = rows.run_row(read, run)[0]
    found: str | None = read.value("SELECT digest FROM artifacts WHERE run = :run AND path = :path", run=key, path=path)
    if found is None:
        known = [artifact.path for artifact in every(read, key, "", 1000)]
        raise NotFound.named("file", path, known, hint="`tarmac runs files ID --all` lists them")
    return found


def totals(read: Reader, run: int) -> tuple[int, int]:
    row = read.one("SELECT count(*), coalesce(sum(size), 0) FROM artifacts WHERE run = :run", run=run)
    assert row is not None
    return int(row[0]), int(row[1])


def digests_at(read: Reader, run: int, paths: Sequence[str]) -> dict[str, str]:
    """What lies at these paths now."""
    found: dict[str, str] = {}
    for names, values in blobs.placeholders(sorted(paths)):
        found.update(
            read.all(f"SELECT path, digest FROM artifacts WHERE run = :run AND path IN ({names})", run=run, **values)
        )
    return found


def put(tx: Tx, run: int, files: Sequence[File]) -> None:
    tx.insert(
        "artifacts",
        ("run", "path", "digest", "size", "at"),
        [(run, file.path, file.digest, file.size, tx.now) for file in files],
        otherwise="ON CONFLICT (run, path) DO UPDATE SET digest = excluded.digest, size = excluded.size, "
        "at = excluded.at",
    )


def first_of(tx: Tx, run: int, paths: Sequence[str]) -> str | None:
    """The first of these paths that is a file."""
    for names, values in blobs.placeholders(paths):
        taken: str | None = tx.value(
            f"SELECT path FROM artifacts WHERE run = :run AND path IN ({names}) LIMIT 1", run=run, **values
        )
        if taken:
            return taken
    return None


def first_below(tx: Tx, run: int, path: str) -> str | None:
    """Some file in the folder called so."""
    found: str | None = tx.value(
        "SELECT path FROM artifacts WHERE run = :run AND path > :low AND path < :high LIMIT 1",
        run=run,
        low=f"{path}/",
        high=f"{path}0",
    )
    return found


def remove(tx: Tx, run: int, path: str) -> list[str]:
    """Take a file, or all below a folder, out; the digests they had."""
    rows = tx.all(
        "DELETE FROM artifacts WHERE run = :run AND (path = :path OR (path > :low AND path < :high)) RETURNING digest",
        run=run,
        path=path,
        low=f"{path}/",
        high=f"{path}0",
    )
    return [digest for (digest,) in rows]

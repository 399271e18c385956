"""Which blobs exist, and which manifests need them: the rows are the truth, files follow.

present    may be used
condemned  nothing needs it; it comes back to life when something does, until its grace is over
deleting   its file is going; an upload of the same bytes makes it present again, in another place
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tarmac.core.errors import NotFound
from tarmac.store.blobs.folder import Stored
from tarmac.store.sql import Connection, Kind, Reader, Tx

FOR_UPDATE: dict[Kind, str] = {"sqlite": "", "postgres": "FOR UPDATE"}
AT_ONCE = 500


class Blob(NamedTuple):
    digest: str
    size: int
    place: str
    blocks: bytes


def add(tx: Tx, stored: Stored) -> bool:
    """Make the blob exist. False: it existed, and the new file is not needed."""
    key = {"project": tx.project, "digest": stored.digest}
    while (found := _add(tx, stored, key)) is None:
        continue  # on Postgres, gc took the row between our looks at it
    return found


def _add(tx: Tx, stored: Stored, key: dict[str, Any]) -> bool | None:
    inserted = tx.run(
        "INSERT INTO blobs (project, digest, size, state, place, blocks, refs, touched_at) "
        "VALUES (:project, :digest, :size, 'present', :place, :blocks, 0, :now) ON CONFLICT DO NOTHING",
        size=stored.size,
        place=stored.place,
        blocks=stored.blocks,
        now=tx.now,
        **key,
    )
    if inserted:
        return True
    replaced = tx.run(
        "UPDATE blobs SET state = 'present', place = :place, touched_at = :now "
        "WHERE project = :project AND digest = :digest AND state = 'deleting'",
        place=stored.place,
        now=tx.now,
        **key,
    )
    if replaced:
        return True
    kept = tx.run(
        "UPDATE blobs SET state = 'present', touched_at = :now "
        "WHERE project = :project AND digest = :digest AND state <> 'deleting'",
        now=tx.now,
        **key,
    )
    return False if kept else None


def replace(tx: Tx, stored: Stored, place: str) -> bool:
    """Let the blob's bytes be the ones that were just stored, if they still lie in the place that was found bad."""
    return bool(
        tx.run(
            "UPDATE blobs SET place = :new, touched_at = :now "
            "WHERE project = :project AND digest = :digest AND place = :old AND state <> 'deleting'",
            new=stored.place,
            now=tx.now,
            project=tx.project,
            digest=stored.digest,
            old=place,
        )
    )


def find(read: Reader, digest: str) -> Blob:
    row = read.one(
        "SELECT digest, size, place, blocks FROM blobs "
        "WHERE project = :project AND digest = :digest AND state <> 'deleting'",
        project=read.project,
        digest=digest,
    )
    if row is None:
        raise NotFound.named("blob", digest)
    return Blob(row[0], row[1], row[2], bytes(row[3]))


def lock_sizes(tx: Tx, digests: Sequence[str]) -> dict[str, int]:
    """The sizes of those that exist, kept from gc until the transaction ends."""
    sizes: dict[str, int] = {}
    # in order, so that two commits that share blobs cannot wait for each other
    for names, values in placeholders(sorted(digests)):
        rows = tx.all(
            f"SELECT digest, size FROM blobs WHERE project = :project AND digest IN ({names}) "
            f"AND state <> 'deleting' ORDER BY digest {FOR_UPDATE[tx.kind]}",
            project=tx.project,
            **values,
        )
        sizes.update(rows)
    return sizes


def missing(read: Reader, digests: Sequence[str]) -> list[str]:
    """Those that would have to be uploaded, in the order given."""
    have: set[str] = set()
    for names, values in placeholders(sorted(set(digests))):
        rows = read.all(
            f"SELECT digest FROM blobs WHERE project = :project AND digest IN ({names}) AND state <> 'deleting'",
            project=read.project,
            **values,
        )
        have.update(row[0] for row in rows)
    return [digest for digest in dict.fromkeys(digests) if digest not in have]


def add_refs(tx: Tx, digests: Iterable[str], step: int) -> None:
    """So many more or fewer need these; one that stands there twice counts twice."""
    by_times: dict[int, list[str]] = {}
    for digest, times in Counter(digests).items():
        by_times.setdefault(times, []).append(digest)
    for times, group in sorted(by_times.items()):
        for names, values in placeholders(sorted(group)):
            tx.run(
                f"UPDATE blobs SET refs = refs + :step, state = 'present', touched_at = :now "
                f"WHERE project = :project AND digest IN ({names})",
                project=tx.project,
                step=step * times,
                now=tx.now,
                **values,
            )


REFERENCES = [
    (
        "SELECT m.project AS project, f.digest AS digest, count(DISTINCT m.key) AS n "
        "FROM manifests m JOIN manifest_files f ON f.manifest = m.key GROUP BY m.project, f.digest"
    )
]
"""Who needs blobs: one SELECT of (project, digest, n) for each kind of thing; stages add their own."""


def wrong_counts(connection: Connection) -> list[tuple[Any, ...]]:
    """Blobs whose count is not that of the things which need them, and digests that are needed in vain."""
    every = " UNION ALL ".join(REFERENCES)
    return connection.all(
        f"WITH needed AS (SELECT project, digest, sum(n) AS n FROM ({every}) AS each_kind GROUP BY project, digest) "
        "SELECT n.project, n.digest, n.n, coalesce(b.refs, -1) FROM needed n "
        "LEFT JOIN blobs b ON b.project = n.project AND b.digest = n.digest AND b.state = 'present' "
        "WHERE coalesce(b.refs, -1) <> n.n "
        "UNION ALL SELECT b.project, b.digest, 0, b.refs FROM blobs b WHERE b.refs <> 0 AND NOT EXISTS "
        "(SELECT 1 FROM needed n WHERE n.digest = b.digest AND n.project = b.project)"
    )


def placeholders(values: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """`:v0, :v1, …` and their values, in portions that both databases take."""
    for start in range(0, len(values), AT_ONCE):
        portion = values[start : start + AT_ONCE]
        yield (
            ", ".join(f":v{index}" for index in range(len(portion))),
            {f"v{index}": value for index, value in enumerate(portion)},
        )

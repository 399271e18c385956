"""The tables of data sets and their versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from tarmac.core.errors import Conflict, Invalid, NotFound, bounded
from tarmac.data.records import DataSet, DataVersion, Layout, Origin
from tarmac.data.references import HIGHEST, LATEST, Reference, parse
from tarmac.store.blobs import rows as blobs
from tarmac.store.sql import Connection, Reader, Row, Tx

COLUMNS = (
    "number", "digest", "files", "size", "added", "message", "actor", "origin", "created_at", "deleted_at",
)  # fmt: skip
MOST_NAMES = 10_000
MANY = 500

blobs.REFERENCES.append(
    "SELECT v.project AS project, b.digest AS digest, count(*) AS n FROM data_blobs b "
    "JOIN data_versions v ON v.key = b.version GROUP BY v.project, b.digest"
)


# --- data sets ---


def data_set(read: Reader, name: str) -> tuple[int, Layout, int] | None:
    """Key, layout and highest number; a writer holds the row until its transaction ends."""
    lock = blobs.FOR_UPDATE[read.kind] if isinstance(read, Tx) else ""
    found = read.one(
        f"SELECT key, layout, highest FROM data_sets WHERE project = :project AND name = :name {lock}",
        project=read.project,
        name=name,
    )
    return (found[0], found[1], found[2]) if found else None


def known(read: Reader, name: str) -> tuple[int, Layout, int]:
    found = data_set(read, name)
    if found is None:
        rows = read.all(
            "SELECT name FROM data_sets WHERE project = :project ORDER BY name LIMIT :n",
            project=read.project,
            n=MOST_NAMES,
        )
        names = [row[0] for row in rows]
        raise NotFound.named("data set", name, names, hint="`tarmac data ls` lists them")
    return found


def make_set(tx: Tx, name: str, layout: Layout) -> tuple[int, Layout, int]:
    """The data set of this name, made if it is new."""
    tx.run(
        "INSERT INTO data_sets (project, name, layout, highest, created_at) "
        "VALUES (:project, :name, :layout, 0, :now) ON CONFLICT DO NOTHING",
        project=tx.project,
        name=name,
        layout=layout,
        now=tx.now,
    )
    return known(tx, name)


def sets(read: Reader, after: str, limit: int) -> list[DataSet]:
    rows = read.all(
        "SELECT s.name, s.layout, s.created_at, v.number, v.files, v.size, v.created_at, "
        "(SELECT count(*) FROM data_versions c WHERE c.data_set = s.key AND c.deleted_at IS NULL) "
        "FROM data_sets s JOIN data_versions v ON v.data_set = s.key AND v.number = (SELECT max(n.number) "
        "FROM data_versions n WHERE n.data_set = s.key AND n.deleted_at IS NULL) "
        "WHERE s.project = :project AND s.name > :after ORDER BY s.name LIMIT :n",
        project=read.project,
        after=after,
        n=limit,
    )
    return [
        DataSet(
            name=name,
            layout=layout,
            versions=count,
            latest=number,
            files=files,
            size=size,
            created_at=made,
            updated_at=at,
        )
        for name, layout, made, number, files, size, at, count in rows
    ]


# --- versions ---


def find(read: Reader, reference: Reference, *, deleted: bool = False) -> int:
    """The key of the version that is meant."""
    key, _, highest = known(read, reference.name)
    state = "IS NOT NULL" if deleted else "IS NULL"
    found = read.one(
        f"SELECT key FROM data_versions WHERE data_set = :key AND deleted_at {state} "
        "AND (number = :number OR :number = 0) AND created_at < :before ORDER BY number DESC LIMIT 1",
        key=key,
        number=reference.number or 0,
        before=HIGHEST if reference.before is None else reference.before,
    )
    if found is not None:
        return int(found[0])
    raise _no_version(read, reference, key, highest, deleted)


def _no_version(read: Reader, reference: Reference, key: int, highest: int, deleted: bool) -> NotFound:
    name, number = bounded(reference.name), reference.number
    if number is None:
        when = " from then or before" if reference.before is not None else ""
        return NotFound(f"data set `{name}` has no version{when}", hint=f"`tarmac data versions {name}` lists them")
    if deleted:
        return NotFound(f"`{name}@v{number}` is not in the trash", hint=f"`tarmac data versions {name} --deleted`")
    gone = read.value("SELECT 1 FROM data_versions WHERE data_set = :key AND number = :number", key=key, number=number)
    if gone:
        return NotFound(f"`{name}@v{number}` is in the trash", hint=f"`tarmac data restore {name}@v{number}`")
    what = "was deleted" if number <= highest else "does not exist"
    return NotFound(
        f"`{name}@v{number}` {what}: the highest is v{highest}", hint=f"`tarmac data versions {name}` lists them"
    )


def version(read: Reader, key: int, *, with_document: bool = True) -> DataVersion:
    return by_keys(read, [key], with_document=with_document)[0]


def by_keys(read: Reader, keys: Sequence[int], *, with_document: bool) -> list[DataVersion]:
    """Versions in the order of their keys, of which there are few."""
    if not keys:
        return []
    chosen = ", ".join(map(str, keys))
    document = "v.document" if with_document else "'{}'"
    rows = read.all(
        f"SELECT v.key, s.name, s.layout, {document}, {', '.join(f'v.{name}' for name in COLUMNS)} "
        f"FROM data_versions v JOIN data_sets s ON s.key = v.data_set WHERE v.key IN ({chosen})"
    )
    tags: dict[int, dict[str, str]] = {key: {} for key in keys}
    for key, name, value in read.all(
        f"SELECT version, name, value FROM data_tags WHERE version IN ({chosen}) ORDER BY name"
    ):
        tags[key][name] = value
    found = {row[0]: _version(row, tags[row[0]]) for row in rows}
    return [found[key] for key in keys]


def _version(row: Row, tags: dict[str, str]) -> DataVersion:
    fields: dict[str, Any] = dict(zip(COLUMNS, row[4:], strict=True))
    origin = fields.pop("origin")
    return DataVersion(
        name=row[1],
        layout=row[2],
        document=msgspec.json.decode(row[3]),
        origin=msgspec.json.decode(origin, type=Origin) if origin else None,
        tags=tags,
        **fields,
    )


def versions(read: Reader, name: str, before: int, limit: int, *, deleted: bool) -> list[DataVersion]:
    key = known(read, name)[0]
    state = "IS NOT NULL" if deleted else "IS NULL"
    rows = read.all(
        f"SELECT key FROM data_versions WHERE data_set = :key AND deleted_at {state} AND number < :before "
        "ORDER BY number DESC LIMIT :n",
        key=key,
        before=before or HIGHEST + 1,
        n=limit,
    )
    return by_keys(read, [row[0] for row in rows], with_document=False)


def named_exactly(read: Reader, name: str, version: str, *, with_document: bool = False) -> DataVersion | None:
    """The version that is meant by a name with a number, a day, `latest` or nothing; None if it is none of ours."""
    if data_set(read, name) is None:
        return None
    try:
        reference = parse(f"{name}@{version or LATEST}")
        return by_keys(read, [find(read, reference)], with_document=with_document)[0]
    except (Invalid, NotFound):
        return None


def latest(read: Reader, data_set: int) -> tuple[int, str] | None:
    """Key and digest of the newest version that is not in the trash."""
    found = read.one(
        "SELECT key, digest FROM data_versions WHERE data_set = :key AND deleted_at IS NULL "
        "ORDER BY number DESC LIMIT 1",
        key=data_set,
    )
    return (found[0], found[1]) if found else None


def numbered(read: Reader, data_set: int, number: int) -> tuple[int, str] | None:
    """Key and digest of a version, in the trash or not."""
    found = read.one(
        "SELECT key, digest FROM data_versions WHERE data_set = :key AND number = :number",
        key=data_set,
        number=number,
    )
    return (found[0], found[1]) if found else None


def listing(read: Reader, key: int) -> bytes:
    return bytes(read.value("SELECT listing FROM data_versions WHERE key = :key", key=key))


def add(
    tx: Tx,
    data_set: int,
    made: DataVersion,
    listing: bytes,
    packs: Sequence[str],
) -> int:
    """A new version, its number taken and its packs counted as needed."""
    tx.run(
        "UPDATE data_sets SET highest = :number WHERE key = :key AND highest < :number",
        key=data_set,
        number=made.number,
    )
    fields = {name: getattr(made, name) for name in COLUMNS}
    fields["origin"] = msgspec.json.encode(made.origin).decode() if made.origin else ""
    key: int = tx.value(
        f"INSERT INTO data_versions (project, data_set, listing, document, {', '.join(COLUMNS)}) "
        f"VALUES (:project, :set, :listing, :document, {', '.join(f':{name}' for name in COLUMNS)}) RETURNING key",
        project=tx.project,
        set=data_set,
        listing=listing,
        document=msgspec.json.encode(made.document, order="sorted").decode(),
        **fields,
    )
    blobs.add_refs(tx, packs, +1)
    tx.insert("data_blobs", ("version", "digest"), [(key, digest) for digest in sorted(packs)])
    put_tags(tx, key, made.tags)
    return key


def unneeded_bytes(tx: Tx, packs: Sequence[str]) -> int:
    """How much of these nothing has needed until now."""
    total = 0
    for names, values in blobs.placeholders(sorted(packs)):
        total += int(
            tx.value(
                "SELECT coalesce(sum(size), 0) FROM blobs "
                f"WHERE project = :project AND refs = 0 AND digest IN ({names})",
                project=tx.project,
                **values,
            )
        )
    return total


def put_tags(tx: Tx, key: int, tags: dict[str, str]) -> None:
    tx.insert(
        "data_tags",
        ("version", "name", "value"),
        [(key, name, value) for name, value in sorted(tags.items())],
        otherwise="ON CONFLICT (version, name) DO UPDATE SET value = excluded.value",
    )


def drop_tags(tx: Tx, key: int, names: Iterable[str]) -> int:
    gone = 0
    for name in sorted(set(names)):
        gone += tx.run("DELETE FROM data_tags WHERE version = :key AND name = :name", key=key, name=name)
    return gone


def set_deleted(tx: Tx, key: int, at: int | None) -> None:
    tx.run("UPDATE data_versions SET deleted_at = :at WHERE key = :key", at=at, key=key)


def refuse_taken(name: str, number: int) -> Conflict:
    return Conflict(
        f"`{bounded(name)}@v{number}` is another version here, with other files",
        hint="both workspaces gave this number: log it under a name of its own, or push to another project",
    )


# --- of all projects, for those who look after the store ---


class StoredVersion(NamedTuple):
    """A version as it is kept."""

    key: int
    project: int
    project_name: str
    name: str
    digest: str
    files: int
    size: int
    listing: bytes


def every_version(connection: Connection, project: int | None = None) -> Iterator[StoredVersion]:
    """In the trash or not, of one project or of all."""
    after = 0
    while True:
        row = connection.one(
            "SELECT v.key, v.project, p.name, s.name || '@v' || v.number, v.digest, v.files, v.size, v.listing "
            "FROM data_versions v JOIN data_sets s ON s.key = v.data_set JOIN projects p ON p.key = v.project "
            "WHERE v.key > :after AND (v.project = :project OR :project = 0) ORDER BY v.key LIMIT 1",
            after=after,
            project=project or 0,
        )
        if row is None:
            return
        after = row[0]
        key, of, project_name, name, digest, files, size, listing = row
        yield StoredVersion(key, of, project_name, name, digest, files, size, bytes(listing))


def packs_of(connection: Connection, version: int) -> list[str]:
    return [row[0] for row in connection.all("SELECT digest FROM data_blobs WHERE version = :key", key=version)]


def sizes_of_packs(connection: Connection, project: int) -> dict[str, int]:
    """Of everything that versions of a project need."""
    return dict(
        connection.all(
            "SELECT DISTINCT b.digest, b.size FROM blobs b JOIN data_blobs d ON d.digest = b.digest "
            "JOIN data_versions v ON v.key = d.version AND v.project = b.project WHERE b.project = :project",
            project=project,
        )
    )


def move(tx: Tx, key: int, before: bytes, after: bytes, packs: Sequence[str]) -> bool:
    """Let a version's bytes lie elsewhere, unless somebody has moved or deleted it since; it stays what it is."""
    lock = blobs.FOR_UPDATE[tx.kind]
    found = tx.value(f"SELECT listing FROM data_versions WHERE key = :key {lock}", key=key)
    if found is None or bytes(found) != before:
        return False
    if set(packs) - blobs.lock_sizes(tx, packs).keys():
        return False
    old = tx.all("DELETE FROM data_blobs WHERE version = :key RETURNING digest", key=key)
    blobs.add_refs(tx, packs, +1)
    blobs.add_refs(tx, [digest for (digest,) in old], -1)
    tx.insert("data_blobs", ("version", "digest"), [(key, digest) for digest in sorted(packs)])
    tx.run("UPDATE data_versions SET listing = :listing WHERE key = :key", listing=after, key=key)
    return True


# --- for good ---


def in_trash(connection: Connection, project: int, before: int, after: int, limit: int) -> list[Row]:
    """Key, name, what was made from it (or nothing) of versions that have been in the trash since `before`."""
    return connection.all(
        "SELECT v.key, s.name || '@v' || v.number, (SELECT min(l.target) FROM lineage l WHERE l.project = v.project "
        "AND l.source = 'data/' || s.name || '@v' || v.number) FROM data_versions v "
        "JOIN data_sets s ON s.key = v.data_set "
        "WHERE v.project = :project AND v.deleted_at <= :before AND v.key > :after ORDER BY v.key LIMIT :n",
        project=project,
        before=before,
        after=after,
        n=limit,
    )


def freed_bytes(connection: Connection, project: int, keys: Sequence[int]) -> int:
    """Bytes that only these versions need."""
    if not keys:
        return 0
    chosen = ", ".join(map(str, keys))
    return int(
        connection.value(
            "SELECT coalesce(sum(b.size), 0) FROM blobs b JOIN (SELECT digest, count(*) AS n FROM data_blobs "
            f"WHERE version IN ({chosen}) GROUP BY digest) m ON m.digest = b.digest "
            "WHERE b.project = :project AND b.refs = m.n",
            project=project,
        )
    )


def delete(tx: Tx, keys: Sequence[int]) -> list[int]:
    """Delete those that are still in the trash; which ones."""
    gone = []
    for key in keys:
        lock = blobs.FOR_UPDATE[tx.kind]
        if tx.value(f"SELECT 1 FROM data_versions WHERE key = :key AND deleted_at IS NOT NULL {lock}", key=key) is None:
            continue
        packs = tx.all("DELETE FROM data_blobs WHERE version = :key RETURNING digest", key=key)
        blobs.add_refs(tx, [digest for (digest,) in packs], -1)
        tx.run("DELETE FROM data_tags WHERE version = :key", key=key)
        tx.run("DELETE FROM data_versions WHERE key = :key", key=key)
        gone.append(key)
    return gone

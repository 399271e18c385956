"""Is everything still what was stored? Named fault by fault, in fixed memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import msgspec

from tarmac.core.errors import TarmacError
from tarmac.store import Store, ledger, manifests
from tarmac.store.blobs import rows as blob_rows
from tarmac.store.job import JobContext
from tarmac.store.records import CheckReport, File
from tarmac.store.sql import Connection

MOST_FAULTS = 1000
CHECKS: list[Callable[[Store, Connection, bool], Iterator[str]]] = []
"""What stages look at, each byte or not: one text for each thing, empty or its fault. They add theirs."""
CHECKPOINT_EVERY = 2000


def check(job: JobContext, *, read_bytes: bool) -> CheckReport:
    store, progress = job.store, job.progress
    faults: list[str] = list(job.saved.get("faults", []))
    done = job.saved.get("blobs", 0)
    with store.database.read(snapshot=True) as connection:
        if connection.kind == "sqlite" and not job.saved:
            faults += _database_faults(connection)
        total, size = connection.one("SELECT count(*), coalesce(sum(size), 0) FROM blobs") or (0, 0)
        events = ledger.head(connection).last_position
        lists = connection.value("SELECT count(*) FROM manifests")
        steps = int(total) + int(lists) + events
        for place, fault in _blob_faults(store, connection, read_bytes, job.saved.get("place", "")):
            done += 1
            if fault:
                faults.append(fault)
            progress(done, steps, "blobs")
            if done % CHECKPOINT_EVERY == 0:
                job.checkpoint({"place": place, "blobs": done, "faults": faults[:MOST_FAULTS]})
        for fault in chain(_manifest_faults(connection), _stage_faults(store, connection, read_bytes)):
            done += 1
            if fault:
                faults.append(fault)
            progress(min(done, steps), steps, "manifests")
        for fault in store.ledger.faults(connection, lambda position: progress(done + position, steps, "ledger")):
            faults.append(fault)
            if len(faults) > MOST_FAULTS:
                break
        faults += _head_faults(store, connection, sound=not faults)
    if len(faults) > MOST_FAULTS:
        faults[MOST_FAULTS:] = [f"… and {len(faults) - MOST_FAULTS} more"]
    return CheckReport(
        database=store.database.kind,
        blobs=int(total),
        blob_bytes=int(size),
        manifests=int(lists),
        events=events,
        faults=faults,
    )


def _database_faults(connection: Connection) -> list[str]:
    found = [row[0] for row in connection.all("PRAGMA integrity_check(100)")]
    faults = [] if found == ["ok"] else [f"database: {line}" for line in found]
    broken = connection.all("PRAGMA foreign_key_check")
    return faults + [f"database: a row of {row[0]} refers to a row of {row[2]} that is gone" for row in broken[:100]]


def _blob_faults(store: Store, connection: Connection, read_bytes: bool, after: str) -> Iterator[tuple[str, str]]:
    """One entry for each blob from a place on: its place, and its fault or nothing."""
    for piece in connection.pieces(
        "SELECT digest, size, place, blocks FROM blobs WHERE state <> 'deleting' AND place > :after ORDER BY place",
        500,
        after=after,
    ):
        for digest, size, place, blocks in piece:
            end = size if read_bytes else min(size, 1)
            try:
                for _ in store.blobs.read(digest, place, size, bytes(blocks), 0, end):
                    pass
                yield place, ""
            except TarmacError as error:
                yield place, error.message


def _stage_faults(store: Store, connection: Connection, read_bytes: bool) -> Iterator[str]:
    for look in CHECKS:
        yield from look(store, connection, read_bytes)


def _manifest_faults(connection: Connection) -> Iterator[str]:
    """One entry for each manifest, and one for each wrong count of references."""
    for piece in connection.pieces("SELECT key, id, digest, files FROM manifests ORDER BY key", 100):
        for key, name, digest, count in piece:
            rows = connection.all(
                "SELECT path, digest, size FROM manifest_files WHERE manifest = :key ORDER BY path", key=key
            )
            files = [File(path=path, digest=found, size=size) for path, found, size in rows]
            same = len(files) == count and manifests.manifest_digest(files) == digest
            yield "" if same else f"manifest {name} was edited: its list of files is not the one that was committed"
    for _, digest, needed, counted in blob_rows.wrong_counts(connection):
        if counted < 0:
            yield f"blob {digest[:16]}… is needed by {needed} manifests and does not exist"
        else:
            yield f"blob {digest[:16]}… is needed by {needed} manifests, and counted as needed by {counted}"


class Heads(msgspec.Struct):
    """Seals that were seen here before, one JSON line each."""

    number: int
    digest: str


def _head_faults(store: Store, connection: Connection, *, sound: bool) -> list[str]:
    """A chain cut short at its end is still a chain: only who remembers its head can tell."""
    faults = []
    for remembered in remembered_heads(store):
        found = ledger.seal_at(connection, remembered.number)
        if found is None:
            faults.append(f"seal {remembered.number} was seen here before and is gone: the ledger's end was removed")
        elif found != remembered.digest:
            faults.append(f"seal {remembered.number} is not the one that was seen here before: history was rewritten")
    if sound and not faults:
        remember_head(store, connection)
    return faults


def remembered_heads(store: Store) -> list[Heads]:
    try:
        lines = store.folder.heads_file.read_bytes().splitlines()
    except OSError:
        return []
    heads = []
    for line in lines:
        try:
            heads.append(msgspec.json.decode(line, type=Heads))
        except msgspec.DecodeError:
            continue  # a line cut off by a crash while it was written
    return heads


def remember_head(store: Store, connection: Connection) -> None:
    head = ledger.head(connection)
    if head.number and head.number not in {known.number for known in remembered_heads(store)}:
        with store.folder.heads_file.open("ab") as file:
            file.write(msgspec.json.encode(Heads(head.number, head.digest)) + b"\n")

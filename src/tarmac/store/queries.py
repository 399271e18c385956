"""Counts and lists over the whole store."""

from __future__ import annotations

from tarmac.store.records import BlobFacts, LedgerFacts, Project
from tarmac.store.sql import Connection, Reader


def projects(connection: Connection) -> list[Project]:
    rows = connection.all("SELECT name, created_at FROM projects ORDER BY name")
    return [Project(name=name, created_at=created_at) for name, created_at in rows]


def blob_facts(read: Reader) -> BlobFacts:
    row = read.one("SELECT count(*), coalesce(sum(size), 0) FROM blobs WHERE project = :project", project=read.project)
    assert row is not None
    return BlobFacts(count=row[0], bytes=int(row[1]))


def ledger_facts(connection: Connection) -> LedgerFacts:
    row = connection.one(
        "SELECT first_position + events - 1, number, digest, sealed_at FROM seals ORDER BY number DESC LIMIT 1"
    )
    if row is None:
        return LedgerFacts(events=0, seals=0, head="", sealed_at=None)
    return LedgerFacts(events=row[0], seals=row[1], head=row[2], sealed_at=row[3])


def counts(read: Reader, table: str, by: str) -> dict[str, int]:
    rows = read.all(f"SELECT {by}, count(*) FROM {table} WHERE project = :project GROUP BY {by}", project=read.project)
    return dict(sorted(rows))


def count(read: Reader, table: str) -> int:
    found: int = read.value(f"SELECT count(*) FROM {table} WHERE project = :project", project=read.project)
    return found

"""The tables of models on their way."""

from __future__ import annotations

import msgspec

from tarmac.ship.records import Cut
from tarmac.store.sql import Reader, Row, Tx

_COLUMNS = "endpoint, fallback, outputs, reason, actor, at"


def cuts(read: Reader) -> list[Cut]:
    rows = read.all(f"SELECT {_COLUMNS} FROM cuts WHERE project = :project ORDER BY endpoint", project=read.project)
    return [_cut(row) for row in rows]


def cut(read: Reader, endpoint: str) -> Cut | None:
    row = read.one(
        f"SELECT {_COLUMNS} FROM cuts WHERE project = :project AND endpoint = :endpoint",
        project=read.project,
        endpoint=endpoint,
    )
    return None if row is None else _cut(row)


def put_cut(tx: Tx, made: Cut) -> None:
    tx.run(
        "INSERT INTO cuts (project, endpoint, fallback, outputs, reason, actor, at) "
        "VALUES (:project, :endpoint, :fallback, :outputs, :reason, :actor, :at) "
        "ON CONFLICT (project, endpoint) DO UPDATE SET fallback = excluded.fallback, outputs = excluded.outputs, "
        "reason = excluded.reason, actor = excluded.actor, at = excluded.at",
        project=tx.project,
        endpoint=made.endpoint,
        fallback=made.fallback,
        outputs=msgspec.json.encode(made.outputs).decode(),
        reason=made.reason,
        actor=made.actor,
        at=made.at,
    )


def delete_cut(tx: Tx, endpoint: str) -> None:
    tx.run("DELETE FROM cuts WHERE project = :project AND endpoint = :endpoint", project=tx.project, endpoint=endpoint)


def _cut(row: Row) -> Cut:
    endpoint, fallback, outputs, reason, actor, at = row
    return Cut(
        endpoint=endpoint, fallback=fallback, outputs=msgspec.json.decode(outputs), reason=reason, actor=actor, at=at
    )

"""The ledger, as people ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tarmac.govern.records import AuditEvent
from tarmac.registry.queries import models
from tarmac.registry.records import Move
from tarmac.store import ledger
from tarmac.store.sql import Connection, Reader, Row

COLUMNS = "position, at, project, actor, operation, subject, payload, payload_digest"
ALL_AFTER = f"SELECT {COLUMNS} FROM events WHERE project = :project AND position > :after ORDER BY position"


def events(
    read: Reader, after: int | None, before: int | None, wanted: dict[str, str | None], limit: int
) -> list[AuditEvent]:
    where, values = ["project = :project_name"], dict[str, Any](project_name=read.project_name, n=limit)
    if after is not None:
        where.append("position > :after")
        values["after"] = after
    if before is not None:
        where.append("position < :before")
        values["before"] = before
    for column, value in wanted.items():
        if value is not None:
            where.append(f"{column} = :{column}")
            values[column] = value
    order = "ASC" if after is not None else "DESC"
    rows = read.all(
        f"SELECT {COLUMNS} FROM events WHERE {' AND '.join(where)} ORDER BY position {order} LIMIT :n", **values
    )
    return [event(row) for row in rows]


def _decode(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.decode("utf-8", "replace")  # somebody edited it: `audit verify` names it


def event(row: Row) -> AuditEvent:
    position, at, project, actor, operation, subject, payload, payload_digest = row
    return AuditEvent(
        position=position,
        at=at,
        project=project,
        actor=actor,
        operation=operation,
        subject=subject,
        payload=None if payload is None else _decode(ledger.as_bytes(payload)),
        payload_digest=payload_digest,
    )


# --- what the ledger is held against ---

PROVING = (
    "gates.check", "gates.rm", "gates.set", "models.approve", "models.promote", "models.retire", "models.rm",
    "models.rollback", "versions.rm",
)  # fmt: skip
AT_ONCE = 2000


def evidence_events(connection: Connection) -> Iterator[tuple[str, str, str, bytes]]:
    """Project, subject, operation and payload of the events that carry proofs, oldest first, unsealed ones last."""
    chosen = ", ".join(f"'{name}'" for name in PROVING)
    for table, order in (("events", "position"), ("pending_events", "key")):
        for piece in connection.pieces(
            f"SELECT project, subject, operation, payload FROM {table} "
            f"WHERE operation IN ({chosen}) AND payload IS NOT NULL ORDER BY {order}",
            AT_ONCE,
        ):
            for project, subject, operation, payload in piece:
                yield project, subject, operation, ledger.as_bytes(payload)


def moves_since_gates(connection: Connection) -> Iterator[tuple[str, Move]]:
    """Lines of history with the name of their model. Those of before there were gates left no digest in the ledger."""
    since = connection.value("SELECT applied_at FROM migrations WHERE name LIKE '%gates%'") or 0
    columns = ", ".join(f"h.{name}" for name in models.MOVE.split(", "))
    for piece in connection.pieces(
        f"SELECT m.name, {columns} FROM alias_moves h JOIN models m ON m.key = h.model WHERE h.at >= :since "
        "ORDER BY h.key",
        AT_ONCE,
        since=since,
    ):
        for name, *row in piece:
            yield name, models.as_move(tuple(row))


def move_ids(connection: Connection) -> set[str]:
    return {id for (id,) in connection.all("SELECT id FROM alias_moves")}


def alias_moves(connection: Connection) -> list[Row]:
    """Of each alias: model, name, the version it points to, where the move that it names led, and whether that is its
    last."""
    return connection.all(
        "SELECT m.name, a.name, v.number, h.to_number, "
        "(SELECT max(n.key) FROM alias_moves n WHERE n.model = a.model AND n.alias = a.name) = a.move "
        "FROM aliases a JOIN models m ON m.key = a.model JOIN versions v ON v.key = a.version "
        "LEFT JOIN alias_moves h ON h.key = a.move ORDER BY m.name, a.name"
    )


def documents(connection: Connection, table: str) -> Iterator[tuple[str, str]]:
    for piece in connection.pieces(f"SELECT id, document FROM {table} ORDER BY key", AT_ONCE):
        yield from ((id, document) for id, document in piece)


def withdrawn(connection: Connection) -> list[str]:
    return [id for (id,) in connection.all("SELECT id FROM approvals WHERE withdrawn_at IS NOT NULL ORDER BY key")]


def gate_documents(connection: Connection) -> list[Row]:
    return connection.all(
        "SELECT p.name, g.document FROM gates g JOIN projects p ON p.key = g.project "
        "ORDER BY g.project, g.model, g.folded"
    )

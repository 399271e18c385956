"""The ledger, as people ask for it."""

from __future__ import annotations

from typing import Any

import msgspec

from tarmac.govern.records import AuditEvent
from tarmac.store import ledger
from tarmac.store.sql import Reader, Row

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

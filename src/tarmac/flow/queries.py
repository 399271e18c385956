"""The table of jobs."""

from __future__ import annotations

from typing import Any

import msgspec

from tarmac.core.errors import NotFound
from tarmac.flow.records import Job
from tarmac.store.sql import Connection, Reader, Row, Tx

SILENT_AFTER = 20_000
"""Milliseconds without a heartbeat after which a job counts as interrupted."""

LONGEST_LOG = 1_000_000
LOG_PART = 100_000

_COLUMNS = "id, operation, state, actor, done, total, message, tries, created_at, heartbeat_at, ended_at, answer, error"


def jobs(read: Reader, state: str | None, before: str, limit: int, now: int) -> list[Job]:
    where, values = "", dict[str, Any]()
    if state == "interrupted":
        where = "AND (state = :state OR (state IN ('queued', 'running') AND heartbeat_at < :silent))"
        values = {"state": state, "silent": now - SILENT_AFTER}
    elif state is not None:
        where = "AND state = :state AND (state NOT IN ('queued', 'running') OR heartbeat_at >= :silent)"
        values = {"state": state, "silent": now - SILENT_AFTER}
    rows = read.all(
        f"SELECT {_COLUMNS} FROM jobs WHERE project = :project AND id < :before {where} ORDER BY id DESC LIMIT :n",
        project=read.project,
        before=before or "~",
        n=limit,
        **values,
    )
    return [_job(row, now) for row in rows]


def job(read: Reader, id: str, now: int) -> Job:
    row = read.one(f"SELECT {_COLUMNS} FROM jobs WHERE project = :project AND id = :id", project=read.project, id=id)
    if row is None:
        raise unknown_job(id)
    return _job(row, now)


def add(tx: Tx, id: str, operation: str, request: str) -> None:
    tx.run(
        "INSERT INTO jobs (project, id, operation, request, state, actor, done, total, message, checkpoint, answer, "
        "error, log, tries, cancel_requested, created_at, heartbeat_at) VALUES (:project, :id, :operation, :request, "
        "'queued', :actor, 0, 0, '', '{}', '', '', '', 1, 0, :now, :now)",
        project=tx.project,
        id=id,
        operation=operation,
        request=request,
        actor=tx.actor.signature,
        now=tx.now,
    )


def requeue(tx: Tx, id: str) -> None:
    tx.run(
        "UPDATE jobs SET state = 'queued', tries = tries + 1, cancel_requested = 0, error = '', answer = '', "
        "ended_at = NULL, heartbeat_at = :now WHERE project = :project AND id = :id",
        now=tx.now,
        project=tx.project,
        id=id,
    )


def ask_to_cancel(tx: Tx, id: str) -> bool:
    """False: it was asked before."""
    return bool(
        tx.run(
            "UPDATE jobs SET cancel_requested = 1 WHERE project = :project AND id = :id AND cancel_requested = 0",
            project=tx.project,
            id=id,
        )
    )


def give_up(tx: Tx, id: str) -> None:
    """The end of a job that nobody works on any more."""
    tx.run(
        "UPDATE jobs SET state = 'cancelled', ended_at = :now WHERE project = :project AND id = :id",
        now=tx.now,
        project=tx.project,
        id=id,
    )


def claim(connection: Connection, id: str, attempt: int, now: int) -> Row | None:
    """Take a queued job: its project, operation, request, actor and checkpoint; None if it is not to be had."""
    return connection.one(
        "UPDATE jobs SET state = 'running', heartbeat_at = :now WHERE id = :id AND tries = :attempt "
        "AND state = 'queued' RETURNING project, operation, request, actor, checkpoint",
        id=id,
        attempt=attempt,
        now=now,
    )


def beat(connection: Connection, id: str, attempt: int, done: int, total: int, message: str, now: int) -> bool:
    """Tell how far a job is and hear whether it is to stop: because somebody asked, or a later attempt has begun."""
    asked = connection.value(
        "UPDATE jobs SET done = :done, total = :total, message = :message, heartbeat_at = :now "
        "WHERE id = :id AND tries = :attempt AND state = 'running' RETURNING cancel_requested",
        attempt=attempt,
        done=done,
        total=total,
        message=message,
        now=now,
        id=id,
    )
    return asked is None or bool(asked)


def append_log(connection: Connection, id: str, text: str) -> None:
    connection.run(
        "UPDATE jobs SET log = log || :text WHERE id = :id AND length(log) < :most", text=text, id=id, most=LONGEST_LOG
    )


def log(read: Reader, id: str, start: int) -> Row:
    """A part of the log, and whether the job has ended."""
    row = read.one(
        "SELECT substr(log, :first, :n), ended_at IS NOT NULL FROM jobs WHERE project = :project AND id = :id",
        first=start + 1,
        n=LOG_PART,
        project=read.project,
        id=id,
    )
    if row is None:
        raise unknown_job(id)
    return row


def unknown_job(id: str) -> NotFound:
    return NotFound.named("job", id, hint="`tarmac jobs ls` lists them")


def checkpoint(connection: Connection, id: str, text: str) -> None:
    connection.run("UPDATE jobs SET checkpoint = :text WHERE id = :id", text=text, id=id)


def finish(connection: Connection, id: str, attempt: int, state: str, answer: str, error: str, now: int) -> None:
    """The end of one attempt at a job; nothing if it had ended already or another attempt has begun."""
    connection.run(
        "UPDATE jobs SET state = :state, answer = :answer, error = :error, heartbeat_at = :now, ended_at = :now "
        "WHERE id = :id AND tries = :attempt AND state IN ('queued', 'running')",
        attempt=attempt,
        state=state,
        answer=answer,
        error=error,
        now=now,
        id=id,
    )


def _job(row: Row, now: int) -> Job:
    state = row[2]
    if state in ("queued", "running") and row[9] < now - SILENT_AFTER:
        state = "interrupted"  # whoever worked on it is gone without a word
    return Job(
        id=row[0],
        operation=row[1],
        state=state,
        actor=row[3],
        done=row[4],
        total=row[5],
        message=row[6],
        tries=row[7],
        created_at=row[8],
        heartbeat_at=row[9],
        ended_at=row[10],
        answer=msgspec.json.decode(row[11]) if row[11] else None,
        error=msgspec.json.decode(row[12])["error"] if row[12] else None,
    )

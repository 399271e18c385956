"""The tables of schedules and of what they started."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tarmac.core.errors import NotFound
from tarmac.flow.schedules.records import Firing, Schedule
from tarmac.store.sql import Connection, Reader, Tx

KEPT_MILLISECONDS = 90 * 24 * 3_600_000
_COLUMNS = (
    "s.key, s.project, p.name, s.name, s.pipeline, s.folder, s.cron, s.zone, s.triggers, s.params, s.priority, "
    "s.origin, s.actor, s.active, s.next_at, s.position, s.last_at, s.missed"
)
_FROM = "FROM schedules s JOIN projects p ON p.key = s.project"


class Row(Struct, frozen=True):
    """A schedule as it is kept."""

    key: int
    project: int
    project_name: str
    name: str
    pipeline: str
    folder: str
    cron: str
    zone: str
    triggers: list[str]
    params: dict[str, str]
    priority: int
    origin: str
    actor: str
    on: bool
    next_at: int | None
    position: int
    """Up to where in the ledger its triggers have looked."""
    last_at: int | None
    missed: int


def _row(found: tuple[Any, ...]) -> Row:
    triggers, params = msgspec.json.decode(found[8]), msgspec.json.decode(found[9])
    values: list[Any] = [*found[:8], triggers, params, *found[10:13], bool(found[13]), *found[14:]]
    return Row(*values)


def every(connection: Connection) -> list[Row]:
    """All schedules that are on, of all projects."""
    return [_row(row) for row in connection.all(f"SELECT {_COLUMNS} {_FROM} WHERE s.active = 1 ORDER BY s.key")]


def of_project(read: Reader) -> list[Row]:
    rows = read.all(f"SELECT {_COLUMNS} {_FROM} WHERE s.project = :project ORDER BY s.name", project=read.project)
    return [_row(row) for row in rows]


def get(read: Reader, name: str) -> Row:
    row = read.one(
        f"SELECT {_COLUMNS} {_FROM} WHERE s.project = :project AND s.name = :name", project=read.project, name=name
    )
    if row is None:
        known = [found[0] for found in read.all("SELECT name FROM schedules WHERE project = :p", p=read.project)]
        raise NotFound.named("schedule", name, known, hint="`tarmac schedules ls` lists them")
    return _row(row)


def put(tx: Tx, row: Row) -> None:
    """Make it, or change the one of this name; what it has looked at and when it last ran stays."""
    tx.run(
        "INSERT INTO schedules (project, name, pipeline, folder, cron, zone, triggers, params, priority, origin, "
        "actor, active, next_at, position, last_at, missed, created_at) VALUES (:project, :name, :pipeline, :folder, "
        ":cron, :zone, :triggers, :params, :priority, :origin, :actor, 1, :next_at, :position, NULL, 0, :now) "
        "ON CONFLICT (project, name) DO UPDATE SET pipeline = excluded.pipeline, folder = excluded.folder, "
        "cron = excluded.cron, zone = excluded.zone, triggers = excluded.triggers, params = excluded.params, "
        "priority = excluded.priority, origin = excluded.origin, actor = excluded.actor, next_at = excluded.next_at",
        project=row.project,
        name=row.name,
        pipeline=row.pipeline,
        folder=row.folder,
        cron=row.cron,
        zone=row.zone,
        triggers=msgspec.json.encode(row.triggers).decode(),
        params=msgspec.json.encode(row.params).decode(),
        priority=row.priority,
        origin=row.origin,
        actor=row.actor,
        next_at=row.next_at,
        position=row.position,
        now=tx.now,
    )


def drop(tx: Tx, row: Row) -> None:
    tx.run("DELETE FROM firings WHERE schedule = :key", key=row.key)
    tx.run("DELETE FROM schedules WHERE key = :key", key=row.key)


def switch(tx: Tx, key: int, *, on: bool, next_at: int | None, position: int) -> None:
    tx.run(
        "UPDATE schedules SET active = :on, next_at = :next_at, position = :position WHERE key = :key",
        on=int(on),
        next_at=next_at,
        position=position,
        key=key,
    )


def move_on(connection: Connection, row: Row, next_at: int | None, last_at: int | None, missed: int) -> bool:
    """To its next time; False if somebody else has done so."""
    return bool(
        connection.run(
            "UPDATE schedules SET next_at = :next_at, last_at = coalesce(:last_at, last_at), missed = missed + :missed "
            "WHERE key = :key AND active = 1 AND next_at = :seen",
            next_at=next_at,
            last_at=last_at,
            missed=missed,
            key=row.key,
            seen=row.next_at,
        )
    )


def look_on(connection: Connection, row: Row, position: int) -> bool:
    """Triggers have looked up to here; False if somebody else looks."""
    return bool(
        connection.run(
            "UPDATE schedules SET position = :new WHERE key = :key AND active = 1 AND position = :seen",
            new=position,
            key=row.key,
            seen=row.position,
        )
    )


def ran(connection: Connection, key: int, at: int) -> None:
    connection.run("UPDATE schedules SET last_at = :at WHERE key = :key", at=at, key=key)


def head(connection: Connection) -> int:
    """The last position of the ledger."""
    return int(connection.value("SELECT coalesce(max(position), 0) FROM events"))


class Happened(Struct, frozen=True):
    """An event, and what it is about: its subject, and the same by the name that was given."""

    position: int
    operation: str
    about: tuple[str, ...]


class _Named(Struct):
    name: str = ""


def events(connection: Connection, project: str, after: int, upto: int) -> list[Happened]:
    """Sealed events, in order."""
    rows = connection.all(
        "SELECT position, operation, subject, payload FROM events "
        "WHERE project = :project AND position > :after AND position <= :upto ORDER BY position",
        project=project,
        after=after,
        upto=upto,
    )
    return [Happened(row[0], row[1], _about(row[1], row[2], row[3])) for row in rows]


def _about(operation: str, subject: str, payload: bytes | None) -> tuple[str, ...]:
    try:
        name = msgspec.json.decode(payload or b"{}", type=_Named).name
    except msgspec.MsgspecError:
        name = ""
    named = f"{operation.partition('.')[0]}/{name}"
    return (subject, named) if name and named != subject else (subject,)


# --- what was started ---


def queue(connection: Connection, row: Row, mark: str, why: str, due_at: int, now: int) -> bool:
    """Put it into the queue; False if it was put there before, under the same mark."""
    connection.run(
        "DELETE FROM firings WHERE schedule = :key AND state = 'started' AND due_at < :old",
        key=row.key,
        old=now - KEPT_MILLISECONDS,
    )
    return bool(
        connection.run(
            "INSERT INTO firings (project, schedule, mark, why, due_at, made_at, priority, state, job) VALUES "
            "(:project, :schedule, :mark, :why, :due_at, :now, :priority, 'waiting', NULL) ON CONFLICT DO NOTHING",
            project=row.project,
            schedule=row.key,
            mark=mark,
            why=why,
            due_at=due_at,
            now=now,
            priority=row.priority,
        )
    )


class Waiting(Struct, frozen=True):
    """One that waits for its turn."""

    key: int
    why: str
    schedule: Row


def waiting(connection: Connection, since: int) -> list[Waiting]:
    """What may start now, the first first: the highest priority, then what is due for longest. Of each schedule one,
    and none while another of it runs."""
    rows = connection.all(
        f"SELECT f.key, f.why, {_COLUMNS} FROM firings f JOIN schedules s ON s.key = f.schedule "
        "JOIN projects p ON p.key = s.project WHERE f.state = 'waiting' AND NOT EXISTS ("
        "SELECT 1 FROM firings o JOIN jobs j ON j.project = o.project AND j.id = o.job WHERE o.schedule = f.schedule "
        "AND j.state IN ('queued', 'running') AND j.heartbeat_at >= :since) "
        "AND NOT EXISTS (SELECT 1 FROM firings e WHERE e.schedule = f.schedule AND e.state = 'waiting' "
        "AND e.key < f.key) ORDER BY f.priority DESC, f.due_at, f.key LIMIT 100",
        since=since,
    )
    return [Waiting(row[0], row[1], _row(row[2:])) for row in rows]


def take(connection: Connection, key: int, job: str) -> bool:
    """It is ours; False if somebody else has it."""
    return bool(
        connection.run(
            "UPDATE firings SET state = 'started', job = :job WHERE key = :key AND state = 'waiting'", job=job, key=key
        )
    )


def lost(connection: Connection, since: int) -> list[tuple[str, int, str]]:
    """Jobs that were taken by a server which was gone before it started them, with their tries and folder."""
    rows = connection.all(
        "SELECT j.id, j.tries, s.folder FROM firings f JOIN jobs j ON j.project = f.project AND j.id = f.job "
        "JOIN schedules s ON s.key = f.schedule WHERE j.state = 'queued' AND j.heartbeat_at < :since",
        since=since,
    )
    return [(str(row[0]), int(row[1]), str(row[2])) for row in rows]


def take_over(connection: Connection, job: str, tries: int, now: int) -> bool:
    return bool(
        connection.run(
            "UPDATE jobs SET tries = tries + 1, heartbeat_at = :now "
            "WHERE id = :job AND tries = :tries AND state = 'queued'",
            now=now,
            job=job,
            tries=tries,
        )
    )


def firings(read: Reader, schedule: int | None, before: int, limit: int) -> list[tuple[int, Firing]]:
    where = "AND f.schedule = :schedule" if schedule is not None else ""
    rows = read.all(
        "SELECT f.key, s.name, f.why, f.due_at, f.state, f.priority, f.job, j.state FROM firings f "
        "JOIN schedules s ON s.key = f.schedule LEFT JOIN jobs j ON j.project = f.project AND j.id = f.job "
        f"WHERE f.project = :project AND f.key < :before {where} ORDER BY f.key DESC LIMIT :n",
        project=read.project,
        before=before,
        n=limit,
        **({"schedule": schedule} if schedule is not None else {}),
    )
    return [
        (key, Firing(schedule=name, why=why, due_at=due, state=state, priority=priority, job=job, job_state=job_state))
        for key, name, why, due, state, priority, job, job_state in rows
    ]


def schedule(read: Reader, row: Row) -> Schedule:
    """As people see it."""
    last = read.one(
        "SELECT j.state FROM firings f JOIN jobs j ON j.project = f.project AND j.id = f.job "
        "WHERE f.schedule = :key ORDER BY f.key DESC LIMIT 1",
        key=row.key,
    )
    waits = read.value("SELECT count(*) FROM firings WHERE schedule = :key AND state = 'waiting'", key=row.key)
    return Schedule(
        name=row.name,
        pipeline=row.pipeline,
        cron=row.cron,
        zone=row.zone,
        triggers=row.triggers,
        next_at=row.next_at if row.on else None,
        last_at=row.last_at,
        last=last[0] if last is not None else None,
        waiting=int(waits),
        missed=row.missed,
        priority=row.priority,
        on=row.on,
        folder=row.folder,
        origin=row.origin,
        params=row.params,
    )

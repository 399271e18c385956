"""How schedules are made, shown, started and forgotten; and those of a project's file."""

from __future__ import annotations

from pathlib import Path

import tarmac.flow.schedules.running  # noqa: F401 - the job
from tarmac.core import cron, project_file
from tarmac.core.actor import Actor
from tarmac.core.clock import now
from tarmac.core.errors import Invalid, bounded
from tarmac.core.ids import short
from tarmac.core.operation import SPECS, handles
from tarmac.core.project_file import ProjectFile
from tarmac.flow.schedules import operations as ops
from tarmac.flow.schedules import queries
from tarmac.flow.schedules.queries import Row
from tarmac.flow.schedules.queue import is_here
from tarmac.flow.schedules.records import Schedule
from tarmac.flow.schedules.ticking import checked
from tarmac.store import Store
from tarmac.store.sql import Batch, Reader, Tx

BY_HAND = "by hand"
LAST = 1 << 62


@handles(ops.ListSchedules)
def list_schedules(request: ops.ListSchedules, read: Reader) -> ops.ScheduleList:
    found = [queries.schedule(read, row) for row in queries.of_project(read)]
    return ops.ScheduleList(schedules=sorted(found, key=lambda one: (one.next_at or LAST, one.name)))


@handles(ops.ListFirings)
def list_firings(request: ops.ListFirings, read: Reader) -> ops.FiringPage:
    key = queries.get(read, request.name).key if request.name is not None else None
    found = queries.firings(read, key, int(request.before or LAST), request.limit)
    return ops.FiringPage(
        firings=[one for _, one in found], next=str(found[-1][0]) if len(found) == request.limit else None
    )


@handles(ops.AddSchedule)
def add_schedule(request: ops.AddSchedule, tx: Tx) -> Schedule:
    if not Path(request.folder).is_absolute():
        raise Invalid(
            f"`{bounded(request.folder)}` is not the whole path of a folder",
            hint="--folder is where the project's tarmac.toml lies on the server's machine",
        )
    if not is_here(request.folder):
        raise Invalid(f"in {bounded(request.folder)} there is no tarmac.toml", hint="schedules run projects")
    new = Row(
        key=0,
        project=tx.project,
        project_name=tx.project_name,
        name=request.name,
        pipeline=request.pipeline or request.name,
        folder=request.folder,
        cron=request.cron,
        zone=request.zone,
        triggers=request.triggers,
        params=request.params,
        priority=request.priority,
        origin=BY_HAND,
        actor=tx.actor.signature,
        on=True,
        next_at=None,
        position=queries.head(tx.connection),
        last_at=None,
        missed=0,
    )
    queries.put(tx, checked(new, list(SPECS), tx.now))
    tx.subject = f"schedules/{request.name}"
    return queries.schedule(tx, queries.get(tx, request.name))


@handles(ops.RemoveSchedule)
def remove_schedule(request: ops.RemoveSchedule, tx: Tx) -> Schedule:
    row = queries.get(tx, request.name)
    if row.origin != BY_HAND:
        raise Invalid(f"schedule `{row.name}` stands in {bounded(row.origin)}", hint="take it out there")
    gone = queries.schedule(tx, row)
    queries.drop(tx, row)
    tx.subject = f"schedules/{row.name}"
    return gone


@handles(ops.SwitchSchedule)
def switch_schedule(request: ops.SwitchSchedule, tx: Tx) -> Schedule:
    row = queries.get(tx, request.name)
    tx.subject = f"schedules/{row.name}"
    if row.on is not request.off:
        tx.unchanged()
        return queries.schedule(tx, row)
    following = cron.parse(row.cron, row.zone).after(tx.now) if row.cron else None
    queries.switch(tx, row.key, on=not request.off, next_at=following, position=queries.head(tx.connection))
    return queries.schedule(tx, queries.get(tx, request.name))


@handles(ops.FireSchedule)
def fire_schedule(request: ops.FireSchedule, tx: Tx) -> ops.Queued:
    row = queries.get(tx, request.name)
    tx.subject = f"schedules/{row.name}"
    mark = f"call {request.mark or short()}"
    queued = queries.queue(tx.connection, row, mark, f"asked by {tx.actor.signature}", tx.now, tx.now)
    if queued:
        queries.ran(tx.connection, row.key, tx.now)
    else:
        tx.unchanged()
    return ops.Queued(queued=queued)


def from_file(store: Store, path: Path, actor: Actor, operations: list[str]) -> None:
    """What a project's file says is what is there; what it said before and says no more is gone."""
    document = project_file.load(path)
    name = document.project.name
    key = store.project_key(name, create=True)
    with store.database.read() as connection:
        known = queries.of_project(Reader(connection, store.names, key, name, actor))
        position = queries.head(connection)
    wanted = _wanted(document, path, key, actor, position)
    new = [checked(row, operations, now()) for row in wanted if not _is_known(row, known)]
    names = {row.name for row in wanted}
    old = [row for row in known if row.origin == str(path) and row.name not in names]

    def write(batch: Batch) -> None:
        tx = Tx(batch, key, name, actor)
        for row in new:
            queries.put(tx, row)
        for row in old:
            queries.drop(tx, row)

    if new or old:
        store.writer.call(write)


def _wanted(document: ProjectFile, path: Path, key: int, actor: Actor, position: int) -> list[Row]:
    found = []
    for name, one in document.pipelines.items():
        if one.schedule or one.triggers:
            found.append(
                Row(
                    key=0,
                    project=key,
                    project_name=document.project.name,
                    name=name,
                    pipeline=name,
                    folder=str(path.parent),
                    cron=one.schedule,
                    zone=document.project.timezone,
                    triggers=one.triggers,
                    params={param: str(value) for param, value in one.params.items()},
                    priority=one.priority,
                    origin=str(path),
                    actor=actor.signature,
                    on=True,
                    next_at=None,
                    position=position,
                    last_at=None,
                    missed=0,
                )
            )
    return found


SAID = ("name", "pipeline", "folder", "cron", "zone", "triggers", "params", "priority", "origin")


def _is_known(row: Row, known: list[Row]) -> bool:
    return any(all(getattr(row, name) == getattr(other, name) for name in SAID) for other in known)

"""What waits is handed out: to one server each, the most urgent first."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from tarmac.core import project_file
from tarmac.core.actor import Actor
from tarmac.core.ids import time_ordered
from tarmac.flow import queries as jobs
from tarmac.flow.schedules import queries
from tarmac.flow.schedules.operations import RunSchedule
from tarmac.flow.schedules.queries import Waiting
from tarmac.store import Store
from tarmac.store.sql import Batch, Event, Tx

OPERATION = "schedules.run"


def is_here(folder: str) -> bool:
    """Whether this machine has the project."""
    return (Path(folder) / project_file.FILE_NAME).is_file()


def claim(store: Store, now: int) -> str | None:
    """The job of the next that may start here, which is ours to start; None if there is none."""
    with store.database.read() as connection:
        waiting = queries.waiting(connection, now - jobs.SILENT_AFTER)
    for one in waiting:
        if is_here(one.schedule.folder):
            job = time_ordered()
            if store.writer.call(partial(_take, one=one, job=job)):
                return job
    return None


def _take(batch: Batch, one: Waiting, job: str) -> bool:
    if not queries.take(batch.connection, one.key, job):
        return False
    row = one.schedule
    actor = Actor.signed(row.actor)
    payload = msgspec.json.encode(RunSchedule(name=row.name, why=one.why))
    jobs.add(Tx(batch, row.project, row.project_name, actor), job, OPERATION, payload.decode())
    batch.events.append(Event(row.project_name, batch.now, actor.signature, OPERATION, f"jobs/{job}", payload))
    return True


def recover(store: Store, now: int) -> list[tuple[str, int]]:
    """Jobs of a server that was gone before it had started them; now they are ours to start, with their tries."""
    with store.database.read() as connection:
        lost = queries.lost(connection, now - jobs.SILENT_AFTER)
    found = []
    for job, tries, folder in lost:
        if is_here(folder) and store.writer.call(partial(_take_over, job=job, tries=tries)):
            found.append((job, tries + 1))
    return found


def _take_over(batch: Batch, job: str, tries: int) -> bool:
    return queries.take_over(batch.connection, job, tries, batch.now)

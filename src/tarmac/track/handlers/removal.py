"""Deleting for good: a job, some runs in each transaction, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from tarmac.core.clock import now
from tarmac.core.operation import handles
from tarmac.store.job import JobContext
from tarmac.store.sql import Batch, Connection, Event, Row, Tx
from tarmac.track import operations as ops
from tarmac.track.queries import removal
from tarmac.track.queries.removal import Gone
from tarmac.track.records import Removed

MOST_NAMED = 100
DAY = 24 * 3_600_000


@handles(ops.PurgeRuns)
def purge_runs(request: ops.PurgeRuns, job: JobContext) -> Removed:
    """Rows go here; the bytes behind them with the next gc, once nothing else needs them."""
    before = now() - int(request.days * DAY)
    after, runs, points, files, size = 0, 0, 0, 0, 0
    kept: list[str] = []
    while True:
        with job.store.database.read() as connection:
            rows = removal.candidates(connection, job.project, before, after)
            if not rows:
                break
            after = rows[-1][0]
            gone = _would_go(connection, rows, job.project)
        if not request.dry_run:  # what needs them is judged anew where they are deleted
            gone = job.store.writer.call(partial(_delete, job, [key for key, _ in rows]))
        kept += gone.kept
        runs, points, files, size = runs + len(gone.ids), points + gone.points, files + gone.files, size + gone.bytes
        job.progress(runs, 0, "runs")
    if not request.dry_run:
        job.store.writer.call(lambda batch: removal.delete_empty_experiments(_tx(job, batch), before))
    if len(kept) > MOST_NAMED:
        kept[MOST_NAMED:] = [f"… and {len(kept) - MOST_NAMED} more"]
    return Removed(runs=runs, points=points, artifacts=files, bytes=size, kept=kept)


def _would_go(connection: Connection, rows: Sequence[Row], project: int) -> Gone:
    """What would be deleted at this moment."""
    needed = removal.needed(connection, rows, project)
    free = [(key, id) for key, id in rows if key not in needed]
    weight = removal.weigh(connection, [key for key, _ in free])
    return Gone([id for _, id in free], *weight, [f"{id}: {needed[key]}" for key, id in rows if key in needed])


def _delete(job: JobContext, keys: Sequence[int], batch: Batch) -> Gone:
    gone = removal.delete(_tx(job, batch), keys)
    if not gone.ids:
        return gone
    payload = msgspec.json.encode({"runs": gone.ids})
    batch.events.append(
        Event(job.project_name, batch.now, job.actor.signature, "runs.purge", f"jobs/{job.id}", payload)
    )
    return gone


def _tx(job: JobContext, batch: Batch) -> Tx:
    return Tx(batch, job.project, job.project_name, job.actor)

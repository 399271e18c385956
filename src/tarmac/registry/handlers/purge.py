"""Deleting packages for good: a job, some of them in each transaction, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from tarmac.core.clock import now
from tarmac.core.operation import handles
from tarmac.registry import operations as ops
from tarmac.registry.queries import packages as rows
from tarmac.registry.records import Purged
from tarmac.store.job import JobContext
from tarmac.store.sql import Batch, Event, Tx

AT_ONCE = 100
MOST_NAMED = 100
DAY = 24 * 3_600_000


@handles(ops.PurgePackages)
def purge_packages(request: ops.PurgePackages, job: JobContext) -> Purged:
    """Rows go here; the bytes behind them with the next gc, once nothing else needs them."""
    before = now() - int(request.days * DAY)
    after, count, size = 0, 0, 0
    kept: list[str] = []
    while True:
        with job.store.database.read() as connection:
            found = rows.in_trash(connection, job.project, before, after, AT_ONCE)
        if not found:
            break
        after = found[-1][0]
        free = [row for row in found if row[3] is None]
        kept += [f"{id}: {thing} was made from it" for _, id, _, thing in found if thing is not None]
        if free and not request.dry_run:
            free = job.store.writer.call(partial(_delete, job, free))
        count, size = count + len(free), size + sum(row[2] for row in free)
        job.progress(count, 0, "packages")
    if len(kept) > MOST_NAMED:
        kept[MOST_NAMED:] = [f"… and {len(kept) - MOST_NAMED} more"]
    return Purged(packages=count, bytes=size, kept=kept)


def _delete(job: JobContext, found: Sequence[rows.Trash], batch: Batch) -> list[rows.Trash]:
    gone = rows.delete(Tx(batch, job.project, job.project_name, job.actor), found)
    if gone:
        payload = msgspec.json.encode({"packages": [row[1] for row in gone]})
        batch.events.append(
            Event(job.project_name, batch.now, job.actor.signature, "packages.purge", f"jobs/{job.id}", payload)
        )
    return gone

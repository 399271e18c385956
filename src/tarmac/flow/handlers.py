"""How jobs are seen, stopped and taken up again. Who starts their processes is the door."""

from __future__ import annotations

import tarmac.flow.reproduce.handlers
import tarmac.flow.schedules.handlers  # noqa: F401 - runs done again, and pipelines that start by themselves
from tarmac.core.actor import EVERYWHERE
from tarmac.core.clock import now
from tarmac.core.errors import Conflict, Forbidden
from tarmac.core.operation import SPECS, handles
from tarmac.flow import operations as ops
from tarmac.flow import queries, recording
from tarmac.flow.records import OPEN, Job, LogPart
from tarmac.store.sql import Reader, Tx

__all__ = ["recording"]  # whose handlers are found here


@handles(ops.ListJobs)
def list_jobs(request: ops.ListJobs, read: Reader) -> ops.JobPage:
    found = queries.jobs(read, request.state, request.before, request.limit, now())
    return ops.JobPage(jobs=found, next=found[-1].id if len(found) == request.limit else None)


@handles(ops.GetJob)
def get_job(request: ops.GetJob, read: Reader) -> Job:
    return queries.job(read, request.id, now())


@handles(ops.ReadJobLog)
def read_job_log(request: ops.ReadJobLog, read: Reader) -> LogPart:
    text, ended = queries.log(read, request.id, request.start)
    return LogPart(text=text, next=request.start + len(text), ended=bool(ended))


@handles(ops.CancelJob)
def cancel_job(request: ops.CancelJob, tx: Tx) -> Job:
    job = queries.job(tx, request.id, tx.now)
    _refuse_strangers(tx, job)
    if job.state == "interrupted":
        queries.give_up(tx, job.id)
    elif job.state in OPEN:
        if not queries.ask_to_cancel(tx, job.id):
            tx.unchanged()
    else:
        raise Conflict(f"job {job.id} has ended already: {job.state}")
    return queries.job(tx, request.id, tx.now)


@handles(ops.ResumeJob)
def resume_job(request: ops.ResumeJob, tx: Tx) -> Job:
    job = queries.job(tx, request.id, tx.now)
    _refuse_strangers(tx, job)
    if job.state not in ("interrupted", "cancelled", "failed"):
        raise Conflict(f"job {job.id} is {job.state}: there is nothing to resume")
    queries.requeue(tx, job.id)
    return queries.job(tx, job.id, tx.now)


def _refuse_strangers(tx: Tx, job: Job) -> None:
    """Who may not start a job may neither stop it nor start it again."""
    spec = SPECS.get(job.operation)
    if spec is not None:
        where = EVERYWHERE if spec.scope == "workspace" else tx.project_name
        if not tx.actor.may(spec.needs, where):
            raise Forbidden.to(tx.actor.name, job.operation, spec.needs, where)

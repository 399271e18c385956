"""What can be asked about jobs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tarmac.core.names import Id, Limit
from tarmac.core.operation import Command, Query, operation
from tarmac.flow.records import Job, JobState, LogPart


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    jobs: list[Job]
    next: str | None = None


@operation("jobs.ls", needs="read")
class ListJobs(Query[JobPage], frozen=True, kw_only=True):
    """Jobs, newest first."""

    state: JobState | None = None
    limit: Limit = 100
    before: Annotated[str, Meta(max_length=64)] = ""


@operation("jobs.show", needs="read", quick=True, positional=("id",))
class GetJob(Query[Job], frozen=True, kw_only=True):
    """One job: how far it is, and its answer or error."""

    id: Id


@operation("jobs.logs", needs="read", positional=("id",))
class ReadJobLog(Query[LogPart], frozen=True, kw_only=True):
    """What a job has written, from a character on."""

    id: Id
    start: Annotated[int, Meta(ge=0, le=10_000_000)] = 0


@operation("jobs.cancel", needs="write", positional=("id",))
class CancelJob(Command[Job], frozen=True, kw_only=True):
    """Ask a job to stop at its next clean place."""

    id: Id


@operation("jobs.resume", needs="write", positional=("id",))
class ResumeJob(Command[Job], frozen=True, kw_only=True):
    """Let a job that was interrupted, cancelled or failed go on from its last checkpoint."""

    id: Id

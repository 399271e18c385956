"""What can be asked about jobs, and about pipelines and the results of their steps."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

import tarmac.flow.reproduce.operations  # runs done again
import tarmac.flow.schedules.operations  # noqa: F401 - pipelines that start by themselves
from tarmac.core.names import NO_CONTROL, Id, Limit, Name, Value
from tarmac.core.operation import Command, Query, operation
from tarmac.flow.records import CodePart, Item, Job, JobState, LogPart, StepResult, StepRun


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


# --- pipelines ---

Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="the key of a result: 64 hex digits")]
Keys = Annotated[list[Key], Meta(max_length=500, description="at most 500 keys")]
PipelineName = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_CONTROL)]
Log = tuple[Id, int, Value]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    results: list[StepResult]
    next: str | None = None


class Items(msgspec.Struct, frozen=True, kw_only=True):
    items: list[Item]
    next: str | None = None


class Code(msgspec.Struct, frozen=True, kw_only=True):
    parts: list[CodePart]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """How much was kept, or the blobs that have to be uploaded first."""

    steps: int = 0
    missing: list[str] = []


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    results: int


class PipelineSteps(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    pipeline: str
    steps: list[StepRun]


class NewItems(msgspec.Struct, frozen=True, kw_only=True):
    """Results of items of one `each`; and the items that are gone."""

    group: Key
    node: Name
    new: Annotated[list[Item], Meta(max_length=10_000)] = []
    gone: Annotated[list[Key], Meta(max_length=100_000)] = []


class NewStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step's run: it starts, or it has ended."""

    number: int
    step: StepRun
    status: Literal["running", "finished", "failed", "killed"] = "running"
    ended_at: int = 0
    params: Annotated[dict[Name, Value], Meta(max_length=10_000)] = {}
    metrics: Annotated[dict[Name, float], Meta(max_length=1000)] = {}
    used: Annotated[list[Name], Meta(max_length=10_000, description="things of lineage it was given")] = []
    result: StepResult | None = None


@operation("results.newest", needs="read", positional=("pipeline",))
class NewestResults(Query[Results], frozen=True, kw_only=True):
    """Of each step of a pipeline the result that was used last."""

    pipeline: PipelineName
    after: Annotated[str, Meta(max_length=250)] = ""
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 10_000


@operation("results.find", needs="read", positional=("keys",))
class FindResults(Query[Results], frozen=True, kw_only=True):
    """Results by their keys; those that are not there are left out."""

    keys: Keys


@operation("results.ls", needs="read")
class ListResults(Query[Results], frozen=True, kw_only=True):
    """Results of steps, the last used first."""

    pipeline: PipelineName | None = None
    limit: Limit = 100
    before: Annotated[int, Meta(ge=0, description="used before this time, in milliseconds; 0 is now")] = 0


@operation("results.items", needs="read", positional=("group",))
class ListItems(Query[Items], frozen=True, kw_only=True):
    """What was made of the items of one `each`, by their keys."""

    group: Key
    after: Annotated[str, Meta(max_length=64, pattern=r"^([0-9a-f]{2})*$(?!\n)", description="hex digits")] = ""
    limit: Annotated[int, Meta(ge=1, le=200_000)] = 1000


@operation("results.code", needs="read", positional=("digests",))
class ReadCode(Query[Code], frozen=True, kw_only=True):
    """The text of functions, classes and constants that results were made by."""

    digests: Annotated[list[Id], Meta(max_length=500)]


@operation("results.prune", needs="write")
class PruneResults(Command[Dropped], frozen=True, kw_only=True):
    """Forget results that no run has used for so long; their bytes go with the next gc. At most 1000 at a time."""

    days: Annotated[float, Meta(ge=0, le=36500, description="how long unused")] = 30


@operation("pipelines.record", needs="write", positional=("run",))
class RecordSteps(Command[Recorded], frozen=True, kw_only=True):
    """Keep what became of steps in a run of a pipeline: their runs, results, logs and lineage. Sent by who runs it."""

    run: Id
    pipeline: PipelineName
    experiment: Annotated[str, Meta(min_length=1, max_length=500, pattern=NO_CONTROL)]
    steps: Annotated[list[NewStep], Meta(max_length=10_000)] = []
    reused: Annotated[list[tuple[int, StepRun]], Meta(max_length=100_000)] = []
    code: Annotated[list[CodePart], Meta(max_length=100_000)] = []
    items: Annotated[list[NewItems], Meta(max_length=1000)] = []
    logs: Annotated[list[Log], Meta(max_length=10_000)] = []
    alive: Annotated[list[Id], Meta(max_length=10_000)] = []


@operation("pipelines.show", needs="read", positional=("run",))
class ShowPipeline(Query[PipelineSteps], frozen=True, kw_only=True):
    """What became of each step in a run of a pipeline, and why."""

    run: Id

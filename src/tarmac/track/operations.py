"""What can be asked about experiments and runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tarmac.core.names import NO_CONTROL, Folder, Id, Limit, Name, Note, RelativePath, Value
from tarmac.core.operation import Command, Job, Query, operation
from tarmac.store.records import File
from tarmac.track.records import (
    Artifact,
    Curve,
    Difference,
    Experiment,
    ExperimentInput,
    Group,
    Input,
    Logged,
    LogPart,
    Metric,
    Number,
    Removed,
    Run,
    RunStatus,
    WholeRun,
)

Cursor = Annotated[str, Meta(max_length=4000, description="the `next` of the page before")]
Filter = Annotated[
    str, Meta(max_length=20_000, description="which runs, like: metrics.acc > 0.9 AND params.depth = '6'")
]
Orders = Annotated[list[str], Meta(max_length=10, description="fields to sort by, each like: metrics.acc DESC")]
Columns = Annotated[
    list[str], Meta(max_length=1000, description="metrics, params, tags to answer with, each like: metrics.acc")
]
ExperimentName = Annotated[
    str,
    Meta(min_length=1, max_length=500, pattern=NO_CONTROL, description="1 to 500 characters, no control characters"),
]
ExperimentId = Annotated[str, Meta(pattern=r"^(0|[1-9]\d{0,17})$(?!\n)", description="at most 18 digits")]
Experiments = Annotated[list[ExperimentName], Meta(max_length=1000, description="names or ids; none means all")]
Ids = Annotated[list[Id], Meta(max_length=10_000, description="at most 10,000 ids")]
Step = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
At = Annotated[int, Meta(ge=0, le=2**62, description="milliseconds since 1970; 0 is now")]
RunId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", description="32 hex digits")]
Point = tuple[Name, Number, Step, At]
Points = Annotated[list[Point], Meta(max_length=100_000, description="points as [key, value, step, time]")]
Texts = Annotated[dict[Name, Value], Meta(max_length=10_000, description="at most 10,000 names with text")]


class ExperimentPage(msgspec.Struct, frozen=True, kw_only=True):
    experiments: list[Experiment]
    next: str | None = None


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    runs: list[Run]
    next: str | None = None


class Count(msgspec.Struct, frozen=True, kw_only=True):
    count: int


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    groups: list[Group]


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    curves: list[Curve]


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one run."""

    run: Run
    metrics: list[Metric]
    inputs: list[Input]
    artifacts: int
    artifact_bytes: int
    facts: dict[str, Any]
    source: str | None


class WholeRuns(msgspec.Struct, frozen=True, kw_only=True):
    runs: list[WholeRun]
    next: str | None = None


class InputPage(msgspec.Struct, frozen=True, kw_only=True):
    inputs: list[ExperimentInput]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    runs: list[str]
    differences: list[Difference]


class ArtifactPage(msgspec.Struct, frozen=True, kw_only=True):
    artifacts: list[Artifact]
    next: str | None = None


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """How many files were attached or taken away, or the blobs that have to be uploaded first."""

    files: int
    missing: list[str] = []


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    runs: int


# --- experiments ---


@operation("experiments.create", needs="write", positional=("name",))
class CreateExperiment(Command[Experiment], frozen=True, kw_only=True):
    """Make a named group of runs."""

    name: ExperimentName
    note: Note = ""
    tags: Texts = {}
    location: Annotated[Value, Meta(description="where its files are wanted: a label, they lie in the blob store")] = ""
    id: Annotated[ExperimentId | None, Meta(description="one that it had elsewhere; by default a new one")] = None


@operation("experiments.show", needs="read", quick=True, positional=("name",))
class GetExperiment(Query[Experiment], frozen=True, kw_only=True):
    """One experiment, by its name or id."""

    name: ExperimentName


@operation("experiments.ls", needs="read")
class ListExperiments(Query[ExperimentPage], frozen=True, kw_only=True):
    """Experiments by name."""

    limit: Limit = 100
    after: Annotated[str, Meta(max_length=500)] = ""
    deleted: bool = False


@operation("experiments.search", needs="read")
class SearchExperiments(Query[ExperimentPage], frozen=True, kw_only=True):
    """Experiments that pass a filter, sorted, a page at a time; the newest first by default."""

    filter: Annotated[str, Meta(max_length=20_000, description="like: name LIKE 'base%' AND tags.team = 'vision'")] = ""
    order: Annotated[
        list[str], Meta(max_length=5, description="name, id, created or updated, each like: name DESC")
    ] = []
    deleted: Literal["no", "only", "also"] = "no"
    default: Annotated[ExperimentName, Meta(description="what the project's default experiment is called here")] = (
        "default"
    )
    limit: Limit = 100
    cursor: Cursor = ""


@operation("experiments.tag", needs="write", positional=("name",))
class TagExperiment(Command[Experiment], frozen=True, kw_only=True):
    """Set and remove tags of an experiment."""

    name: ExperimentName
    set: Texts = {}
    unset: list[Name] = []


@operation("experiments.rm", needs="write", positional=("name",))
class DeleteExperiment(Command[Experiment], frozen=True, kw_only=True):
    """Put an experiment and its runs into the trash. It keeps its name until it is purged or renamed."""

    name: ExperimentName


@operation("experiments.restore", needs="write", positional=("name",))
class RestoreExperiment(Command[Experiment], frozen=True, kw_only=True):
    """Take an experiment, and the runs that went with it, out of the trash."""

    name: ExperimentName


@operation("experiments.rename", needs="write", positional=("name", "to"))
class RenameExperiment(Command[Experiment], frozen=True, kw_only=True):
    """Give an experiment, deleted or not, another name."""

    name: ExperimentName
    to: ExperimentName


# --- runs ---


@operation("runs.create", needs="write", positional=("experiment",))
class CreateRun(Command[Run], frozen=True, kw_only=True):
    """Start a run in an experiment; an experiment that does not exist yet is made."""

    experiment: ExperimentName = "default"
    name: Name | None = None
    parent: Id | None = None
    params: Texts = {}
    tags: Texts = {}
    note: Note = ""
    beats: Annotated[bool, Meta(description="the run will send heartbeats, and counts as killed when they stop")] = (
        False
    )
    started_at: At = 0
    id: Annotated[
        RunId | None, Meta(description="made by the caller; a run that is there already is answered with")
    ] = None
    exists: Annotated[bool, Meta(description="the experiment has to be there: it is not made")] = False


@operation("runs.log", needs="write", quick=True, positional=("id",))
class LogRun(Command[Logged], frozen=True, kw_only=True):
    """Add points of metrics, params and tags to a run. Sent again, nothing is stored twice."""

    id: Id
    metrics: Points = []
    params: Texts = {}
    tags: Texts = {}
    ended: Annotated[bool, Meta(description="also when the run has ended")] = False
    dated: Annotated[bool, Meta(description="every point has its time: 0 is 1970, not now")] = False
    spool: Annotated[Id | None, Meta(description="the spool this comes from; taken in once up to each position")] = None
    position: Annotated[int, Meta(ge=0, le=2**62, description="where in the spool this batch ends")] = 0


@operation("runs.beat", needs="write", positional=("id",))
class BeatRun(Command[Changed], frozen=True, kw_only=True):
    """Say that a run is alive."""

    id: Id


@operation("runs.end", needs="write", positional=("id",))
class EndRun(Command[Run], frozen=True, kw_only=True):
    """End a run; its params, last metrics and artifacts are sealed as digests. Ending it again changes nothing.

    A run that counts as killed because it fell silent takes the end that it really had.
    """

    id: Id
    status: Literal["finished", "failed", "killed"] = "finished"
    at: At = 0


@operation("runs.resume", needs="write", positional=("id",))
class ResumeRun(Command[Run], frozen=True, kw_only=True):
    """Let a run that has ended go on."""

    id: Id


@operation("runs.tag", needs="write", positional=("id",))
class TagRun(Command[Changed], frozen=True, kw_only=True):
    """Set and remove tags of a run."""

    id: Id
    set: Texts = {}
    unset: list[Name] = []


@operation("runs.edit", needs="write", positional=("id",))
class EditRun(Command[Run], frozen=True, kw_only=True):
    """Give a run another name or note."""

    id: Id
    name: Name | None = None
    note: Note | None = None


@operation("runs.move", needs="write", positional=("ids",))
class MoveRuns(Command[Changed], frozen=True, kw_only=True):
    """Move runs to another experiment, with all they have."""

    ids: Ids
    to: ExperimentName


@operation("runs.rm", needs="write", positional=("ids",))
class DeleteRuns(Command[Changed], frozen=True, kw_only=True):
    """Put runs into the trash, where they can be restored until they are purged."""

    ids: Ids


@operation("runs.restore", needs="write", positional=("ids",))
class RestoreRuns(Command[Changed], frozen=True, kw_only=True):
    """Take runs out of the trash."""

    ids: Ids


@operation("runs.purge", needs="admin")
class PurgeRuns(Job[Removed], frozen=True, kw_only=True):
    """Delete what has been in the trash long enough, rows and bytes. What something else needs is kept and named."""

    days: Annotated[float, Meta(ge=0, le=36500, description="how long it must have been in the trash")] = 30
    dry_run: bool = False


@operation("runs.sweep", needs="admin", scope="workspace")
class SweepRuns(Command[Changed], frozen=True, kw_only=True):
    """End runs whose heartbeats have stopped: they were killed. A server does this by itself."""


# --- looking ---


@operation("runs.show", needs="read", quick=True, positional=("id",))
class GetRun(Query[Run], frozen=True, kw_only=True):
    """One run with its params, tags and last metrics."""

    id: Id


@operation("runs.read", needs="read", positional=("ids",))
class ReadRuns(Query[WholeRuns], frozen=True, kw_only=True):
    """Runs with all they carry: those of these ids, in their order, or a page of those that pass a filter."""

    ids: Annotated[
        list[Id], Meta(max_length=1000, description="up to 1000 ids; one that is not there is left out")
    ] = []
    filter: Filter = ""
    order: Orders = []
    experiment: Experiments = []
    deleted: Literal["no", "only", "also"] = "no"
    limit: Limit = 100
    cursor: Cursor = ""


@operation("runs.details", needs="read", positional=("id",))
class GetDetails(Query[Details], frozen=True, kw_only=True):
    """All that is known of one run: summaries of its curves, inputs, how it was started."""

    id: Id


@operation("runs.ls", needs="read")
class ListRuns(Query[RunPage], frozen=True, kw_only=True):
    """Runs that pass a filter, sorted, a page at a time; the newest first by default."""

    filter: Filter = ""
    order: Orders = []
    experiment: Experiments = []
    status: RunStatus | None = None
    columns: Columns | None = None
    deleted: Literal["no", "only", "also"] = "no"
    limit: Limit = 100
    cursor: Cursor = ""


@operation("runs.count", needs="read")
class CountRuns(Query[Count], frozen=True, kw_only=True):
    """How many runs pass a filter."""

    filter: Filter = ""
    experiment: Experiments = []
    deleted: Literal["no", "only", "also"] = "no"


@operation("runs.group", needs="read", positional=("by",))
class GroupRuns(Query[Groups], frozen=True, kw_only=True):
    """All matching runs by the values of params, tags or attributes, with mean, spread and extremes of metrics."""

    by: Annotated[list[str], Meta(min_length=1, max_length=5, description="fields like params.depth or status")]
    metrics: Annotated[list[Name], Meta(max_length=20, description="names of metrics")] = []
    filter: Filter = ""
    experiment: Experiments = []
    limit: Limit = 100


@operation("runs.compare", needs="read", positional=("ids",))
class CompareRuns(Query[Comparison], frozen=True, kw_only=True):
    """In what runs differ: params, metrics, tags, inputs, code, packages, machine."""

    ids: Annotated[list[Id], Meta(min_length=2, max_length=50, description="2 to 50 ids")]
    same: Annotated[bool, Meta(description="also what does not differ")] = False


@operation("metrics.history", needs="read", positional=("run", "key"))
class GetHistory(Query[Curve], frozen=True, kw_only=True):
    """The points of one metric of one run, in order: all, some from a place on, or some evenly chosen."""

    run: Id
    key: Name
    first: Annotated[int, Meta(ge=0, description="how many points to pass over")] = 0
    limit: Annotated[int, Meta(ge=1, description="how many points at most")] | None = None
    steps: Annotated[tuple[Step, Step] | None, Meta(description="only points from one step to another")] = None
    evenly: Annotated[int, Meta(ge=1, description="so many points, evenly chosen, with the last")] | None = None


@operation("metrics.sample", needs="read", positional=("runs",))
class SampleCurves(Query[Curves], frozen=True, kw_only=True):
    """Curves of many runs, each cut down to so many points that keep its first, last, lowest and highest."""

    runs: Annotated[list[Id], Meta(min_length=1, max_length=200, description="1 to 200 ids")]
    keys: Annotated[list[Name], Meta(max_length=100, description="names of metrics; none means all")] = []
    points: Annotated[int, Meta(ge=2, le=10_000, description="2 to 10,000")] = 1000


# --- what belongs to a run ---


@operation("runs.use", needs="write", positional=("id", "name"))
class UseInput(Command[Changed], frozen=True, kw_only=True):
    """Record that a run was given a data set or package; it becomes part of its lineage."""

    id: Id
    name: ExperimentName
    version: Annotated[str, Meta(max_length=250)] = ""
    about: Annotated[str, Meta(max_length=20_000_000, pattern=r"^[^\x00\ud800-\udfff]*$")] = ""
    context: Annotated[
        str, Meta(max_length=250, pattern=NO_CONTROL, description="what for: training, validation …")
    ] = ""


@operation("runs.inputs", needs="read", positional=("experiments",))
class ListInputs(Query[InputPage], frozen=True, kw_only=True):
    """Which data sets and packages the runs of experiments were given, the newest first."""

    experiments: Annotated[list[ExperimentName], Meta(min_length=1, max_length=1000, description="names or ids")]
    limit: Limit = 1000


@operation("runs.describe", needs="write", positional=("id",))
class DescribeRun(Command[Changed], frozen=True, kw_only=True):
    """Keep how a run was started: command line, commit, packages, machine, and the manifest of its source tree."""

    id: Id
    facts: dict[str, Any]
    source: Id | None = None


@operation("runs.attach", needs="write", positional=("id",))
class AttachFiles(Command[Attached], frozen=True, kw_only=True):
    """Give a run files, as uploaded blobs; a path that is there already gets the new content."""

    id: Id
    files: Annotated[list[File], Meta(min_length=1, max_length=10_000, description="1 to 10,000 files")]


@operation("runs.detach", needs="write", positional=("id", "path"))
class DetachFiles(Command[Attached], frozen=True, kw_only=True):
    """Take a file, or all files below a folder, from a run."""

    id: Id
    path: RelativePath


@operation("runs.files", needs="read", positional=("id", "folder"))
class ListArtifacts(Query[ArtifactPage], frozen=True, kw_only=True):
    """The files and folders of a run, one folder at a time or all of them."""

    id: Id
    folder: Folder = ""
    all: Annotated[bool, Meta(description="files at every depth, no folders")] = False
    after: Annotated[str, Meta(max_length=4096)] = ""
    limit: Limit = 1000


@operation("runs.write", needs="write", positional=("id",))
class WriteLog(Command[Changed], frozen=True, kw_only=True):
    """Add to what a run has printed, from a character on; sent again it is stored once."""

    id: Id
    start: Annotated[int, Meta(ge=0)]
    text: Value


@operation("runs.logs", needs="read", positional=("id",))
class ReadLog(Query[LogPart], frozen=True, kw_only=True):
    """What a run has printed, from a character on."""

    id: Id
    start: Annotated[int, Meta(ge=0)] = 0


# --- files that belong to no run ---


@operation("files.put", needs="write")
class PutFiles(Command[Attached], frozen=True, kw_only=True):
    """Give the project files that belong to no run, as uploaded blobs; a path that is there gets the new content."""

    files: Annotated[list[File], Meta(min_length=1, max_length=10_000, description="1 to 10,000 files")]


@operation("files.rm", needs="write", positional=("path",))
class RemoveFiles(Command[Attached], frozen=True, kw_only=True):
    """Take away a file, or all files below a folder, that belong to no run."""

    path: RelativePath


@operation("files.ls", needs="read", positional=("folder",))
class ListFiles(Query[ArtifactPage], frozen=True, kw_only=True):
    """The files and folders of the project that belong to no run, one folder at a time."""

    folder: Folder = ""
    after: Annotated[str, Meta(max_length=4096)] = ""
    limit: Limit = 1000

"""What can be asked about experiments and runs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tarmac.core.names import Id, Limit, Name, Note
from tarmac.core.operation import Command, Query, operation
from tarmac.track.records import Experiment, Run, RunStatus

Cursor = Annotated[str, Meta(max_length=100, description="the `next` of the page before")]


class ExperimentPage(msgspec.Struct, frozen=True, kw_only=True):
    experiments: list[Experiment]
    next: str | None = None


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    runs: list[Run]
    next: str | None = None


@operation("experiments.create", needs="write", positional=("name",))
class CreateExperiment(Command[Experiment], frozen=True, kw_only=True):
    """Make a named group of runs."""

    name: Name
    note: Note = ""


@operation("experiments.show", needs="read", quick=True, positional=("name",))
class GetExperiment(Query[Experiment], frozen=True, kw_only=True):
    """One experiment, by its name or id."""

    name: Name


@operation("experiments.ls", needs="read")
class ListExperiments(Query[ExperimentPage], frozen=True, kw_only=True):
    """Experiments by name."""

    limit: Limit = 100
    after: Annotated[str, Meta(max_length=250)] = ""


@operation("runs.create", needs="write", positional=("experiment",))
class CreateRun(Command[Run], frozen=True, kw_only=True):
    """Start a run in an experiment; an experiment that does not exist yet is made."""

    experiment: Name = "default"
    name: Name | None = None
    parent: Id | None = None


@operation("runs.show", needs="read", quick=True, positional=("id",))
class GetRun(Query[Run], frozen=True, kw_only=True):
    """One run."""

    id: Id


@operation("runs.ls", needs="read")
class ListRuns(Query[RunPage], frozen=True, kw_only=True):
    """Runs, newest first."""

    experiment: Name | None = None
    status: RunStatus | None = None
    limit: Limit = 100
    before: Cursor = ""


@operation("runs.end", needs="write", positional=("id",))
class EndRun(Command[Run], frozen=True, kw_only=True):
    """End a run. Ending it again with the same status changes nothing."""

    id: Id
    status: Literal["finished", "failed", "killed"] = "finished"

"""What can be asked about pipelines that start by themselves."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tarmac.core.names import NO_CONTROL, Id, Limit, Name, Value
from tarmac.core.operation import Command, Job, Query, operation
from tarmac.flow.schedules.records import Firing, Schedule, Trigger

Folder = Annotated[
    str, Meta(max_length=4096, pattern=NO_CONTROL, description="the project's folder on the server's machine")
]


class ScheduleList(msgspec.Struct, frozen=True, kw_only=True):
    schedules: list[Schedule]


class FiringPage(msgspec.Struct, frozen=True, kw_only=True):
    firings: list[Firing]
    next: str | None = None


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it was put into the queue; not if it had been under the same mark."""

    queued: bool


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What a schedule started."""

    run: str | None
    seconds: float


@operation("schedules.ls", needs="read")
class ListSchedules(Query[ScheduleList], frozen=True, kw_only=True):
    """What starts by itself, when it did last and when it does next; the next first."""


@operation("schedules.history", needs="read", positional=("name",))
class ListFirings(Query[FiringPage], frozen=True, kw_only=True):
    """What was started by schedules, and what waits: newest first."""

    name: Name | None = None
    limit: Limit = 100
    before: Annotated[str, Meta(max_length=20, pattern=r"^\d*$(?!\n)")] = ""


@operation("schedules.add", needs="admin", positional=("name",))
class AddSchedule(Command[Schedule], frozen=True, kw_only=True):
    """Start a pipeline by the clock, by events or from outside; one of this name is changed."""

    name: Name
    pipeline: Annotated[Name | None, Meta(description="a pipeline of tarmac.toml, or module:function; the name")] = None
    folder: Folder = ""
    cron: Annotated[str, Meta(max_length=200, description="like `0 3 * * 1`")] = ""
    zone: Annotated[str, Meta(max_length=100, description="like Europe/Prague")] = "UTC"
    triggers: Annotated[list[Trigger], Meta(max_length=20)] = []
    params: Annotated[dict[Name, Value], Meta(max_length=200)] = {}
    priority: Annotated[int, Meta(ge=-1000, le=1000, description="what is higher goes first")] = 0


@operation("schedules.rm", needs="admin", positional=("name",))
class RemoveSchedule(Command[Schedule], frozen=True, kw_only=True):
    """Forget a schedule and what it has waiting. What runs goes on."""

    name: Name


@operation("schedules.switch", needs="write", positional=("name",))
class SwitchSchedule(Command[Schedule], frozen=True, kw_only=True):
    """Let a schedule rest, or go on; what falls due meanwhile is not made up for."""

    name: Name
    off: bool = False


@operation("schedules.fire", needs="write", positional=("name",))
class FireSchedule(Command[Queued], frozen=True, kw_only=True):
    """Start it now: by hand, or from outside as a webhook. The same mark starts it once."""

    name: Name
    mark: Annotated[str, Meta(max_length=200, pattern=NO_CONTROL, description="what a sender repeats it under")] = ""


@operation("schedules.run", needs="admin", positional=("name",))
class RunSchedule(Job[Started], frozen=True, kw_only=True):
    """Run what a schedule starts, now and beside the queue. A server does this for whatever falls due."""

    name: Name
    why: Annotated[str, Meta(max_length=500)] = "by hand"
    firing: Id | None = None

"""What was tried."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

RunStatus = Literal["running", "finished", "failed", "killed"]
Number = Annotated[
    float | Literal["NaN", "Infinity", "-Infinity"], Meta(description="a number; NaN and infinities as text")
]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A named group of runs."""

    id: str
    name: str
    note: str
    created_at: int
    deleted_at: int | None = None
    updated_at: int | None = None
    location: str = ""
    tags: dict[str, str] = {}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of anything, with the newest value of each of its metrics."""

    id: str
    name: str
    experiment: str
    status: RunStatus
    parent: str | None
    actor: str
    started_at: int
    ended_at: int | None
    deleted_at: int | None = None
    note: str = ""
    metrics: dict[str, Number] = {}
    params: dict[str, str] = {}
    tags: dict[str, str] = {}


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One curve summed up. `last` is the value with the highest step, then time, then value."""

    key: str
    last: Number
    step: int
    at: int
    min: Number
    max: Number
    points: int


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """A data set or package a run was given."""

    name: str
    version: str
    about: str = ""
    context: str = ""


class ExperimentInput(msgspec.Struct, frozen=True, kw_only=True):
    """A data set or package that runs of an experiment were given."""

    experiment: str
    name: str
    version: str
    context: str


class WholeRun(Run, frozen=True, kw_only=True):
    """A run with all it carries: also the id of its experiment, where each metric stands, and its inputs."""

    experiment_id: str
    moments: dict[str, tuple[int, int]] = {}
    """Step and time of the newest value of each metric."""
    inputs: list[Input] = []


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Points of one metric of one run, in order; `total` is how many there are in the store."""

    run: str
    key: str
    total: int
    steps: list[int]
    times: list[int]
    values: list[Number]


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a run, or a folder when `digest` is null."""

    path: str
    size: int
    digest: str | None = None
    at: int | None = None


class Logged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was new in a batch, and what had been there already."""

    points: int
    repeated: int
    position: int = 0
    """How far the spool that the batch came from is in the store."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that share the values of some fields, and what their metrics come to."""

    by: dict[str, str | None]
    runs: int
    metrics: dict[str, Spread]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    n: int
    mean: Number | None
    std: Number | None
    min: Number | None
    max: Number | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in which runs differ: its value in each of them, null where it is missing."""

    what: str
    values: list[str | None]


class LogPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what a run printed, and where the next one starts."""

    text: str
    next: int
    ended: bool


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """How much went, and what stayed because something needs it."""

    runs: int
    points: int
    artifacts: int
    bytes: int
    kept: list[str] = []

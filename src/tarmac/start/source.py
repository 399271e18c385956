"""What every source of an import yields: plain records, in the words of where they come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, Protocol

from tarmac.core.errors import bounded
from tarmac.start.operations import Skipped

RUN_ID = re.compile(r"[0-9a-f]{32}")
PACKAGE_ID = re.compile(r"m-([0-9a-f]{32})")
PROMPT_TAG = "mlflow.prompt.is_prompt"
DELETED_VERSION = "Deleted_Internal"
PARENT_TAG = "mlflow.parentRunId"
MOST_NAMED = 200


class Missed:
    """What could not be carried: named up to two hundred times, counted beyond."""

    def __init__(self, before: Sequence[Skipped] = (), more: int = 0) -> None:
        self.named = list(before)
        self.more = more

    def add(self, what: str, why: str) -> None:
        entry = Skipped(what=bounded(what, 300), why=bounded(why, 300))
        if len(self.named) == MOST_NAMED:
            self.more += 1
        elif entry not in self.named:  # an import that is resumed looks at some things again
            self.named.append(entry)

    def all(self) -> list[Skipped]:
        more = [Skipped(what=f"{self.more} more", why="only the first are named")] if self.more else []
        return self.named + more


@dataclass(frozen=True, slots=True)
class FoundExperiment:
    id: str
    name: str
    deleted: bool = False
    location: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    created_at: int | None = None
    updated_at: int | None = None


class Head(NamedTuple):
    """As much of a run as is kept in memory for all of them."""

    id: str
    experiment: str
    parent: str


@dataclass(frozen=True, slots=True)
class FoundInput:
    """A data set that a run was given, as MLflow keeps it."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundRun:
    id: str
    name: str
    status: str
    started_at: int | None
    ended_at: int | None
    deleted: bool
    user: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list[FoundInput] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    """Ids of logged models."""
    made: list[tuple[str, int]] = field(default_factory=list)
    """Ids of logged models, and the step at which each was made."""


class FoundPoint(NamedTuple):
    key: str
    value: float
    step: int
    at: int


class FoundFile(NamedTuple):
    path: str
    open: Callable[[], BinaryIO]


class FoundMeasure(NamedTuple):
    """How well a logged model did."""

    key: str
    value: float
    step: int
    at: int
    run: str = ""
    data: str = ""
    data_digest: str = ""


@dataclass(frozen=True, slots=True)
class FoundPackage:
    """A logged model. `state` is the word that tarmac has for it, `location` where its files are."""

    id: str
    experiment: str
    name: str
    kind: str
    state: str
    run: str
    created_at: int | None
    updated_at: int | None
    deleted: bool = False
    location: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    measures: list[FoundMeasure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FoundModel:
    name: str
    note: str
    created_at: int | None
    updated_at: int | None
    tags: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """`source` is what its maker wrote, `location` what that came to; `package` a logged model's id, where it says."""

    number: int
    source: str
    location: str
    package: str
    run: str
    link: str
    note: str
    stage: str
    status: str
    user: str
    created_at: int | None
    updated_at: int | None
    tags: dict[str, str] = field(default_factory=dict)


class Source(Protocol):
    """Read in this order; whatever is unreadable goes to `missed`, and the rest goes on."""

    missed: Missed

    def experiments(self) -> list[FoundExperiment]: ...
    def heads(self) -> list[Head]:
        """All runs, always in the same order."""

    def run(self, head: Head) -> FoundRun | None: ...
    def points(self, head: Head) -> Iterator[FoundPoint]: ...
    def files(self, head: Head) -> Iterator[FoundFile]: ...
    def packages(self) -> Iterator[FoundPackage]:
        """Logged models of the experiments."""

    def package_files(self, package: FoundPackage) -> Iterator[FoundFile]: ...
    def models(self) -> list[FoundModel]: ...
    def versions(self, model: FoundModel) -> list[FoundVersion]:
        """Those that were not deleted, by their numbers."""

    def close(self) -> None: ...

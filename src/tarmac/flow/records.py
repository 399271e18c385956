"""Work that takes longer than an answer may; and what pipelines leave behind."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tarmac.core.names import Digest
from tarmac.store.records import File

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
OPEN: tuple[JobState, ...] = ("queued", "running")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of slow work: what was asked, how far it is, what came of it."""

    id: str
    operation: str
    state: JobState
    actor: str
    done: int
    total: int
    message: str
    tries: int
    created_at: int
    heartbeat_at: int
    ended_at: int | None
    answer: Any = None
    error: Any = None


class LogPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a job's log, and where the next one starts."""

    text: str
    next: int
    ended: bool


# --- pipelines ---

Mark = Literal["run", "reuse", "depends", "skip"]
Done = Literal["ran", "reused", "skipped", "failed", "running"]


class Leaf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A typed thing in a step's result: how it is written, and its blobs."""

    codec: str
    files: list[File]
    inline: bytes = b""
    name: str = ""


class Output(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a step returned: what stands for its content, and where its bytes are."""

    digest: Digest
    root: bytes = b""
    root_digest: str = ""
    root_size: int = 0
    leaves: list[Leaf] = []
    pickled: bool = False


class MadeOf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a step's result was made of. What it comes to is its key."""

    step: str = ""
    code: dict[str, str] = {}
    values: dict[str, tuple[str, str]] = {}
    files: dict[str, str] = {}
    steps: dict[str, tuple[str, str]] = {}
    packages: dict[str, str] = {}
    env: dict[str, str] = {}


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a step made, by the key of what it was made from."""

    key: Digest
    pipeline: str
    node: str
    step: str
    run: str
    actor: str
    outputs: list[Output]
    made_of: MadeOf
    seconds: float
    held: float = 0.0
    created_at: int = 0
    used_at: int = 0
    not_kept: str = ""
    """Why the result itself is not there: it was not asked for, or depends on more than the key says."""


class Item(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a step made of one of the items of `each`."""

    key: Digest
    output: Output


class CodePart(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a function, class or constant, by its digest."""

    digest: str
    label: str
    file: str
    line: int
    text: str


class StepRun(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one step in one run of a pipeline."""

    node: str
    step: str
    done: Done
    why: str = ""
    run: str = ""
    key: str = ""
    seconds: float = 0.0
    started_at: int = 0

"""Work that takes longer than an answer may."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

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

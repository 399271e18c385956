"""What is to start by itself."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Trigger = Annotated[
    str,
    Meta(
        max_length=500,
        pattern=r"^(data:\S+|event:[a-z]+\.[a-z]+( \S+)?|webhook)$(?!\n)",
        description="data:NAME, event:GROUP.VERB, event:GROUP.VERB SUBJECT, or webhook",
    ),
]


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """One time that something started, or waits for its turn."""

    schedule: str
    why: str
    due_at: int
    state: Literal["waiting", "started"]
    priority: int
    job: str | None
    job_state: str | None
    """How far its job is; null while it waits."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that starts by itself, and when."""

    name: str
    pipeline: str
    cron: str
    zone: str
    triggers: list[str]
    next_at: int | None
    last_at: int | None
    last: str | None
    """What became of it the last time."""
    waiting: int
    missed: int
    """How many times passed while no server was up, without those that were made up for."""
    priority: int
    on: bool
    folder: str
    origin: str
    params: dict[str, str] = {}

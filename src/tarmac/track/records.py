"""What was tried."""

from __future__ import annotations

from typing import Literal

import msgspec

RunStatus = Literal["running", "finished", "failed", "killed"]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A named group of runs."""

    id: str
    name: str
    note: str
    created_at: int


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of anything."""

    id: str
    name: str
    experiment: str
    status: RunStatus
    parent: str | None
    actor: str
    started_at: int
    ended_at: int | None

"""What came of doing a run again."""

from __future__ import annotations

from typing import Literal

import msgspec

Verdict = Literal["same", "close", "different", "cannot be rebuilt"]
CauseKind = Literal["source", "data", "package", "python", "hardware", "randomness", "code", "outside"]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run did not come out the same, or could not be done again."""

    kind: CauseKind
    what: str


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that did not come out the same: how it was, how it is, and how far apart the numbers are."""

    kind: Literal["metric", "file", "param", "step"]
    name: str
    verdict: Literal["close", "different", "missing", "new"]
    before: str
    after: str
    distance: float | None = None


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict on one run, with what it rests on."""

    id: str
    run: str
    verdict: Verdict
    causes: list[Cause] = []
    differences: list[Compared] = []
    metrics: int = 0
    """How many metrics were compared, point by point."""
    files: int = 0
    steps: int = 0
    """Of a pipeline: how many of its steps, each with its result and all that it logged."""
    tolerance: float = 0.0
    ignored: list[str] = []
    tries: int = 0
    """How often the run was done again: a second time when the first did not come out the same."""
    made: str | None = None
    """The run that keeps what came out this time."""
    packages: str = ""
    """The digest of the lock that was installed."""
    python: str = ""
    machine: str = ""
    seconds: float = 0.0
    actor: str = ""
    at: int = 0

    @property
    def faults(self) -> bool:
        """Whether the command line ends with 1."""
        return self.verdict in ("different", "cannot be rebuilt")

"""What the handler of a job is given: the store, and a way to tell how far it is."""

from __future__ import annotations

from typing import Any, Protocol

from tarmac.core.actor import Actor
from tarmac.store import Store


class Placed(Protocol):
    """Somebody who does something in a project of an open store."""

    store: Store
    actor: Actor
    project: int
    project_name: str


class JobContext(Placed, Protocol):
    """Implemented in `tarmac.flow.jobs`; handlers see only this."""

    id: str
    saved: dict[str, Any]

    def progress(self, done: int, total: int = 0, message: str = "") -> None:
        """Tell how far the work is; raises `Cancelled` when somebody asked it to stop."""

    def log(self, text: str) -> None:
        """A line for people, kept with the job."""

    def checkpoint(self, values: dict[str, Any]) -> None:
        """Remember what is done, so that the next try goes on from here."""

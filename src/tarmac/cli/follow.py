"""Waiting for a job: a progress bar on a terminal, lines elsewhere, and Ctrl-C asks it to stop."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

import click

from tarmac.core.operation import Job as JobRequest
from tarmac.core.operation import Started
from tarmac.flow.records import Job
from tarmac.workspace import Workspace

BAR_AFTER_MILLISECONDS = 1000


def follow(workspace: Workspace, request: JobRequest[Any], *, quiet: bool) -> Any:
    """Start a job and wait for its answer."""
    shown = Progress() if not quiet and sys.stderr.isatty() else None
    with Deferred() as interrupt:  # a job that is starting has no name yet by which it could be stopped
        started: Started[Any] = workspace(request)
    try:
        interrupt.raise_if_asked()
        return workspace.wait(started, shown.update if shown else None)
    except KeyboardInterrupt:
        workspace.cancel(started)
        click.echo(f"asked job {started.id} to stop; `tarmac jobs resume {started.id}` goes on with it", err=True)
        raise
    finally:
        if shown:
            shown.close()


class Deferred:
    """Holds the first Ctrl-C back for a moment; the second one is not held."""

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> Deferred:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def raise_if_asked(self) -> None:
        if self._asked:
            raise KeyboardInterrupt


class Progress:
    """A bar for work that takes more than a moment."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def update(self, job: Job) -> None:
        if self._bar is None:
            if job.heartbeat_at - job.created_at < BAR_AFTER_MILLISECONDS:
                return
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(job.operation, total=None)
        self._bar.update(
            self._task,
            completed=job.done,
            total=job.total or None,
            description=f"{job.operation} {job.message}".strip(),
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

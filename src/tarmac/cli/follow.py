"""Waiting for a job: a progress bar on a terminal, lines elsewhere, and Ctrl-C asks it to stop."""

from __future__ import annotations

import sys
from typing import Any

import click

from tarmac.core.operation import Started
from tarmac.flow.records import Job
from tarmac.workspace import Workspace

BAR_AFTER_MILLISECONDS = 1000


def follow(workspace: Workspace, started: Started[Any], *, quiet: bool) -> Any:
    shown = Progress() if not quiet and sys.stderr.isatty() else None
    try:
        return workspace.wait(started, shown.update if shown else None)
    except KeyboardInterrupt:
        workspace.cancel(started)
        click.echo(f"asked job {started.id} to stop; `tarmac jobs resume {started.id}` goes on with it", err=True)
        raise
    finally:
        if shown:
            shown.close()


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

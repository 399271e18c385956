"""How a run was started, kept with it, whatever `tarmac run` has started."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from tarmac.logging import capture
from tarmac.track.operations import DescribeRun
from tarmac.track.records import Run
from tarmac.workspace import Workspace
from tarmac.workspace.files import commit


def describe(door: Workspace, run: str, words: list[str], start: Path) -> None:
    """Keep it. What fails here costs the description, not the run."""
    try:
        facts, tree = capture.describe(words, Path.cwd(), start)
        source = commit(door, "source", tree.root, tree.files)
        door(DescribeRun(id=run, facts=facts, source=source.id if source else None))
    except Exception as error:  # noqa: BLE001 - names, packages and files of any kind: it runs all the same
        click.echo(f"warning: how the run was started could not be kept: {error}", err=True)


class Beside:
    """The same while the steps of a pipeline run already."""

    def __init__(self, door: Workspace, target: str | None, start: Path) -> None:
        self._door = door
        self._target = target
        self._start = start
        self._thread: threading.Thread | None = None

    def begin(self, run: Run) -> None:
        """Its command says all its params, so that defaults that change later change nothing when it is done again."""
        params = (part for key, value in run.params.items() for part in ("-p", f"{key}={value}"))
        words = ["python", "-m", "tarmac", "run", *([self._target] if self._target else []), *params]
        self._thread = threading.Thread(target=describe, args=(self._door, run.id, words, self._start))
        self._thread.start()

    def end(self) -> None:
        if self._thread is not None:
            self._thread.join()

"""The run done again, once: its command in its clean folder, and which of the runs made there is the one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tarmac.track.handlers  # noqa: F401 - the commands that make the run
from tarmac.core.ids import time_ordered
from tarmac.flow.leash import leashed
from tarmac.flow.reproduce.place import Aside, Place
from tarmac.store.commands import do
from tarmac.track import operations as track
from tarmac.track.handlers.looking import list_runs
from tarmac.track.records import Run

PIPELINE = "tarmac.pipeline"
"""The tag of a run of a pipeline."""
HEAD, TAIL = 100_000, 400_000
"""Of a long output the beginning and the end are kept."""


@dataclass
class Output:
    """What a command prints, as much of it as is kept."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    left_out: int = 0

    def hear(self, data: bytes) -> None:
        room = max(0, HEAD - len(self.head))
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > 2 * TAIL:
            self.left_out += len(self.tail) - TAIL
            del self.tail[:-TAIL]

    @property
    def text(self) -> str:
        between = f"\n… {self.left_out} bytes …\n".encode() if self.left_out else b""
        return (self.head + between + self.tail).decode("utf-8", "replace").replace("\x00", "")


@dataclass(frozen=True)
class Made:
    """What one time of doing it came to."""

    code: int
    run: str
    """The run in the workspace of the clean folder."""
    output: str


def again(place: Place, aside: Aside, packages: Path, before: Run, look: Callable[[], None]) -> Made:
    """Do it, and wait until all that it logged is in the workspace of the clean folder."""
    words = place.command(packages)
    environment = place.environment(packages, aside)
    first = time_ordered()
    if PIPELINE not in before.tags:  # which makes its run itself
        request = track.CreateRun(
            id=first,
            experiment=before.experiment,
            name=before.name,
            params={key: value for key, value in before.params.items() if _was_given(key, value, words)},
        )
        environment["TARMAC_RUN"] = do(aside, request).id
    output = Output()
    code = leashed(words, place.cwd, environment, output.hear, look)
    _carry(place, environment, look)
    return Made(code, _matching(aside, first, before), output.text)


def _was_given(key: str, value: str, words: list[str]) -> bool:
    """Whether `tarmac run -p key=value` has put it on the command line; all other params are the script's own."""
    given = ([f"--{key}", value], ["-p", f"{key}={value}"])
    return any(words[at : at + 2] in given for at in range(len(words)))


def _carry(place: Place, environment: Mapping[str, str], look: Callable[[], None]) -> None:
    """What lies in spools, if the command was killed before its carrier had it."""
    words = [sys.executable, "-P", "-m", "tarmac", "sync", "--json"]
    here = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "TARMAC_RUN")}
    leashed(words, place.folder, {**here, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}, lambda data: None, look)


def _matching(aside: Aside, started: str, before: Run) -> str:
    """The run among those that were made: a script may make many, and the first takes over the one we started."""
    with aside.reading() as read:
        found = list_runs(track.ListRuns(order=["started", "id"], limit=1000), read).runs
    pipeline = before.tags.get(PIPELINE)
    made = [run for run in found if run.id >= started and run.tags.get(PIPELINE) == pipeline]
    made = [run for run in made if run.params == before.params] or made[:1]
    named = [run for run in made if run.name == before.name]
    return next((run.id for run in named or made), started)

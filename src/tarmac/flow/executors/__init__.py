"""Where steps are run. An executor takes tasks and gives outcomes; it decides nothing and stores nothing.

The promises each of them keeps are in tests/contracts/executors.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tarmac.flow.records import Output
from tarmac.flow.source import Stamp
from tarmac.flow.steps import Options
from tarmac.flow.typed import Packed


@dataclass(slots=True)
class Task:
    """One step to be run with these arguments."""

    id: str
    node: str
    function: Callable[..., Any]
    options: Options
    arguments: Callable[[], tuple[list[Any], dict[str, Any]]]
    """Called where the step runs, if that is in this process; else just before it is sent."""
    sent: Callable[[], tuple[list[Any], dict[str, Any]]] | None = None
    """The same for another machine: what steps before have made is named (`Given`) and not brought here."""
    parts: int | None = None
    allowed: tuple[str, ...] = ()
    """Files and folders that the step was given."""
    code: Mapping[str, Stamp] = field(default_factory=dict)
    """The files of the project that its code is in, as they were when they were read."""
    items: list[Any] | None = None
    """For `each`: what to do it for. There is one result for each."""
    secrets: tuple[str, ...] = ()
    observed: bool = True
    apart: bool = False
    """It should have a process of its own, where that can be chosen."""
    place: tuple[str, str, str, str, str, str] | None = None
    """Where what the step logs goes: workspace, project, run, name, experiment, and the run above."""


@dataclass(frozen=True)
class Given:
    """Stands among the arguments for what a step before has made."""

    node: str
    output: Output
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Those of its bytes that may not be in the workspace yet."""


@dataclass(slots=True)
class Fault:
    """Why a step did not come to its end, in plain data: it may come from another machine."""

    kind: str
    message: str
    where: str = ""
    traceback: str = ""
    hint: str = ""
    gone: str = ""
    """The step whose result was to be had and is not there any more."""
    lost: bool = False
    """The process or machine is gone: that says nothing about the step, and it is tried again elsewhere."""


@dataclass(slots=True)
class Outcome:
    """What came of a task."""

    id: str
    packed: list[Packed] = field(default_factory=list)
    values: list[Any] | None = None
    """The results themselves, where they are still in this process."""
    fault: Fault | None = None
    unstorable: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    held: float = 0.0
    """Seconds for which others of this process had to wait for the interpreter."""
    memory: int = 0
    attempts: int = 1
    undeclared: list[str] = field(default_factory=list)
    log: str = ""

    @property
    def outputs(self) -> list[Output]:
        return [packed.output for packed in self.packed]


class Executor(Protocol):
    """Takes tasks, gives outcomes in the order in which they come."""

    name: str
    slots: int
    in_process: bool

    def submit(self, task: Task) -> None:
        """Begin it as soon as there is room."""

    def next(self, seconds: float) -> list[Outcome]:
        """What has come to its end, waiting so long at most for the first."""

    def stop(self, id: str, why: Fault) -> None:
        """Give up a task: its outcome is this fault, at once."""

    def log(self, id: str) -> str:
        """What a running task has printed so far."""

    def close(self) -> None:
        """Let go of threads and processes; what still runs is given up."""

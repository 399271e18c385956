"""`tarmac.run(...)` and `tarmac.current_run()`: the runs of this process.

with tarmac.run("baseline", params={"depth": 6}) as run:
    run.log({"loss": 0.1}, step=1)
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec

from tarmac import __version__
from tarmac.core.clock import now
from tarmac.core.errors import Invalid, bounded
from tarmac.core.ids import time_ordered
from tarmac.core.names import Id, Name, Note
from tarmac.formats.spool import Begin
from tarmac.logging import place, ranks, seeds, values
from tarmac.logging.place import TAKEN, Place
from tarmac.logging.run import PATIENCE_SECONDS, Run, current, status_of

_runs: list[Run] = []
"""The runs of this process that have not ended, the newest last: what threads see that inherit no context."""
_all: weakref.WeakSet[Run] = weakref.WeakSet()
_taken_over: set[str] = set()
"""Runs that surround this process (TARMAC_RUN) and are some `tarmac.run(...)` of it by now."""


def run(
    experiment: str | None = None,
    *,
    name: str | None = None,
    params: Any = None,
    tags: Mapping[str, Any] | None = None,
    note: str = "",
    resume: str | None = None,
    workspace: str | Path | None = None,
    project: str | None = None,
    capture: bool = True,
    meter: bool = True,
    all_ranks: bool = False,
    strict: bool = False,
    patience: float = PATIENCE_SECONDS,
) -> Run:
    """Start a run: in a `with`, or until its `end`, or until this process ends.

    In a script that `tarmac run` started, the first call is that run; within another run it is one below it. `resume`
    is the id of a run that goes on. Of processes that train together rank 0 writes; with `all_ranks` all write to one
    run. `capture` keeps source, packages and machine, `meter` what the run costs the machine. `strict` raises what is
    otherwise a warning. `patience` is how many seconds the end waits when sending does not get on.
    """
    for text, kind, what in ((experiment, Name, "the name of an experiment"), (name, Name, "the name of a run")):
        _check(text, kind, what)
    _check(resume, Id, "the id of a run")
    _check(note or "", Note, "a note")
    if tags is not None and not isinstance(tags, Mapping):
        raise Invalid(f"tags are a mapping, not {type(tags).__name__}")
    if not isinstance(patience, (int, float)):
        raise Invalid(f"patience is a number of seconds, not `{bounded(patience)}`")
    try:
        pairs = dict(values.pairs(params)) if params is not None else {}
    except TypeError as error:
        raise Invalid(str(error)) from None
    found = place.find(workspace, project)
    rank, ranks_in_all = ranks.find()
    above = current_run()
    around = found.around if above is None and resume is None and found.around not in _taken_over else None
    _check(around, Id, "the id of a run (TARMAC_RUN)")
    together = all_ranks and ranks_in_all > 1 and around is None and resume is None
    owner = around is None and (rank == 0 or not together)
    begin = Begin(
        run=around or resume or (ranks.shared_run() if together else time_ordered()),
        at=max(0, now()),
        project=found.project,
        owner=owner,
        experiment=experiment,
        name=name,
        parent=(above.id if above is not None else found.above) if resume is None else None,
        note=note or "",
        host=os.uname().nodename if sys.platform != "win32" else os.environ.get("COMPUTERNAME", ""),
        pid=os.getpid(),
        command=[_plain(word) for word in (sys.executable or "python", *sys.orig_argv[1:])],
        folder=_plain(_here()),
        script=_plain(_script()),
        packages=[_plain(str(path)) for path in sys.path],
        python=f"{sys.implementation.name} {'.'.join(map(str, sys.version_info[:3]))}",
        capture=capture and owner,
        meter=meter and owner,
        seeds=seeds.known() if owner else {},
        adopts=around is not None,
        offline=found.offline,
        resume=resume is not None,
        version=__version__,
    )
    made = Run(found, begin, strict=strict, patience=patience, quiet=rank > 0 and not all_ranks)
    made.open()
    _keep(made)
    if around is not None:
        _taken_over.add(around)
        os.environ["TARMAC_RUN"] = f"{around}{TAKEN}"  # what this process starts are runs below it
    if pairs:
        made.params(pairs)
    if tags:
        made.tag(tags)
    if around is None or "ipykernel" not in sys.modules:  # `tarmac run` has said it, and keeps the executed copy
        made.show()
    return made


class Surrounding:
    """A step's run, which is somebody else's to begin and to end. It costs nothing until somebody logs to it."""

    def __init__(self, where: str, project: str, run: str, name: str, experiment: str, parent: str) -> None:
        self._where = where, project
        self._names = run, name, experiment, parent
        self._run: Run | None = None

    def open(self) -> Run:
        if self._run is None:
            id, name, experiment, parent = self._names
            found = place.find(*self._where)
            begin = Begin(
                run=id, at=max(0, now()), project=found.project, owner=False, experiment=experiment, name=name,
                parent=parent, note="", host="", pid=os.getpid(), command=[], folder=_plain(_here()), script="",
                packages=[], python="", capture=False, meter=False, seeds={}, adopts=False, offline=found.offline,
                resume=False, version=__version__,
            )  # fmt: skip
            self._run = Run(found, begin)
            self._run.hidden = True
            _keep(self._run)
        return self._run

    def close(self) -> None:
        """What was logged is in the workspace when this returns, or is carried there later."""
        if self._run is not None:
            self._run.end()


surrounding: ContextVar[Surrounding | None] = ContextVar("tarmac_step", default=None)


def current_run() -> Run | None:
    """The run that this code runs in: the innermost `with`, the step's, else the newest of this process; None outside
    of any."""
    found = current.get()
    if found is not None and not found.ended:
        return found
    if (step := surrounding.get()) is not None:
        return step.open()
    return next((one for one in reversed(_runs) if not one.ended and not one.hidden), None)


def attach(found: Place, begin: Begin, quiet: bool) -> Run:
    """A run that came by pickle: the one of this process, or in a worker another writer of the same run."""
    for one in _runs:
        if one.id == begin.run and one.place == found and not one.ended:
            return one
    made = Run(found, msgspec.structs.replace(begin, pid=os.getpid()), quiet=quiet)
    _keep(made)
    return made


def _keep(made: Run) -> None:
    if not _all:
        atexit.register(_end_all)
    made.error_before = getattr(sys, "last_value", None)
    _runs[:] = [one for one in _runs if not one.ended]
    _runs.append(made)
    _all.add(made)


def _end_all() -> None:
    """The process ends: so do its runs, as it does."""
    error = getattr(sys, "last_value", None)
    for one in reversed(list(_runs)):
        one.end(status_of(None if error is one.error_before else error))


def _after_fork() -> None:
    for one in list(_all):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _check(text: str | None, kind: Any, what: str) -> None:
    try:
        msgspec.convert(text, kind | None)
    except msgspec.ValidationError as error:
        raise Invalid(f"`{bounded(text)}` cannot be {what}", hint=bounded(error, 200)) from None


def _plain(text: str) -> str:
    """A path or word that is no Unicode, as it can be written down."""
    return text.encode("utf-8", "replace").decode()


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed under our feet
        return ""


def _script() -> str:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return str(Path(file).absolute()) if file else ""

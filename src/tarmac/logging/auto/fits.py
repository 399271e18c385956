"""Whose fit is logged: the outermost one, into the run it is in, or into one that is started for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from tarmac.logging import start
from tarmac.logging.auto.record import Record, attempt
from tarmac.logging.run import Run


class Report:
    """What one call of a library's `fit` has to tell. Each library has its own."""

    name = "fit"
    """Of the run, if one is started for it."""
    fits_once = False
    """Whether each part below is fitted once, so that the curves of one part are curves of the whole."""

    def before(self, record: Record) -> None:
        """Log what is known before: params and data."""

    def attach(self, record: Record, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Bring in the callback: the arguments that the original is called with."""
        return args, kwargs

    def detach(self) -> None:
        """Take away what `attach` left somewhere else than in the arguments."""

    def after(self, record: Record, result: Any) -> None:
        """Log what came of it."""


class Around(NamedTuple):
    """The fit that this code is inside of."""

    record: Record | None
    curves: bool
    """Whether what trains below logs its curves into the record."""


_beginning = threading.RLock()

inside: ContextVar[Around | None] = ContextVar("tarmac_fit", default=None)


def follow(make: Callable[[], Report], original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Call `original`, and log it if it is the outermost fit. Its result and its exceptions are what they are."""
    report = attempt(None, "fit", make) or Report()
    around = inside.get()
    if around is None and type(report) is not Report and not _called_by_sklearn():
        return _outermost(report, original, args, kwargs)
    record = around.record if around is not None and around.curves else None
    curves = around is not None and around.curves and report.fits_once
    return _call(report, record, Around(record, curves), original, args, kwargs)


def _outermost(report: Report, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    with _run_for(report) as run:
        record = attempt(run, "fit", lambda: Record(run, report.name)) if run is not None else None
        if record is None:
            return _call(report, None, Around(None, False), original, args, kwargs)
        _within(record, "params", lambda: report.before(record))
        result = _call(report, record, Around(record, report.fits_once), original, args, kwargs)
        _within(record, "result", lambda: report.after(record, result))
        return result


def _call(
    report: Report, record: Record | None, around: Around, original: Callable[..., Any], args: Any, kwargs: Any
) -> Any:
    token = inside.set(around)
    try:
        if record is not None:
            attached = attempt(record.run, "curves", lambda: report.attach(record, args, kwargs))
            args, kwargs = attached or (args, kwargs)
        return original(*args, **kwargs)
    finally:
        inside.reset(token)
        if record is not None:
            attempt(record.run, "curves", report.detach)


def _within(record: Record, field: str, do: Callable[[], None]) -> None:
    """Our own work may call what is followed: a score, a model that is saved."""
    token = inside.set(Around(None, False))
    try:
        attempt(record.run, field, do)
    finally:
        inside.reset(token)


@contextmanager
def _run_for(report: Report) -> Iterator[Run | None]:
    """The run that this fit is in; where there is none, one that begins and ends with it."""
    with begun(report.name) as run:
        yield run


@contextmanager
def begun(name: str) -> Iterator[Run | None]:
    """The current run, or a new one of this name for as long as this lasts; None where none can be started."""
    with _beginning:  # else another thread could take ours for its own before it is hidden
        run = attempt(None, "run", start.current_run)
        mine = attempt(None, "run", lambda: _hidden(name)) if run is None else None
    if run is not None:
        yield run
        return
    try:
        yield mine
    except BaseException as error:
        if mine is not None:
            fault = error
            attempt(mine, "end", lambda: mine.__exit__(type(fault), fault, fault.__traceback__))
        raise
    if mine is not None:
        attempt(mine, "end", lambda: mine.__exit__(None, None, None))


def _hidden(name: str) -> Run:
    """A new run that fits in other threads do not log into: it ends with this one."""
    made = start.run(name=name)
    made.hidden = True
    return made.__enter__()


def _called_by_sklearn() -> bool:
    """Whether a search, an ensemble or a cross-validation fits this as a part of its own work.

    Its threads inherit no context, and a function like `cross_val_score` is no fit that could be followed; but its
    frames are on the stack. The base classes do not count: `fit_predict` is there, and calls nothing but `fit`.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - what `inspect.currentframe` does, without its import
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("sklearn.") and name not in ("sklearn.base", "sklearn.utils._set_output"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False

"""What callbacks have in common: where they log to, and what the function they are brought into was called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tarmac.logging import start
from tarmac.logging.auto.record import Record, complain
from tarmac.logging.run import Run


class Target:
    """A record of autolog; or the run that somebody named; or the current run, whichever it is by then."""

    def __init__(self, to: Record | Run | None) -> None:
        self.to = to

    @property
    def run(self) -> Run | None:
        found = self.to.run if isinstance(self.to, Record) else self.to
        return found if found is not None else start.current_run()

    def log(self, field: str, metrics: Callable[[], Mapping[str, Any]], step: int | None = None) -> None:
        self.do(field, lambda record: record.log(metrics(), step))

    def do(self, field: str, what: Callable[[Any], object]) -> None:
        """Never raises into training. `what` is given a record, or the run, on which `log` and `params` are alike."""
        run = None
        try:
            run = self.run
            if run is None:
                complain(None, field, RuntimeError("there is no current run; start one with `with tarmac.run(...):`"))
            else:
                what(self.to if isinstance(self.to, Record) else Bare(run))
        except Exception as error:  # noqa: BLE001 - our faults are never the training's
            complain(run, field, error)


class Bare(Record):
    """A run that somebody logs into by a callback of their own: nothing is put before its names."""

    def __init__(self, run: Run) -> None:
        self.run, self.label = run, ""


def bind(function: Callable[..., Any], args: Any, kwargs: Any) -> Mapping[str, Any]:
    """The arguments of a call by name, defaults included."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments

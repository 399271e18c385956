"""`tarmac.search(function, space, trials=20)`: a function, a step or a pipeline, tried over a space."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from tarmac.core.errors import Invalid, bounded
from tarmac.core.ids import time_ordered
from tarmac.flow import session
from tarmac.flow.pipelines import Pipeline, as_texts
from tarmac.flow.search import trials as runs
from tarmac.flow.search.space import read
from tarmac.flow.search.study import Trial
from tarmac.flow.search.trials import About, Found, Search
from tarmac.flow.steps import Step
from tarmac.logging.place import TAKEN
from tarmac.track.operations import CreateRun


class Pruned(Exception):
    """This trial is not worth going on with."""


class Reporter:
    """What a function with a parameter `trial` is given, to say how it gets on."""

    def __init__(self, search: Search, number: int) -> None:
        self.number = number
        self._search = search
        self._step = -1

    def report(self, value: float, step: int | None = None) -> None:
        """How good it is so far. Raises, and so ends the trial, when others were better at this point."""
        self._step = self._step + 1 if step is None else step
        if self._search.study.report(self.number, float(value), self._step):
            raise Pruned(f"trial {self.number} was not worth going on with")


def search(
    function: Any,
    space: Mapping[str, Any],
    *,
    trials: int = 20,
    maximize: bool = False,
    workers: int = 1,
    prune: bool = True,
    seed: int | None = None,
    name: str | None = None,
    experiment: str | None = None,
    resume: str | None = None,
    workspace: Any = None,
    **fixed: Any,
) -> Found:
    """Try a function over a space: which parameters give the lowest value it returns, or with `maximize` the highest.

        found = tarmac.search(fit, {"depth": (1, 10), "rate": "0.001..0.1:log", "kind": ["tree", "forest"]}, trials=50)
        found.best.params, found.best.value, found.best.run

    The function may be a step or a pipeline; what is `fixed` is given to it as it is. Each trial is a run below that of
    the search, so `tarmac.current_run()` is the trial's. A function with a parameter `trial` may call
    `trial.report(value)`, and is ended there if others were better by then. With `workers` so many are tried at a time,
    in threads. `resume` is the run of a search that goes on.
    """
    if not callable(function):
        raise Invalid(f"`{bounded(function)}` cannot be searched", hint="a function, a step or a pipeline can")
    if not 1 <= trials <= runs.MOST_TRIALS:
        raise Invalid(f"`{bounded(trials)}` is no number of trials", hint=f"1 to {runs.MOST_TRIALS:,}")
    what = function.name if isinstance(function, (Step, Pipeline)) else getattr(function, "__name__", "function")
    dimensions = read(space)
    _refuse_unknown(what, function, [*dimensions, *fixed])
    with session.open_here(workspace) as door:
        if resume is not None:
            run, about, dimensions = runs.take_up(door, resume, what)
        else:
            texts = {key: one.text() for key, one in dimensions.items()}
            about = About(what, texts, "value", maximize, seed)
            run = runs.begin(door, about, experiment or what, name, None)
        made = Search(door, run, about, dimensions, prune=prune)
        before = os.environ.get("TARMAC_RUN")
        os.environ["TARMAC_RUN"] = f"{run.id}{TAKEN}"  # runs that pipelines make are below the search's
        try:
            return made.go(trials, workers, lambda number, params: _attempt(made, function, number, params, fixed), _no)
        finally:
            if before is None:
                del os.environ["TARMAC_RUN"]
            else:
                os.environ["TARMAC_RUN"] = before


def _no(trial: Trial) -> None:
    return None


def _attempt(search: Search, function: Any, number: int, params: dict[str, Any], fixed: dict[str, Any]) -> Trial:
    import tarmac

    door = search.door
    request = CreateRun(
        id=time_ordered(),
        experiment=search.run.experiment,
        name=f"trial-{number}",
        parent=search.run.id,
        params=as_texts(params),
        beats=True,
    )
    made = door(request)
    called = function.function if isinstance(function, Step) else function
    given = {**fixed, **params}
    if "trial" in inspect.signature(called).parameters:
        given["trial"] = Reporter(search, number)
    try:
        with tarmac.run(resume=made.id, workspace=door.place, project=door.project, capture=False, meter=False):
            if search.over:
                raise KeyboardInterrupt
            value = _value(called.run(workspace=door, **given) if isinstance(called, Pipeline) else called(**given))
    except Pruned:
        return Trial(number, params, made.id, "pruned")
    except Exception:  # noqa: BLE001 - a trial that fails says so in its run; the others go on
        return Trial(number, params, made.id, "failed")
    return Trial(number, params, made.id, "finished" if value is not None else "failed", value)


def _value(returned: Any) -> float | None:
    try:
        return float(returned)
    except (TypeError, ValueError):
        return None


def _refuse_unknown(what: str, function: Callable[..., Any], names: list[str]) -> None:
    from tarmac.core.errors import UnknownKey

    known = inspect.signature(getattr(function, "function", function)).parameters
    if any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return
    for name in names:
        if name not in known:
            raise UnknownKey.at(f"`{what}`", name, known)

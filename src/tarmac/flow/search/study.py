"""What is tried next, and whether what is tried is worth going on with: Optuna, kept in memory. The truth are runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from tarmac.core.errors import NotFound
from tarmac.flow.search.space import Dimension

TRIALS_BEFORE_PRUNING = 4


@dataclass(frozen=True)
class Trial:
    """One that was made: what was tried, in which run, and what came of it."""

    number: int
    params: dict[str, Any]
    run: str = ""
    state: str = "running"
    value: float | None = None


class Study:
    """May be asked by many threads."""

    def __init__(self, space: Mapping[str, Dimension], *, maximize: bool, prune: bool, seed: int | None) -> None:
        if find_spec("optuna") is None:
            raise NotFound("Optuna, which chooses what is tried, is not here", hint="pip install 'tarmac[search]'")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.maximize = maximize
        self._optuna = optuna
        self._distributions = {name: one.distribution() for name, one in space.items()}
        pruner = optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING) if prune else optuna.pruners.NopPruner()
        # with constant_liar what others try at the moment is not tried again
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        direction = "maximize" if maximize else "minimize"
        self._study = optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)
        self._asked: dict[int, Any] = {}
        self._lock = threading.Lock()

    def remember(self, trial: Trial) -> None:
        """One of an earlier part of this search."""
        state = self._state(trial)
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params=trial.params,
                distributions=self._distributions,
                value=trial.value if state == self._optuna.trial.TrialState.COMPLETE else None,
                state=state,
            )
        )

    def ask(self, number: int) -> dict[str, Any]:
        with self._lock:
            asked = self._study.ask(self._distributions)
            self._asked[number] = asked
            return dict(asked.params)

    def report(self, number: int, value: float, step: int) -> bool:
        """Whether to stop this trial: others were better at this point."""
        with self._lock:
            if not math.isfinite(value):
                return False
            self._asked[number].report(value, step)
            return bool(self._asked[number].should_prune())

    def tell(self, trial: Trial) -> None:
        with self._lock:
            state = self._state(trial)
            complete = state == self._optuna.trial.TrialState.COMPLETE
            self._study.tell(self._asked.pop(trial.number), trial.value if complete else None, state=state)

    def best(self, trials: list[Trial]) -> Trial | None:
        done = [trial for trial in trials if trial.state == "finished" and trial.value is not None]
        key = (lambda trial: (-trial.value, trial.number)) if self.maximize else (lambda one: (one.value, one.number))
        return min(done, key=key, default=None)

    def _state(self, trial: Trial) -> Any:
        known = self._optuna.trial.TrialState
        if trial.state == "finished" and trial.value is not None and not math.isnan(trial.value):
            return known.COMPLETE
        return known.PRUNED if trial.state == "pruned" else known.FAIL

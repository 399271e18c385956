"""LightGBM: its callback, and autolog for `lightgbm.train` and its estimators."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tarmac.logging.auto import data, fits, patches, switch
from tarmac.logging.auto.callers import Target, bind
from tarmac.logging.auto.record import Record
from tarmac.logging.auto.size import pickled_size
from tarmac.logging.auto.sklearn import follow_classes
from tarmac.logging.auto.switch import Options
from tarmac.logging.run import Run

BEFORE_EARLY_STOPPING = 25


def callback(run: Run | None = None) -> Any:
    """A callback for `lightgbm.train(…, callbacks=[…])` and the estimators: each round's evaluations, into a run."""
    return _Callback(Target(run))


class _Callback:
    before_iteration = False

    def __init__(self, target: Target) -> None:
        self.target = target
        self.order = BEFORE_EARLY_STOPPING

    def __call__(self, env: Any) -> None:
        self.target.log("curves", lambda: _newest(env.evaluation_result_list or ()), getattr(env, "iteration", None))


def _newest(results: Any) -> dict[str, float]:
    found = {}
    for result in results:
        data_name, metric, value, _, *spread = result
        found[f"{data_name}/{metric}"] = float(value)
        if spread and spread[0] is not None:  # of a cross-validation
            found[f"{data_name}/{metric}_std"] = float(spread[0])
    return found


def install(lightgbm: ModuleType) -> None:
    from lightgbm import engine, sklearn

    if patches.is_ours(engine.train):
        return
    followed = _followed(engine.train)
    for module in (lightgbm, engine, sklearn):
        patches.replace(module, "train", followed)
    # where scikit-learn is followed too, this has been done by then
    follow_classes(sklearn.LGBMModel, "lightgbm")


def _followed(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def train(*args: Any, **kwargs: Any) -> Any:
        options = switch.options("lightgbm")
        if options is None:
            return original(*args, **kwargs)
        return fits.follow(lambda: TrainReport(original, args, kwargs, options), original, args, kwargs)

    return train


class TrainReport(fits.Report):
    name = "lightgbm"
    fits_once = True

    def __init__(self, original: Callable[..., Any], args: Any, kwargs: Any, options: Options) -> None:
        self.original = original
        self.given: Mapping[str, Any] = bind(original, args, kwargs)
        self.options = options

    def before(self, record: Record) -> None:
        record.field("params", lambda: record.params(self.given["params"]))
        record.field("params", lambda: record.params({"num_boost_round": self.given["num_boost_round"]}))
        if self.options.datasets:
            train_set = self.given["train_set"]
            parts = {"data": train_set.data, "label": train_set.label, "weight": train_set.weight}
            record.field("data", lambda: record.used(*data.describe(parts)))

    def attach(self, record: Record, args: Any, kwargs: Any) -> tuple[Any, Any]:
        # before those of the user: callbacks that say no order get one by their distance from the end
        given = {**self.given, "callbacks": [_Callback(Target(record)), *(self.given["callbacks"] or ())]}
        return (), given

    def after(self, record: Record, result: Any) -> None:
        record.field("best", _best, record, result)
        if self.options.models:
            record.field("model", lambda: record.model(result, pickled_size(result)))


def _best(record: Record, booster: Any) -> None:
    if booster.best_iteration > 0:
        record.log({"best_iteration": booster.best_iteration}, 0)

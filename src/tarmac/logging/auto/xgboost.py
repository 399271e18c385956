"""XGBoost: its callback, and autolog for `xgboost.train` and its estimators."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tarmac.logging.auto import fits, patches, switch
from tarmac.logging.auto.callers import Target, bind
from tarmac.logging.auto.record import Record, attempt
from tarmac.logging.auto.size import pickled_size
from tarmac.logging.auto.sklearn import follow_classes
from tarmac.logging.auto.switch import Options
from tarmac.logging.run import Run


def callback(run: Run | None = None) -> Any:
    """A callback for `xgboost.train(…, callbacks=[…])` and the estimators: each round's evaluations, into a run."""
    return _callback(Target(run))


def _callback(target: Target) -> Any:
    return _callback_class()(target)


@functools.cache
def _callback_class() -> Any:
    from xgboost.callback import TrainingCallback

    class TarmacCallback(TrainingCallback):  # type: ignore[misc, unused-ignore]
        def __init__(self, target: Target) -> None:
            self.target = target

        def __reduce__(self) -> Any:  # workers and clones get one that logs to the same run
            return _callback, (self.target,)

        def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Any]) -> bool:
            self.target.log("curves", lambda: _newest(evals_log), epoch)
            return False

    return TarmacCallback


def _newest(evals_log: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for data, metrics in evals_log.items():
        for metric, values in metrics.items():
            last = values[-1]
            if isinstance(last, tuple):  # of a cross-validation
                found[f"{data}/{metric}"], found[f"{data}/{metric}_std"] = last
            else:
                found[f"{data}/{metric}"] = float(last)
    return found


def install(xgboost: ModuleType) -> None:
    from xgboost import sklearn, training

    if patches.is_ours(training.train):
        return
    followed = _followed(training.train)
    for module in (xgboost, training, sklearn):
        patches.replace(module, "train", followed)
    # where scikit-learn is followed too, this has been done by then
    follow_classes(sklearn.XGBModel, "xgboost")


def _followed(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def train(*args: Any, **kwargs: Any) -> Any:
        options = switch.options("xgboost")
        if options is None:
            return original(*args, **kwargs)
        return fits.follow(lambda: TrainReport(bind(original, args, kwargs), options), original, args, kwargs)

    return train


class TrainReport(fits.Report):
    name = "xgboost"
    fits_once = True

    def __init__(self, given: Mapping[str, Any], options: Options) -> None:
        self.given = given
        self.options = options

    def before(self, record: Record) -> None:
        record.field("params", lambda: record.params(self.given["params"]))
        record.field("params", lambda: record.params({"num_boost_round": self.given["num_boost_round"]}))
        if self.options.datasets:
            record.field("data", lambda: record.used(*_matrix(self.given["dtrain"])))

    def attach(self, record: Record, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return args, {**kwargs, "callbacks": [*(kwargs.get("callbacks") or ()), _callback(Target(record))]}

    def after(self, record: Record, result: Any) -> None:
        record.field("best", _best, record, result)
        if self.options.models:
            record.field("model", lambda: record.model(result, pickled_size(result)))


def _best(record: Record, booster: Any) -> None:
    found = attempt(None, "best", booster.attributes) or {}
    if "best_iteration" in found:
        record.log({"best_iteration": int(found["best_iteration"]), "best_score": float(found["best_score"])}, 0)


def _matrix(matrix: Any) -> tuple[str, str]:
    """A DMatrix gives its content away only as a copy: what it is called like, and its labels and weights."""
    from tarmac.logging.auto import data

    names = matrix.feature_names or []
    kinds = matrix.feature_types or [""] * len(names)
    head = _Matrix((matrix.num_row(), matrix.num_col()), names, kinds)
    return data.describe({"dtrain": head, "label": matrix.get_label(), "weight": matrix.get_weight()})


class _Matrix:
    def __init__(self, shape: tuple[int, int], columns: list[str], dtypes: list[str]) -> None:
        self.shape, self.columns, self.dtypes = shape, columns, dtypes

"""Estimators of scikit-learn, and of libraries that build on it.

scikit-learn's callbacks become a part of the estimator, and of its pickle; so `fit` is replaced, on the classes. What
an estimator is and holds stays as it was: nothing is set on it, and its class is the same.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from tarmac.logging.auto import data, fits, patches, randomness, switch
from tarmac.logging.auto.record import MOST_CANDIDATES, MOST_POINTS, Record, complain
from tarmac.logging.auto.size import copy_of, pickled_size
from tarmac.logging.auto.switch import Options

METHODS = ("fit", "fit_predict", "fit_transform")
SCORED_ROWS = 1000
SCORED_BYTES = 16 * 1024 * 1024
PROBED_ROWS = 50
PROBE_SECONDS = 0.05
"""A model that takes longer for the few rows, and would take up to twenty times that for all of them, is not scored."""
FITS_ITS_PARTS_ONCE = {"Pipeline", "XGBModel", "LGBMModel"}
SCORED = ("sklearn", "xgboost", "lightgbm")
CURVES = {
    "loss_curve_": "loss",
    "validation_scores_": "validation_score",
    "train_score_": "train_score",
    "validation_score_": "validation_score",
    "oob_scores_": "oob_score",
}
NUMBERS = {
    "best_score_": "best_score",
    "best_loss_": "best_loss",
    "inertia_": "inertia",
    "n_iter_": "iterations",
    "oob_score_": "oob_score",
}


def install(base: ModuleType) -> None:
    """`base` is sklearn.base, just imported: follow all estimators there are, and those that come."""
    follow_classes(base.BaseEstimator, "sklearn")
    if "__init_subclass__" in vars(base.BaseEstimator):
        return  # another version: estimators that are imported later are not followed

    def follow_new(cls: type, /, **given: Any) -> None:
        super(base.BaseEstimator, cls).__init_subclass__(**given)
        try:
            follow_class(cls, "sklearn")
        except Exception as error:  # noqa: BLE001 - the class is made all the same
            complain(None, "sklearn", error)

    patches.replace(base.BaseEstimator, "__init_subclass__", classmethod(follow_new))


def follow_classes(top: type, library: str) -> None:
    """A class and all below it."""
    seen, waiting = set(), [top]
    while waiting:
        cls = waiting.pop()
        if cls not in seen:
            seen.add(cls)
            follow_class(cls, library)
            waiting += cls.__subclasses__()


def follow_class(cls: type, library: str) -> None:
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        return  # sent to workers as a copy of its code, in which we must not be
    for name in METHODS:
        found = patches.own(cls, name)
        if isinstance(found, FunctionType) and not patches.is_ours(found):
            patches.replace(cls, name, followed(found, library))
            continue
        below = getattr(found, "fn", None)  # `available_if`: there or not, as the last step says
        if isinstance(below, FunctionType) and not patches.is_ours(below):
            patches.replace(found, "fn", followed(below, library))


def followed(original: Callable[..., Any], library: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        options = switch.options(library)
        if options is None:
            return original(self, *args, **kwargs)
        return fits.follow(lambda: report_of(self, args, kwargs, options), original, (self, *args), kwargs)

    return fit


def report_of(estimator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Options) -> fits.Report:
    # some have `predict` only when they are fitted; of a pipeline the steps say now whether it will
    where = estimator if hasattr(estimator, "steps") else type(estimator)
    if not (hasattr(where, "predict") or hasattr(where, "fit_predict")):
        return fits.Report()  # a scaler on its own is no model: no run for it
    return EstimatorReport(estimator, args, kwargs, options)


class EstimatorReport(fits.Report):
    def __init__(self, estimator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Options) -> None:
        self.estimator = estimator
        self.options = options
        self.inputs = args[0] if args else kwargs.get("X")
        self.target = args[1] if len(args) > 1 else kwargs.get("y")
        self.name = type(estimator).__name__
        self.fits_once = any(cls.__name__ in FITS_ITS_PARTS_ONCE for cls in type(estimator).__mro__)
        self.began = time.perf_counter()

    def before(self, record: Record) -> None:
        record.field("params", self.params, record)
        record.field("tags", lambda: record.tag(estimator=f"{type(self.estimator).__module__}.{self.name}"))
        if self.options.datasets:
            # now: some estimators may write over what they are given
            record.field("data", lambda: record.used(*data.describe({"X": self.inputs, "y": self.target})))
        self.began = time.perf_counter()

    def params(self, record: Record) -> None:
        given = self.estimator.get_params(deep=True)
        if type(self.estimator).__module__.startswith("xgboost"):  # None is what nobody has set, and there are many
            given = {name: value for name, value in given.items() if value is not None}
        record.params(given)

    def after(self, record: Record, result: Any) -> None:
        record.log({"fit_seconds": time.perf_counter() - self.began}, 0)
        record.field("curves", self.curves, record)
        is_search = isinstance(vars(self.estimator).get("cv_results_"), Mapping)
        if is_search:
            record.field("search", self.search, record)
        else:
            record.field("score", self.score, record)
        if self.options.models:
            model = vars(self.estimator).get("best_estimator_", self.estimator) if is_search else self.estimator
            record.field("model", lambda: record.model(model, pickled_size(model)))

    def curves(self, record: Record) -> None:
        """What the estimator has kept of its own way."""
        held = vars(self.estimator)
        for attribute, name in CURVES.items():
            values = held.get(attribute)
            if values is not None and getattr(values, "ndim", 1) == 1:
                record.curve(name, [float(value) for value in values[:MOST_POINTS]])
        numbers = {name: held[attribute] for attribute, name in NUMBERS.items() if _is_number(held.get(attribute))}
        record.log({name: float(value) for name, value in numbers.items()}, 0)

    def search(self, record: Record) -> None:
        """The best params, each candidate's scores as points, and all that is known of them as a table."""
        held = vars(self.estimator)
        if isinstance(held.get("best_params_"), Mapping):
            record.params(held["best_params_"], prefix="best.")
        found: Mapping[str, Any] = held["cv_results_"]
        count = max((len(column) for column in found.values()), default=0)
        columns = {name: column for name, column in found.items() if len(column) == count and name != "params"}
        scores = [name for name in columns if name.startswith(("mean_test_", "mean_train_", "mean_fit_time"))]
        for number in range(min(count, MOST_CANDIDATES)):
            record.log({f"candidates/{name}": float(columns[name][number]) for name in scores}, number)
        record.field("table", lambda: record.table("cv_results", columns))

    def score(self, record: Record) -> None:
        """What `score` says on some rows of the training data, if it says it fast."""
        if self.target is None or not hasattr(self.estimator, "score") or not _is_known(self.estimator):
            return
        rows = data.rows_of(self.inputs, SCORED_ROWS), data.rows_of(self.target, SCORED_ROWS)
        few = data.rows_of(self.inputs, PROBED_ROWS)
        with randomness.kept():
            copy = copy_of(self.estimator, SCORED_BYTES)
            if copy is None or not hasattr(copy, "predict"):
                return
            if min(_seconds_to_predict(copy, few), _seconds_to_predict(copy, few)) <= PROBE_SECONDS:
                record.log({"train/score": float(copy.score(*rows))}, 0)


def _is_known(estimator: Any) -> bool:
    """Whether all parts and functions in it are of libraries whose `predict` does nothing but predict."""
    parts = [estimator, *estimator.get_params(deep=True).values()]
    modules = [
        getattr(part, "__module__", None) or "" for part in parts if callable(part) or hasattr(part, "get_params")
    ]
    return all(module.partition(".")[0] in SCORED for module in modules)


def _seconds_to_predict(model: Any, rows: Any) -> float:
    began = time.perf_counter()
    model.predict(rows)
    return time.perf_counter() - began


def _is_number(value: Any) -> bool:
    numpy: Any = sys.modules.get("numpy")
    return isinstance(value, (int, float)) or (numpy is not None and isinstance(value, numpy.number))

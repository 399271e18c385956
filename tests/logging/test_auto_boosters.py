"""Autolog and callbacks of XGBoost and LightGBM: each round's evaluations, and a booster that is the same."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import tarmac
from tarmac.logging import auto
from tests.logging.autologged import Logged
from tests.logging.conftest import Training

np: Any = pytest.importorskip("numpy", reason="not run: numpy is not installed")
X = np.random.default_rng(0).normal(size=(120, 3))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)

# how evaluation data are handed to LightGBM's estimators is about to change
pytestmark = pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")


class Xgboost:
    name = "xgboost"
    key = "valid/logloss"
    estimator_key = "validation_0/logloss"

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module

    def train(self, rounds: int = 5, evaluated: dict[str, Any] | None = None, **more: Any) -> Any:
        matrix = self.module.DMatrix(X, label=Y, feature_names=["a", "b", "c"])
        return self.module.train(
            {"objective": "binary:logistic", "max_depth": 2}, matrix, rounds, evals=[(matrix, "valid")],
            evals_result=evaluated, verbose_eval=False, **more,
        )  # fmt: skip

    def estimator(self) -> Any:
        return self.module.XGBClassifier(n_estimators=4, subsample=0.5)

    def fit(self, estimator: Any) -> Any:
        return estimator.fit(X, Y, eval_set=[(X, Y)], verbose=False)

    def raw(self, booster: Any) -> bytes:
        return bytes(booster.save_raw())


class Lightgbm:
    name = "lightgbm"
    key = "valid/binary_logloss"
    estimator_key = "training/binary_logloss"

    def __init__(self, module: ModuleType) -> None:
        self.module: Any = module

    def train(self, rounds: int = 5, evaluated: dict[str, Any] | None = None, **more: Any) -> Any:
        given = self.module.Dataset(X, label=Y, feature_name=["a", "b", "c"])
        callbacks = [
            *more.pop("callbacks", []),
            *([self.module.record_evaluation(evaluated)] if evaluated is not None else []),
        ]
        return self.module.train(
            {"objective": "binary", "max_depth": 2, "verbose": -1}, given, rounds,
            [given.create_valid(X, label=Y)], ["valid"], callbacks=callbacks or None, **more,
        )  # fmt: skip

    def estimator(self) -> Any:
        return self.module.LGBMClassifier(n_estimators=4, subsample=0.5, verbose=-1)

    def fit(self, estimator: Any) -> Any:
        return estimator.fit(X, Y, eval_set=[(X, Y)])

    def raw(self, booster: Any) -> bytes:
        text: str = booster.model_to_string()
        return text.encode()


Kind = Xgboost | Lightgbm


@pytest.fixture(params=[Xgboost, Lightgbm], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    reason = f"not run: {request.param.name} is not installed"
    made: Kind = request.param(pytest.importorskip(request.param.name, reason=reason))
    return made


def test_each_round_is_a_point(logged: Logged, kind: Kind) -> None:
    tarmac.autolog()
    evaluated: dict[str, Any] = {}
    booster = kind.train(evaluated=evaluated)
    run = logged.only()
    part, metric = kind.key.split("/")
    assert run.points[kind.key] == list(enumerate(evaluated[part][metric]))
    assert len(run.points[kind.key]) == 5
    assert (run.begin.name, run.status) == (kind.name, "finished")
    assert run.params["max_depth"] == "2"
    assert run.params["num_boost_round"] == "5"
    assert len(run.used) == 1
    assert logged.models == {"model": booster}
    assert run.warnings() == {}


def test_an_estimators_rounds_are_points_of_its_run(logged: Logged, kind: Kind) -> None:
    tarmac.autolog()
    model = kind.fit(kind.estimator())
    run = logged.only()
    assert run.begin.name == type(model).__name__
    assert len(run.points[kind.estimator_key]) == 4
    assert run.params["n_estimators"] == "4"
    assert run.last("train/score") == model.score(X, Y)
    assert run.warnings() == {}


def test_estimators_without_scikit_learns_own(logged: Logged, kind: Kind) -> None:
    from sklearn.model_selection import GridSearchCV

    tarmac.autolog(kind.name)
    kind.fit(kind.estimator())
    GridSearchCV(kind.estimator(), {"max_depth": [1, 2]}, cv=2).fit(X, Y)  # its parts are not for themselves
    run = logged.only()
    assert len(run.points[kind.estimator_key]) == 4


def test_a_pipeline_has_the_curves_of_its_step_and_a_search_has_none(logged: Logged, kind: Kind) -> None:
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tarmac.autolog()
    piped = make_pipeline(StandardScaler(), kind.estimator())
    step = piped.steps[-1][0]
    evaluated = {f"{step}__eval_set": [(X, Y)]} | ({f"{step}__verbose": False} if kind.name == "xgboost" else {})
    piped.fit(X, Y, **evaluated)
    GridSearchCV(piped, {f"{step}__max_depth": [1, 2]}, cv=2).fit(X, Y, **evaluated)
    one, other = logged.runs()
    assert [len(points) for key, points in one.points.items() if key.endswith("logloss")] == [4]
    assert [key for key in other.points if key.endswith("logloss")] == []
    assert "candidates/mean_test_score" in other.points


def test_the_booster_is_the_same_with_and_without(logged: Logged, kind: Kind) -> None:
    def all_there_is() -> tuple[Any, ...]:
        evaluated: dict[str, Any] = {}
        np.random.seed(3)
        booster = kind.train(evaluated=evaluated)
        estimator = kind.estimator()
        unfitted = pickle.dumps(estimator)
        returned = kind.fit(estimator)
        state = pickle.dumps(np.random.get_state())
        return (
            kind.raw(booster), evaluated, unfitted, pickle.dumps(estimator), returned is estimator, state,
            estimator.predict_proba(X).tobytes(), sorted(vars(estimator)), sorted(vars(booster)),
        )  # fmt: skip

    tarmac.autolog()
    ours = all_there_is()
    tarmac.autolog(False)
    assert ours == all_there_is()
    assert b"tarmac" not in ours[3]
    assert len(logged.runs()) == 2


def test_early_stopping_stops_where_it_did(logged: Logged, kind: Kind) -> None:
    def best() -> Any:
        if kind.name == "xgboost":
            return kind.train(200, early_stopping_rounds=2).best_iteration
        return kind.train(200, callbacks=[kind.module.early_stopping(2, verbose=False)]).best_iteration

    tarmac.autolog()
    ours = best()
    tarmac.autolog(False)
    assert ours == best()
    assert logged.only().last("best_iteration") == ours


def test_the_users_callbacks_are_called_as_before_and_their_list_is_left_alone(logged: Logged, kind: Kind) -> None:
    if kind.name == "xgboost":

        class Theirs(kind.module.callback.TrainingCallback):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                self.seen: list[int] = []

            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                self.seen.append(epoch)
                return epoch == 2

        def ends(callbacks: list[Any]) -> Any:
            return kind.train(5, callbacks=callbacks).num_boosted_rounds()
    else:

        class Theirs:  # type: ignore[no-redef]
            def __init__(self) -> None:
                self.seen: list[int] = []

            def __call__(self, env: Any) -> None:
                self.seen.append(env.iteration)

        def ends(callbacks: list[Any]) -> Any:
            return kind.train(5, callbacks=callbacks).num_trees()

    def all_there_is() -> Any:
        callbacks = [Theirs(), Theirs()]
        return ends(callbacks), [one.seen for one in callbacks], [vars(one) for one in callbacks], len(callbacks)

    tarmac.autolog()
    ours = all_there_is()
    tarmac.autolog(False)
    assert ours == all_there_is()


def test_a_callback_without_autolog(logged: Logged, kind: Kind) -> None:
    with tarmac.run() as run:
        kind.train(callbacks=[getattr(auto, kind.name).callback()])
    with tarmac.run() as other:
        kind.train(3, callbacks=[getattr(auto, kind.name).callback(other)])
    assert [len(found.points[kind.key]) for found in logged.runs()] == [5, 3]
    assert run.id != other.id


def test_a_callback_can_be_cloned_and_sent_to_a_worker(logged: Logged, kind: Kind) -> None:
    with tarmac.run() as run:
        for mine in (auto_callback(kind), auto_callback(kind, run)):
            kind.train(2, callbacks=[copy.deepcopy(mine)])
            kind.train(2, callbacks=[pickle.loads(pickle.dumps(mine))])
    assert [step for step, _ in logged.only().points[kind.key]] == [0, 1] * 4


def auto_callback(kind: Kind, run: Any = None) -> Any:
    return getattr(auto, kind.name).callback(run)


def test_a_callback_of_a_cross_validation(logged: Logged, kind: Kind) -> None:
    with tarmac.run():
        callbacks = [getattr(auto, kind.name).callback()]
        if kind.name == "xgboost":
            kind.module.cv({"objective": "binary:logistic"}, kind.module.DMatrix(X, label=Y), 3, callbacks=callbacks)
        else:
            data = kind.module.Dataset(X, label=Y)
            kind.module.cv({"objective": "binary", "verbose": -1}, data, 3, callbacks=callbacks)
    points = logged.only().points
    assert sorted({len(curve) for curve in points.values()}) == [3]
    assert any(key.endswith("_std") for key in points)
    assert logged.only().warnings() == {}


def test_a_callback_without_a_run_is_one_warning(logged: Logged, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tarmac.logging.auto.record._said", set())
    kind.train(callbacks=[getattr(auto, kind.name).callback()])
    assert logged.err().count("there is no current run") == 1


def breaking(target: str) -> Callable[..., Any]:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(f"a bug of ours in {target}")

    return fails


@pytest.mark.parametrize("field", ["curves", "data", "params", "model"])
def test_a_fault_of_ours_is_one_warning_and_one_missing_field(
    logged: Logged, kind: Kind, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    targets = {
        "curves": f"tarmac.logging.auto.{kind.name}._newest",
        "data": "tarmac.logging.auto.data.describe",
        "params": "tarmac.logging.auto.record.Record.params",
        "model": "tarmac.logging.auto.record.Record.model",
    }
    monkeypatch.setattr(targets[field], breaking(targets[field]))
    tarmac.autolog()
    kind.train()
    run = logged.only()
    assert list(run.warnings()) == [f"tarmac.warning.autolog.{field}"]
    assert logged.err().count("tarmac: warning") == 1
    there = {
        "curves": kind.key in run.points, "data": bool(run.used), "params": bool(run.params),
        "model": bool(logged.models),
    }  # fmt: skip
    assert [name for name, is_there in there.items() if not is_there] == [field]


def test_wrong_calls_say_what_they_said(logged: Logged, kind: Kind) -> None:
    def said() -> tuple[Any, str]:
        with pytest.raises(Exception) as raised:
            kind.train(bogus=1)
        return raised.type, str(raised.value)

    tarmac.autolog()
    ours = said()
    tarmac.autolog(False)
    assert ours == said()


@pytest.mark.slow
def test_a_script_and_what_the_workspace_knows_then(local: Training, kind: Kind) -> None:
    script = {
        "xgboost": "import xgboost as library\nmodel = library.XGBRegressor(n_estimators=3)\n",
        "lightgbm": "import lightgbm as library\nmodel = library.LGBMRegressor(n_estimators=3, verbose=-1)\n",
    }[kind.name]
    done = local.run(
        "import tarmac\n"
        "tarmac.autolog()\n"
        f"{script}"
        "import numpy as np\n"
        "model.fit(np.arange(60.0).reshape(-1, 1), np.arange(60.0))\n"
        "found, = tarmac.runs(form='rows')\n"
        "print(found['name'], found['status'], found['params.n_estimators'])\n"
    )
    assert done.code == 0, done.err
    assert done.out == {"xgboost": "XGBRegressor", "lightgbm": "LGBMRegressor"}[kind.name] + " finished 3\n"

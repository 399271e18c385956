"""Autolog of scikit-learn: what is logged, and that nothing else is another than without it."""

from __future__ import annotations

import csv
import io
import pickle
import random
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import tarmac
from tarmac.logging.auto import data, record
from tarmac.track.operations import GetDetails, ListRuns
from tarmac.workspace import Workspace
from tarmac.workspace.files import artifacts
from tests.conftest import tarmac_environment
from tests.logging.autologged import Logged
from tests.logging.conftest import Training

sklearn = pytest.importorskip("sklearn", reason="not run: scikit-learn is not installed")
np: Any = pytest.importorskip("numpy")

from sklearn.base import BaseEstimator, ClassifierMixin, clone  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.datasets import load_iris, make_regression  # noqa: E402
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier  # noqa: E402
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, StandardScaler  # noqa: E402
from sklearn.tree import DecisionTreeClassifier  # noqa: E402

X, Y = load_iris(return_X_y=True)


class Draws(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Draws from both global generators, when it is fitted and when it predicts."""

    def fit(self, inputs: Any, target: Any) -> Draws:
        self.classes_ = np.unique(target)
        self.drawn_ = random.random(), np.random.rand()
        return self

    def predict(self, inputs: Any) -> Any:
        random.random()
        return np.random.choice(self.classes_, len(inputs))


class Fails(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    def fit(self, inputs: Any, target: Any) -> Fails:
        raise ZeroDivisionError("no data today")

    def predict(self, inputs: Any) -> Any: ...


def draw(inputs: Any) -> Any:
    np.random.rand()
    random.random()
    return inputs


def test_an_outermost_fit_is_a_run(logged: Logged) -> None:
    tarmac.autolog()
    model = LogisticRegression(C=0.5, max_iter=500).fit(X, Y)
    run = logged.only()
    assert (run.begin.name, run.begin.experiment, run.status) == ("LogisticRegression", None, "finished")
    assert run.params["C"] == "0.5"
    assert run.params.keys() == model.get_params().keys()
    assert run.tags == {"autolog.estimator": "sklearn.linear_model._logistic.LogisticRegression"}
    assert run.last("train/score") == model.score(X, Y)
    assert run.last("fit_seconds") > 0
    assert run.used[0].name == "training-data"
    assert run.about["X"]["shape"] == [150, 4]
    assert run.about["y"]["dtype"] == "int64"
    assert logged.models == {"model": model}
    assert "tarmac: warning" not in logged.err()


def test_a_fit_within_a_run_logs_into_it_and_the_next_one_under_its_name(logged: Logged) -> None:
    tarmac.autolog(datasets=False)
    with tarmac.run("mine", params={"C": "7"}) as run:
        first = LogisticRegression(C=7, max_iter=500).fit(X, Y)
        second = KNeighborsClassifier().fit(X, Y)
        assert not run.ended
        assert tarmac.current_run() is run
    found = logged.only()
    assert found.begin.experiment == "mine"
    assert found.params["C"] == "7"
    assert found.params["KNeighborsClassifier-2.n_neighbors"] == "5"
    assert found.tags["autolog.KNeighborsClassifier-2.estimator"].endswith("KNeighborsClassifier")
    assert "KNeighborsClassifier-2/train/score" in found.points
    assert logged.models == {"model": first, "KNeighborsClassifier-2": second}
    assert found.warnings() == {}
    assert found.used == []


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), FunctionTransformer(), LogisticRegression(max_iter=1000)),
        Pipeline(
            [("inner", make_pipeline(StandardScaler())), ("outer", make_pipeline(LogisticRegression(max_iter=1000)))]
        ),
        BaggingClassifier(DecisionTreeClassifier(), n_estimators=3),
        OneVsRestClassifier(LogisticRegression(max_iter=1000)),
        StackingClassifier([("a", LogisticRegression(max_iter=1000)), ("b", KNeighborsClassifier())], cv=2),
        VotingClassifier([("a", LogisticRegression(max_iter=1000)), ("b", KNeighborsClassifier())]),
        RandomForestClassifier(5, n_jobs=2),
        KMeans(2, n_init=1),
    ],
    ids=lambda model: type(model).__name__,
)
def test_only_the_outermost_fit_logs(logged: Logged, model: Any) -> None:
    tarmac.autolog()
    clone(model).fit(StandardScaler().fit_transform(X), Y)
    assert logged.only().begin.name == type(model).__name__


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_parts_in_joblibs_workers_do_not_log(logged: Logged, backend: str) -> None:
    import joblib

    tarmac.autolog()
    with joblib.parallel_config(backend, n_jobs=2):
        StackingClassifier([("a", LogisticRegression(max_iter=1000)), ("b", KNeighborsClassifier())], cv=2).fit(X, Y)
        cross_val_score(KNeighborsClassifier(), X, Y)
    assert logged.only().begin.name == "StackingClassifier"


def test_methods_that_fit_without_fit(logged: Logged) -> None:
    tarmac.autolog()
    labels = KMeans(2, n_init=1, random_state=0).fit_predict(X)
    piped = make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)).fit_predict(X)
    StandardScaler().fit_transform(X)  # no model
    assert [run.begin.name for run in logged.runs()] == ["KMeans", "Pipeline"]
    tarmac.autolog(False)
    assert (labels == KMeans(2, n_init=1, random_state=0).fit_predict(X)).all()
    assert (piped == make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)).fit_predict(X)).all()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_search_tells_the_best_and_all_candidates(logged: Logged, jobs: int) -> None:
    tarmac.autolog()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.01, 1, 10]}, n_jobs=jobs).fit(X, Y)
    run = logged.only()
    assert run.params["best.logisticregression__C"] == str(search.best_params_["logisticregression__C"])
    assert run.params["param_grid"] == "{logisticregression__C: [0.01, 1, 10]}"
    assert run.last("best_score") == search.best_score_
    candidates = run.points["candidates/mean_test_score"]
    assert candidates == list(enumerate(search.cv_results_["mean_test_score"]))
    rows = list(csv.DictReader(io.StringIO(logged.saved["cv_results.csv"])))
    assert [float(row["param_logisticregression__C"]) for row in rows] == [0.01, 1, 10]
    assert [float(row["mean_test_score"]) for row in rows] == list(search.cv_results_["mean_test_score"])
    assert logged.models == {"model": search.best_estimator_}
    assert run.warnings() == {}


def test_what_an_estimator_keeps_of_its_way_is_a_curve(logged: Logged) -> None:
    tarmac.autolog()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier(max_iter=5, random_state=0).fit(X, Y)
    assert logged.only().points["loss"] == list(enumerate(model.loss_curve_))


# ---------------------------------------------------------------------------------------------- what must not change


def random_states() -> tuple[Any, ...]:
    state = [random.getstate(), pickle.dumps(np.random.get_state())]
    if "torch" in sys.modules:
        state.append(sys.modules["torch"].get_rng_state().numpy().tobytes())
    return tuple(state)


def with_and_without(do: Callable[[], Any]) -> tuple[Any, Any]:
    """What this comes to, and the random state after it, with autolog and without."""
    found = []
    for on in (True, False):
        random.seed(7)
        np.random.seed(7)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(7)
        tarmac.autolog(on)
        result = do()
        found.append((result, random_states()))
    return found[0], found[1]


@pytest.mark.parametrize(
    "model",
    [
        Draws(),
        RandomForestClassifier(5),
        SGDClassifier(),
        make_pipeline(FunctionTransformer(draw), LogisticRegression(max_iter=1000)),
        GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}),
        RandomizedSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2, 3]}, n_iter=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_model_random_state_and_return_value_are_the_same(logged: Logged, model: Any) -> None:
    def fit() -> tuple[bytes, bytes, bool]:
        mine = clone(model)
        before = pickle.dumps(mine)
        returned = mine.fit(X, Y)
        if hasattr(mine, "cv_results_"):  # how long it took is another each time
            mine.refit_time_ = 0.0
            mine.cv_results_ = {name: column for name, column in mine.cv_results_.items() if "time" not in name}
        return before, pickle.dumps(mine), returned is mine

    ours, plain = with_and_without(fit)
    assert ours == plain
    assert ours[0][2]
    assert b"tarmac" not in ours[0][1].replace(b"test_auto_sklearn", b"")
    assert len(logged.runs()) == 1


@pytest.mark.slow
def test_no_estimator_of_scikit_learn_is_changed_by_being_logged(logged: Logged) -> None:
    from sklearn.utils import all_estimators

    regression, target = make_regression(60, 4, random_state=0)
    tried = 0
    for name, cls in all_estimators(["classifier", "regressor", "cluster"]):

        def fit(cls: Any = cls) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    estimator = cls()
                    if "random_state" in estimator.get_params():
                        estimator.set_params(random_state=0)
                    inputs, labels = (
                        (np.abs(X[::2]), Y[::2]) if issubclass(cls, ClassifierMixin) else (regression, target)
                    )
                    return pickle.dumps(estimator.fit(inputs, labels))
                except Exception as error:  # wants other data or arguments: then it says so both times
                    return type(error), str(error)

        ours, plain = with_and_without(fit)
        again = fit()
        if plain[0] == again:  # two fits without us are equal at all
            assert ours == plain, name
            tried += isinstance(ours[0], bytes)
    assert tried > 60
    assert "tarmac: warning" not in logged.err()


def test_random_state_is_kept_in_a_process_of_one_thread(local: Training) -> None:
    done = local.run(
        "import random, sys, pickle\n"
        "import numpy as np\n"
        "from tarmac.logging.auto import randomness\n"
        "def states(): return random.getstate(), pickle.dumps(np.random.get_state())\n"
        "np.random.randn()\n"
        "before = states()\n"
        "with randomness.kept():\n"
        "    random.random(), np.random.rand(), np.random.randn(3)\n"
        "    assert before[1] != states()[1]\n"
        "assert before == states()\n"
    )
    assert done.code == 0, done.err


def test_a_pickle_is_loaded_where_there_is_no_autolog(logged: Logged) -> None:
    tarmac.autolog()
    model = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), {"logisticregression__C": [1, 2]}
    ).fit(X, Y)
    code = (
        "import pickle, sys\n"
        "sys.modules['tarmac'] = None\n"
        "model = pickle.load(sys.stdin.buffer)\n"
        "print(model.predict([[5.0, 3.4, 1.5, 0.2]])[0])\n"
        "model.fit([[0.0], [1.0]] * 10, [0, 1] * 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(model), capture_output=True, env=tarmac_environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == b"0"


@pytest.mark.slow
def test_workers_get_the_scripts_own_classes_without_us(local: Training) -> None:
    """joblib sends them by value; that they can be sent shows that no lock or context of ours is in them."""
    done = local.run(
        "import tarmac\n"
        "tarmac.autolog()\n"
        "import numpy as np\n"
        "from sklearn.base import BaseEstimator, ClassifierMixin\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.model_selection import GridSearchCV\n"
        "class Mine(LogisticRegression):\n"
        "    def fit(self, X, y):\n"
        "        return super().fit(X, y)\n"
        "X, y = np.random.rand(60, 3), np.arange(60) % 2\n"
        "GridSearchCV(Mine(), {'C': [1, 2]}, n_jobs=2).fit(X, y)\n"
        "Mine().fit(X, y)\n"
    )
    assert done.code == 0, done.err
    assert [line.split()[1] for line in done.err.splitlines()] == ["GridSearchCV", "Mine"], done.err


def test_a_clone_is_logged_like_its_original(logged: Logged) -> None:
    tarmac.autolog()
    first = KNeighborsClassifier().fit(X, Y)
    second = clone(first).fit(X, Y)
    assert pickle.dumps(first) == pickle.dumps(second)
    one, other = logged.runs()
    assert one.params == other.params
    assert one.used == other.used


def test_an_exception_of_fit_comes_out_as_it_is_and_the_run_has_failed(logged: Logged) -> None:
    tarmac.autolog()
    with pytest.raises(ZeroDivisionError) as raised:
        Fails.fit(Fails(), X, Y)
    assert raised.value.args == ("no data today",)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert traceback.extract_tb(raised.value.__traceback__)[-1].line == 'raise ZeroDivisionError("no data today")'
    assert logged.only().status == "failed"
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        LinearRegression().fit(X)


def test_an_exception_leaves_a_run_of_the_users_going(logged: Logged) -> None:
    tarmac.autolog()
    with tarmac.run() as run:
        with pytest.raises(ZeroDivisionError):
            Fails().fit(X, Y)
        assert not run.ended
        LinearRegression().fit(X, Y)
    assert logged.only().status == "finished"


BROKEN = {
    "params": "tarmac.logging.auto.record.Record.params",
    "data": "tarmac.logging.auto.data.describe",
    "model": "tarmac.logging.auto.record.Record.model",
    "score": "tarmac.logging.auto.data.rows_of",
    "tags": "tarmac.logging.auto.record.Record.tag",
    "curves": "tarmac.logging.auto.sklearn._is_number",
}


@pytest.mark.parametrize("field", BROKEN)
def test_a_fault_of_ours_is_one_warning_and_one_missing_field(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(BROKEN[field], fails)
    tarmac.autolog()
    model = KNeighborsClassifier().fit(X, Y)
    run = logged.only()
    assert list(run.warnings()) == [f"tarmac.warning.autolog.{field}"]
    assert logged.err().count("tarmac: warning") == 1
    there = {
        "params": bool(run.params),
        "data": bool(run.used),
        "model": logged.models == {"model": model},
        "score": "train/score" in run.points,
        "tags": "autolog.estimator" in run.tags,
        "curves": False,
    }
    assert [name for name, is_there in there.items() if not is_there] == sorted(
        {field, "curves"}, key=list(there).index
    )
    assert run.status == "finished"


@pytest.mark.parametrize(
    "broken",
    ["tarmac.logging.start.run", "tarmac.logging.start.current_run", "tarmac.logging.auto.sklearn.report_of",
     "tarmac.logging.auto.record.Record.__init__", "tarmac.logging.auto.sklearn.EstimatorReport.before",
     "tarmac.logging.auto.sklearn.EstimatorReport.after"],
)  # fmt: skip
def test_a_fault_at_the_root_is_one_warning(logged: Logged, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    monkeypatch.setattr(record, "_said", set())

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(broken, fails)
    tarmac.autolog()
    model = KNeighborsClassifier()
    assert model.fit(X, Y) is model
    assert model.score(X, Y) > 0.9
    assert logged.err().count("tarmac: warning") == 1


def test_without_a_workspace_training_goes_on(logged: Logged, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(record, "_said", set())
    monkeypatch.setenv("TARMAC_WORKSPACE", str(tmp_path / "nowhere"))
    tarmac.autolog()
    for _ in range(3):
        KNeighborsClassifier().fit(X, Y)
    assert logged.err().count("tarmac: warning") == 1


def test_many_params_and_long_ones_are_bounded(logged: Logged) -> None:
    many = Pipeline(
        [*((f"step{number}", StandardScaler()) for number in range(60)), ("last", LogisticRegression(max_iter=1000))]
    )
    many.set_params(last__C=0.25)
    weights = GridSearchCV(LinearRegression(), {"fit_intercept": [True] * 60}, cv=2)
    tarmac.autolog(models=False, datasets=False)
    many.fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights.fit(X[::5], Y[::5])
    piped, searched = logged.runs()
    assert len(piped.params) == record.MOST_PARAMS
    assert searched.params["param_grid"] == "{fit_intercept: list of 60}"
    assert max(map(len, piped.params.values())) <= record.LONGEST_PARAM
    assert logged.models == {}


def test_a_model_that_is_too_large_is_not_saved_and_that_is_said(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.logging.auto.size.pickled_size.__defaults__", (1000,))
    tarmac.autolog()
    RandomForestClassifier(5).fit(X, Y)
    assert logged.models == {}
    assert logged.only().tags["autolog.model"].startswith("not saved: it is larger than")


def test_threads_log_into_runs_of_their_own(logged: Logged) -> None:
    tarmac.autolog()
    together = threading.Barrier(4)

    def fit(depth: int) -> bytes:
        together.wait()
        return pickle.dumps(DecisionTreeClassifier(max_depth=depth, random_state=0).fit(X, Y))

    with ThreadPoolExecutor(4) as pool:
        ours = list(pool.map(fit, range(1, 5)))
    tarmac.autolog(False)
    assert ours == [pickle.dumps(DecisionTreeClassifier(max_depth=d, random_state=0).fit(X, Y)) for d in range(1, 5)]
    assert sorted(run.params["max_depth"] for run in logged.runs()) == ["1", "2", "3", "4"]
    assert {(run.status, run.begin.parent, len(run.used), *run.warnings()) for run in logged.runs()} == {
        ("finished", None, 1)
    }
    assert "tarmac: warning" not in logged.err()


def test_threads_log_into_the_run_that_is_open_around_them(logged: Logged) -> None:
    tarmac.autolog()
    with tarmac.run("mine"), ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda depth: DecisionTreeClassifier(max_depth=depth).fit(X, Y), (1, 2)))
    run = logged.only()
    assert run.begin.experiment == "mine"
    assert {run.params["max_depth"], run.params["DecisionTreeClassifier-2.max_depth"]} == {"1", "2"}


def test_turning_on_and_off_while_others_fit(logged: Logged) -> None:
    stop = threading.Event()
    faults = []

    def fit() -> None:
        while not stop.is_set():
            try:
                KNeighborsClassifier().fit(X, Y)
            except BaseException as error:
                faults.append(error)
                raise

    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(fit)
        for _ in range(10):
            tarmac.autolog("sklearn", models=False, datasets=False)
            tarmac.autolog(False)
        stop.set()
    assert faults == []


# ------------------------------------------------------------------------------------------------------------- data


def test_a_digest_tells_the_same_data_from_other_data() -> None:
    pandas = pytest.importorskip("pandas", reason="not run: pandas is not installed")
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "day": pandas.to_datetime(["2026-01-01"] * 3)})
    name, about = data.describe({"X": frame})
    assert data.describe({"X": frame.copy()}) == (name, about)
    other = frame.copy()
    other.loc[1, "a"] = 5
    assert data.describe({"X": other})[0] != name
    assert data.describe({"X": frame.rename(columns={"a": "c"})})[0] != name
    assert '"a":"int64"' in about


@pytest.mark.parametrize(
    "part",
    [
        np.arange(12).reshape(3, 4)[:, ::2],
        np.array(["a", "bb"]),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.array([object(), None], dtype=object)[1:],
        np.zeros((0, 3)),
        np.float16([1, 2]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        [[1, 2], [3, 4]],
        ["text", "more"],
        [],
        (1.5, 2.5),
        object(),
    ],
    ids=lambda part: f"{type(part).__name__} {getattr(part, 'dtype', '')}",
)
def test_data_of_every_kind_is_described_the_same_twice(part: Any) -> None:
    assert data.describe({"X": part}) == data.describe({"X": part})


def test_sparse_and_large_data(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse: Any = pytest.importorskip("scipy.sparse")

    matrix = sparse.random(100, 20, 0.1, "csr", random_state=0)
    assert data.describe({"X": matrix})[0] != data.describe({"X": matrix * 2})[0]
    assert "digest" not in data.describe({"X": matrix.tocoo()})[1]
    monkeypatch.setattr(data, "LARGEST_WHOLE", 1000)
    monkeypatch.setattr(data, "SAMPLED_ROWS", 10)
    large = np.zeros((1000, 3))
    name, about = data.describe({"X": large})
    assert '"digest_of":"10 rows"' in about
    large[100] = 1
    assert data.describe({"X": large})[0] != name


# --------------------------------------------------------------------------------------------------- the front door


@pytest.mark.slow
def test_a_script_and_what_the_workspace_knows_then(local: Training, workspace: Workspace) -> None:
    done = local.run(
        "import tarmac\n"
        "from sklearn.datasets import load_iris\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "from sklearn.model_selection import GridSearchCV\n"
        "tarmac.autolog()\n"
        "GridSearchCV(LogisticRegression(max_iter=1000), {'C': [1, 2]}).fit(*load_iris(return_X_y=True))\n"
        "found, = tarmac.runs(form='rows')\n"
        "print(found['name'], found['status'], found['params.estimator__C'], found['metrics.best_score'] > 0.9)\n"
    )
    assert done.code == 0, done.err
    assert "tarmac: warning" not in done.err
    assert done.out == "GridSearchCV finished 1.0 True\n"
    run = workspace(ListRuns()).runs[0].id
    kept = {file.path for file in artifacts(workspace, run)}
    assert kept >= {"cv_results.csv", "models/model/model.pkl", "models/model/about.json"}
    assert [one.name for one in workspace(GetDetails(id=run)).inputs] == ["training-data"]

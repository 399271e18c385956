"""Turning autolog on and off: what changes in other libraries, when, and that nothing of it is left."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tarmac
from tarmac.core.errors import Invalid
from tarmac.logging.auto import imports, patches
from tests.logging.autologged import Logged
from tests.logging.conftest import Training

pytest.importorskip("sklearn", reason="not run: scikit-learn is not installed")


def everything(*tops: type) -> dict[tuple[type, str], Any]:
    """All attributes of these classes and all below them, by identity."""
    found: dict[tuple[type, str], Any] = {}
    waiting = list(tops)
    while waiting:
        cls = waiting.pop()
        found |= {(cls, name): value for name, value in vars(cls).items() if name != "__abstractmethods__"}
        waiting += cls.__subclasses__()
    return found


def test_off_restores_each_function_by_identity(logged: Logged) -> None:
    import lightgbm
    import sklearn.base
    import sklearn.cluster
    import sklearn.ensemble
    import sklearn.pipeline
    import xgboost

    def held() -> dict[Any, Any]:
        modules = (xgboost, xgboost.training, xgboost.sklearn, lightgbm, lightgbm.engine, lightgbm.sklearn)
        return everything(sklearn.base.BaseEstimator, lightgbm.LGBMModel) | {
            (module, "train"): module.train for module in modules
        }

    fit_predict = vars(sklearn.pipeline.Pipeline)["fit_predict"]
    before, conditional = held(), fit_predict.fn
    tarmac.autolog()
    during = held()
    changed = {key for key in during if during[key] is not before.get(key)}
    assert len(changed) > 50
    assert {name for _, name in changed} == {"fit", "fit_predict", "fit_transform", "train", "__init_subclass__"}
    assert fit_predict.fn is not conditional
    tarmac.autolog(False)
    after = held()
    assert after.keys() == before.keys()
    assert all(after[key] is before[key] for key in before)
    assert fit_predict.fn is conditional


def test_twice_is_once(logged: Logged) -> None:
    from sklearn.linear_model import LinearRegression

    tarmac.autolog()
    once = LinearRegression.fit
    tarmac.autolog("sklearn")
    tarmac.autolog()
    assert LinearRegression.fit is once
    LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    assert logged.only().begin.name == "LinearRegression"


def test_signature_and_documentation_stay(logged: Logged) -> None:
    import xgboost
    from sklearn.linear_model import LinearRegression
    from xgboost import train

    fit = LinearRegression.fit
    told = inspect.signature(fit), fit.__doc__, fit.__name__, fit.__qualname__, fit.__module__, inspect.getsource(fit)
    trains = inspect.signature(train), train.__doc__
    tarmac.autolog()
    fit = LinearRegression.fit
    assert told == (
        inspect.signature(fit), fit.__doc__, fit.__name__, fit.__qualname__, fit.__module__, inspect.getsource(fit),
    )  # fmt: skip
    assert inspect.isfunction(fit)
    assert trains == (inspect.signature(xgboost.train), xgboost.train.__doc__)


def test_what_somebody_else_wrapped_is_left_and_does_nothing(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LinearRegression

    original = LinearRegression.fit
    tarmac.autolog()
    ours = LinearRegression.fit

    def theirs(self: Any, *args: Any) -> Any:
        return ours(self, *args)

    LinearRegression.fit = theirs
    try:
        tarmac.autolog(False)
        assert LinearRegression.fit is theirs
        LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
        assert logged.runs() == []
    finally:
        LinearRegression.fit = original


def test_only_what_was_named(logged: Logged) -> None:
    import lightgbm
    import numpy as np
    from sklearn.linear_model import LinearRegression

    tarmac.autolog("lightgbm")
    LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    assert logged.runs() == []
    lightgbm.train({"verbose": -1}, lightgbm.Dataset(np.arange(40.0).reshape(-1, 1), np.arange(40.0)), 1)
    assert logged.only().begin.name == "lightgbm"


def test_a_library_that_is_not_known(logged: Logged) -> None:
    with pytest.raises(Invalid, match="knows no library `sklaern`") as raised:
        tarmac.autolog("sklaern")
    assert raised.value.hint == "did you mean `sklearn`?"
    with pytest.raises(Invalid) as raised:
        tarmac.autolog("torch")
    assert "tarmac.loop" in str(raised.value.hint)


def test_nothing_is_imported_by_autolog_and_what_comes_later_is_followed(local: Training) -> None:
    done = local.run(
        "import sys, tarmac\n"
        "tarmac.autolog()\n"
        "heavy = {'numpy', 'sklearn', 'xgboost', 'lightgbm', 'torch', 'keras', 'transformers', 'lightning'}\n"
        "assert not heavy & set(sys.modules)\n"
        "from sklearn.linear_model import LinearRegression\n"
        "import sklearn.base\n"
        "assert 'exec_module' not in vars(sklearn.base.__spec__.loader)\n"
        "assert sklearn.base.__loader__ is sklearn.base.__spec__.loader\n"
        "LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])\n"
    )
    assert done.code == 0, done.err
    assert "run LinearRegression (default)" in done.err
    assert "tarmac: warning" not in done.err


def test_a_hook_that_fails_costs_a_warning_and_not_the_import(
    logged: Logged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_for_this.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)

    def fails(module: ModuleType) -> None:
        raise RuntimeError("another version")

    imports.when_imported("made_for_this", fails)
    import made_for_this  # type: ignore[import-not-found]

    assert made_for_this.answer == 42
    assert logged.err().count("made_for_this is left out: another version") == 1


def test_a_module_that_is_not_there_is_still_not_there(logged: Logged) -> None:
    imports.when_imported("never_written", lambda module: None)
    with pytest.raises(ModuleNotFoundError, match="never_written"):
        import never_written  # type: ignore[import-not-found]  # noqa: F401
    assert "never_written" not in sys.modules


def test_classes_of_the_script_itself_are_left_alone(logged: Logged) -> None:
    """They are sent to workers as a copy of their code."""
    from sklearn.base import BaseEstimator

    tarmac.autolog()

    class Local(BaseEstimator):  # type: ignore[misc]
        def fit(self, inputs: Any, target: Any = None) -> Local:
            return self

    assert not patches.is_ours(vars(Local)["fit"])
    script = type("Script", (BaseEstimator,), {"__module__": "__main__", "fit": lambda self, inputs: self})
    assert not patches.is_ours(vars(script)["fit"])
    module = type("Module", (BaseEstimator,), {"__module__": "somewhere", "fit": lambda self, inputs: self})
    assert patches.is_ours(vars(module)["fit"])

"""Packages as folders: sealed, verified, trusted, loaded; what they answer is what the model answered."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tarmac.core.errors import Damaged, Invalid, NewerFormat, Refused
from tarmac.formats import engines, packing
from tarmac.formats.arrays import accept
from tarmac.formats.compiling import compiled
from tarmac.formats.package import ABOUT, Sealed
from tarmac.formats.probe import probe
from tarmac.formats.signature import Field
from tests.formats.packed import load, pack

ROWS = np.array([[0.1, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.5], [1.0, 0.0, 1.0]])
LABELS = np.array([0, 1, 1, 0])


class SumModel:
    def __init__(self, plus: float = 0) -> None:
        self.plus = plus

    def predict(self, rows: Any) -> Any:
        return [sum(row) + self.plus for row in rows]


class Writing:
    def predict(self, rows: Any) -> Any:
        rows[:] = 0
        return rows[:, 0]


class Shifting:
    def __init__(self) -> None:
        self.calls = 0

    def predict(self, rows: Any) -> Any:
        self.calls += 1
        return np.zeros(self.calls)


class Sleeping:
    def predict(self, rows: Any) -> Any:
        import time

        time.sleep(60)


class Calling:
    def predict(self, rows: Any) -> Any:
        import socket

        with socket.socket() as line:
            line.connect(("127.0.0.1", 9))


class Crashing:
    def predict(self, rows: Any) -> Any:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGSEGV)


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path(__file__).with_name("EVIL"),))


def inputs(sealed: Sealed, data: Any) -> Any:
    assert sealed.about.signature is not None
    return accept(data, sealed.about.signature)


def test_an_estimator_answers_as_before(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    table = pd.DataFrame(ROWS, columns=["a", "b", "c"])
    model = LogisticRegression().fit(table, np.array(["no", "yes", "yes", "no"]))
    sealed = pack(tmp_path, model, table[:3], traced=True)
    found = load(sealed).predict(inputs(sealed, table))
    assert found["prediction"].tolist() == model.predict(table).tolist()
    assert np.array_equal(found["probabilities"], model.predict_proba(table))
    about = sealed.about
    assert about.signature is not None
    assert about.signature.inputs == [Field(name=name, type="float64") for name in "abc"]
    assert about.signature.outputs == [
        Field(name="prediction", type="text", shape=[-1]),
        Field(name="probabilities", type="float64", shape=[-1, 2]),
    ]
    assert about.traced
    assert {line.partition("==")[0] for line in about.requirements} >= {"scikit-learn", "numpy", "pandas"}
    assert not any("xgboost" in line for line in about.requirements), "what prediction does not import"


@pytest.mark.filterwarnings("ignore")  # MLflow's own, as it is imported
def test_mlflow_loads_it(tmp_path: Path) -> None:
    from mlflow import pyfunc
    from sklearn.linear_model import LinearRegression

    table = pd.DataFrame(ROWS, columns=["a", "b", "c"])
    model = LinearRegression().fit(table, LABELS)
    sealed = pack(tmp_path, model, table[:3], traced=True, after=lambda answer: answer * 2)
    loaded = pyfunc.load_model(str(sealed.folder))
    assert np.allclose(loaded.predict(table), model.predict(table) * 2)
    assert loaded.metadata.signature.inputs.input_names() == ["a", "b", "c"]
    assert loaded.input_example is not None
    with pytest.raises(Exception, match=r"(?i)missing|schema"):
        loaded.predict(table.drop(columns="b"))
    Sealed(sealed.folder).verify()


def test_any_python_with_functions_before_and_after(tmp_path: Path) -> None:
    sealed = pack(
        tmp_path, SumModel(1), [[1.0, 2.0], [3.0, 4.0]], before=lambda rows: [row[:1] for row in rows], after=str
    )
    assert load(sealed).predict(inputs(sealed, [[5.0, 6.0]]))["prediction"].tolist() == ["[6.0]"]
    assert sealed.runs_code() == ["model.pkl", "before.pkl", "after.pkl"]
    sealed = pack(tmp_path, lambda rows: [len(row) for row in rows], [["a", "b"]])
    assert load(sealed).predict(inputs(sealed, [["a", "b"], ["c", "d"]]))["prediction"].tolist() == [2, 2]


@pytest.mark.parametrize("labels", [[0, 1, 2, 1], [3, 5, 9, 5]])
def test_lightgbm_is_kept_as_numbers(tmp_path: Path, labels: list[int]) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    rows, y = np.tile(ROWS, (20, 1)), np.array(labels * 20)
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(rows, y)
    sealed = pack(tmp_path, model, rows[:4])
    assert sealed.runs_code() == []
    found = engines.load(sealed).predict(inputs(sealed, rows))
    assert found["prediction"].tolist() == model.predict(rows).tolist()
    assert np.allclose(found["probabilities"], model.predict_proba(rows))
    assert compiled(sealed, [], 1e-4)[0].proof.equal


def test_xgboost_is_kept_as_numbers(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    rows, y = np.tile(ROWS, (20, 1)), np.tile(LABELS, 20)
    for model in (
        xgboost.XGBClassifier(n_estimators=3).fit(rows, y),
        xgboost.XGBRegressor(n_estimators=3).fit(rows, y),
    ):
        sealed = pack(tmp_path, model, rows[:4])
        assert sealed.runs_code() == []
        assert engines.load(sealed).predict(inputs(sealed, rows))["prediction"].tolist() == model.predict(rows).tolist()
        assert compiled(sealed, [], 1e-4)[0].proof.equal


def test_onnx_says_itself_what_it_takes(tmp_path: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(ROWS, LABELS)
    sealed = pack(tmp_path, to_onnx(model, ROWS[:1].astype("float32")))
    predictor = engines.load(sealed)
    assert predictor.signature is not None
    assert predictor.matrix == "float32"
    found = predictor.predict_matrix(ROWS.astype("float32"))
    assert np.allclose(found["variable"][:, 0], model.predict(ROWS), atol=1e-5)
    assert {name: array.tolist() for name, array in predictor.predict({"X": ROWS}).items()} == {
        name: array.tolist() for name, array in found.items()
    }


def test_code_is_not_run_unless_somebody_vouches_for_it(tmp_path: Path) -> None:
    mark = Path(__file__).with_name("EVIL")
    file = tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps(Evil()))
    folder = tmp_path / "package"
    folder.mkdir()
    sealed = packing.seal(folder, packing.of_path(file, folder))
    with pytest.raises(Refused, match=r"brings code \(`evil.pkl`\)") as caught:
        engines.load(sealed)
    assert f"--trust {sealed.digest}" in str(caught.value.hint)
    assert not mark.exists()
    with pytest.raises(Refused):
        engines.load(sealed, form="native")
    mark.unlink(missing_ok=True)


@pytest.mark.parametrize("way", ["bytes", "size", "gone", "more", "about", "link"])
def test_what_was_tampered_with_is_named(tmp_path: Path, way: str) -> None:
    sealed = pack(tmp_path, SumModel(), [[1.0]])
    file = sealed.folder / "model.pkl"
    data = bytearray(file.read_bytes())
    if way == "bytes":
        data[-5] ^= 1
        file.write_bytes(data)
    elif way == "size":
        file.write_bytes(data + b"x")
    elif way == "gone":
        file.unlink()
    elif way == "more":
        (sealed.folder / "code/model.pkl").write_bytes(b"")
    elif way == "link":
        shutil.move(file, tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        about = sealed.folder / ABOUT
        about.write_bytes(about.read_bytes().replace(b'"traced"', b'"traced" ').replace(b'"thing"', b'"think"'))
    with pytest.raises(Damaged, match="model.pkl" if way != "about" else "not the one that was asked for"):
        load(Sealed(sealed.folder, sealed.digest))


def test_formats_of_tomorrow(tmp_path: Path) -> None:
    sealed = pack(tmp_path, SumModel(), [[1.0]])
    about = sealed.folder / ABOUT
    about.write_bytes(about.read_bytes().replace(b"{\n", b'{\n "format": 9,', 1))
    with pytest.raises(NewerFormat):
        Sealed(sealed.folder)
    about.write_bytes(b"[" * 100_000)
    with pytest.raises(Damaged):
        Sealed(sealed.folder)


def test_models_that_behave_badly(tmp_path: Path) -> None:
    sealed = pack(tmp_path, Writing(), ROWS, traced=True)
    assert any("changes its input" in note for note in sealed.about.notes)
    mine = ROWS.copy()
    load(sealed).predict(inputs(sealed, mine))
    assert np.array_equal(mine, ROWS)
    sealed = pack(tmp_path, Shifting(), ROWS, traced=True)
    assert any("another shape the second time" in note for note in sealed.about.notes)
    load(sealed).predict(inputs(sealed, ROWS))
    sealed = pack(tmp_path, Calling(), ROWS, traced=True)
    assert any("ConnectionRefused" in note for note in sealed.about.notes)
    sealed = pack(tmp_path, Crashing(), ROWS, traced=True)
    assert any("SIGSEGV" in note for note in sealed.about.notes)
    assert not sealed.about.traced


def test_a_model_that_takes_a_minute(tmp_path: Path) -> None:
    sealed = pack(tmp_path, Sleeping(), ROWS)
    draft = packing.Draft(about=sealed.about)
    found = probe(sealed.folder, draft, seconds=3)
    assert any("not done after 3 s" in note for note in found.about.notes)
    assert not found.about.traced


def test_a_row_is_answered_with_a_row(tmp_path: Path) -> None:
    sealed = pack(tmp_path, lambda rows: rows[:2, 0], ROWS[:2], traced=True)
    assert sealed.about.signature is not None
    assert sealed.about.signature.outputs[0].shape == [-1]
    with pytest.raises(Refused, match=r"answered 4 rows with 2 values"):
        load(sealed).predict(inputs(sealed, ROWS))


def test_an_example_that_is_none(tmp_path: Path) -> None:
    from sklearn.linear_model import LinearRegression

    table = pd.DataFrame(ROWS, columns=["age", "income", "debt"])
    model = LinearRegression().fit(table, LABELS)
    with pytest.raises(Invalid, match=r"no column `income`") as caught:
        pack(tmp_path, model, table.rename(columns={"income": "Income"}))
    assert "is it `Income`?" in str(caught.value.hint)
    with pytest.raises(Invalid, match=r"has 2 columns, and the model was trained with 3"):
        pack(tmp_path, model, ROWS[:, :2])


def test_a_torch_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    rows = ROWS.astype("float32")
    sealed = pack(tmp_path, model, rows, traced=True)
    assert sealed.about.traced, sealed.about.notes
    assert sealed.runs_code() == ["module.pt"], "a module is a pickle"
    expected = model(torch.from_numpy(rows)).detach().numpy()
    assert np.allclose(load(sealed).predict(inputs(sealed, rows))["prediction"], expected)
    report, data = compiled(sealed, [], 1e-4)
    assert data is not None, report.proof
    assert report.proof.equal


def test_a_keras_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    rows = ROWS.astype("float32")
    sealed = pack(tmp_path, model, rows, traced=True)
    assert sealed.about.traced, sealed.about.notes
    assert sealed.runs_code() == []
    found = engines.load(sealed).predict(inputs(sealed, rows))["prediction"]
    assert np.allclose(found, model.predict(rows, verbose=0), atol=1e-6)

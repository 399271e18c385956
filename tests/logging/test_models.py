"""`run.model`: the native form of each library's models, and what `about.json` says of them."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.errors import Invalid, NotFound
from tarmac.formats.spool import SavedFile
from tarmac.logging.run import Run
from tests.conftest import tarmac_environment
from tests.logging.spooled import lying, records, saved, spooled


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = spooled(tmp_path)
    yield made
    made.end()


class SumModel:
    def __init__(self, plus: int = 0) -> None:
        self.plus = plus

    def predict(self, rows: list[list[float]]) -> list[float]:
        return [sum(row) + self.plus for row in rows]


def about(run: Run, name: str = "model") -> Any:
    return json.loads(saved(run)[f"models/{name}/about.json"])


def test_whatever_can_be_pickled(run: Run) -> None:
    run.model(SumModel(7), name="sum", example=[[1, 2], [3, 4]])
    assert set(saved(run)) == {"models/sum/model.pkl", "models/sum/about.json"}
    data = saved(run)["models/sum/model.pkl"]
    assert pickle.loads(data).predict([[1, 2]]) == [10]
    assert data[1] == 5, "protocol 5"
    found = about(run, "sum")
    assert (found["kind"], found["name"], found["format"]) == ("python", "sum", 1)
    assert found["class"].endswith(".SumModel")
    assert found["python"].count(".") == 2
    assert found["files"] == [{"path": "model.pkl", "size": len(data)}]
    assert found["example"] == {"kind": "list", "shape": [2], "rows": [[1, 2], [3, 4]]}
    order = [record.path for record in records(run) if isinstance(record, SavedFile)]
    assert order[-1].endswith("about.json"), "who sees it sees all of the model"


def test_a_model_that_cannot_be_pickled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = SumModel()
    model.lock = threading.Lock()
    with pytest.raises(Invalid, match=r"SumModel cannot be pickled: cannot pickle '_thread.lock' object") as caught:
        run.model(model)
    assert "open or running" in str(caught.value.hint)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    model.lock = lambda: 1
    with pytest.raises(Invalid, match=r"cannot be pickled: .*lambda") as caught:
        run.model(model)
    assert "pip install cloudpickle" in str(caught.value.hint)
    assert records(run)[1:] == []
    assert lying(run) == []


def test_cloudpickle_where_pickle_fails(run: Run) -> None:
    pytest.importorskip("cloudpickle")
    model: Any = SumModel()
    model.after = lambda value: value + 1
    run.model(model)
    assert pickle.loads(saved(run)["models/model/model.pkl"]).after(1) == 2


SCRIPT = """
from pathlib import Path
from tests.logging.spooled import saved, spooled
class Mine: answer = 42
run = spooled(Path.cwd())
run.model(Mine())
run.end()
Path("model.pkl").write_bytes(saved(run)["models/model/model.pkl"])
print(saved(run)["models/model/about.json"].decode())
"""


def test_a_class_of_the_script_itself(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{SCRIPT}"],
        cwd=tmp_path, capture_output=True, text=True, env=tarmac_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)["notes"]
    if find_spec("cloudpickle") is None:
        assert "is defined in __main__" in notes[0]
    else:
        assert notes == []
        assert pickle.loads((tmp_path / "model.pkl").read_bytes()).answer == 42, "it is kept by value"


@pytest.mark.parametrize("model", [None, "model.pkl", 7, json])
def test_what_is_no_model(run: Run, model: Any) -> None:
    with pytest.raises(Invalid, match="is no model"):
        run.model(model)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\x00b", 7])
def test_names_that_cannot_be(run: Run, name: Any) -> None:
    with pytest.raises(Invalid, match=r"cannot be the name of"):
        run.model(SumModel(), name=name)


def test_files_of_its_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    (tmp_path / "saved" / "graph.pb").write_bytes(b"graph")
    (tmp_path / "saved" / "variables" / "data").write_bytes(b"data")
    run.model(tmp_path / "saved", name="tf")
    assert saved(run)["models/tf/saved/variables/data"] == b"data"
    assert about(run, "tf")["kind"] == "files"
    assert {file["path"] for file in about(run, "tf")["files"]} == {"saved/graph.pb", "saved/variables/data"}
    with pytest.raises(NotFound):
        run.model(tmp_path / "nowhere")


def test_saving_under_the_same_name_replaces(run: Run) -> None:
    run.model(SumModel(1))
    run.model(SumModel(2))
    assert pickle.loads(saved(run)["models/model/model.pkl"]).plus == 2


def test_other_ranks_keep_nothing(tmp_path: Path) -> None:
    run = spooled(tmp_path, quiet=True)
    run.model(SumModel())
    run.model(Path("only-on-rank-0.onnx"))
    with pytest.raises(Invalid):
        run.model(None)
    assert not run.place.spools.exists()


# --- examples ---


def example(run: Run, given: Any) -> Any:
    run.model(SumModel(), example=given)
    return about(run)["example"]


def test_examples_are_bounded(run: Run) -> None:
    np = pytest.importorskip("numpy")
    found = example(run, np.ones((500, 3), "f4"))
    assert (found["kind"], found["shape"], found["dtype"], len(found["rows"])) == ("numpy", [500, 3], "float32", 20)
    assert example(run, np.zeros((2, 3, 1000, 1000), "u1"))["rows"] == []
    assert example(run, np.float32(3))["rows"] == [3]
    assert len(example(run, ["x" * 50_000] * 10)["rows"]) == 5
    assert example(run, {"a": np.array([1]), "b": ["x"]})["fields"]["a"]["dtype"] == "int64"
    assert example(run, "what is a tarmac?") == {"kind": "str", "rows": ["what is a tarmac?"]}
    with pytest.raises(Invalid, match=r"the example cannot be kept: it holds a .*SumModel"):
        example(run, SumModel())


def test_examples_of_tables(run: Run) -> None:
    pandas = pytest.importorskip("pandas")
    when = pandas.Timestamp("2026-01-02")
    table = pandas.DataFrame({"age": [41, 42], "name": ["a", None], "at": [when, None], "f": [0.5, float("nan")]})
    found = example(run, table)
    assert found["shape"] == [2, 4]
    assert [column["name"] for column in found["columns"]] == ["age", "name", "at", "f"]
    assert found["columns"][0]["dtype"] == "int64"
    assert found["rows"] == [[41, "a", "2026-01-02T00:00:00", 0.5], [42, None, None, None]]
    assert example(run, table["age"])["columns"] == [{"name": "age", "dtype": "int64"}]


def test_examples_of_other_tables(run: Run) -> None:
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    table = polars.DataFrame({"a": [1], "b": ["x"]})
    assert example(run, table)["columns"] == [{"name": "a", "dtype": "Int64"}, {"name": "b", "dtype": "String"}]
    assert example(run, table.to_arrow())["rows"] == [[1, "x"]]


# --- libraries ---


def test_sklearn(run: Run) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    run.model(linear.LinearRegression().fit([[0], [1]], [0, 2]), name="line")
    found = about(run, "line")
    assert (found["kind"], found["library"]) == ("sklearn", "sklearn")
    assert found["version"] == sys.modules["sklearn"].__version__
    assert pickle.loads(saved(run)["models/line/model.pkl"]).predict([[2]])[0] == pytest.approx(4)


def test_torch(run: Run) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 1)
    run.model(model, example=torch.ones(4, 2))
    found = saved(run)
    state = torch.load(io.BytesIO(found["models/model/state.pt"]))
    assert torch.equal(state["weight"], model.weight)
    whole = torch.load(io.BytesIO(found["models/model/module.pt"]), weights_only=False)
    assert torch.equal(whole(torch.ones(1, 2)), model(torch.ones(1, 2)))
    assert about(run)["example"] == {"kind": "torch", "shape": [4, 2], "dtype": "torch.float32", "rows": [[1, 1]] * 4}
    if find_spec("safetensors"):
        from safetensors.torch import load

        assert torch.equal(load(found["models/model/state.safetensors"])["weight"], model.weight)

    class Local(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        pass

    run.model(Local(), name="local")
    assert "models/local/module.pt" not in saved(run)
    assert "models/local/state.pt" in saved(run)
    assert "there is no module.pt: " in about(run, "local")["notes"][0]
    assert "module.pt" not in [file["path"] for file in about(run, "local")["files"]]


def test_xgboost(run: Run, tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    np = pytest.importorskip("numpy")
    rows, labels = np.arange(20.0).reshape(10, 2), np.array([0, 1] * 5)
    booster = xgboost.train({"max_depth": 2}, xgboost.DMatrix(rows, labels), 2)
    run.model(booster, name="booster")
    run.model(xgboost.XGBClassifier(n_estimators=2).fit(rows, labels), name="classifier")
    found = saved(run)
    (tmp_path / "m.ubj").write_bytes(found["models/booster/model.ubj"])
    again = xgboost.Booster(model_file=str(tmp_path / "m.ubj"))
    assert np.array_equal(again.predict(xgboost.DMatrix(rows)), booster.predict(xgboost.DMatrix(rows)))
    assert {"models/classifier/model.ubj", "models/classifier/model.pkl"} < set(found)
    assert about(run, "classifier")["kind"] == "xgboost"


def test_lightgbm(run: Run) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    np = pytest.importorskip("numpy")
    rows, labels = np.arange(80.0).reshape(40, 2), np.array(["no", "yes"] * 20)
    model = lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(rows, labels)
    run.model(model)
    found = saved(run)
    text = found["models/model/model.txt"].decode()
    assert np.allclose(lightgbm.Booster(model_str=text).predict(rows), model.predict_proba(rows)[:, 1])
    assert set(pickle.loads(found["models/model/model.pkl"]).predict(rows)) <= {"no", "yes"}
    with pytest.raises(Invalid, match=r"`models/raw/model.txt` cannot be written: .*NotFittedError"):
        run.model(lightgbm.LGBMClassifier(), name="raw")


def test_onnx(run: Run) -> None:
    onnx = pytest.importorskip("onnx")
    made = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    run.model(made, name="proto")
    run.model(made.SerializeToString(), name="bytes")
    found = saved(run)
    assert found["models/proto/model.onnx"] == found["models/bytes/model.onnx"] == made.SerializeToString()
    assert about(run, "bytes")["kind"] == "onnx"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # keras' own
def test_keras(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    run.model(model)
    (tmp_path / "m.keras").write_bytes(saved(run)["models/model/model.keras"])
    assert keras.models.load_model(tmp_path / "m.keras").count_params() == 3
    assert about(run)["kind"] == "keras"

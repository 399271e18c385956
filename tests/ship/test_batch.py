"""Predictions for files: the same as row by row, in order, whatever the form; killed and gone on with; and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tarmac.core.errors import Conflict, Invalid, NotFound, TarmacError
from tarmac.formats import engines, packing
from tarmac.formats.engines.predictor import Predictor
from tarmac.formats.package import Sealed
from tarmac.ship import batch

pa = pytest.importorskip("pyarrow")
from pyarrow import csv, parquet  # noqa: E402

COLUMNS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Answers `a + b + c` of three columns."""
    from onnx import TensorProto, helper, numpy_helper

    root = tmp_path_factory.mktemp("package")
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (root / "sum.onnx").write_bytes(model.SerializeToString())
    (root / "package").mkdir()
    packing.seal(root / "package", packing.of_path(root / "sum.onnx", root / "package", name="sum"))
    return engines.load(Sealed(root / "package"))


def table(rows: int, start: int = 0) -> Any:
    numbers = np.arange(start, start + rows, dtype=np.float64)
    return pa.table({"a": numbers, "b": numbers * 2, "c": np.ones(rows)})


def answers(folder: Path) -> list[float]:
    found: list[float] = []
    for part in sorted(folder.glob("part-*.parquet")):
        found += parquet.read_table(part)["y"].to_pylist()
    return found


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow", "folder"])
def test_rows_come_back_in_order_whatever_the_form(predictor: Predictor, tmp_path: Path, form: str) -> None:
    rows = 50_000
    source = tmp_path / f"rows.{form}"
    if form == "parquet":
        parquet.write_table(table(rows), source, row_group_size=7000)
    elif form == "csv":
        csv.write_csv(table(rows), source)
    elif form == "arrow":
        with pa.ipc.new_file(source, table(1).schema) as file:
            file.write_table(table(rows), max_chunksize=9000)
    else:
        source.mkdir()
        for number in range(5):
            parquet.write_table(table(rows // 5, number * rows // 5), source / f"{number}.parquet")
    done = batch.predict(predictor, source, tmp_path / "out")
    assert done.rows == rows
    assert answers(tmp_path / "out") == [number * 3 + 1 for number in range(rows)]


def test_what_was_done_is_not_done_again(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "ROWS_IN_PART", 1000)
    parquet.write_table(table(5000), tmp_path / "rows.parquet", row_group_size=1000)
    out = tmp_path / "out"
    batch.predict(predictor, tmp_path / "rows.parquet", out)
    whole = answers(out)
    (out / "part-000002.parquet").unlink()
    (out / "part-000004.new").write_bytes(b"half")  # as a kill leaves it
    (out / "part-000004.parquet").unlink()
    done = batch.predict(predictor, tmp_path / "rows.parquet", out)
    assert (done.rows, done.resumed) == (5000, 3000)
    assert answers(out) == whole
    assert not list(out.glob("*.new"))


def test_other_rows_or_another_model_do_not_go_on(predictor: Predictor, tmp_path: Path) -> None:
    parquet.write_table(table(10), tmp_path / "rows.parquet")
    batch.predict(predictor, tmp_path / "rows.parquet", tmp_path / "out")
    parquet.write_table(table(11), tmp_path / "rows.parquet")
    with pytest.raises(Conflict, match="other rows"):
        batch.predict(predictor, tmp_path / "rows.parquet", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(Conflict, match="other files"):
        batch.predict(predictor, tmp_path / "rows.parquet", tmp_path / "mine")


def test_columns_that_go_along_are_no_inputs(predictor: Predictor, tmp_path: Path) -> None:
    named = table(10).append_column("id", pa.array([f"r{n}" for n in range(10)]))
    parquet.write_table(named, tmp_path / "rows.parquet")
    batch.predict(predictor, tmp_path / "rows.parquet", tmp_path / "out", keep=["id"])
    assert parquet.read_table(tmp_path / "out" / "part-000000.parquet")["id"].to_pylist() == named["id"].to_pylist()
    with pytest.raises(TarmacError, match="no column of numbers"):
        batch.predict(predictor, tmp_path / "rows.parquet", tmp_path / "other")


def test_a_null_that_may_not_be_is_named(predictor: Predictor, tmp_path: Path) -> None:
    holes = table(10).set_column(1, "b", pa.array([None, *range(9)], pa.float64()))
    parquet.write_table(holes, tmp_path / "rows.parquet")
    with pytest.raises(TarmacError, match="`b` is null in row 0"):
        batch.predict(predictor, tmp_path / "rows.parquet", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.parquet", b"PAR1 cut short", "cannot be read"),
        ("rows.csv", b"a,b,c\n1,2\n", "cannot be read"),
        ("rows.csv", b"a,b\n1,2\n", "3"),
        ("rows.txt", b"a", "as rows"),
    ],
)
def test_what_cannot_be_read_is_named(
    predictor: Predictor, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Invalid, match=says):
        batch.predict(predictor, tmp_path / name, tmp_path / "out")


def test_nothing_there(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        batch.predict(predictor, tmp_path / "nowhere.parquet", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound):
        batch.predict(predictor, tmp_path / "empty", tmp_path / "out")


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_parts_become_one_file(predictor: Predictor, tmp_path: Path, suffix: str) -> None:
    parquet.write_table(table(3000), tmp_path / "rows.parquet", row_group_size=500)
    batch.predict(predictor, tmp_path / "rows.parquet", tmp_path / "parts")
    target = tmp_path / f"all{suffix}"
    batch.gather(tmp_path / "parts", target)
    read = csv.read_csv(target) if suffix == ".csv" else parquet.read_table(target)
    assert read["y"].to_pylist() == [number * 3 + 1 for number in range(3000)]
    assert json.loads((tmp_path / "parts" / batch.STATE).read_bytes())["package"] == predictor.digest

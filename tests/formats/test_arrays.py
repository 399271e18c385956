"""Rows of every kind become arrays of the signature; what does not fit is refused with where and what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tarmac.core.errors import Invalid
from tarmac.formats import tensors
from tarmac.formats.arrays import accept, as_given, matrix
from tarmac.formats.signature import Field, Signature, from_mlflow, infer, to_mlflow
from tarmac.logging.examples import describe

TABLE: dict[str, list[Any]] = {"age": [41, 42], "income": [1.5, None], "city": ["Brno", None], "member": [True, False]}


def inferred(example: Any) -> Signature:
    found = infer(describe(example))
    assert found is not None
    return found


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_tables(make: Any) -> None:
    signature = inferred(make(TABLE))
    assert [(field.name, field.type, field.nullable) for field in signature.inputs] == [
        ("age", "int64", False), ("income", "float64", True), ("city", "text", True), ("member", "bool", False),
    ]  # fmt: skip
    for data in (pd.DataFrame(TABLE), pl.DataFrame(TABLE), pa.table(TABLE), TABLE, rows(TABLE)):
        found = accept(data, signature)
        assert found["age"].dtype == np.int64
        assert np.isnan(found["income"][1])
        assert found["city"].tolist() == ["Brno", None]
        assert found["member"].dtype == bool
        assert type(as_given(found, signature)) is type(make(TABLE))


def rows(table: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"age": [1, None]}, "`age` is null in row 1"),
        ({"age": [1, 2.5]}, "`age` is int64; row 1 has float64 `2.5`"),
        ({"age": ["x", 1]}, "`age` is float64; row 0 has str `x`"),
        ({"income": ["1.5", 2]}, "`income` is float64; row 0 has str `1.5`"),
        ({"city": ["Brno", 7]}, "`city` is text; row 1 has int `7`"),
        ({"member": [True, "yes"]}, "`member` is bool; row 1 has str `yes`"),
        ({"age": [1, 2, 3]}, "not all of one length"),
        ({"age": [2**70, 1]}, "no int64"),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        accept({**TABLE, **change}, inferred(pd.DataFrame(TABLE)))


def test_columns_that_are_missing_or_optional() -> None:
    signature = inferred([{"age": 1, "city": "Brno"}, {"age": 2}])
    assert [field.optional for field in signature.inputs] == [False, True]
    assert accept([{"age": 3}], signature)["city"].tolist() == [None]
    with pytest.raises(Invalid, match="`age` is missing") as caught:
        accept([{"Age": 3, "city": "x"}], signature)
    assert "is it `Age`" in str(caught.value.hint)
    with pytest.raises(Invalid, match="row 1: column `age` is missing"):
        accept([{"age": 3}, {"city": "x"}], signature)
    with pytest.raises(Invalid, match="two inputs are called `a`"):
        infer({"kind": "pandas", "columns": [{"name": "a", "dtype": "int64"}] * 2, "rows": [[1, 1]]})


def test_arrays() -> None:
    signature = inferred(np.zeros((3, 2), "float32"))
    assert signature.inputs == [Field(name="input", type="float32", shape=[-1, 2])]
    assert signature.matrix_type() == "float32"
    assert accept([[1, 2]], signature)["input"].dtype == np.float32
    for wrong in ([[1, 2, 3]], [1, 2], [["x", "y"]], [[1], [1, 2]]):
        with pytest.raises(Invalid):
            accept(wrong, signature)
    two = inferred({"a": np.zeros((3, 2)), "b": np.zeros(3, "int64")})
    assert [field.shape for field in two.inputs] == [[-1, 2], [-1]]
    with pytest.raises(Invalid, match="no input `c`"):
        accept({"a": [[1.0, 2.0]], "c": [1]}, two)


def test_columns_side_by_side() -> None:
    signature = inferred(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}))
    assert signature.matrix_type() == "float64"
    assert matrix(accept({"a": [1], "b": [2.5]}, signature), "float32").tolist() == [[1.0, 2.5]]
    assert inferred(pd.DataFrame(TABLE)).matrix_type() is None


def test_as_mlflow_writes_it() -> None:
    signature = inferred([{"age": 1, "city": "Brno"}, {"age": 2}])
    told = to_mlflow(signature)
    assert told is not None
    back = from_mlflow(told)
    assert back is not None
    assert [(f.name, f.type, f.optional) for f in back.inputs] == [("age", "int64", False), ("city", "text", True)]
    image = inferred(np.zeros((2, 8, 8, 3), "uint8"))
    back = from_mlflow(to_mlflow(image) or {})
    assert back is not None
    assert back.inputs == image.inputs
    for hostile in ({"inputs": "["}, {"inputs": "7"}, {"inputs": '[{"type": "map"}]'}, {"inputs": '["x"]'}, {}):
        assert from_mlflow(hostile) is None


def test_tensors_on_the_wire() -> None:
    for array in (
        np.arange(6, dtype="float32").reshape(2, 3),
        np.array([[True], [False]]),
        np.array(["a", "čb"], object),
    ):
        datatype, data = tensors.to_bytes(array)
        back = tensors.from_bytes("x", datatype, list(array.shape), data)
        plain = [v.decode() if isinstance(v, bytes) else v for v in back.ravel().tolist()]
        assert plain == array.ravel().tolist()
        assert back.shape == array.shape
    for datatype, shape, data in (
        ("FP32", [2], b"1234567"), ("BYTES", [1], b"\xff\xff\xff\xff"), ("BYTES", [0], b"x"), ("FP99", [1], b""),
        ("FP32", [-1], b""),
    ):  # fmt: skip
        with pytest.raises(Invalid):
            tensors.from_bytes("x", datatype, shape, data)
    with pytest.raises(Invalid):
        tensors.from_values("x", "INT8", [1], [999])
    assert tensors.from_values("x", "FP64", [1, 2], [1, 2.5]).tolist() == [[1.0, 2.5]]

"""The contract that travels with a model is asked of each row; the refusal names row and column."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tarmac.formats import contract as contracts
from tarmac.formats import packing
from tarmac.formats.signature import infer
from tarmac.logging.examples import describe
from tests.serve.conftest import Running

CONTRACT = """
format = 1
key = ["age"]

[columns.age]
type = "integer"
min = 0
max = 120

[columns.share]
type = "number"
max = 0.1

[columns.left]
type = "boolean"

[checks.young]
rule = "share <= 0.05 or age >= 18"

[checks.truth]
rule = "left or age > 0"
"""


@pytest.fixture
def running(start: Callable[..., Running], tmp_path: Path) -> Running:
    import numpy as np
    import pandas as pd
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    table = pd.DataFrame({"age": [20.0, 40.0, 60.0], "share": [0.0, 0.05, 0.1]})
    fitted = LinearRegression().fit(table.to_numpy(), [1.0, 2.0, 3.0])
    file = tmp_path / "people.onnx"
    file.write_bytes(to_onnx(fitted, np.zeros((1, 2), np.float32)).SerializeToString())
    folder = tmp_path / "people"
    folder.mkdir()
    draft = packing.of_path(file, folder, name="people")
    draft.example = describe(table)
    kept = {"toml": contracts.dumps(contracts.loads(CONTRACT))}
    draft.about = replace(draft.about, signature=infer(draft.example), contract=kept)
    packing.seal(folder, draft)
    return start({"endpoints": [{"name": "people", "versions": [{"version": "1", "folder": str(folder)}]}]})


def ask(running: Running, rows: list[Any]) -> tuple[int, str]:
    status, found = running.json("POST", "/predict/people", rows)
    return status, found.get("error", {}).get("message", "")


def test_rows_that_break_the_contract_are_named(running: Running) -> None:
    good = {"age": 30, "share": 0.1}
    assert ask(running, [good]) == (200, "")
    status, says = ask(running, [good, {"age": 130, "share": 0.1}])
    assert (status, "age.max (at most 120): row 1 has 130" in says) == (400, True), says
    assert "age.type (integer): row 0 has 30.5" in ask(running, [{"age": 30.5, "share": 0.1}])[1]
    assert "check young" in ask(running, [{"age": 3, "share": 0.1}])[1]
    many = [good] * 40
    assert ask(running, many) == (200, "")
    assert "row 39 has -1" in ask(running, [*many[:-1], {"age": -1, "share": 0.1}])[1]


def test_a_limit_of_32_bits_is_a_limit(running: Running) -> None:
    tensor = {"name": "X", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    import json

    for share, wanted in ((0.1, 200), (0.100001, 400)):
        head = json.dumps({"inputs": [tensor]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        body = head + struct.pack("<2f", 30, share)
        assert running.ask("POST", "/v2/models/people/infer", body, headers)[0] == wanted

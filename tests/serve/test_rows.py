"""Rows as JSON, as CSV, and as MLflow's scoring clients send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serve.conftest import Running

ROW = [5.1, 3.5, 1.4, 0.2]


def post(running: Running, path: str, body: str | bytes, kind: str = "application/json") -> tuple[int, Any]:
    status, _, answer = running.ask("POST", path, body, {"Content-Type": kind})
    return status, json.loads(answer)


def test_rows_as_json(quiet: Running) -> None:
    status, answer = post(quiet, "/predict/add", json.dumps([[1, 2, 3, 4], [5, 6, 7, 8]]))
    assert (status, answer["version"], answer["y"] if "y" in answer else answer["predictions"]) == (
        200,
        "1",
        [1010, 1026],
    )
    assert post(quiet, "/predict/add", json.dumps({"rows": [[1, 2, 3, 4]]}))[1]["predictions"] == [1010]


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [ROW]},
        {"instances": [ROW]},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [ROW]}},
        {"inputs": {"X": [ROW]}},
    ],
)
def test_mlflow_ways_to_ask(quiet: Running, document: dict[str, Any]) -> None:
    status, answer = post(quiet, "/invocations/iris", json.dumps(document))
    assert status == 200, answer
    assert answer["predictions"]["label"] == [0]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([1], "not an object"),
        ({}, "exactly one"),
        ({"inputs": [ROW], "instances": [ROW]}, "exactly one"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "row 0"),
        ({"dataframe_records": [1]}, "list of objects"),
        ({"inputs": [[1, 2]]}, "shape"),
        ({"inputs": "x"}, "shape"),
    ],
)
def test_what_mlflow_would_refuse(quiet: Running, document: Any, says: str) -> None:
    status, answer = post(quiet, "/invocations/iris", json.dumps(document))
    assert status == 400, answer
    assert says in json.dumps(answer)


def test_other_contents_are_named(quiet: Running) -> None:
    assert post(quiet, "/predict/add", "x", "text/html")[0] == 415
    assert post(quiet, "/predict/add", b"\xff", "text/csv")[0] == 400
    assert post(quiet, "/predict/add", b"a,b\n1\n", "text/csv")[1]["error"]["message"].startswith("line 2")
    assert post(quiet, "/predict/iris", b"GIF", "image/gif")[0] == 415


def test_the_pages_are_there(quiet: Running) -> None:
    status, headers, front = quiet.ask("GET", "/")
    assert (status, b"iris" in front) == (200, True)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert quiet.ask("GET", "/try/iris")[0] == 200
    document = quiet.json("GET", "/openapi.json")[1]
    assert {"/predict/iris", "/explain/iris", "/invocations/iris"} <= set(document["paths"])

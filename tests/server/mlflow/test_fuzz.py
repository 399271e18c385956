"""Whatever is sent, the answer is a 200 or a 4xx of MLflow's shape: a 5xx would make clients repeat it for minutes."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from tarmac.server.mlflow import routes
from tests.server.mlflow.conftest import Caller

METHODS = sorted(routes.methods())
ODD: list[Any] = [
    None, 0, -1, 2**31, 2**63, 2**70, 1.5, 1e300, True, "", "x", "0", "NaN", "\x00", "a\nb", "ä" * 300, "../..", "%",
    "'", "x" * 70_000, [], [[]], ["x"], [None], {}, {"key": 1}, [{"key": "\x00", "value": "\x00"}], [{}], "\ud800",
]  # fmt: skip


@pytest.mark.parametrize(("verb", "path"), METHODS, ids=[" ".join(method) for method in METHODS])
def test_every_field_of_every_method(mlflow: Caller, verb: str, path: str) -> None:
    run = mlflow.ok("runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    sound = {
        "run_id": run, "experiment_id": "0", "experiment_ids": ["0"], "experiment_name": "Default", "name": "n",
        "new_name": "m", "key": "k", "value": "1", "timestamp": 1, "metric_key": "k", "run_ids": [run],
    }  # fmt: skip
    kind = routes.methods()[verb, path].read.kind
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    base = {name: value for name, value in sound.items() if name in fields}
    where = f"/api/2.0/mlflow/{path.replace('{', '').replace('}', '')}"
    for name in fields:
        for odd in ODD:
            asked = {**base, name: odd}
            if verb == "GET":
                given = {key: value for key, value in asked.items() if isinstance(value, (str, int, float, list))}
                query = urlencode(given, doseq=True, errors="replace")[:50_000]
                answer = mlflow.inside.ask("GET", where, query, same_user=True)
            else:
                answer = mlflow.inside.ask(verb, where, body=json.dumps(asked).encode(), same_user=True)
            shown = (name, str(odd)[:50], answer.status, answer.body[:300])
            assert answer.status < 500 or answer.status == 501, shown
            if answer.status != 200:
                assert list(answer.json()) == ["error_code", "message"], shown
                assert len(answer.body) < 16_000, shown


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"', b"\xff", b"5", b'"{}"', b"{}" * 2, b"[" * 100_000])
def test_every_body_of_every_method(mlflow: Caller, body: bytes) -> None:
    for verb, path in METHODS:
        if verb != "GET":
            answer = mlflow.post(path.replace("{", "").replace("}", ""), body, verb)
            assert answer.status < 500, (verb, path, answer)

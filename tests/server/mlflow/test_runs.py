"""Runs: created, changed, ended, deleted, and everything that is logged to them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.server.mlflow.conftest import Caller, refused

INVALID, ABSENT = (400, "INVALID_PARAMETER_VALUE"), (404, "RESOURCE_DOES_NOT_EXIST")
NOBODY = "ab" * 16


@pytest.fixture
def run(mlflow: Caller) -> str:
    return create(mlflow)


def create(mlflow: Caller, **fields: Any) -> str:
    return str(mlflow.ok("runs/create", {"experiment_id": "0", **fields})["run"]["info"]["run_id"])


def look(mlflow: Caller, id: str) -> dict[str, Any]:
    found: dict[str, Any] = mlflow.seen("runs/get", run_id=id)["run"]
    return found


def pairs(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in entries}


def test_a_new_run(mlflow: Caller) -> None:
    made = mlflow.ok(
        "runs/create",
        {
            "experiment_id": "0",
            "user_id": "ada",
            "run_name": "first",
            "start_time": "1700000000123",  # an int64 may come as text
            "tags": [{"key": "team", "value": "red"}, {"key": "mlflow.note.content", "value": "a note"}],
        },
    )["run"]
    info = made["info"]
    assert info["run_id"] == info["run_uuid"]
    assert info["start_time"] == 1700000000123  # and leaves as a number
    assert (info["run_name"], info["status"], info["user_id"]) == ("first", "RUNNING", "ada")
    assert info["lifecycle_stage"] == "active"
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/{info['run_id']}/artifacts"
    assert "end_time" not in info
    assert pairs(made["data"]["tags"]) == {
        "team": "red", "mlflow.note.content": "a note", "mlflow.runName": "first", "mlflow.user": "ada",
    }  # fmt: skip
    again = look(mlflow, info["run_id"])
    assert (again["info"], pairs(again["data"]["tags"])) == (info, pairs(made["data"]["tags"]))


def test_status_and_name_change(mlflow: Caller, run: str) -> None:
    mlflow.ok("runs/update", {"run_id": run, "status": "FINISHED", "end_time": 1800000000000})
    info = mlflow.ok("runs/update", {"run_id": run, "run_name": "renamed"})["run_info"]
    assert (info["status"], info["end_time"], info["run_name"]) == ("FINISHED", 1800000000000, "renamed")
    assert mlflow.ok("runs/update", {"run_id": run, "status": "FINISHED"})["run_info"] == info  # sent again
    assert mlflow.ok("runs/update", {"run_uuid": run, "status": "RUNNING"})["run_info"]["status"] == "RUNNING"
    assert mlflow.ok("runs/update", {"run_id": run, "status": "KILLED"})["run_info"]["status"] == "KILLED"
    assert mlflow.ok("runs/update", {"run_id": run, "status": 4})["run_info"]["status"] == "FAILED"
    mlflow.ok("runs/set-tag", {"run_id": run, "key": "mlflow.runName", "value": "by tag"})
    assert look(mlflow, run)["info"]["run_name"] == "by tag"


def test_parents_need_not_exist(mlflow: Caller, run: str) -> None:
    for parent in (run, NOBODY, "7"):
        child = create(mlflow, tags=[{"key": "mlflow.parentRunId", "value": parent}])
        assert pairs(look(mlflow, child)["data"]["tags"])["mlflow.parentRunId"] == parent
        query = {"experiment_ids": ["0"], "filter": f"tags.mlflow.parentRunId = '{parent}'"}
        assert [one["info"]["run_id"] for one in mlflow.ok("runs/search", query)["runs"]] == [child]


def test_what_is_logged_is_there(mlflow: Caller, run: str) -> None:
    mlflow.ok("runs/log-parameter", {"run_id": run, "key": "depth", "value": "6"})
    mlflow.ok("runs/log-parameter", {"run_id": run, "key": "depth", "value": "6"})
    mlflow.ok("runs/log-parameter", {"run_id": run, "key": "empty"})
    mlflow.ok("runs/set-tag", {"run_uuid": run, "key": "stage", "value": "draft"})
    for value, step in (("NaN", 1), ("Infinity", 2), ("-Infinity", "3"), (0.5, 4)):
        mlflow.ok("runs/log-metric", {"run_id": run, "key": "m", "value": value, "timestamp": 0, "step": step})
    mlflow.ok("runs/log-metric", {"run_id": run, "key": "n", "value": "NaN", "timestamp": "7"})
    found = look(mlflow, run)["data"]
    assert pairs(found["params"]) == {"depth": "6", "empty": ""}
    assert pairs(found["tags"])["stage"] == "draft"
    assert found["metrics"] == [
        {"key": "m", "value": 0.5, "timestamp": 0, "step": 4},
        {"key": "n", "value": "NaN", "timestamp": 7, "step": 0},
    ]
    curve = mlflow.seen("metrics/get-history", run_id=run, metric_key="m")["metrics"]
    assert [point["value"] for point in curve] == ["NaN", "Infinity", "-Infinity", 0.5]
    assert [point["timestamp"] for point in curve] == [0] * 4
    mlflow.ok("runs/delete-tag", {"run_id": run, "key": "stage"})
    assert "stage" not in pairs(look(mlflow, run)["data"]["tags"])


def test_a_batch_sent_twice_is_stored_once(mlflow: Caller, run: str) -> None:
    batch = {
        "run_id": run,
        "metrics": [{"key": "m", "value": n / 7, "timestamp": 1000 + n, "step": n} for n in range(1000 - 4)],
        "params": [{"key": f"p{n}", "value": str(n)} for n in range(2)],
        "tags": [{"key": "t", "value": "v"}, {"key": "mlflow.runName", "value": "named"}],
    }
    mlflow.ok("runs/log-batch", batch)
    mlflow.ok("runs/update", {"run_id": run, "status": "FINISHED"})
    mlflow.ok("runs/log-batch", batch)  # also when the run has ended
    found = look(mlflow, run)
    assert found["info"]["run_name"] == "named"
    assert len(mlflow.seen("metrics/get-history", run_id=run, metric_key="m")["metrics"]) == 996
    assert found["data"]["metrics"] == [{"key": "m", "value": 995 / 7, "timestamp": 1995, "step": 995}]


def test_a_deleted_run_is_not_written_to(mlflow: Caller, run: str) -> None:
    mlflow.ok("runs/delete", {"run_id": run})
    mlflow.ok("runs/delete", {"run_id": run})
    assert look(mlflow, run)["info"]["lifecycle_stage"] == "deleted"
    writes: dict[str, dict[str, Any]] = {
        "log-metric": {"key": "m", "value": 1, "timestamp": 1},
        "log-parameter": {"key": "p", "value": "1"},
        "set-tag": {"key": "t", "value": "1"},
        "delete-tag": {"key": "t"},
        "log-batch": {"tags": [{"key": "t", "value": "1"}]},
        "update": {"status": "FINISHED"},
        "log-inputs": {"datasets": [_dataset()]},
    }
    for path, fields in writes.items():
        said = mlflow.post(f"runs/{path}", {"run_id": run, **fields})
        refused(said, *INVALID, f"The run {run} must be in the 'active' state. Current state is deleted.")
    mlflow.ok("runs/restore", {"run_id": run})
    mlflow.ok("runs/log-parameter", {"run_id": run, "key": "p", "value": "1"})


def _dataset(**changes: Any) -> dict[str, Any]:
    whole = {"name": "iris", "digest": "abc", "source_type": "local", "source": "{}", **changes}
    return {"dataset": {key: value for key, value in whole.items() if value is not None},
            "tags": [{"key": "mlflow.data.context", "value": "training"}]}  # fmt: skip


def test_data_sets(mlflow: Caller, run: str) -> None:
    given = _dataset(schema='{"a": 1}', profile='{"rows": 3}')
    mlflow.ok("runs/log-inputs", {"run_id": run, "datasets": [given]})
    mlflow.ok("runs/log-inputs", {"run_id": run, "datasets": [given]})
    assert look(mlflow, run)["inputs"] == {"dataset_inputs": [given]}
    for text, hits in {
        "dataset.name = 'iris'": 1, "datasets.digest = 'abc'": 1, "dataset.context = 'training'": 1,
        "dataset.context = 'test'": 0,
    }.items():  # fmt: skip
        found = mlflow.ok("runs/search", {"experiment_ids": ["0"], "filter": text}).get("runs", [])
        assert len(found) == hits, text
    summary = mlflow.ok("experiments/search-datasets", {"experiment_ids": ["0"]})["dataset_summaries"]
    assert summary == [{"experiment_id": "0", "name": "iris", "digest": "abc", "context": "training"}]


def test_models_of_clients_before_3(mlflow: Caller, run: str) -> None:
    one = {"artifact_path": "m", "flavors": {}, "utc_time_created": "now", "run_id": run}
    for path in ("m", "n"):
        mlflow.ok("runs/log-model", {"run_id": run, "model_json": json.dumps({**one, "artifact_path": path})})
    history = json.loads(pairs(look(mlflow, run)["data"]["tags"])["mlflow.log-model.history"])
    assert [model["artifact_path"] for model in history] == ["m", "n"]
    for text in ("{", "[]", "{}"):
        refused(mlflow.post("runs/log-model", {"run_id": run, "model_json": text}), *INVALID)
    refused(mlflow.post("runs/log-model", {"run_id": run}), *INVALID, "'model_json'")


def test_a_param_does_not_change(mlflow: Caller, run: str) -> None:
    mlflow.ok("runs/log-parameter", {"run_id": run, "key": "depth", "value": "6"})
    again = {"run_id": run, "key": "depth", "value": "7"}
    said = refused(mlflow.post("runs/log-parameter", again), *INVALID, "Changing param values is not allowed.")
    assert f"key='depth' was already logged with value='6' for run ID='{run}'" in said
    batch = {"run_id": run, "params": [{"key": "new", "value": "1"}, {"key": "depth", "value": "8"}]}
    refused(mlflow.post("runs/log-batch", batch), *INVALID, "Changing param values")
    assert pairs(look(mlflow, run)["data"]["params"]) == {"depth": "6"}, "a batch is logged as a whole or not at all"


METRIC = {"key": "m", "value": 1.0, "timestamp": 1, "step": 0}
WRONG: list[tuple[str, dict[str, Any], tuple[int, str], str]] = [
    ("log-metric", {"run_id": None}, INVALID, "Missing value for required parameter 'run_id'"),
    ("log-metric", {"run_id": NOBODY, **METRIC}, ABSENT, f"Run with id={NOBODY} not found"),
    ("log-metric", {"run_id": "fake_run_id", **METRIC}, ABSENT, "Run with id=fake_run_id not found"),
    ("log-metric", {"run_id": "../x", **METRIC}, INVALID, "for parameter 'run_id' supplied"),
    ("log-metric", {"run_id": 31, **METRIC}, INVALID, "Invalid value 31 for parameter 'run_id' supplied"),
    ("log-metric", {**METRIC, "key": None}, INVALID, "Missing value for required parameter 'key'"),
    ("log-metric", {**METRIC, "value": None}, INVALID, "'value'"),
    ("log-metric", {**METRIC, "value": "high"}, INVALID, "Invalid value \"high\" for parameter 'value' supplied"),
    ("log-metric", {**METRIC, "timestamp": None}, INVALID, "Missing value for required parameter 'timestamp'"),
    ("log-metric", {**METRIC, "timestamp": -1}, INVALID, "'timestamp'"),
    ("log-metric", {**METRIC, "step": 2**63}, INVALID, "'step'"),
    ("log-metric", {**METRIC, "step": "x"}, INVALID, "Invalid value \"x\" for parameter 'step' supplied"),
    ("log-metric", {**METRIC, "key": "a*b"}, INVALID, "Names may only contain"),
    ("log-metric", {**METRIC, "key": "a//b"}, INVALID, "must not resolve to other names"),
    ("log-metric", {**METRIC, "key": "../up"}, INVALID, "must not resolve to other names"),
    ("log-metric", {**METRIC, "key": "k" * 251}, INVALID, "exceeds the maximum length of 250 characters"),
    ("log-parameter", {"key": "k" * 251, "value": "1"}, INVALID, "exceeds the maximum length of 250 characters"),
    ("log-parameter", {"key": "p", "value": 41}, INVALID, "Invalid value 41 for parameter 'value' supplied"),
    ("log-parameter", {"key": "p", "value": "x" * 1_000_001}, INVALID, "exceeds the maximum length"),
    ("set-tag", {"value": "1"}, INVALID, "Missing value for required parameter 'key'"),
    ("set-tag", {"key": "p", "value": 41}, INVALID, "Invalid value 41 for parameter 'value' supplied"),
    ("delete-tag", {"key": "t"}, ABSENT, "No tag with name: t in run with id"),
    ("log-batch", {"metrics": "foo"}, INVALID, "Invalid value \"foo\" for parameter 'metrics' supplied"),
    ("log-batch", {"metrics": [METRIC, {"key": "m", "value": 1}]}, INVALID, "'metrics[1].timestamp'"),
    ("log-batch", {"metrics": [{**METRIC, "value": None}]}, INVALID, "'metrics[0].value'"),
    ("log-batch", {"metrics": [{**METRIC, "key": "a\nb"}]}, INVALID, "'metrics[0].name'"),
    ("log-batch", {"metrics": [METRIC] * 1001}, INVALID, "at most 1000 metrics. Got 1001"),
    ("log-batch", {"params": [{"key": f"p{n}", "value": ""} for n in range(101)]}, INVALID, "at most 100 params"),
    ("log-batch", {"tags": [{"key": f"t{n}", "value": ""} for n in range(101)]}, INVALID, "at most 100 tags"),
    (
        "log-batch",
        {"metrics": [METRIC] * 1000, "tags": [{"key": "t", "value": ""}]},
        INVALID,
        "metrics, params, and tags",
    ),
    ("log-batch", {"params": [{"key": "p", "value": "1"}] * 2}, INVALID, "Duplicate parameter keys"),
    ("log-batch", {"params": [{"value": "1"}]}, INVALID, "'params[0].key'"),
    ("log-inputs", {"datasets": [{}]}, INVALID, "'datasets[0].dataset'"),
    ("log-inputs", {"datasets": [_dataset(digest=None)]}, INVALID, "digest"),
    ("log-inputs", {"datasets": [_dataset(digest="d" * 37)]}, INVALID, "maximum length of 36"),
    ("update", {"status": "DONE"}, INVALID, "'status'"),
    ("update", {"run_id": NOBODY, "status": "FINISHED"}, ABSENT, "not found"),
    ("delete", {"run_id": NOBODY}, ABSENT, "not found"),
    ("create", {"experiment_id": None}, INVALID, "Invalid experiment ID ''"),
    ("create", {"experiment_id": "abc"}, INVALID, "Invalid experiment ID 'abc'"),
    ("create", {"experiment_id": "404"}, ABSENT, "No Experiment with id=404 exists"),
    ("create", {"experiment_id": "0", "start_time": "soon"}, INVALID, "'start_time'"),
    ("create", {"experiment_id": "0", "tags": {}}, INVALID, "'tags'"),
    ("search", {"experiment_ids": ["0"], "filter": "metrics.a >"}, INVALID, "filter, character"),
    ("search", {"experiment_ids": ["0"], "filter": "colour = 'red'"}, INVALID, "no attribute"),
    ("search", {"experiment_ids": ["0"], "filter": "a" * 20_001}, INVALID, ""),
    ("search", {"experiment_ids": ["0"], "order_by": ["metrics.a SIDEWAYS"]}, INVALID, ""),
    ("search", {"experiment_ids": ["0"], "page_token": "nonsense"}, INVALID, ""),
    ("search", {"max_results": 123456789}, INVALID, "Invalid value 123456789 for parameter 'max_results' supplied"),
    ("search", {"max_results": -1}, INVALID, "'max_results'"),
    ("search", {"run_view_type": "SOME"}, INVALID, "'run_view_type'"),
    ("search", {"experiment_ids": "0"}, INVALID, "'experiment_ids'"),
]


def test_what_is_wrong_is_said(mlflow: Caller, run: str) -> None:
    for path, fields, (status, code), text in WRONG:
        refused(mlflow.post(f"runs/{path}", {"run_id": run, **fields}), status, code, text)
    found = look(mlflow, run)["data"]
    assert "metrics" not in found
    assert "params" not in found


def test_bodies_that_cannot_be_read(mlflow: Caller, run: str) -> None:
    for body in (b"{", b"[]", b'"text"', b"\xff\xfe", b"5", b'{"run_id": "' + b"[" * 100_000):
        refused(mlflow.post("runs/log-batch", body), 400, "BAD_REQUEST")
    large = mlflow.inside.ask(
        "POST", "/api/2.0/mlflow/runs/log-batch", headers={"content-length": "99999999"}, same_user=True
    )
    refused(large, 413, "REQUEST_LIMIT_EXCEEDED")
    wrong = mlflow.inside.ask(
        "POST", "/api/2.0/mlflow/runs/delete", body=b"{}", headers={"content-type": "text/plain"}, same_user=True
    )
    refused(wrong, 400, "INVALID_PARAMETER_VALUE", "application/json")


def test_what_older_and_other_clients_send(mlflow: Caller, run: str) -> None:
    """JSON in JSON, a bare NaN, fields that nobody knows, nulls, every number as text (Java), both ids (R)."""
    twice = json.dumps(json.dumps({"run_id": run, "key": "a", "value": "1"})).encode()
    mlflow.ok("runs/log-parameter", twice)
    mlflow.ok("runs/log-metric", f'{{"run_id": "{run}", "key": "m", "value": NaN, "timestamp": 1}}'.encode())
    mlflow.ok("runs/set-tag", {"run_id": run, "run_uuid": run, "key": "t", "value": "v", "since": {"version": 99}})
    java = {"run_id": run, "key": "m", "value": 2.5, "timestamp": "1700000000000", "step": "9", "dataset_name": None}
    mlflow.ok("runs/log-metric", java)
    point = {"key": "r", "value": "Infinity", "timestamp": 1.7e12, "step": 1.0}
    r = {"run_uuid": run, "run_id": run, "metrics": [point], "params": [], "tags": []}
    mlflow.ok("runs/log-batch", r)
    found = {one["key"]: one for one in look(mlflow, run)["data"]["metrics"]}
    assert found["m"] == {"key": "m", "value": 2.5, "timestamp": 1700000000000, "step": 9}
    assert found["r"] == {"key": "r", "value": "Infinity", "timestamp": 1700000000000, "step": 1}
    assert math.isinf(float(found["r"]["value"]))


def test_curves(mlflow: Caller, run: str) -> None:
    points = [{"key": "m", "value": float(n), "timestamp": 1, "step": n} for n in range(10)]
    mlflow.ok("runs/log-batch", {"run_id": run, "metrics": points})
    pages, token = [], None
    while True:
        more: dict[str, Any] = {"page_token": token} if token else {}
        page = mlflow.seen("metrics/get-history", run_id=run, metric_key="m", max_results=4, **more)
        pages.append([point["step"] for point in page["metrics"]])
        if (token := page.get("next_page_token")) is None:
            break
    assert pages == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    bulk = mlflow.seen("metrics/get-history-bulk", run_id=[run, NOBODY], metric_key="m", max_results=3)["metrics"]
    assert [(point["run_id"], point["step"]) for point in bulk] == [(run, 0), (run, 1), (run, 2)]
    some = mlflow.seen("metrics/get-history-bulk-interval", run_ids=[run], metric_key="m", max_results=5)["metrics"]
    assert [point["step"] for point in some] == [0, 2, 4, 6, 9]
    part = mlflow.seen(
        "metrics/get-history-bulk-interval", run_ids=[run], metric_key="m", start_step=3, end_step=5
    )["metrics"]  # fmt: skip
    assert [point["step"] for point in part] == [3, 4, 5]
    assert mlflow.seen("metrics/get-history", run_id=run, metric_key="unknown") == {}
    refused(mlflow.get("metrics/get-history", run_id=NOBODY, metric_key="m"), *ABSENT)
    refused(mlflow.get("metrics/get-history", run_id=run), *INVALID, "'metric_key'")
    refused(mlflow.get("metrics/get-history", run_id=run, metric_key="m", max_results=0), *INVALID, "max_results")
    refused(mlflow.get("metrics/get-history", run_id=run, metric_key="m", page_token="x"), *INVALID)
    refused(mlflow.get("metrics/get-history-bulk", metric_key="m"), *INVALID, "at least one run_id")
    refused(mlflow.get("metrics/get-history-bulk-interval", run_ids=[run]), *INVALID, "'metric_key'")


def test_in_a_project(mlflow: Caller) -> None:
    made = mlflow.inside.ask("POST", "/api/v1/p/default/projects.create", body=b'{"name": "churn"}', same_user=True)
    assert made.status == 200, made
    there = Caller(mlflow.inside, "/p/churn")
    run = create(there)
    assert look(there, run)["info"]["experiment_id"] == "0"
    refused(mlflow.get("runs/get", run_id=run), *ABSENT)
    for path in ("/p/churn/health", "/p/churn/version"):
        assert mlflow.inside.ask("GET", path, same_user=True).status == 200
    refused(Caller(mlflow.inside, "/p/nobody").post("runs/create", {"experiment_id": "0"}), *ABSENT)


@pytest.mark.parametrize("api", ["/api/2.0/mlflow", "/ajax-api/2.0/mlflow", "/api/3.0/mlflow"])
def test_all_prefixes(mlflow: Caller, api: str) -> None:
    assert mlflow.get("experiments/get", _api=api, experiment_id="0").status == 200

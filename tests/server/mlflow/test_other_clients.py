"""What MLflow's clients for R and Java send, as their sources say: the same answers, whatever the writing.

R's writes every value as text, sends a run's id under both its names, leaves out what is nothing, and asks below
`/api/2.0/preview`. Java's prints protobuf: whole numbers of 64 bits as text, over many lines, with `=` escaped.
"""

from __future__ import annotations

import json
from typing import Any

from tests.server.calls import Answer
from tests.server.mlflow.conftest import Caller, refused

PREVIEW = "/api/2.0/preview/mlflow"


def from_r(mlflow: Caller, path: str, verb: str = "POST", **fields: Any) -> Any:
    return _answered(mlflow.post(path, fields, verb, PREVIEW))


def asked_by_r(mlflow: Caller, path: str, **fields: Any) -> Any:
    return _answered(mlflow.get(path, PREVIEW, **fields))


def from_java(mlflow: Caller, path: str, verb: str = "POST", **fields: Any) -> Any:
    printed = json.dumps(fields, indent=2).replace("=", "\\u003d")
    return _answered(mlflow.post(path, printed.encode(), verb))


def _answered(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.json()


def test_a_run_from_r(mlflow: Caller) -> None:
    experiment = from_r(mlflow, "experiments/create", name="from R")["experiment_id"]
    assert asked_by_r(mlflow, "experiments/get-by-name", experiment_name="from R")["experiment"]["name"] == "from R"
    made = from_r(
        mlflow, "runs/create", experiment_id=experiment, user_id="ada", start_time="1795181863567",
        tags=[{"key": "mlflow.source.name", "value": "train.R"}, {"key": "mlflow.user", "value": "ada"}],
    )  # fmt: skip
    run = made["run"]["info"]["run_uuid"]
    both = {"run_uuid": run, "run_id": run}
    assert made["run"]["info"]["start_time"] == 1795181863567
    for value in ("0.5", "NaN", "Infinity", "-Infinity", "0.25"):
        from_r(mlflow, "runs/log-metric", **both, key="acc", value=value, timestamp="1795181863600", step="0")
    from_r(mlflow, "runs/log-parameter", **both, key="mtry", value="3")
    from_r(mlflow, "runs/set-tag", **both, key="team", value="red")
    from_r(
        mlflow, "runs/log-batch", run_id=run,
        metrics=[{"key": "rmse", "value": "1.5", "step": "7", "timestamp": "1795181863601"}],
        params=[{"key": "ntree", "value": "500"}], tags=[{"key": "k", "value": "v"}],
    )  # fmt: skip
    from_r(mlflow, "runs/delete-tag", run_id=run, key="k")
    found = asked_by_r(mlflow, "runs/get", **both)["run"]
    assert {one["key"]: one["value"] for one in found["data"]["params"]} == {"mtry": "3", "ntree": "500"}
    assert {one["key"]: (one["step"], one["timestamp"]) for one in found["data"]["metrics"]} == {
        "acc": (0, 1795181863600), "rmse": (7, 1795181863601),
    }  # fmt: skip
    points = asked_by_r(mlflow, "metrics/get-history", **both, metric_key="acc")["metrics"]
    assert {point["value"] for point in points} == {0.5, 0.25, "NaN", "Infinity", "-Infinity"}
    page = from_r(
        mlflow, "runs/search", experiment_ids=[experiment], filter="params.mtry = '3'", run_view_type="ACTIVE_ONLY",
        order_by=["metrics.rmse DESC"],
    )  # fmt: skip
    assert [one["info"]["run_uuid"] for one in page["runs"]] == [run]
    assert asked_by_r(mlflow, "artifacts/list", **both)["root_uri"].startswith("mlflow-artifacts:/")
    ended = from_r(mlflow, "runs/update", **both, status="FINISHED", end_time="1795181869999")
    assert (ended["run_info"]["status"], ended["run_info"]["end_time"]) == ("FINISHED", 1795181869999)
    from_r(mlflow, "runs/delete", run_id=run)
    from_r(mlflow, "runs/restore", run_id=run)
    from_r(mlflow, "experiments/delete", experiment_id=experiment)
    from_r(mlflow, "experiments/restore", experiment_id=experiment)
    from_r(mlflow, "experiments/update", experiment_id=experiment, new_name="renamed")
    from_r(mlflow, "experiments/set-experiment-tag", experiment_id=experiment, key="k", value="v")
    refused(
        mlflow.post("runs/log-parameter", {**both, "key": "mtry", "value": "4"}, "POST", PREVIEW),
        400, "INVALID_PARAMETER_VALUE", "Changing param values is not allowed",
    )  # fmt: skip


def test_models_from_r(mlflow: Caller) -> None:
    from_r(mlflow, "registered-models/create", name="iris", tags=[{"key": "a", "value": "b"}])
    made = from_r(mlflow, "model-versions/create", name="iris", source="s3://bucket/iris", description="first")
    assert (made["model_version"]["version"], made["model_version"]["description"]) == ("1", "first")
    found = from_r(mlflow, "registered-models/search", max_results="100", order_by=["name"], filter="name = 'iris'")
    assert [one["name"] for one in found["registered_models"]] == ["iris"]
    moved = from_r(
        mlflow, "model-versions/transition-stage", name="iris", version="1", stage="Production",
        archive_existing_versions="FALSE",
    )  # fmt: skip
    assert moved["model_version"]["current_stage"] == "Production"
    latest = asked_by_r(mlflow, "registered-models/get-latest-versions", name="iris", stages=["Production", "None"])
    assert [one["version"] for one in latest["model_versions"]] == ["1"]
    from_r(mlflow, "registered-models/alias", name="iris", alias="live", version="1")
    assert asked_by_r(mlflow, "registered-models/alias", name="iris", alias="live")["model_version"]["version"] == "1"
    uri = asked_by_r(mlflow, "model-versions/get-download-uri", name="iris", version="1")
    assert uri == {"artifact_uri": "s3://bucket/iris"}
    from_r(mlflow, "model-versions/update", "PATCH", name="iris", version="1", description="second")
    from_r(mlflow, "registered-models/update", "PATCH", name="iris", description="flowers")
    from_r(mlflow, "registered-models/rename", name="iris", new_name="flowers")
    from_r(mlflow, "model-versions/delete", "DELETE", name="flowers", version="1")
    from_r(mlflow, "registered-models/delete", "DELETE", name="flowers")


def test_a_run_from_java(mlflow: Caller) -> None:
    experiment = from_java(mlflow, "experiments/create", name="from Java")["experiment_id"]
    found = from_java(mlflow, "experiments/search", max_results="1000", view_type="ACTIVE_ONLY")["experiments"]
    assert "from Java" in {one["name"] for one in found}
    started = {"experiment_id": experiment, "user_id": "ada", "start_time": "1795181863567"}
    run = from_java(mlflow, "runs/create", **started, tags=[])["run"]["info"]["run_id"]
    both = {"run_uuid": run, "run_id": run}
    for value in (0.5, "NaN", "-Infinity", 1e308):
        from_java(
            mlflow,
            "runs/log-metric",
            **both,
            key="loss",
            value=value,
            timestamp="1795181863600",
            step="9007199254740993",
        )
    from_java(mlflow, "runs/log-parameter", **both, key="expression", value="a=b<c>")
    from_java(mlflow, "runs/set-tag", **both, key="k", value="ü")
    metric = {"key": "acc", "value": 1.0, "timestamp": "1795181863601", "step": "0"}
    from_java(mlflow, "runs/log-batch", run_id=run, metrics=[metric], params=[], tags=[])
    got = _answered(mlflow.get("runs/get", run_id=run, run_uuid=run))["run"]["data"]
    assert got["params"] == [{"key": "expression", "value": "a=b<c>"}]
    assert {one["key"]: one["step"] for one in got["metrics"]} == {"acc": 0, "loss": 9007199254740993}
    search: dict[str, Any] = {
        "experiment_ids": [experiment], "filter": "params.expression = 'a=b<c>'", "run_view_type": "ALL",
        "max_results": 1000, "order_by": [], "page_token": "",
    }  # fmt: skip
    page = from_java(mlflow, "runs/search", **search)
    assert [one["info"]["run_id"] for one in page["runs"]] == [run]
    assert "next_page_token" not in page
    ended = from_java(mlflow, "runs/update", **both, status="FAILED", end_time="1795181869999")["run_info"]
    assert (ended["status"], ended["end_time"]) == ("FAILED", 1795181869999)


def test_models_from_java(mlflow: Caller) -> None:
    run = from_java(mlflow, "runs/create", experiment_id="0")["run"]["info"]
    from_java(mlflow, "registered-models/create", name="java")
    source = f"{run['artifact_uri']}/model"
    made = from_java(mlflow, "model-versions/create", name="java", run_id=run["run_id"], source=source)
    assert made["model_version"]["source"] == source
    assert mlflow.seen("model-versions/get", name="java", version="1")["model_version"]["run_id"] == run["run_id"]
    for text in ("name='java'", f"run_id='{run['run_id']}'"):
        assert len(mlflow.seen("model-versions/search", filter=text)["model_versions"]) == 1
    from_java(mlflow, "model-versions/transition-stage", name="java", version="1", stage="Staging")
    latest = mlflow.seen("registered-models/get-latest-versions", name="java", stages=["Staging"])
    assert [one["current_stage"] for one in latest["model_versions"]] == ["Staging"]
    from_java(mlflow, "model-versions/update", "PATCH", name="java", version="1")

"""Logged models: packages that MLflow's clients fill through the proxy."""

from __future__ import annotations

import json
from typing import Any

from tarmac.registry.operations import ListPackages
from tarmac.store.operations import ListManifests, ShowLineage
from tests.server.mlflow.conftest import Caller, refused

PROXY = "/api/2.0/mlflow-artifacts"


def experiment(mlflow: Caller) -> str:
    return str(mlflow.ok("experiments/create", {"name": "e"})["experiment_id"])


def create(mlflow: Caller, experiment_id: str, **given: Any) -> dict[str, Any]:
    made: dict[str, Any] = mlflow.ok("logged-models", {"experiment_id": experiment_id, "name": "m", **given})["model"]
    return made


def put(mlflow: Caller, model: dict[str, Any], path: str, data: bytes) -> Any:
    below = model["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    return mlflow.post(f"artifacts/{below}/{path}", data, "PUT", PROXY)


def test_from_the_first_file_to_an_alias(mlflow: Caller) -> None:
    of = experiment(mlflow)
    run = mlflow.ok("runs/create", {"experiment_id": of})["run"]["info"]["run_id"]
    params = [{"key": "depth", "value": "6"}]
    model = create(mlflow, of, source_run_id=run, model_type="sklearn", params=params, tags=[])
    id = model["info"]["model_id"]
    assert id.startswith("m-")
    assert model["info"]["status"] == "LOGGED_MODEL_PENDING"
    assert model["data"]["params"] == params
    assert model["info"]["artifact_uri"] == f"mlflow-artifacts:/{of}/models/{id}/artifacts"
    for path, data in (("MLmodel", b"flavors: {}"), ("data/model.pkl", b"weights")):
        assert put(mlflow, model, path, data).status == 200
    root = mlflow.seen(f"logged-models/{id}/artifacts/directories")
    assert root["root_uri"] == model["info"]["artifact_uri"]
    assert root["files"] == [
        {"path": "MLmodel", "is_dir": False, "file_size": 11}, {"path": "data", "is_dir": True},
    ]  # fmt: skip
    listed = mlflow.get("artifacts", PROXY, path=f"{of}/models/{id}/artifacts/data").json()
    assert listed["files"] == [{"path": "model.pkl", "is_dir": False, "file_size": 7}]

    # MLflow 3 registers before it says that the model is ready
    mlflow.ok("registered-models/create", {"name": "churn"})
    version = mlflow.ok("model-versions/create", {"name": "churn", "source": f"models:/{id}"})["model_version"]
    assert (version["status"], version["run_id"], version["model_id"]) == ("READY", run, id)
    ready = mlflow.ok(f"logged-models/{id}", {"status": "LOGGED_MODEL_READY"}, "PATCH")["model"]["info"]
    assert ready["status"] == "LOGGED_MODEL_READY"
    assert ready["registrations"] == [{"name": "churn", "version": "1"}]
    uri = mlflow.seen("model-versions/get-download-uri", name="churn", version="1")
    assert uri == {"artifact_uri": model["info"]["artifact_uri"]}
    fetched = mlflow.get(f"artifacts/{of}/models/{id}/artifacts/data/model.pkl", PROXY)
    assert (fetched.status, fetched.body) == (200, b"weights")

    assert put(mlflow, model, "MLmodel", b"flavors: {}").status == 200, "what is there may be sent again"
    refused(put(mlflow, model, "MLmodel", b"other"), 400, "INVALID_STATE", "is sealed")
    refused(put(mlflow, model, "more", b"other"), 400, "INVALID_STATE", "is sealed")
    refused(mlflow.post(f"logged-models/{id}", None, "DELETE"), 400, "INVALID_STATE", "churn@v1 refers to")
    mlflow.ok("model-versions/delete", {"name": "churn", "version": "1"}, "DELETE")
    mlflow.ok(f"logged-models/{id}", None, "DELETE")
    gone = f"Logged model with ID '{id}' not found."
    refused(mlflow.get(f"logged-models/{id}"), 404, "RESOURCE_DOES_NOT_EXIST", gone)
    edges = mlflow.do(ShowLineage(thing=f"packages/{id[2:]}")).edges
    assert [edge.source for edge in edges] == [f"runs/{run}"]


def test_what_is_said_of_a_model(mlflow: Caller) -> None:
    of = experiment(mlflow)
    run = mlflow.ok("runs/create", {"experiment_id": of})["run"]["info"]["run_id"]
    id = create(mlflow, of)["info"]["model_id"]
    mlflow.ok(f"logged-models/{id}/tags", {"tags": [{"key": "a", "value": "b"}]}, "PATCH")
    mlflow.ok(f"logged-models/{id}/params", {"params": [{"key": "p", "value": "1"}]})
    metric = {"key": "acc", "value": 0.5, "timestamp": "12", "step": 3, "model_id": id}
    on_data = {"dataset_name": "test", "dataset_digest": "d1"}
    mlflow.ok("runs/log-metric", {"run_id": run, **metric, **on_data})
    mlflow.ok("runs/log-batch", {"run_id": run, "metrics": [{**metric, "key": "loss", "value": "NaN"}]})
    data = mlflow.seen(f"logged-models/{id}")["model"]["data"]
    assert data["params"] == [{"key": "p", "value": "1"}]
    said = {one["key"]: one for one in data["metrics"]}
    assert said["acc"] == {
        "key": "acc", "value": 0.5, "timestamp": 12, "step": 3, "model_id": id, "run_id": run, **on_data,
    }  # fmt: skip
    assert said["loss"]["value"] == "NaN"
    metrics = mlflow.seen("runs/get", run_id=run)["run"]["data"]["metrics"]
    assert {one["key"] for one in metrics} == {"acc", "loss"}, "they are the run's too"
    mlflow.ok(f"logged-models/{id}/tags/a", None, "DELETE")
    refused(
        mlflow.post(f"logged-models/{id}/tags/a", None, "DELETE"), 404, "RESOURCE_DOES_NOT_EXIST", "No tag with key"
    )
    absent = {"run_id": run, **metric, "model_id": f"m-{'0' * 32}"}
    refused(mlflow.post("runs/log-metric", absent), 404, "RESOURCE_DOES_NOT_EXIST", "Logged model with ID")


def test_models_that_runs_made_and_were_given(mlflow: Caller) -> None:
    of = experiment(mlflow)
    run = mlflow.ok("runs/create", {"experiment_id": of})["run"]["info"]["run_id"]
    made, given = (create(mlflow, of)["info"]["model_id"] for _ in range(2))
    mlflow.ok("runs/outputs", {"run_id": run, "models": [{"model_id": made, "step": "4"}]})
    mlflow.ok("runs/log-inputs", {"run_id": run, "models": [{"model_id": given}]})
    for shown in (
        mlflow.seen("runs/get", run_id=run)["run"],
        mlflow.ok("runs/search", {"experiment_ids": [of]})["runs"][0],
    ):
        assert shown["outputs"] == {"model_outputs": [{"model_id": made, "step": 4}]}
        assert shown["inputs"] == {"model_inputs": [{"model_id": given}]}
    refused(
        mlflow.post("runs/outputs", {"run_id": run, "models": [{"model_id": "m-1"}]}), 404, "RESOURCE_DOES_NOT_EXIST"
    )


def test_search(mlflow: Caller) -> None:
    of = experiment(mlflow)
    run = mlflow.ok("runs/create", {"experiment_id": of})["run"]["info"]["run_id"]
    ids = []
    for number in range(5):
        id = create(mlflow, of, name=f"m{number}", params=[{"key": "n", "value": str(number)}])["info"]["model_id"]
        metric = {"key": "acc", "value": number / 10, "timestamp": 1, "model_id": id, "dataset_name": f"d{number % 2}"}
        mlflow.ok("runs/log-metric", {"run_id": run, **metric})
        ids.append(id)

    def found(filter: str = "", **given: Any) -> list[int]:
        numbers: list[int] = []
        token = ""
        while True:
            asked = {"experiment_ids": [of], "filter": filter, "max_results": 2, "page_token": token, **given}
            page = mlflow.ok("logged-models/search", asked)
            numbers += [ids.index(one["info"]["model_id"]) for one in page.get("models", [])]
            token = page.get("next_page_token", "")
            if not token:
                return numbers

    assert found() == [4, 3, 2, 1, 0]
    assert found("metrics.acc > 0.15 AND params.n != '4'") == [3, 2]
    assert found("name = 'm1'") == found(f"model_id = '{ids[1]}'") == [1]
    assert found("attributes.status = 'PENDING'", order_by=[{"field_name": "metrics.acc"}]) == [0, 1, 2, 3, 4]
    assert found(f"source_run_id = '{run}'") == []
    assert found(datasets=[{"dataset_name": "d1"}]) == [3, 1]
    assert found("metrics.acc < 0.3", datasets=[{"dataset_name": "d0"}]) == [2, 0]
    assert mlflow.ok("logged-models/search", {}) == {}
    every: list[dict[str, Any]] = [
        {"filter": "colour = 'x'"}, {"order_by": [{"field_name": "colour"}]}, {"datasets": [{}]},
    ]  # fmt: skip
    for wrong in every:
        answer = mlflow.post("logged-models/search", {"experiment_ids": [of], **wrong})
        refused(answer, 400, "INVALID_PARAMETER_VALUE")


def test_what_is_wrong_with_a_logged_model(mlflow: Caller) -> None:
    of = experiment(mlflow)
    refused(mlflow.post("logged-models", {"experiment_id": "77"}), 404, "RESOURCE_DOES_NOT_EXIST")
    for name in ("a/b", "a:b", "", "a.b"):
        asked = {"experiment_id": of, "name": name}
        refused(mlflow.post("logged-models", asked), 400, "INVALID_PARAMETER_VALUE", "Invalid model name")
    id = create(mlflow, of)["info"]["model_id"]
    refused(mlflow.post(f"logged-models/{id}", {"status": "HAPPY"}, "PATCH"), 400, "INVALID_PARAMETER_VALUE")
    failed = mlflow.ok(f"logged-models/{id}", {"status": "LOGGED_MODEL_UPLOAD_FAILED"}, "PATCH")["model"]["info"]
    assert failed["status"] == "LOGGED_MODEL_UPLOAD_FAILED"
    refused(put(mlflow, create(mlflow, of), "../x", b"x"), 400, "INVALID_PARAMETER_VALUE")
    assert [package.state for package in mlflow.do(ListPackages()).packages] == ["pending", "failed"]


def test_a_folder_of_a_run_is_frozen_when_it_is_registered(mlflow: Caller) -> None:
    of = experiment(mlflow)
    info = mlflow.ok("runs/create", {"experiment_id": of})["run"]["info"]
    below = info["artifact_uri"].removeprefix("mlflow-artifacts:/")
    mlflow.post(f"artifacts/{below}/model/MLmodel", b"flavors: {}", "PUT", PROXY)
    mlflow.ok("registered-models/create", {"name": "churn"})
    for source in (f"{info['artifact_uri']}/model", f"runs:/{info['run_id']}/model"):
        made = mlflow.ok("model-versions/create", {"name": "churn", "source": source, "run_id": info["run_id"]})
        number = made["model_version"]["version"]
        assert made["model_version"]["source"] == source
        uri = mlflow.seen("model-versions/get-download-uri", name="churn", version=number)["artifact_uri"]
        mlflow.post(f"artifacts/{below}/model/MLmodel", b"changed", "PUT", PROXY)
        fetched = mlflow.get(f"artifacts/{uri.removeprefix('mlflow-artifacts:/')}/MLmodel", PROXY)
        assert fetched.body == b"flavors: {}"
        mlflow.post(f"artifacts/{below}/model/MLmodel", b"flavors: {}", "PUT", PROXY)
    empty = {"name": "churn", "source": f"runs:/{info['run_id']}/nothing", "run_id": info["run_id"]}
    assert "model_id" not in mlflow.ok("model-versions/create", empty)["model_version"]


def test_models_of_clients_before_mlflow_3(mlflow: Caller) -> None:
    of = experiment(mlflow)
    run = mlflow.ok("runs/create", {"experiment_id": of})["run"]["info"]["run_id"]
    said = '{"artifact_path": "model", "flavors": {}, "utc_time_created": "now", "run_id": "x", "signature": {}}'
    for _ in range(2):
        mlflow.ok("runs/log-model", {"run_id": run, "model_json": said})
    tags = {tag["key"]: tag["value"] for tag in mlflow.seen("runs/get", run_id=run)["run"]["data"]["tags"]}
    assert tags["mlflow.log-model.history"].count('"artifact_path": "model"') == 2
    for wrong in ("nonsense", "[]", "{}", '"x"', "7"):
        asked = {"run_id": run, "model_json": wrong}
        refused(mlflow.post("runs/log-model", asked), 400, "INVALID_PARAMETER_VALUE")


def test_a_ready_model_is_mended_until_it_is_registered(mlflow: Caller) -> None:
    of = experiment(mlflow)
    model = create(mlflow, of)
    id = model["info"]["model_id"]
    put(mlflow, model, "MLmodel", b"flavors: {}")
    put(mlflow, model, "data/model.pkl", b"weights")
    mlflow.ok(f"logged-models/{id}", {"status": "LOGGED_MODEL_READY"}, "PATCH")
    before = mlflow.do(ListPackages()).packages[0]
    assert put(mlflow, model, "MLmodel", b"flavors: {signature}").status == 200
    assert put(mlflow, model, "data/more", b"more").status == 200
    after = mlflow.do(ListPackages()).packages[0]
    assert (after.state, after.files) == ("ready", 3)
    assert after.digest not in (None, before.digest), "it is sealed anew each time"
    assert len(mlflow.do(ListManifests()).manifests) == 1, "what it was before leaves nothing behind"
    served = mlflow.get(f"logged-models/{id}/artifacts/files", artifact_file_path="MLmodel")
    assert (served.status, served.body) == (200, b"flavors: {signature}")

    # said to have failed after all, and then not
    for status in ("LOGGED_MODEL_UPLOAD_FAILED", "LOGGED_MODEL_READY", "LOGGED_MODEL_READY"):
        assert mlflow.ok(f"logged-models/{id}", {"status": status}, "PATCH")["model"]["info"]["status"] == status
    assert mlflow.do(ListPackages()).packages[0].digest == after.digest

    mlflow.ok("registered-models/create", {"name": "churn"})
    for number in (1, 2):
        mlflow.ok("model-versions/create", {"name": "churn", "source": f"models:/{id}", "model_id": id})
        tags = {tag["key"]: tag["value"] for tag in mlflow.seen(f"logged-models/{id}")["model"]["info"]["tags"]}
        assert json.loads(tags["mlflow.modelVersions"]) == [
            {"name": "churn", "version": version} for version in range(1, number + 1)
        ]
    refused(put(mlflow, model, "MLmodel", b"other"), 400, "INVALID_STATE", "churn@v1 is made of it")
    failed = mlflow.post(f"logged-models/{id}", {"status": "LOGGED_MODEL_UPLOAD_FAILED"}, "PATCH")
    refused(failed, 400, "INVALID_STATE", "churn@v1 is made of it")
    assert mlflow.do(ListPackages()).packages[0].digest == after.digest


def test_a_model_whose_files_are_elsewhere_may_get_some(mlflow: Caller) -> None:
    model = create(mlflow, experiment(mlflow))
    id = model["info"]["model_id"]
    mlflow.ok(f"logged-models/{id}", {"status": "LOGGED_MODEL_READY"}, "PATCH")
    for path in ("MLmodel", "data/model.pkl"):
        assert put(mlflow, model, path, path.encode()).status == 200
    assert mlflow.seen(f"logged-models/{id}")["model"]["info"]["status"] == "LOGGED_MODEL_READY"
    package = mlflow.do(ListPackages()).packages[0]
    assert (package.files, package.digest is None) == (2, False)


def test_files_by_the_addresses_of_models_and_versions(mlflow: Caller) -> None:
    of = experiment(mlflow)
    model = create(mlflow, of)
    id = model["info"]["model_id"]
    put(mlflow, model, "data/ü.bin", b"weights")
    mlflow.ok("registered-models/create", {"name": "churn"})
    mlflow.ok("model-versions/create", {"name": "churn", "source": f"models:/{id}"})
    mlflow.post("artifacts/shared/a.txt", b"text", "PUT", PROXY)
    mlflow.ok("model-versions/create", {"name": "churn", "source": "mlflow-artifacts:"})
    mlflow.ok("model-versions/create", {"name": "churn", "source": "s3://bucket/model"})
    files, page = f"logged-models/{id}/artifacts/files", "model-versions/get-artifact"
    assert mlflow.get(files, artifact_file_path="data/ü.bin").body == b"weights"
    assert mlflow.get(page, "", name="churn", version="1", path="data/ü.bin").body == b"weights"
    assert mlflow.get(page, "", name="churn", version="2", path="shared/a.txt").body == b"text"
    for answer in (
        mlflow.get(files, artifact_file_path="data"),
        mlflow.get(files, artifact_file_path="nothing"),
        mlflow.get(f"logged-models/m-{'0' * 32}/artifacts/files", artifact_file_path="x"),
        mlflow.get(page, "", name="churn", version="1", path="nothing"),
        mlflow.get(page, "", name="churn", version="3", path="data"),
        mlflow.get(page, "", name="churn", version="4", path="data"),
        mlflow.get(page, "", name="nobody", version="1", path="data"),
    ):
        refused(answer, 404, "RESOURCE_DOES_NOT_EXIST")
    refused(mlflow.post(files, {}), 400, "BAD_REQUEST", "is not called with POST")
    for answer in (
        mlflow.get(files),
        mlflow.get(files, artifact_file_path="../../etc/passwd"),
        mlflow.get(page, "", name="churn", version="1", path="..%2f..%2fetc"),
        mlflow.get(page, "", name="churn", version="2", path="../x"),
        mlflow.get(page, "", name="churn", version="x", path="data"),
        mlflow.get(page, "", name="churn", version="1"),
    ):
        refused(answer, 400, "INVALID_PARAMETER_VALUE")


def test_the_last_page_says_so(mlflow: Caller) -> None:
    of = experiment(mlflow)
    for _ in range(2):
        create(mlflow, of)
        mlflow.ok("runs/create", {"experiment_id": of})
    mlflow.ok("registered-models/create", {"name": "churn"})
    for _ in range(2):
        mlflow.ok("model-versions/create", {"name": "churn", "source": "s3://bucket/model"})
    for path, fields in (
        ("logged-models/search", {"experiment_ids": [of]}), ("runs/search", {"experiment_ids": [of]}),
    ):  # fmt: skip
        first = mlflow.ok(path, {**fields, "max_results": 1})
        assert "next_page_token" not in mlflow.ok(
            path, {**fields, "max_results": 1, "page_token": first["next_page_token"]}
        )
        assert "next_page_token" not in mlflow.ok(path, {**fields, "max_results": 2})
    assert "next_page_token" not in mlflow.seen("model-versions/search", max_results=2)
    assert "next_page_token" not in mlflow.seen("registered-models/search", max_results=1)

"""All that an MLflow server tells of a project over its REST API, so that two of them can be compared."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode

LARGEST = 1.7976931348623157e308
PROXY = "mlflow-artifacts:/"


class Asked:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: Any) -> Any:
        return json.loads(self._read(f"/api/2.0/mlflow/{path}?{urlencode(query)}"))

    def post(self, path: str, body: Any) -> Any:
        return json.loads(self._read(f"/api/2.0/mlflow/{path}", json.dumps(body).encode()))

    def files(self, uri: str) -> dict[str, str]:
        """Digests of the files below an address of the proxy, by their paths."""
        assert uri.startswith(PROXY), uri
        return self._below(uri.removeprefix(PROXY).strip("/"), "")

    def _below(self, root: str, folder: str) -> dict[str, str]:
        where = f"{root}/{folder}".strip("/")
        found: dict[str, str] = {}
        try:
            listed = json.loads(self._read(f"/api/2.0/mlflow-artifacts/artifacts?{urlencode({'path': where})}"))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {}
        for one in listed.get("files", []):
            path = f"{folder}/{one['path']}".strip("/")
            if one.get("is_dir"):
                found |= self._below(root, path)
            else:
                data = self._read(f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{root}/{path}')}")
                found[path] = hashlib.sha256(data).hexdigest()
        return found

    def _read(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            data: bytes = response.read()
        return data


def snapshot(url: str) -> dict[str, Any]:
    """Experiments, runs, logged models, registered models and versions, by what names them.

    Left out is what says where a server is: addresses of files, of which the files themselves are compared."""
    asked = Asked(url)
    experiments = {}
    body = {"max_results": 1000, "view_type": "ALL"}
    for one in asked.post("experiments/search", body).get("experiments", []):
        if (one["experiment_id"], one["name"]) != ("0", "Default"):  # every server has it
            experiments[one["experiment_id"]] = _kept(one, "name lifecycle_stage creation_time last_update_time")
            experiments[one["experiment_id"]]["tags"] = _pairs(one)
            if one["lifecycle_stage"] == "deleted":  # it went into the trash when it was imported
                del experiments[one["experiment_id"]]["last_update_time"]
    ids = list(experiments)
    body = {"experiment_ids": ids, "max_results": 1000, "run_view_type": "ALL"}
    runs = [run["info"]["run_id"] for run in asked.post("runs/search", body).get("runs", [])]
    found = asked.post("logged-models/search", {"experiment_ids": ids, "max_results": 50}).get("models", [])
    models = [
        name["name"]
        for condition in ({}, {"filter": "tags.`mlflow.prompt.is_prompt` = 'true'"})
        for name in asked.get("registered-models/search", max_results=1000, **condition).get("registered_models", [])
    ]
    return {
        "experiments": experiments,
        "runs": {id: _run(asked, id) for id in runs},
        "logged models": {one["info"]["model_id"]: _logged(asked, one) for one in found},
        "models": {name: _model(asked, name) for name in models},
        "versions": {
            f"{name} {one['version']}": _version(asked, one) for name in models for one in _versions(asked, name)
        },
    }


def _kept(one: dict[str, Any], names: str) -> dict[str, Any]:
    return {name: str(one[name]) for name in names.split() if one.get(name) not in (None, "", "unknown")}


def _pairs(one: dict[str, Any], name: str = "tags") -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in one.get(name, [])}


def _value(value: Any) -> str:
    number = float(value)
    return str(number if abs(number) < LARGEST or number != number else float("inf") * (1 if number > 0 else -1))


def _run(asked: Asked, id: str) -> dict[str, Any]:
    run = asked.get("runs/get", run_id=id)["run"]
    info, data, inputs = run["info"], run["data"], run.get("inputs", {})
    curves = {}
    for metric in data.get("metrics", []):
        points = asked.get("metrics/get-history", run_id=id, metric_key=metric["key"])["metrics"]
        curves[metric["key"]] = sorted(
            (int(point.get("step", 0)), int(point["timestamp"]), _value(point["value"])) for point in points
        )
    status = "RUNNING" if info["status"] == "SCHEDULED" else info["status"]
    return {
        **_kept(info, "experiment_id run_name start_time end_time lifecycle_stage"),
        "status": status,
        "last": {one["key"]: (_value(one["value"]), int(one.get("step", 0))) for one in data.get("metrics", [])},
        "curves": curves,
        "params": _pairs(data, "params"),
        "tags": {key: value for key, value in _pairs(data).items() if key != "mlflow.user"},
        "data": sorted(
            (json.dumps(one["dataset"], sort_keys=True), sorted(_pairs(one).items()))
            for one in inputs.get("dataset_inputs", [])
        ),
        "used": sorted(one["model_id"] for one in inputs.get("model_inputs", [])),
        "made": sorted(
            (one["model_id"], int(one.get("step", 0))) for one in run.get("outputs", {}).get("model_outputs", [])
        ),
        "files": asked.files(info["artifact_uri"]),
    }


def _logged(asked: Asked, one: dict[str, Any]) -> dict[str, Any]:
    info, data = one["info"], one.get("data", {})
    names = "experiment_id name creation_timestamp_ms last_updated_timestamp_ms status model_type source_run_id"
    about = "key run_id dataset_name dataset_digest timestamp step"
    return {
        **_kept(info, names),
        # a tag in which MLflow remembers what was registered
        "tags": {key: value for key, value in _pairs(info).items() if key != "mlflow.modelVersions"},
        "params": _pairs(data, "params"),
        "metrics": [(_kept(metric, about), _value(metric["value"])) for metric in data.get("metrics", [])],
        "files": asked.files(info["artifact_uri"]),
    }


def _model(asked: Asked, name: str) -> dict[str, Any]:
    one = asked.get("registered-models/get", name=name)["registered_model"]
    return {
        **_kept(one, "description creation_timestamp last_updated_timestamp"),
        "tags": _pairs(one),
        "aliases": {alias["alias"]: int(alias["version"]) for alias in one.get("aliases", [])},
    }


def _versions(asked: Asked, name: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for more in ("", " AND tags.`mlflow.prompt.is_prompt` = 'true'"):  # which are only shown to who asks for them
        answer = asked.get("model-versions/search", filter=f"name = '{name}'{more}")
        found |= {one["version"]: one for one in answer.get("model_versions", [])}
    return list(found.values())


def _version(asked: Asked, one: dict[str, Any]) -> dict[str, Any]:
    place = asked.get("model-versions/get-download-uri", name=one["name"], version=one["version"])["artifact_uri"]
    if place.startswith("runs:/"):
        run, _, folder = place.removeprefix("runs:/").partition("/")
        place = f"{asked.get('runs/get', run_id=run)['run']['info']['artifact_uri']}/{folder}"
    names = "creation_timestamp last_updated_timestamp current_stage description source run_id status run_link"
    return {
        **_kept(one, names),
        "tags": _pairs(one),
        "files": asked.files(place) if place.startswith(PROXY) else place,
    }

"""Registered models, versions and aliases over MLflow's API: its answers, its codes, its words."""

from __future__ import annotations

from typing import Any

import pytest

from tarmac.registry.operations import CreatePackage, ShowHistory
from tests.server.mlflow.conftest import Caller, refused

S3 = "s3://bucket/model"


def model(mlflow: Caller, name: str = "churn", versions: int = 1) -> None:
    mlflow.ok("registered-models/create", {"name": name})
    for _ in range(versions):
        mlflow.ok("model-versions/create", {"name": name, "source": S3})


def test_a_registered_model(mlflow: Caller) -> None:
    tags = [{"key": "team", "value": "risk"}]
    made = mlflow.ok("registered-models/create", {"name": "churn", "tags": tags, "description": "who leaves"})
    shown = made["registered_model"]
    assert shown["name"] == "churn"
    assert shown["tags"] == tags
    assert shown["description"] == "who leaves"
    assert isinstance(shown["creation_timestamp"], int)
    assert mlflow.seen("registered-models/get", name="churn") == made
    refused(
        mlflow.post("registered-models/create", {"name": "churn"}),
        400,
        "RESOURCE_ALREADY_EXISTS",
        "Registered Model (name=churn) already exists.",
    )
    edited = mlflow.ok("registered-models/update", {"name": "churn", "description": "better"}, "PATCH")
    assert edited["registered_model"]["description"] == "better"
    mlflow.ok("registered-models/set-tag", {"name": "churn", "key": "a", "value": "b"})
    mlflow.ok("registered-models/delete-tag", {"name": "churn", "key": "team"}, "DELETE")
    mlflow.ok("registered-models/delete-tag", {"name": "churn", "key": "never"}, "DELETE")
    assert mlflow.seen("registered-models/get", name="churn")["registered_model"]["tags"] == [
        {"key": "a", "value": "b"}
    ]
    mlflow.ok("registered-models/rename", {"name": "churn", "new_name": "leavers"})
    gone = "Registered Model with name=churn not found"
    refused(mlflow.get("registered-models/get", name="churn"), 404, "RESOURCE_DOES_NOT_EXIST", gone)
    mlflow.ok("registered-models/delete", {"name": "leavers"}, "DELETE")
    refused(mlflow.post("registered-models/delete", {"name": "leavers"}, "DELETE"), 404, "RESOURCE_DOES_NOT_EXIST")


def test_a_version(mlflow: Caller) -> None:
    mlflow.ok("registered-models/create", {"name": "churn"})
    made = mlflow.ok(
        "model-versions/create",
        {"name": "churn", "source": S3, "run_id": "there is no such run", "tags": [{"key": "a", "value": "b"}]},
    )["model_version"]
    assert (made["version"], made["status"], made["current_stage"]) == ("1", "READY", "None")
    assert (made["source"], made["run_id"]) == (S3, "there is no such run")
    assert mlflow.seen("model-versions/get", name="churn", version="1")["model_version"] == made
    assert mlflow.seen("model-versions/get-download-uri", name="churn", version="1") == {"artifact_uri": S3}
    mlflow.ok("model-versions/update", {"name": "churn", "version": "1", "description": "d"}, "PATCH")
    mlflow.ok("model-versions/set-tag", {"name": "churn", "version": "1", "key": "c", "value": "d"})
    mlflow.ok("model-versions/delete-tag", {"name": "churn", "version": "1", "key": "a"}, "DELETE")
    seen = mlflow.seen("model-versions/get", name="churn", version=1)["model_version"]
    assert (seen["description"], seen["tags"]) == ("d", [{"key": "c", "value": "d"}])
    latest = mlflow.seen("registered-models/get", name="churn")["registered_model"]["latest_versions"]
    assert [version["version"] for version in latest] == ["1"]
    mlflow.ok("model-versions/delete", {"name": "churn", "version": "1"}, "DELETE")
    absent = "Model Version (name=churn, version=1) not found"
    refused(mlflow.get("model-versions/get", name="churn", version=1), 404, "RESOURCE_DOES_NOT_EXIST", absent)
    assert mlflow.ok("model-versions/create", {"name": "churn", "source": S3})["model_version"]["version"] == "2"
    not_a_number = "Parameter 'version' must be an integer, got 'x'."
    refused(mlflow.get("model-versions/get", name="churn", version="x"), 400, "INVALID_PARAMETER_VALUE", not_a_number)


def test_aliases(mlflow: Caller) -> None:
    model(mlflow, versions=2)
    mlflow.ok("registered-models/alias", {"name": "churn", "alias": "production", "version": "1"})
    mlflow.ok("registered-models/alias", {"name": "churn", "alias": "production", "version": "2"})
    by_alias = mlflow.seen("registered-models/alias", name="churn", alias="production")["model_version"]
    assert (by_alias["version"], by_alias["aliases"]) == ("2", ["production"])
    shown = mlflow.seen("registered-models/get", name="churn")["registered_model"]
    assert shown["aliases"] == [{"alias": "production", "version": "2"}]
    assert mlflow.seen("registered-models/alias", name="churn", alias="Latest")["model_version"]["version"] == "2"
    words = "Registered model alias nothing not found."
    refused(mlflow.get("registered-models/alias", name="churn", alias="nothing"), 400, "INVALID_PARAMETER_VALUE", words)
    for _ in range(2):  # MLflow does not mind one that is not there
        mlflow.ok("registered-models/alias", {"name": "churn", "alias": "production"}, "DELETE")
    refused(mlflow.get("registered-models/alias", name="none", alias="a"), 404, "RESOURCE_DOES_NOT_EXIST")
    for alias, text in (
        ("latest", "'latest' alias name (case insensitive) is reserved."),
        ("v7", "Version alias name 'v7' is reserved."),
        ("a b", "Invalid alias name: 'a b'."),
        ("x" * 256, "exceeds the maximum length of 255"),
    ):
        asked = {"name": "churn", "alias": alias, "version": "1"}
        refused(mlflow.post("registered-models/alias", asked), 400, "INVALID_PARAMETER_VALUE", text)
    asked = {"name": "churn", "alias": "a", "version": "9"}
    refused(mlflow.post("registered-models/alias", asked), 404, "RESOURCE_DOES_NOT_EXIST")


def test_what_is_deleted_takes_its_aliases_along_and_history_tells(mlflow: Caller) -> None:
    model(mlflow, versions=2)
    mlflow.ok("registered-models/alias", {"name": "churn", "alias": "a", "version": "1"})
    mlflow.ok("registered-models/alias", {"name": "churn", "alias": "b", "version": "2"})
    mlflow.ok("model-versions/delete", {"name": "churn", "version": "1"}, "DELETE")
    assert mlflow.seen("registered-models/get", name="churn")["registered_model"]["aliases"] == [
        {"alias": "b", "version": "2"}
    ]
    mlflow.ok("registered-models/delete", {"name": "churn"}, "DELETE")
    moves = mlflow.do(ShowHistory(name="churn")).moves
    assert [(move.alias, move.how) for move in moves] == [
        ("b", "retire"), ("a", "retire"), ("b", "promote"), ("a", "promote"),
    ]  # fmt: skip


def test_stages(mlflow: Caller) -> None:
    model(mlflow, versions=3)

    def put(version: int, stage: str, *, archive: bool = False) -> None:
        asked = {"name": "churn", "version": str(version), "stage": stage, "archive_existing_versions": archive}
        mlflow.ok("model-versions/transition-stage", asked)

    put(1, "production")
    put(2, "Production", archive=True)
    found = mlflow.ok("registered-models/get-latest-versions", {"name": "churn"})["model_versions"]
    assert {one["current_stage"]: one["version"] for one in found} == {"Archived": "1", "Production": "2", "None": "3"}
    found = mlflow.seen("registered-models/get-latest-versions", name="churn", stages=["PRODUCTION"])
    assert [one["version"] for one in found["model_versions"]] == ["2"]
    asked = {"name": "churn", "version": "1", "stage": "Live"}
    words = "Invalid Model Version stage: Live. Value must be one of None, Staging, Production, Archived."
    refused(mlflow.post("model-versions/transition-stage", asked), 400, "INVALID_PARAMETER_VALUE", words)
    to_none = {"name": "churn", "version": "1", "stage": "None", "archive_existing_versions": True}
    words = "'None' is not an Active stage."
    refused(mlflow.post("model-versions/transition-stage", to_none), 400, "INVALID_PARAMETER_VALUE", words)


def test_search(mlflow: Caller) -> None:
    for number in range(5):
        mlflow.ok("registered-models/create", {"name": f"m{number}", "tags": [{"key": "n", "value": str(number)}]})
        mlflow.ok("model-versions/create", {"name": f"m{number}", "source": S3, "run_id": f"r{number}"})
    prompt = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    mlflow.ok("registered-models/create", {"name": "prompt", "tags": prompt})

    def names(filter: str, **more: object) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = mlflow.seen("registered-models/search", filter=filter, max_results=2, page_token=token, **more)
            found += [one["name"] for one in page.get("registered_models", [])]
            token = page.get("next_page_token", "")
            if not token:
                return found

    every = [f"m{number}" for number in range(5)]
    assert names("tag.`mlflow.prompt.is_prompt` != 'true'") == every
    assert names("tags.`mlflow.prompt.is_prompt` = 'false' AND name LIKE 'm%'", order_by=["name DESC"]) == every[::-1]
    assert names("tag.`mlflow.prompt.is_prompt` = 'true'") == ["prompt"]
    assert names("name ILIKE 'M1' ") == ["m1"]
    assert names("tags.n = '3'", order_by=["last_updated_timestamp ASC"]) == ["m3"]
    assert names("name IN ('m1', 'm4')") == ["m1", "m4"]
    page = mlflow.seen("model-versions/search", filter="name = 'm2'")
    assert [(one["name"], one["version"]) for one in page["model_versions"]] == [("m2", "1")]
    page = mlflow.seen("model-versions/search", filter="run_id IN ('r1', 'r3')", order_by=["name ASC"])
    assert [one["name"] for one in page["model_versions"]] == ["m1", "m3"]
    assert mlflow.seen("model-versions/search", filter="version_number > 1") == {}
    for wrong in ("nme = 'a'", "name = ", "metrics.a > 1", "version_number = 'x'"):
        refused(mlflow.get("model-versions/search", filter=wrong), 400, "INVALID_PARAMETER_VALUE")
        refused(mlflow.get("registered-models/search", filter=wrong), 400, "INVALID_PARAMETER_VALUE")
    refused(mlflow.get("registered-models/search", max_results=1001), 400, "INVALID_PARAMETER_VALUE")
    refused(mlflow.get("registered-models/search", page_token="nonsense"), 400, "INVALID_PARAMETER_VALUE")


def test_a_copy(mlflow: Caller) -> None:
    model(mlflow)
    mlflow.ok("registered-models/create", {"name": "prod"})
    made = mlflow.ok("model-versions/create", {"name": "prod", "source": "models:/churn/1"})["model_version"]
    assert made["source"] == "models:/churn/1"
    mlflow.ok("model-versions/delete", {"name": "churn", "version": "1"}, "DELETE")
    uri = mlflow.seen("model-versions/get-download-uri", name="prod", version="1")
    assert uri == {"artifact_uri": S3}, "a copy of a copy leads to the place itself"
    words = "Unable to fetch model from model URI source artifact location 'models:/churn/1'."
    asked = {"name": "prod", "source": "models:/churn/1"}
    refused(mlflow.post("model-versions/create", asked), 400, "INVALID_PARAMETER_VALUE", words)


@pytest.mark.parametrize("source", ["/etc/passwd", "file:///etc", "model", "s3://b/../../x", "s3://b/%2e%2e/x", "//["])
def test_sources_that_are_refused(mlflow: Caller, source: str) -> None:
    model(mlflow, versions=0)
    asked = {"name": "churn", "source": source}
    refused(mlflow.post("model-versions/create", asked), 400, "INVALID_PARAMETER_VALUE", "Invalid model version source")


def test_a_refused_move_is_an_invalid_state(mlflow: Caller) -> None:
    mlflow.ok("registered-models/create", {"name": "churn"})
    package = mlflow.do(CreatePackage(name="churn")).package
    assert package is not None
    mlflow.ok("model-versions/create", {"name": "churn", "source": f"models:/m-{package.id}"})
    asked = {"name": "churn", "alias": "production", "version": "1"}
    refused(mlflow.post("registered-models/alias", asked), 400, "INVALID_STATE", "is pending")


METHODS = [
    ("POST", "registered-models/create"), ("GET", "registered-models/get"), ("PATCH", "registered-models/update"),
    ("POST", "registered-models/rename"), ("DELETE", "registered-models/delete"), ("GET", "registered-models/search"),
    ("POST", "registered-models/get-latest-versions"), ("POST", "registered-models/set-tag"),
    ("DELETE", "registered-models/delete-tag"), ("POST", "registered-models/alias"),
    ("GET", "registered-models/alias"), ("DELETE", "registered-models/alias"), ("POST", "model-versions/create"),
    ("GET", "model-versions/get"), ("PATCH", "model-versions/update"), ("DELETE", "model-versions/delete"),
    ("GET", "model-versions/search"), ("POST", "model-versions/transition-stage"),
    ("GET", "model-versions/get-download-uri"), ("POST", "model-versions/set-tag"),
    ("DELETE", "model-versions/delete-tag"), ("POST", "logged-models"), ("GET", "logged-models/m-x"),
    ("PATCH", "logged-models/m-x"), ("DELETE", "logged-models/m-x"), ("POST", "logged-models/search"),
    ("PATCH", "logged-models/m-x/tags"), ("DELETE", "logged-models/m-x/tags/a"), ("POST", "logged-models/m-x/params"),
    ("GET", "logged-models/m-x/artifacts/directories"), ("POST", "runs/outputs"), ("POST", "runs/log-model"),
]  # fmt: skip
BAD = ["", " ", "a/b", "a:b", "a@b", ".", "..", "x" * 5000, "\x00", "\ud800", "\n", "v1", "latest", "💥", "' OR 1=1"]


@pytest.mark.parametrize(("verb", "path"), METHODS, ids=[f"{verb} {path}" for verb, path in METHODS])
def test_bad_input_is_never_our_fault(mlflow: Caller, verb: str, path: str) -> None:
    """MLflow's clients repeat what is answered with 5xx for minutes."""
    model(mlflow, "known")
    names = ("name", "new_name", "alias", "version", "key", "value", "source", "stage", "run_id", "model_id", "filter")
    values: list[Any] = [*BAD, 5, -1, 2**70, None, [], {}, [["a"]], True]
    for value in values:
        for fields in (
            dict.fromkeys(names, value),
            {**dict.fromkeys(names, "known"), "version": value, "tags": value, "stages": value, "models": value},
            {"name": "known", "alias": value, "version": "1", "source": value, "order_by": value, "status": value},
            {"experiment_id": value, "experiment_ids": value, "order_by": [value], "datasets": [value]},
            {"max_results": value, "page_token": value, "name": "known", "tags": [{"key": value, "value": value}]},
        ):
            if verb == "GET":
                plain = {key: item for key, item in fields.items() if isinstance(item, str) and item != "\ud800"}
                answer = mlflow.get(path, **plain)
            else:
                answer = mlflow.post(path, fields, verb)
            assert answer.status < 500, (fields, answer)

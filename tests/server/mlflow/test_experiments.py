"""Experiments: the default one, names that deleted ones keep, tags, search with pages."""

from __future__ import annotations

import pytest

from tests.server.mlflow.conftest import Caller, refused


def _make(mlflow: Caller, name: str, **fields: object) -> str:
    return str(mlflow.ok("experiments/create", {"name": name, **fields})["experiment_id"])


def _names(mlflow: Caller, **fields: object) -> list[str]:
    return [one["name"] for one in mlflow.ok("experiments/search", fields).get("experiments", [])]


def test_the_default_experiment_is_always_there(mlflow: Caller) -> None:
    by_id = mlflow.seen("experiments/get", experiment_id="0")["experiment"]
    assert by_id["name"] == "Default"
    assert by_id["artifact_location"] == "mlflow-artifacts:/0"
    assert by_id["lifecycle_stage"] == "active"
    assert mlflow.seen("experiments/get-by-name", experiment_name="Default")["experiment"] == by_id
    assert _names(mlflow) == ["Default"]
    refused(mlflow.post("experiments/create", {"name": "Default"}), 400, "RESOURCE_ALREADY_EXISTS")
    run = mlflow.ok("runs/create", {"experiment_id": "0"})["run"]
    assert run["info"]["experiment_id"] == "0"


def test_an_experiment_comes_changes_and_goes(mlflow: Caller) -> None:
    id = _make(mlflow, "tiefe Wälder", tags=[{"key": "a", "value": "1"}], artifact_location="s3://bucket/x")
    assert id.isdecimal()
    found = mlflow.seen("experiments/get", experiment_id=id)["experiment"]
    assert (found["name"], found["tags"]) == ("tiefe Wälder", [{"key": "a", "value": "1"}])
    assert found["artifact_location"] == "s3://bucket/x"
    assert mlflow.seen("experiments/get-by-name", experiment_name="tiefe Wälder")["experiment"] == found
    mlflow.ok("experiments/set-experiment-tag", {"experiment_id": id, "key": "b", "value": "two\nlines"})
    mlflow.ok("experiments/delete-experiment-tag", {"experiment_id": id, "key": "a"})
    mlflow.ok("experiments/update", {"experiment_id": id, "new_name": "x" * 500})
    found = mlflow.seen("experiments/get", experiment_id=id)["experiment"]
    assert (found["name"], found["tags"]) == ("x" * 500, [{"key": "b", "value": "two\nlines"}])
    assert found["last_update_time"] >= found["creation_time"]


def test_a_deleted_experiment_keeps_its_name_and_says_how_to_get_on(mlflow: Caller) -> None:
    id = _make(mlflow, "gone")
    run = mlflow.ok("runs/create", {"experiment_id": id})["run"]["info"]["run_id"]
    mlflow.ok("experiments/delete", {"experiment_id": id})
    mlflow.ok("experiments/delete", {"experiment_id": id})  # the answer to the first may have been lost
    assert mlflow.seen("experiments/get", experiment_id=id)["experiment"]["lifecycle_stage"] == "deleted"
    assert mlflow.seen("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"
    said = refused(mlflow.post("experiments/create", {"name": "gone"}), 400, "RESOURCE_ALREADY_EXISTS")
    assert "restore" in said
    assert "purge" in said
    refused(
        mlflow.post("runs/create", {"experiment_id": id}), 400, "INVALID_PARAMETER_VALUE", "must be in the 'active'"
    )
    tag = {"experiment_id": id, "key": "a", "value": "b"}
    refused(mlflow.post("experiments/set-experiment-tag", tag), 400, "INVALID_PARAMETER_VALUE", "'active' state")
    mlflow.ok("experiments/restore", {"experiment_id": id})
    assert mlflow.seen("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "active"


def test_search(mlflow: Caller) -> None:
    for name, team in (("base-1", "red"), ("Base-2", "blue"), ("other", None)):
        _make(mlflow, name, tags=[{"key": "team", "value": team}] if team else [])
    assert _names(mlflow, filter="name LIKE 'base%'") == ["base-1"]
    assert set(_names(mlflow, filter="name ILIKE 'base%'")) == {"base-1", "Base-2"}
    assert _names(mlflow, filter="attribute.name = 'Default'") == ["Default"]
    assert _names(mlflow, filter="tags.team = 'red'") == ["base-1"]
    assert _names(mlflow, filter="tags.`team` != 'red'") == ["Base-2"]
    assert set(_names(mlflow, filter="tags.team IS NULL")) == {"other", "Default"}
    assert _names(mlflow, filter="creation_time < 5") == []
    assert _names(mlflow, order_by=["name ASC"]) == ["Base-2", "Default", "base-1", "other"]
    assert _names(mlflow, order_by=["name DESC"], max_results=1) == ["other"]
    assert [one["name"] for one in mlflow.seen("experiments/search", max_results=10, view_type="DELETED_ONLY").get(
        "experiments", []
    )] == []  # fmt: skip


def test_pages(mlflow: Caller) -> None:
    made = {_make(mlflow, f"e{number}") for number in range(7)} | {"0"}
    mlflow.ok("experiments/delete", {"experiment_id": max(made)})
    seen: list[str] = []
    fields: dict[str, object] = {"max_results": 3, "view_type": "ALL"}
    while True:
        page = mlflow.ok("experiments/search", fields)
        seen += [one["experiment_id"] for one in page["experiments"]]
        if "next_page_token" not in page:
            break
        fields["page_token"] = page["next_page_token"]
    assert sorted(seen) == sorted(made)


def test_data_sets_of_experiments(mlflow: Caller) -> None:
    refused(mlflow.post("experiments/search-datasets"), 400, "INVALID_PARAMETER_VALUE", "at least one experiment_id")
    assert mlflow.ok("experiments/search-datasets", {"experiment_ids": [_make(mlflow, "e")]}) == {}


@pytest.mark.parametrize(
    ("path", "fields", "status", "code", "text"),
    [
        ("create", {}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'name'"),
        ("create", {"name": ""}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'name'"),
        ("create", {"name": 5}, 400, "INVALID_PARAMETER_VALUE", "Invalid value 5 for parameter 'name' supplied"),
        ("create", {"name": "n" * 501}, 400, "INVALID_PARAMETER_VALUE", "exceeds the maximum length of 500"),
        ("create", {"name": "a\nb"}, 400, "INVALID_PARAMETER_VALUE", "control characters"),
        ("create", {"name": "n", "tags": 7}, 400, "INVALID_PARAMETER_VALUE", "for parameter 'tags'"),
        ("create", {"name": "n", "tags": [{"value": "v"}]}, 400, "INVALID_PARAMETER_VALUE", "'tags.key'"),
        ("create", {"name": "n", "artifact_location": "runs:/x"}, 400, "INVALID_PARAMETER_VALUE", "runs:/ URI"),
        ("create", {"name": "n", "artifact_location": "file:///a/../b"}, 400, "INVALID_PARAMETER_VALUE", "location"),
        ("delete", {}, 400, "INVALID_PARAMETER_VALUE", "'experiment_id'"),
        ("delete", {"experiment_id": "1234"}, 404, "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=1234"),
        ("restore", {"experiment_id": "x"}, 400, "INVALID_PARAMETER_VALUE", "must be a valid integer"),
        ("update", {"experiment_id": "0"}, 400, "INVALID_PARAMETER_VALUE", "'new_name'"),
        ("set-experiment-tag", {"experiment_id": "0"}, 400, "INVALID_PARAMETER_VALUE", "'key'"),
        ("set-experiment-tag", {"experiment_id": "0", "key": "../x"}, 400, "INVALID_PARAMETER_VALUE", "'key'"),
        (
            "delete-experiment-tag",
            {"experiment_id": "0", "key": "k"},
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "No tag with name",
        ),
        ("search", {"filter": "nonsense"}, 400, "INVALID_PARAMETER_VALUE", "filter, character"),
        ("search", {"filter": "metrics.a > 1"}, 400, "INVALID_PARAMETER_VALUE", "metrics"),
        ("search", {"max_results": 0}, 400, "INVALID_PARAMETER_VALUE", "'max_results'"),
        ("search", {"max_results": 50001}, 400, "INVALID_PARAMETER_VALUE", "at most 50000"),
        ("search", {"page_token": "x"}, 400, "INVALID_PARAMETER_VALUE", ""),
        ("search", {"order_by": ["size"]}, 400, "INVALID_PARAMETER_VALUE", "no attribute"),
        ("search", {"view_type": "SOME"}, 400, "INVALID_PARAMETER_VALUE", "'view_type'"),
    ],
)
def test_what_is_wrong_is_said(
    mlflow: Caller, path: str, fields: dict[str, object], status: int, code: str, text: str
) -> None:
    refused(mlflow.post(f"experiments/{path}", fields), status, code, text)


def test_who_is_not_there(mlflow: Caller) -> None:
    _make(mlflow, "99")
    assert mlflow.seen("experiments/get-by-name", experiment_name="99")["experiment"]["name"] == "99"
    refused(
        mlflow.get("experiments/get", experiment_id="99"), 404, "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=99"
    )
    for name in ("nobody", "0"):
        said = mlflow.get("experiments/get-by-name", experiment_name=name)
        refused(said, 404, "RESOURCE_DOES_NOT_EXIST", f"'{name}'")

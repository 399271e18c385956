"""MLflow's calls against a gated alias: every way to move, rename or delete it meets the same rules."""

from __future__ import annotations

from typing import Any

import pytest

from tarmac.govern.operations import RemoveGate, SetGate
from tarmac.registry.operations import GetModel, LogPackage, ShowHistory
from tarmac.registry.records import PackageMetric
from tarmac.server.mlflow.routes import methods
from tests.server.mlflow.conftest import Caller, refused

MOVING: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "registered-models/alias", {"name": "churn", "alias": "production", "version": "2"}),
    ("POST", "registered-models/alias", {"name": "churn", "alias": "Production", "version": "2"}),
    ("DELETE", "registered-models/alias", {"name": "churn", "alias": "production"}),
    ("POST", "registered-models/rename", {"name": "churn", "new_name": "gone"}),
    ("DELETE", "registered-models/delete", {"name": "churn"}),
    ("DELETE", "model-versions/delete", {"name": "churn", "version": "1"}),
    ("POST", "model-versions/transition-stage", {"name": "churn", "version": "2", "stage": "Production"}),
    (
        "POST", "model-versions/transition-stage",
        {"name": "churn", "version": "2", "stage": "production", "archive_existing_versions": True},
    ),
]  # fmt: skip
HARMLESS = {
    "registered-models/create", "registered-models/get", "registered-models/get-latest-versions",
    "registered-models/search", "registered-models/set-tag", "registered-models/delete-tag", "registered-models/update",
    "model-versions/create", "model-versions/get", "model-versions/get-download-uri", "model-versions/search",
    "model-versions/set-tag", "model-versions/delete-tag", "model-versions/update",
}  # fmt: skip
"""What neither moves nor renames nor deletes; a call that is new has to be put here, or tried."""


def versions(mlflow: Caller, name: str, *accuracies: float) -> None:
    mlflow.ok("registered-models/create", {"name": name})
    for accuracy in accuracies:
        made = mlflow.ok("logged-models", {"experiment_id": "0", "name": name})["model"]["info"]
        mlflow.do(LogPackage(id=made["model_id"][2:], metrics=[PackageMetric(name="acc", value=accuracy)]))
        mlflow.ok(f"logged-models/{made['model_id']}", {"status": "LOGGED_MODEL_READY"}, "PATCH")
        mlflow.ok("model-versions/create", {"name": name, "source": f"models:/{made['model_id']}"})


@pytest.fixture
def gated(mlflow: Caller) -> Caller:
    """`churn`, whose version 1 is in production and whose version 2 may not be."""
    versions(mlflow, "churn", 0.9, 0.5, 0.95)
    mlflow.do(SetGate(model="churn", alias="production", require=["metrics['acc'] >= 0.8"]))
    mlflow.ok("registered-models/alias", {"name": "churn", "alias": "production", "version": "1"})
    return mlflow


@pytest.mark.parametrize(("verb", "path", "fields"), MOVING, ids=lambda value: str(value)[-40:])
def test_a_gated_alias_is_not_moved_past_its_rules(gated: Caller, verb: str, path: str, fields: dict[str, Any]) -> None:
    before = gated.do(GetModel(name="churn"))
    message = refused(gated.post(path, fields, verb), 400, "INVALID_STATE", "gate" if "2" not in str(fields) else "")
    if fields.get("version") == "2":
        assert "`metrics['acc'] >= 0.8`: is 0.5, and has to be at least 0.8" in message
    assert gated.do(GetModel(name="churn")) == before
    assert len(gated.do(ShowHistory(name="churn")).moves) == 1


def test_every_call_of_the_registry_was_looked_at() -> None:
    there = {path for _, path in methods() if path.startswith(("registered-models/", "model-versions/"))}
    assert there == HARMLESS | {path for _, path, _ in MOVING}


def test_what_holds_passes_and_no_gate_is_as_before(gated: Caller) -> None:
    gated.ok("registered-models/alias", {"name": "churn", "alias": "production", "version": "3"})
    newest = gated.do(ShowHistory(name="churn")).moves[0]
    assert (newest.after, newest.evidence["rules"][0]["values"]) == (3, {"metrics.acc": 0.95})
    gated.ok("registered-models/alias", {"name": "churn", "alias": "shadow", "version": "2"})
    gated.ok("registered-models/alias", {"name": "churn", "alias": "shadow"}, "DELETE")
    gated.do(RemoveGate(model="churn", alias="production"))
    for verb, path, fields in (*MOVING[:4], MOVING[6]):
        gated.ok(path, {**fields, "name": "churn"}, verb)
        if path.endswith("rename"):
            gated.ok(path, {"name": "gone", "new_name": "churn"})
    gated.ok("model-versions/delete", {"name": "churn", "version": "1"}, "DELETE")
    gated.ok("registered-models/delete", {"name": "churn"}, "DELETE")


def test_what_was_not_measured_is_refused_with_the_way_to_measure_it(gated: Caller) -> None:
    gated.do(SetGate(model="churn", alias="production", require=["not pickle"]))
    answer = gated.post("registered-models/alias", {"name": "churn", "alias": "production", "version": "3"})
    refused(answer, 400, "INVALID_STATE", "`tarmac gates check churn@v3 --to production`")
    refused(
        gated.post("model-versions/transition-stage", {"name": "churn", "version": "3", "stage": "Production"}),
        400, "INVALID_STATE", "`not pickle`: was not measured yet",
    )  # fmt: skip


def test_another_model_does_not_take_the_name(gated: Caller) -> None:
    versions(gated, "other", 0.1)
    gated.ok("registered-models/alias", {"name": "other", "alias": "production", "version": "1"})
    gated.do(SetGate(model="served", alias="production", require=["metrics['acc'] >= 0.8"]))
    refused(
        gated.post("registered-models/rename", {"name": "other", "new_name": "served"}),
        400, "INVALID_STATE", "rules that it was not judged by",
    )  # fmt: skip

"""Addresses: both versions, both prefixes, projects, what is not there and what is not there yet."""

from __future__ import annotations

import pytest

from tests.server.mlflow.conftest import Caller, refused


def test_what_mlflow_has_and_tarmac_does_not_is_said_at_once(mlflow: Caller) -> None:
    for path in ("webhooks", "traces", "traces/abc/info", "gateway/secrets/get"):
        refused(mlflow.get(path), 501, "NOT_IMPLEMENTED", "does not speak")


@pytest.mark.parametrize("path", ["runs/nonsense", "experiments", "", "runs/get/more"])
def test_unknown_addresses(mlflow: Caller, path: str) -> None:
    refused(mlflow.get(path), 404, "ENDPOINT_NOT_FOUND")


def test_the_wrong_verb(mlflow: Caller) -> None:
    refused(mlflow.post("experiments/get"), 400, "BAD_REQUEST")

"""Real clients of MLflow's registry against a real server: what people write with them works unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Server
from tests.server.mlflow.registry_scripts import SKINNY
from tests.server.mlflow.test_clients import need, run, token


@pytest.mark.slow
@pytest.mark.parametrize("what", SKINNY)
def test_scripts(what: str, shared_server: Server, state: Path, tmp_path: Path) -> None:
    need("mlflow", "numpy", "pandas", "cloudpickle")
    run(SKINNY[what], shared_server.url, tmp_path, **token(state, shared_server))

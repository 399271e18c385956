"""Real clients against a real server: what people write with MLflow works unchanged."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tarmac.core.operation import Operation
from tarmac.core.settings import Settings
from tarmac.people.operations import AddPerson, CreateToken
from tarmac.workspace import connect
from tests.conftest import Server
from tests.server.calls import token_of
from tests.server.mlflow.client_scripts import SKINNY, WHOLE
from tests.server.mlflow.library_scripts import LIBRARIES, SEARCHES

PYTHON = os.environ.get("MLFLOW_TEST_PYTHON", sys.executable)
PATIENCE = 180


def run(script: str, url: str, folder: Path, **more: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        **more,
    }
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", textwrap.dedent(script)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]


def token(state: Path, server: Server) -> dict[str, str]:
    return {"MLFLOW_TRACKING_TOKEN": token_of(state, server.url)}


def need(*modules: str) -> None:
    for module in modules:
        if sys.executable == PYTHON and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("what", SKINNY)
def test_scripts(what: str, shared_server: Server, state: Path, tmp_path: Path) -> None:
    need("mlflow")
    run(SKINNY[what], shared_server.url, tmp_path, **token(state, shared_server))


@pytest.mark.slow
@pytest.mark.parametrize("what", WHOLE)
def test_scripts_with_other_libraries(what: str, shared_server: Server, state: Path, tmp_path: Path) -> None:
    need("mlflow", "sklearn", "pandas", "matplotlib")
    run(WHOLE[what], shared_server.url, tmp_path, **token(state, shared_server))


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_scripts_with_training_libraries(library: str, shared_server: Server, state: Path, tmp_path: Path) -> None:
    need("mlflow", library, "numpy", "pandas", "cloudpickle")
    run(LIBRARIES[library], shared_server.url, tmp_path, **token(state, shared_server))


@pytest.mark.slow
def test_searches_find_what_python_finds(shared_server: Server, state: Path, tmp_path: Path) -> None:
    need("mlflow")
    run(SEARCHES, shared_server.url, tmp_path, **token(state, shared_server))


LOOK = "import mlflow; mlflow.search_experiments()"
WRITE = "import mlflow; mlflow.MlflowClient().create_run('0')"


@pytest.mark.slow
def test_tokens_and_roles(shared_server: Server, state: Path, tmp_path: Path) -> None:
    need("mlflow")
    with connect(shared_server.url, settings=Settings(token=token_of(state, shared_server.url))) as owner:

        def person(name: str, role: str) -> str:
            asked: Operation[object] = AddPerson(name=name, role=role)  # type: ignore[arg-type, assignment]
            owner(asked)
            return owner(CreateToken(person=name)).token

        person("root", "admin")
        viewer, writer = person("vera", "viewer"), person("will", "contributor")
    url = shared_server.url
    run(LOOK, url, tmp_path, MLFLOW_TRACKING_TOKEN=viewer)
    run(LOOK, url, tmp_path, MLFLOW_TRACKING_USERNAME="vera", MLFLOW_TRACKING_PASSWORD=viewer)
    run(WRITE, url, tmp_path, MLFLOW_TRACKING_USERNAME="anything", MLFLOW_TRACKING_PASSWORD=writer)
    for script, given in ((WRITE, viewer), (LOOK, "wrong"), (LOOK, "")):
        with pytest.raises(AssertionError, match=r"PERMISSION_DENIED|UNAUTHENTICATED|401|403"):
            run(script, url, tmp_path, **({"MLFLOW_TRACKING_TOKEN": given} if given else {}))

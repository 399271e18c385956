"""Sources that MLflow itself has written, and MLflow's own server where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tarmac import store
from tarmac.core.settings import Settings
from tarmac.start.operations import Imported, ImportMlflow
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import Workspace, connect

SOURCES = Path(__file__).parent / "sources"
MODELS = SOURCES / "models"


def carry(workspace: Workspace, source: Path | str, artifacts: Path | None = None) -> Imported:
    return workspace.wait(workspace(ImportMlflow(source=str(source), artifacts=str(artifacts or ""))))


def database_of(dump: Path, file: Path) -> Path:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(dump.read_text())
    return file


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace on SQLite, for what does not depend on the database."""
    made = WorkspaceFolder(tmp_path / "here" / ".tarmac")
    store.create(made, Settings()).close()
    with connect(made.path.parent) as opened:
        yield opened


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder `mlruns` with models."""
    return Path(shutil.copytree(MODELS / "mlruns", tmp_path / "mlruns"))


@pytest.fixture
def models_database(tmp_path: Path) -> Path:
    return database_of(MODELS / "mlflow.sql", tmp_path / "mlflow.db")


@pytest.fixture
def mlflow_server() -> Iterator[Callable[[str, Path], str]]:
    """MLflow's own server over a store and a folder for files, where its program is installed whole."""
    program = os.environ.get("MLFLOW_PROGRAM") or shutil.which("mlflow")
    if program is None:
        pytest.skip("MLflow is not installed whole: there is no program `mlflow` (MLFLOW_PROGRAM names one)")
    with contextlib.ExitStack() as stack:

        def start(store: str, artifacts: Path) -> str:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            words = ["--backend-store-uri", store, "--artifacts-destination", str(artifacts)]
            environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}
            process = subprocess.Popen(
                [program, "server", *words, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
                cwd=artifacts.parent,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                process_group=0,
            )
            stack.callback(process.wait)
            stack.callback(_stop, process)
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    pytest.skip(f"MLflow is not installed whole: `{program} server` ended at once")
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return f"http://127.0.0.1:{port}"
                time.sleep(0.2)
            raise AssertionError("MLflow's server did not start")

        yield start


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)

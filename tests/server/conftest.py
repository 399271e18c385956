"""One server for all tests of a file that only look or write what no other test reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarmac import store
from tarmac.core.settings import Settings
from tarmac.store.folder import WorkspaceFolder
from tests.conftest import Server, start_server
from tests.server.calls import Inside, Line


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared server leaves its owner's token."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def shared_server(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = WorkspaceFolder(tmp_path_factory.mktemp("shared") / ".tarmac")
    store.create(folder, Settings()).close()
    os.environ.setdefault("TARMAC_STATE", str(state))  # read before the first test's own environment is made
    server = start_server(folder, TARMAC_STATE=str(state))
    yield server
    assert server.stop() == 0
    assert server.process.stdout
    assert server.process.stderr
    said = server.process.stderr.read()
    server.process.stdout.close()
    server.process.stderr.close()
    assert "Traceback" not in said, said


@pytest.fixture
def line(shared_server: Server) -> Iterator[Line]:
    """A kept connection to the shared server, as its owner."""
    opened = Line(shared_server.url)
    yield opened
    opened.close()


@pytest.fixture
def inside(folder: WorkspaceFolder) -> Iterator[Inside]:
    """The app on each database, in this process."""
    made = Inside(folder)
    yield made
    made.close()

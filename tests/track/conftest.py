"""Workspaces full of runs, made once for the tests of a module that only read them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tarmac import store as stores
from tarmac.core.actor import os_user
from tarmac.core.settings import Settings
from tarmac.door.dispatch import Door
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import LocalWorkspace
from tests.store.editing import database_of
from tests.track.oracle import Known, fill

RUNS = 5000


@dataclass
class Filled:
    workspace: LocalWorkspace
    runs: list[Known]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """5,000 random runs on each database, and what the oracle knows of them."""
    folder = WorkspaceFolder(tmp_path_factory.mktemp("filled") / ".tarmac")
    with ExitStack() as stack:
        address = "sqlite"
        if request.param == "postgres":
            address = stack.enter_context(database_in(request.getfixturevalue("postgres_server")))
        store = stores.create(folder, Settings(), address)
        store.project_key("default", create=True)
        workspace = LocalWorkspace(Door(store), os_user(), "default")
        stack.callback(workspace.close)
        runs = fill(workspace, RUNS)
        with database_of(folder) as run:
            run("ANALYZE")
        yield Filled(workspace, runs)


@contextmanager
def database_in(uri: str) -> Iterator[str]:
    """A database of its own on a Postgres server."""
    import psycopg

    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    address = uri.replace("/postgres?", f"/{name}?", 1)
    assert address != uri
    yield address
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

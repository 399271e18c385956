"""Training as it happens: scripts in processes of their own, and what a workspace knows of them afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.locks import FileLock
from tarmac.logging.carrier import LOCK_FILE
from tarmac.store.folder import WorkspaceFolder
from tarmac.track.operations import GetHistory, ListRuns, RunPage
from tarmac.track.records import Run
from tarmac.workspace import Workspace
from tests.conftest import Ran, tarmac_environment
from tests.logging.autologged import logged


@dataclass
class Training:
    """A script that logs, and where it logs to."""

    folder: Path
    where: str
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, text: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        script = self.folder / "train.py"
        if not script.exists() or script.read_text() != text:  # others may be reading it in this moment
            script.write_text(text)
        return subprocess.Popen(
            [sys.executable, str(script), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=tarmac_environment(TARMAC_WORKSPACE=self.where, **self.environment, **environment),
        )

    def run(self, text: str, *words: str, **environment: str) -> Ran:
        process = self.start(text, *words, **environment)
        out, err = process.communicate(timeout=120)
        return Ran(process.returncode, out, err)

    def spools(self) -> list[Path]:
        """What has not been carried."""
        roots = [self.folder / ".tarmac" / "spool", *(Path(tarmac_environment()["TARMAC_STATE"]) / "spool").glob("*")]
        return [path for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir()]


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anywhere: Workspace) -> Iterator[Training]:
    """Logging into a folder and through a server, on each database."""
    monkeypatch.setenv("TARMAC_STATE", str(_state(tmp_path)))
    yield Training(tmp_path, anywhere.place)
    stop_carriers(tmp_path)


@pytest.fixture
def local(tmp_path: Path, folder: WorkspaceFolder) -> Iterator[Training]:
    """Logging into a folder."""
    yield Training(tmp_path, str(folder.path))
    stop_carriers(tmp_path)


def _state(tmp_path: Path) -> Path:
    """A state folder of this test alone, with the tokens of the servers it started."""
    shared = Path(tarmac_environment()["TARMAC_STATE"])
    made = tmp_path / "state"
    made.mkdir()
    if (shared / "servers").is_dir():
        (made / "servers").symlink_to(shared / "servers")
    return made


def stop_carriers(folder: Path, seconds: float = 20) -> None:
    """No carrier may write into what a test removes; left alone it would stay for a moment and look for more."""
    found = subprocess.run(["pgrep", "-f", f"tarmac.workspace.carrier {folder}/"], capture_output=True, text=True)
    for number in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(number), signal.SIGKILL)
    for path in folder.rglob(LOCK_FILE):
        lock = FileLock(path)
        until(lambda lock=lock: lock.acquire(wait=False), seconds)  # type: ignore[misc]
        lock.release()
        lock.close()


def only_run(workspace: Workspace) -> Run:
    found: RunPage = workspace(ListRuns())
    assert len(found.runs) == 1, found.runs
    return found.runs[0]


def history(workspace: Workspace, run: str, key: str) -> list[tuple[int, Any]]:
    curve = workspace(GetHistory(run=run, key=key))
    return list(zip(curve.steps, curve.values, strict=True))


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


__all__ = ["logged"]  # a fixture, too

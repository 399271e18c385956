"""Real child processes, for what only they can show."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import Workspace

OPEN = """
import os, signal, sys, time
from pathlib import Path
from tarmac.workspace import connect
from tarmac.store.operations import *
from tarmac.store.records import File
from tarmac.track.operations import *
from tarmac.govern.operations import *
workspace = connect(Path(sys.argv[1]))
"""


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def start(folder: WorkspaceFolder, script: str, *words: object) -> subprocess.Popen[str]:
    """Python with a workspace opened in `workspace`; SIGKILL takes it as it is."""
    return subprocess.Popen(
        [sys.executable, "-c", OPEN + textwrap.dedent(script), str(folder.path), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parents[2],
    )


def end(process: subprocess.Popen[str], timeout: float = 60) -> Ended:
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def ran(folder: WorkspaceFolder, script: str, *words: object) -> Ended:
    return end(start(folder, script, *words))


def faults(workspace: Workspace) -> list[str]:
    """What `store check` finds wrong."""
    from tarmac.store.operations import CheckStore

    return workspace.wait(workspace(CheckStore())).faults

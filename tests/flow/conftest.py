"""A project in a folder, with pipelines that tests write, run by command in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import tarmac_environment


@dataclass
class Project:
    """A folder with a workspace and the code of pipelines."""

    folder: Path

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return file

    def edit(self, name: str, old: str, new: str) -> None:
        file = self.folder / name
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new), encoding="utf-8")

    def tarmac(self, *words: str, code: int = 0, **environment: str) -> str:
        done = self.start(*words, **environment)
        out, _ = done.communicate(timeout=120)
        assert done.returncode == code, out
        return str(out)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "tarmac", *words],
            cwd=self.folder,
            env={**tarmac_environment(), "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, pipeline: str = "pipe:main", *words: str, code: int = 0, **environment: str) -> dict[str, Any]:
        """What became of each step, and the result."""
        out = self.tarmac("run", pipeline, *words, "--json", code=code, **environment)
        return _told(out, code)

    def plan(self, pipeline: str = "pipe:main", *words: str) -> dict[str, dict[str, Any]]:
        made = json.loads(self.tarmac("plan", pipeline, *words, "--json").splitlines()[-1])
        return {step["node"]: step for step in made["steps"]}

    def marks(self, pipeline: str = "pipe:main", *words: str) -> dict[str, str]:
        return {name: step["mark"] for name, step in self.plan(pipeline, *words).items()}


def _told(out: str, code: int) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    if code:
        return answer
    return {"run": answer["run"], "result": answer["result"], "steps": {s["node"]: s["done"] for s in answer["steps"]}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.folder.mkdir()
    made.tarmac("init")
    return made

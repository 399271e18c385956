"""DVC in an environment of its own (`--peers`), restic where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

DVC = "dvc==3.67.1"


def dvc(place: Path) -> list[str] | None:
    """The command of a fresh DVC; None if it cannot be installed."""
    import uv

    environment = place / "dvc"
    for words in (
        ["venv", "-q", "--python", sys.executable, str(environment)],
        ["pip", "install", "-q", "--python", str(environment / "bin/python"), DVC],
    ):
        if subprocess.run([uv.find_uv_bin(), *words], check=False).returncode:
            return None
    return [str(environment / "bin/dvc")]


def dvc_project(place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "init", "-q", str(place)], check=True)


def restic() -> list[str] | None:
    found = shutil.which("restic")
    return [found] if found else None


def restic_environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "RESTIC_REPOSITORY": str(place / "restic"),
        "RESTIC_PASSWORD": "bench",
        "RESTIC_CACHE_DIR": str(place / "cache"),
    }

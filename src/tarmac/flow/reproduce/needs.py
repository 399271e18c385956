"""What it takes to do a run again, read from what was kept of it; and what stands in the way."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from tarmac.core.digest import digest
from tarmac.core.errors import bounded
from tarmac.core.secrets import MASK
from tarmac.flow.reproduce.records import Cause

NOT_INSTALLED = frozenset({"tarmac", "pip", "uv"})
"""tarmac itself comes from where this runs: who records has to understand the store that it records into."""
PYTHON = re.compile(r"^python[\d.]*(\.exe)?$")
SESSIONS = ("ipykernel_launcher", "ipykernel", "jupyter", "ipython")


@dataclass(frozen=True)
class Needs:
    """A run, ready to be done again elsewhere."""

    words: list[str]
    """Its command line; files of the project as seen from the folder it was started in."""
    source: str
    """The manifest of its source tree."""
    top: str
    """Where that tree lies, as seen from the folder that is made for it."""
    folder: str
    """Where the command was started, as seen from there too."""
    paths: list[str]
    """Where it imported modules of its own from, as seen from the top of the tree."""
    python: str
    lock: str
    """What was installed, as lines of a requirements file."""
    settings: dict[str, str]
    machine: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What installed packages are kept under."""
        return digest(f"{self.python}\n{self.lock}".encode())


def find(facts: dict[str, Any], source: str | None) -> tuple[Needs | None, list[Cause]]:
    """What a run needs, or all that stands in the way."""
    if source is None or not facts:
        return None, [Cause(kind="source", what="no source was kept of it; `tarmac run` and `tarmac.run` keep it")]
    if not {"argv", "root", "folder", "packages", "python"} <= facts.keys():
        return None, [Cause(kind="source", what="an older tarmac kept this run: its command line is not known exactly")]
    root, folder = PurePosixPath(facts["root"]), PurePosixPath(facts["folder"] or facts["root"])
    base = PurePosixPath(os.path.commonpath([root, folder]))
    words, causes = _command(facts, root, folder)
    lock, wrong = _lock(facts, root)
    causes += wrong
    if causes:
        return None, causes
    return Needs(
        words=words,
        source=source,
        top=root.relative_to(base).as_posix(),
        folder=folder.relative_to(base).as_posix(),
        paths=facts.get("paths", []),
        python=facts["python"].rpartition(" ")[2],
        lock=lock,
        settings=_settings(facts),
        machine=facts.get("machine", {}),
        left_out=facts.get("left_out", {}),
    ), []


def _command(facts: dict[str, Any], root: PurePosixPath, folder: PurePosixPath) -> tuple[list[str], list[Cause]]:
    python, *rest = facts["argv"] or [""]
    if any(MASK in word for word in rest):
        return [], [Cause(kind="code", what="its command line had a secret, which was not kept")]
    if not PYTHON.match(PurePosixPath(python).name.lower()):
        return [], [Cause(kind="code", what=f"it was started by `{bounded(python)}`, not by Python")]
    if not rest or rest == ["-"] or any(session in word for word in rest[:3] for session in SESSIONS):
        return [], [Cause(kind="code", what="it was typed in a session or a notebook's kernel: no command starts it")]
    words = [_moved(word, root, folder) for word in rest]
    script = next((word for word in words if not word.startswith("-")), "")
    if "-m" not in words and "-c" not in words and script.startswith("/") and "/bin/" not in script:
        return [], [Cause(kind="code", what=f"{bounded(script)} lies outside of the source that was kept")]
    inside = (folder / script).relative_to(root).as_posix() if (folder / script).is_relative_to(root) else ""
    if why := facts.get("left_out", {}).get(inside):
        return [], [Cause(kind="code", what=f"{inside} was not kept: {why}")]
    return words, []


def _moved(word: str, root: PurePosixPath, folder: PurePosixPath) -> str:
    """A word of a command, where the project lies elsewhere."""
    path = PurePosixPath(word)
    if path.is_absolute() and path.is_relative_to(root):
        return os.path.relpath(path, folder)
    return word


def _lock(facts: dict[str, Any], root: PurePosixPath) -> tuple[str, list[Cause]]:
    lines, causes = [], []
    direct = facts.get("direct", {})
    for name, version in facts["packages"].items():
        if name in NOT_INSTALLED:
            continue
        noted = direct.get(name)
        if noted is None:
            lines.append(f"{name}=={version}")
            continue
        url = str(noted["url"])
        if "vcs_info" in noted:
            lines.append(f"{name} @ {noted['vcs_info']['vcs']}+{url}@{noted['vcs_info']['commit_id']}")
        elif not url.startswith("file:"):
            lines.append(f"{name} @ {url}")
        elif not PurePosixPath(url.removeprefix("file://")).is_relative_to(root):
            what = f"{name} {version} was installed from {bounded(url)}, which is no part of the source that was kept"
            causes.append(Cause(kind="package", what=what))
    return "".join(f"{line}\n" for line in sorted(lines)), causes


def _settings(facts: dict[str, Any]) -> dict[str, str]:
    seed = facts.get("seeds", {}).get("PYTHONHASHSEED")
    return {**({"PYTHONHASHSEED": seed} if seed is not None else {}), **facts.get("settings", {})}

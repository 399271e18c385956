"""What it takes to do a run again, read from what was kept of it; and what stands in the way."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tarmac.core.digest import digest
from tarmac.core.errors import bounded
from tarmac.core.names import Folder
from tarmac.core.secrets import MASK
from tarmac.flow.reproduce.records import Cause
from tarmac.logging.capture import SETTINGS

NOT_INSTALLED = frozenset({"tarmac", "pip", "uv"})
"""tarmac itself comes from where this runs: who records has to understand the store that it records into."""
PYTHON = re.compile(r"^python[\d.]*(\.exe)?$")
PackageName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][\w.-]*$(?!\n)")]
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


class _Noted(msgspec.Struct):
    """Where a package came from that came from no index."""

    url: str = ""
    vcs_info: dict[str, str] = {}


class _Facts(msgspec.Struct):
    """What is relied upon of what was kept. Whoever may write can have written it: all of it is looked at."""

    argv: list[str]
    root: str
    folder: str
    python: Annotated[str, Meta(pattern=r"^\w+ \d+\.\d+(\.\d+)?[\w.+]*$(?!\n)")]
    packages: dict[PackageName, Annotated[str, Meta(pattern=r"^[\w.!+-]+$(?!\n)")]]
    paths: list[Folder] = []
    direct: dict[PackageName, _Noted] = {}
    settings: dict[str, str] = {}
    seeds: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    left_out: dict[str, str] = {}


def find(facts: dict[str, Any], source: str | None) -> tuple[Needs | None, list[Cause]]:
    """What a run needs, or all that stands in the way."""
    if source is None or not facts:
        return None, [Cause(kind="source", what="no source was kept of it; `tarmac run` and `tarmac.run` keep it")]
    if "argv" not in facts:
        return None, [Cause(kind="source", what="an older tarmac kept this run: its command line is not known exactly")]
    try:
        known = msgspec.convert(facts, _Facts)
    except msgspec.ValidationError as error:
        where = str(error).rpartition("`$.")[2].rstrip("`")
        return None, [Cause(kind="source", what=f"how it was started cannot be understood: `{bounded(where)}`")]
    root, folder = (PurePosixPath(os.path.normpath(text)) for text in (known.root, known.folder or known.root))
    if not (root.is_absolute() and folder.is_absolute()):
        return None, [Cause(kind="source", what=f"it ran on another kind of system, in {bounded(known.folder)}")]
    words, causes = _command(known, root, folder)
    lock, wrong = _lock(known, root)
    causes += wrong
    if causes:
        return None, causes
    base = PurePosixPath(os.path.commonpath([root, folder]))
    seed = known.seeds.get("PYTHONHASHSEED")
    settings = {**({"PYTHONHASHSEED": str(seed)} if seed is not None else {}), **known.settings}
    return Needs(
        words=words,
        source=source,
        top=root.relative_to(base).as_posix(),
        folder=folder.relative_to(base).as_posix(),
        paths=list(known.paths),
        python=known.python.partition(" ")[2],
        lock=lock,
        settings={name: value for name, value in settings.items() if name in SETTINGS and "\0" not in value},
        machine=known.machine,
        left_out=known.left_out,
    ), []


def _command(known: _Facts, root: PurePosixPath, folder: PurePosixPath) -> tuple[list[str], list[Cause]]:
    python, *rest = known.argv or [""]
    if any(MASK in word for word in rest):
        return [], [Cause(kind="code", what="its command line had a secret, which was not kept")]
    if not PYTHON.match(PurePosixPath(python).name.lower()):
        return [], [Cause(kind="code", what=f"it was started by `{bounded(python)}`, not by Python")]
    if not rest or rest == ["-"] or any(session in word for word in rest[:3] for session in SESSIONS):
        return [], [Cause(kind="code", what="it was typed in a session or a notebook's kernel: no command starts it")]
    if any("\0" in word for word in rest):
        return [], [Cause(kind="code", what="its command line is none")]
    words = [_moved(word, root, folder) for word in rest]
    script = next((word for word in words if not word.startswith("-")), "")
    if "-m" not in words and "-c" not in words and script.startswith("/") and "/bin/" not in script:
        return [], [Cause(kind="code", what=f"{bounded(script)} lies outside of the source that was kept")]
    inside = (folder / script).relative_to(root).as_posix() if (folder / script).is_relative_to(root) else ""
    if why := known.left_out.get(inside):
        return [], [Cause(kind="code", what=f"{inside} was not kept: {why}")]
    return words, []


def _moved(word: str, root: PurePosixPath, folder: PurePosixPath) -> str:
    """A word of a command, where the project lies elsewhere."""
    path = PurePosixPath(word)
    if path.is_absolute() and path.is_relative_to(root):
        return os.path.relpath(path, folder)
    return word


def _lock(known: _Facts, root: PurePosixPath) -> tuple[str, list[Cause]]:
    lines, causes = [], []
    for name, version in known.packages.items():
        if name in NOT_INSTALLED:
            continue
        noted = known.direct.get(name)
        if noted is None:
            lines.append(f"{name}=={version}")
        elif re.search(r"\s", noted.url + "".join(noted.vcs_info.values())):
            causes.append(Cause(kind="package", what=f"{name} {version} came from no address: {bounded(noted.url)}"))
        elif noted.vcs_info:
            vcs, commit = noted.vcs_info.get("vcs", ""), noted.vcs_info.get("commit_id", "")
            lines.append(f"{name} @ {vcs}+{noted.url}@{commit}")
        elif not noted.url.startswith("file:"):
            lines.append(f"{name} @ {noted.url}")
        elif not PurePosixPath(os.path.normpath(noted.url.removeprefix("file://"))).is_relative_to(root):
            what = f"{name} {version} was installed from {bounded(noted.url)}"
            causes.append(Cause(kind="package", what=f"{what}, which is no part of the source that was kept"))
    return "".join(f"{line}\n" for line in sorted(lines)), causes

"""How a run was started: command line, commit, packages, machine, and the files of its source tree.

Nothing here may end the run: what cannot be found out is left out, and the list of what was left out is kept.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.secrets import mask_url, mask_words

LARGEST_FILE = 10 * 1024 * 1024
LARGEST_TREE = 100 * 1024 * 1024
MOST_FILES = 10_000
MOST_NAMED = 100
MOST_UNTRACKED = 500
"""Where no git says what belongs together, more files than this are no project."""
SOURCE = frozenset({
    ".py", ".pyx", ".pxd", ".pyi", ".ipynb", ".toml", ".cfg", ".ini", ".yaml", ".yml", ".json", ".sh", ".sql", ".r",
    ".jl", ".c", ".cc", ".cpp", ".h", ".cu", ".rs", ".go", ".txt", ".md",
})  # fmt: skip
NEVER = frozenset({
    ".git", ".hg", ".svn", ".tarmac", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".pytest_cache",
    ".ruff_cache", ".ipynb_checkpoints", ".tox", ".nox", "mlruns", "wandb",
})  # fmt: skip
SECRET_FILES = re.compile(r"^(\.env(\..+)?|.*\.(pem|key|p12|pfx|kdbx)|id_(rsa|dsa|ecdsa|ed25519)|\.netrc|\.pypirc)$")
GIT_SECONDS = 5
SETTINGS = (
    "PYTHONHASHSEED", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "TZ", "LANG", "LC_ALL",
)  # fmt: skip
"""What in the environment changes what is computed; nothing else of it is kept."""


@dataclass
class Tree:
    """The files to keep, and what was left out and why."""

    root: Path
    files: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def describe(
    command: list[str], folder: Path, start: Path, python: str = "", paths: tuple[str, ...] | None = None
) -> tuple[dict[str, Any], Tree]:
    """How a command was started, and the files of the project that `start` lies in."""
    found, tree = facts(command, folder, python, paths), source_tree(start)
    _add_named(tree, command, folder)
    found["left_out"] = dict(list(tree.left_out.items())[:MOST_NAMED])
    found["root"] = str(tree.root)
    found["paths"] = _inside(tree.root, sys.path if paths is None else paths)
    return found, tree


def facts(command: list[str], folder: Path, python: str = "", paths: tuple[str, ...] | None = None) -> dict[str, Any]:
    """What can be said of this machine and of a command; of this interpreter, or of one with other paths."""
    found: dict[str, Any] = {
        "command": " ".join(mask_words(command)),
        "argv": mask_words(command),
        "settings": {name: os.environ[name] for name in SETTINGS if name in os.environ},
        "folder": str(folder),
        "machine": {
            "host": platform.node(),
            "system": f"{platform.system()} {platform.release()}",
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "memory": _memory(),
        },
        "python": python or f"{platform.python_implementation()} {platform.python_version()}",
        "packages": packages(paths),
        "direct": direct(paths),
    }
    found |= git(folder)
    return found


@lru_cache(maxsize=8)
def packages(paths: tuple[str, ...] | None = None) -> dict[str, str]:
    """What is installed beside this interpreter, or on other paths."""
    found = {}
    for distribution in metadata.distributions(path=list(sys.path if paths is None else paths)):
        try:
            name = distribution.metadata["Name"]
            if name:
                found[name.lower()] = distribution.version
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half-installed, or not written as it should be
    return dict(sorted(found.items()))


@lru_cache(maxsize=8)
def direct(paths: tuple[str, ...] | None = None) -> dict[str, dict[str, Any]]:
    """Which of them came from no index, but from an address, a repository or a folder: what pip notes of it."""
    found = {}
    for distribution in metadata.distributions(path=list(sys.path if paths is None else paths)):
        try:
            text = distribution.read_text("direct_url.json")
            if text:
                noted = msgspec.json.decode(text, type=dict[str, Any])
                found[distribution.metadata["Name"].lower()] = {**noted, "url": mask_url(str(noted.get("url", "")))}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, msgspec.MsgspecError):
            continue  # as above
    return dict(sorted(found.items()))


def _inside(root: Path, paths: Iterable[str]) -> list[str]:
    """Where modules of the project itself are imported from, as seen from its top."""
    library = Path(sysconfig.get_path("purelib"))
    found = []
    for text in paths:
        path = Path(text or ".").absolute()
        if path.is_dir() and path.is_relative_to(root) and path != library and "site-packages" not in path.parts:
            found.append("" if path == root else path.relative_to(root).as_posix())
    return list(dict.fromkeys(found))


def git(folder: Path) -> dict[str, Any]:
    """Commit, branch, remote and whether anything is changed; nothing where there is no git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    remote = _git(folder, "config", "--get", "remote.origin.url")
    return {
        "git": {
            "commit": commit,
            "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
            "remote": mask_url(remote) if remote else None,
            "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=normal")),
        }
    }


def source_tree(folder: Path) -> Tree:
    """The project's own files: what git tracks and would track, or else what looks like source."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    tree = Tree(Path(top) if top else folder.resolve())
    total = 0
    for path in _candidates(tree.root, with_git=top is not None):
        name = path.relative_to(tree.root).as_posix()
        try:
            if path.is_symlink() or not path.is_file():
                continue
            size = path.stat().st_size
        except OSError as error:
            tree.left_out[name] = error.strerror or "cannot be read"
            continue
        if SECRET_FILES.match(path.name):
            tree.left_out[name] = "may hold a secret"
        elif size > LARGEST_FILE:
            tree.left_out[name] = f"{size:,} bytes"
        elif total + size > LARGEST_TREE or len(tree.files) >= MOST_FILES:
            tree.left_out[name] = "the tree is too large"
        else:
            tree.files.append(path)
            total += size
    return tree


def _add_named(tree: Tree, command: list[str], folder: Path) -> None:
    """Also the files of the project that the command line names, whatever they look like."""
    for word in command:
        path = Path(os.path.normpath(folder / word.rpartition("=")[2]))
        try:
            if path in tree.files or path.is_symlink() or not path.is_file() or not path.is_relative_to(tree.root):
                continue
            size, name = path.stat().st_size, path.relative_to(tree.root)
        except (OSError, ValueError):
            continue
        if NEVER.intersection(name.parts):
            continue
        if SECRET_FILES.match(path.name):
            tree.left_out[name.as_posix()] = "may hold a secret"
        elif size > LARGEST_FILE:
            tree.left_out[name.as_posix()] = f"{size:,} bytes"
        else:
            tree.files.append(path)


def _candidates(root: Path, *, with_git: bool) -> Iterator[Path]:
    if with_git:
        listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in sorted(set((listed or "").split("\0"))):
            if name and not NEVER.intersection(name.split("/")):
                yield root / name
        return
    found, seen = list[Path](), 0
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if name not in NEVER and not name.startswith("."))
        seen += len(names)
        found += [Path(folder) / name for name in sorted(names) if _looks_like_source(name)]
        if (
            len(found) > MOST_UNTRACKED or seen > MOST_FILES
        ):  # no project lies here, but a place where people put things: its own files only
            found = [path for path in found if path.parent == root][:MOST_UNTRACKED]
            break
    yield from found


def _looks_like_source(name: str) -> bool:
    """Or like a secret, which is named among what was left out."""
    return Path(name).suffix.lower() in SOURCE or SECRET_FILES.match(name) is not None


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            check=False,
            timeout=GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "surrogateescape").strip("\n") if done.returncode == 0 else None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None

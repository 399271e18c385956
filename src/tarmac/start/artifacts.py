"""Where the files of a run lie on this machine: in MLflow's own layout only, so that no source can name any folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tarmac.core.errors import bounded
from tarmac.start.source import Head, Missed

PROXY = "mlflow-artifacts"
HINT = "--artifacts names a folder that has them"


def folder_of(head: Head, uri: str, root: Path | None, base: Path, missed: Missed) -> Path | None:
    """The folder with a run's files, or None, and why is reported. Relative paths are relative to `base`."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        missed.add(f"run {head.id}: files", f"`{uri}` is no address")
        return None
    path = unquote(parts.path) if parts.scheme else uri
    if not uri:
        return None
    if not path.rstrip("/").endswith(f"/{head.id}/artifacts"):
        missed.add(f"run {head.id}: files", f"`{uri}` is not where MLflow puts files of this run")
        return None
    if root is not None:
        places = [path] if parts.scheme == PROXY else []
        places += [f"{head.experiment}/{head.id}/artifacts", f"{head.id}/artifacts"]
        for place in places:
            if (inside := below(root, place)) is not None:
                return inside
    if parts.scheme == PROXY and root is None:
        missed.add("files of runs", "they are behind MLflow's server: --artifacts names the folder they are in")
    elif parts.scheme not in ("", "file", PROXY) or parts.netloc not in ("", "localhost"):
        missed.add(f"run {head.id}: files", f"they lie elsewhere: {bounded(uri)}; {HINT}")
    elif parts.scheme != PROXY:
        found = base / path
        if found.is_dir():
            return found
        if not found.parent.parent.is_dir():  # a run without files has no folder, but its experiment has one
            missed.add(f"files of runs in {found.parent.parent}", f"the folder is not on this machine; {HINT}")
    return None


def below(root: Path, path: str) -> Path | None:
    """A folder inside another, if it is there and no `..` or link leads out."""
    found = root / path.strip("/")
    if found.is_dir() and found.resolve().is_relative_to(root.resolve()):
        return found
    return None

"""Where files lie on this machine: in MLflow's own layout only, so that no source can name any folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tarmac.core.errors import bounded
from tarmac.start.source import FoundPackage, Head, Missed

PROXY = "mlflow-artifacts"
HINT = "--artifacts names a folder that has them"


class Owner(NamedTuple):
    """Whose files are looked for: what it is called in the report, its id, and where MLflow puts them below a root."""

    what: str
    id: str
    places: tuple[str, ...]


def of_run(head: Head) -> Owner:
    places = (f"{head.experiment}/{head.id}/artifacts", f"{head.id}/artifacts")
    return Owner(f"run {head.id}: files", head.id, places)


def of_package(package: FoundPackage) -> Owner:
    place = f"{package.experiment}/models/{package.id}/artifacts"
    return Owner(f"logged model {package.id}: files", package.id, (place,))


def folder_of(owner: Owner, uri: str, root: Path | None, base: Path, missed: Missed) -> Path | None:
    """The folder with the files, or None, and why is reported. Relative paths are relative to `base`."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        missed.add(owner.what, f"`{uri}` is no address")
        return None
    path = unquote(parts.path) if parts.scheme else uri
    if not uri:
        return None
    if not path.rstrip("/").endswith(f"/{owner.id}/artifacts"):
        missed.add(owner.what, f"`{uri}` is not where MLflow puts files of that id")
        return None
    if root is not None:
        for place in ((path,) if parts.scheme == PROXY else ()) + owner.places:
            if (inside := below(root, place)) is not None:
                return inside
    if parts.scheme == PROXY and root is None:
        missed.add("files of runs", "they are behind MLflow's server: --artifacts names the folder they are in")
    elif parts.scheme not in ("", "file", PROXY) or parts.netloc not in ("", "localhost"):
        missed.add(owner.what, f"they lie elsewhere: {bounded(uri)}; {HINT}")
    elif parts.scheme != PROXY:
        found = base / path
        if found.is_dir():
            return found
        if not found.parent.parent.is_dir():  # what has no files has no folder, but its experiment has one
            missed.add(f"files in {found.parent.parent}", f"the folder is not on this machine; {HINT}")
    return None


def below(root: Path, path: str) -> Path | None:
    """A folder inside another, if it is there and no `..` or link leads out."""
    found = root / path.strip("/")
    if found.is_dir() and found.resolve().is_relative_to(root.resolve()):
        return found
    return None

"""From a package folder to the registry: upload what is not there yet, make the package, add the version.

Each step may be done again after a kill: bytes are there or not, the package has an id that its caller chose, and a
package that is a version of the model already is not added twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tarmac.core.digest import digest_file
from tarmac.core.errors import Conflict, NotFound
from tarmac.formats.package import ABOUT, Sealed
from tarmac.registry.operations import AddVersion, CreatePackage, GetPackage, GetVersion
from tarmac.registry.records import Package, Version
from tarmac.store.operations import FindMissing
from tarmac.store.records import File
from tarmac.workspace import Workspace

AT_ONCE = 500
TRIES = 3


def register(
    workspace: Workspace,
    sealed: Sealed,
    id: str,
    *,
    name: str,
    document: dict[str, Any],
    run: str | None = None,
    **version: Any,
) -> Version:
    """The package of a sealed folder, and the version of it that the model `name` has."""
    package = make(workspace, sealed, id, document=document, run=run)
    for ref in package.versions:
        if ref.rpartition("@")[0] == name:
            return workspace(GetVersion(ref=ref))
    return workspace(AddVersion(name=name, package=package.id, create=True, **version))


def find(workspace: Workspace, id: str) -> Package | None:
    try:
        return workspace(GetPackage(id=id))
    except NotFound:
        return None


def make(workspace: Workspace, sealed: Sealed, id: str, *, document: dict[str, Any], run: str | None = None) -> Package:
    about = sealed.about
    files = [(file.path, file.digest, file.size) for file in about.files]
    own = sealed.folder / ABOUT
    files.append((ABOUT, digest_file(own), own.stat().st_size))
    missing: list[str] = []
    for _ in range(TRIES):  # gc may take what nothing needs yet
        _upload(workspace, sealed.folder, files)
        answer = workspace(
            CreatePackage(
                id=id,
                name=about.name,
                kind=about.kind,
                run=run,
                files=[File(path=path, digest=digest, size=size) for path, digest, size in files],
                document={"format": about.format, **document},
            )
        )
        if answer.package is not None:
            return answer.package
        missing = answer.missing
    raise Conflict(f"{len(missing)} files of package {about.name} could not be kept")


def _upload(workspace: Workspace, folder: Path, files: Sequence[tuple[str, str, int]]) -> None:
    for start in range(0, len(files), AT_ONCE):
        part = {digest: path for path, digest, _ in files[start : start + AT_ONCE]}
        for digest in workspace(FindMissing(digests=list(part))).missing:
            if workspace.put(folder / part[digest]) != digest:
                raise Conflict(f"`{part[digest]}` was changed while it was registered", hint="try again")

"""The gates of a project file, brought to where they are enforced.

A server holds its gates itself: `tarmac gates sync` takes them there, by somebody who may. A folder has nobody but its
owner; what stands in the project file beside it holds, and is looked at before each move.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from tarmac.core import project_file
from tarmac.core.clock import span
from tarmac.core.digest import digest_file, tree_digest
from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.names import RelativePath
from tarmac.govern.operations import ListGates, RemoveGate, SetGate
from tarmac.registry.records import Gate
from tarmac.store.operations import CommitManifest
from tarmac.store.records import File
from tarmac.workspace import Workspace

HOUR = 3_600_000
LARGEST_KEY = 10_000


def follow(workspace: Workspace, start: Path) -> None:
    """Bring the gates of the nearest project file, if it is this project's."""
    file = project_file.find(start)
    if file is not None and project_file.load(file).project.name == workspace.project:
        bring(workspace, file)


def bring(workspace: Workspace, file: Path) -> list[str]:
    """Make the gates those of the file; what was changed. Gates that were set by hand stay."""
    there = {(gate.model, gate.alias.casefold()): gate for gate in workspace(ListGates()).gates}
    changed, wanted = [], set()
    for model, table in project_file.load(file).models.items():
        for alias, said in table.gates.items():
            key = model, alias.casefold()
            wanted.add(key)
            where = f"{file.name} [models.{bounded(model, 60)}.gates.{bounded(alias, 60)}]"
            request = _request(workspace, file.parent, where, (model, alias), said, there.get(key))
            if not _is(there.get(key), request):
                workspace(request)
                changed.append(f"{model}@{alias}: {'changed' if key in there else 'set'}")
    for key, gate in there.items():
        if gate.origin == "file" and key not in wanted:
            workspace(RemoveGate(model=gate.model, alias=gate.alias))
            changed.append(f"{gate.model}@{gate.alias}: taken away")
    return changed


def _is(gate: Gate | None, request: SetGate) -> bool:
    asked = msgspec.structs.asdict(request)
    return gate is not None and {name: getattr(gate, name) for name in asked} == asked


def _request(
    workspace: Workspace, folder: Path, where: str, of: tuple[str, str], said: project_file.Gate, before: Gate | None
) -> SetGate:
    approvals = said.approvals or project_file.Approvals(count=0)
    return SetGate(
        model=of[0],
        alias=of[1],
        require=said.require,
        first=said.first,
        signed_by=[_key(folder, where, path) for path in said.signed_by],
        approvals=approvals.count,
        approvers=[_key(folder, where, path) for path in approvals.signed_by],
        hours=span(said.valid_for) / HOUR,
        data=said.data,
        manifest=_rows(workspace, folder, where, said.data, before) if said.data else None,
        label=said.label,
        positive=said.positive,
        licences=said.licences,
        origin="file",
    )


def _key(folder: Path, where: str, path: str) -> str:
    try:
        return (folder / path).read_bytes()[: LARGEST_KEY + 1].decode("ascii").strip() + "\n"
    except (OSError, UnicodeDecodeError):
        raise Invalid(
            f"{where}: the key {bounded(path)} cannot be read", hint="a public key in PEM, beside the project file"
        ) from None


def _content(file: File) -> str:
    return tree_digest([(file.path, file.digest, file.size)])


class Beside:
    """Rows in a file of the project."""

    def __init__(self, folder: Path, where: str, path: str) -> None:
        try:
            self._path = folder / msgspec.convert(Path(path).as_posix(), RelativePath)
            size = self._path.stat().st_size
            self.file = File(path=self._path.name, digest=digest_file(self._path), size=size)
        except msgspec.ValidationError:
            raise Invalid(
                f"{where}: `data` has to be a file below the project's folder, or of a version of data, not "
                f"{bounded(path)}",
                hint="like data/holdout.csv or holdout@v3/rows.csv",
            ) from None
        except OSError:
            raise Invalid(f"{where}: the rows {bounded(path)} cannot be read") from None

    def open(self) -> BinaryIO:
        return self._path.open("rb")


class OfVersion:
    """Rows in a file of a version of data: `holdout@v3`, if that has one file, or `holdout@v3/rows.csv`."""

    def __init__(self, workspace: Workspace, where: str, path: str) -> None:
        from tarmac.workspace.datasets import Version

        ref, mark, name = path.partition("@")[2].partition("/")
        self._version = Version.named(workspace, f"{path.partition('@')[0]}@{ref}")
        files = self._version.files()
        if not mark and len(files) != 1:
            raise Invalid(
                f"{where}: {bounded(path)} has {len(files)} files: which of them?",
                hint=f'data = "{bounded(path)}/{bounded(files[0]) if files else "FILE"}"',
            )
        self._name = name if mark else files[0]
        entry = self._version.entries().get(self._name)
        if entry is None:
            raise NotFound.named("file", self._name, files, hint=f"of {bounded(path)}")
        self.file = File(path=Path(self._name).name, digest=entry.digest.hex(), size=entry.size)

    def open(self) -> BinaryIO:
        return self._version.open(self._name)


def _rows(workspace: Workspace, folder: Path, where: str, path: str, before: Gate | None) -> str:
    """The manifest with the rows, made anew only if their bytes are others than before."""
    source = OfVersion(workspace, where, path) if "@" in path else Beside(folder, where, path)
    if before is not None and before.manifest is not None and before.content == _content(source.file):
        return before.manifest
    made = workspace(CommitManifest(kind="gate", files=[source.file]))
    if made.manifest is None:
        with source.open() as stream:
            workspace.put(stream)
        made = workspace(CommitManifest(kind="gate", files=[source.file]))
    if made.manifest is None:
        raise Invalid(f"{where}: {bounded(path)} was changed while it was read", hint="try again")
    return made.manifest.id

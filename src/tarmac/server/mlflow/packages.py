"""Packages as MLflow's clients see them: logged models, whose id is `m-` and ours, with a folder in the proxy."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tarmac.core.errors import Conflict, TarmacError
from tarmac.registry import operations as ops
from tarmac.registry.records import Package
from tarmac.server.mlflow.errors import Refusal, absent, is_absent
from tarmac.server.mlflow.routes import Call
from tarmac.store.records import File
from tarmac.track.records import Artifact

NO_EXPERIMENT = "0"
_ID = re.compile(r"m-([0-9a-f]{32})")
PROXIED = re.compile(r"[^/]{1,64}/models/m-([0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)


def shown_id(id: str) -> str:
    return f"m-{id}"


def own_id(given: str | None) -> str:
    """Our id of a package. What none of ours can be called is one that is absent."""
    match = _ID.fullmatch(given or "")
    if match is None:
        raise no_package(given or "")
    return match[1]


def no_package(given: str) -> Refusal:
    return absent(f"Logged model with ID '{given[:100]}' not found.")


def folder_of(id: str, experiment: str | None) -> str:
    return f"mlflow-artifacts:/{experiment or NO_EXPERIMENT}/models/{shown_id(id)}/artifacts"


def artifact_uri(package: Package) -> str:
    return folder_of(package.id, package.experiment)


async def read(call: Call, id: str) -> Package:
    with guarded(id):
        found = await call(ops.GetPackage(id=id))
    if found.deleted_at is not None:
        raise no_package(shown_id(id))
    return found


class guarded:  # noqa: N801
    """Says in MLflow's words that a logged model is not there, or is sealed."""

    __slots__ = ("_id",)

    def __init__(self, id: str) -> None:
        self._id = id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TarmacError) and is_absent(error, "package"):
            raise no_package(shown_id(self._id)) from None
        if isinstance(error, Conflict) and "is sealed" in error.message:
            raise Refusal("INVALID_STATE", f"{error.message} ({error.hint})") from None


# --- their files, through the proxy ---


async def attach(call: Call, id: str, file: File) -> None:
    """A file for a package, ready or not; not for one that was registered, unless it is there just so already."""
    with guarded(id):
        try:
            await call(ops.AttachPackageFiles(id=id, files=[file], reopen=True))
        except Conflict:
            if await digest_at(call, id, file.path) != file.digest:
                raise


async def digest_at(call: Call, id: str, path: str) -> str | None:
    """The digest of one file."""
    with guarded(id):
        found = (await call(ops.ListPackageFiles(id=id, folder=path, limit=1))).files
    return found[0].digest if found and found[0].path == path else None


async def files(call: Call, id: str, folder: str) -> list[File]:
    found: list[File] = []
    after: str | None = ""
    while after is not None:
        with guarded(id):
            page = await call(ops.ListPackageFiles(id=id, folder=folder, after=after))
        found += page.files
        after = page.next
    return found


def direct(found: Sequence[File], folder: str) -> list[Artifact]:
    """Of all that lies below a folder, what lies directly in it."""
    prefix = f"{folder}/" if folder else ""
    shown: dict[str, Artifact] = {}
    for file in found:
        if file.path == folder:  # it is a file itself
            continue
        head, mark, _ = file.path[len(prefix) :].partition("/")
        name = prefix + head
        if not mark:
            shown[name] = Artifact(path=name, size=file.size, digest=file.digest)
        else:
            shown[name] = Artifact(path=name, size=file.size + (shown[name].size if name in shown else 0))
    return [shown[name] for name in sorted(shown)]

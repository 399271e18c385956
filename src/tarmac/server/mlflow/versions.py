"""Versions of registered models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from tarmac.core.errors import NotFound
from tarmac.registry import operations as ops
from tarmac.registry.records import Version
from tarmac.server.mlflow import checks, packages
from tarmac.server.mlflow.errors import invalid
from tarmac.server.mlflow.experiments import Tag
from tarmac.server.mlflow.messages import Answer, Long, Request
from tarmac.server.mlflow.models import (
    PROMPT_TAG,
    ByName,
    OneVersion,
    ShownVersion,
    guarded,
    shown_version,
    stage,
    version_number,
    without_prompts,
)
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import tags_of
from tarmac.track import operations as track

PAGE, MOST_RESULTS, AT_ONCE = 10_000, 200_000, 1000
NEWEST, AMONG_EQUALS = ["updated DESC"], ["name ASC", "number DESC"]
_OF_RUN = re.compile(r"\d{1,64}/([0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)
_PROXY = re.compile(
    r"(?:mlflow-artifacts:(?:/(?:/[^/]*/)?)?|https?://[^/]+/.*?/?mlflow-artifacts/artifacts/)(.*)", re.DOTALL
)


class ByNumber(ByName):
    required: ClassVar[Sequence[str]] = ("name", "version")
    version: str | None = None

    @property
    def number(self) -> int:
        return version_number(self.version)

    @property
    def ref(self) -> str:
        return f"{self.model}@v{self.number}"


class Create(ByName):
    required: ClassVar[Sequence[str]] = ("name", "source")
    source: str | None = None
    run_id: str | None = None
    tags: list[Tag] | None = None
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class Update(ByNumber):
    description: str | None = None


class Transition(ByNumber):
    required: ClassVar[Sequence[str]] = ("name", "version", "stage")
    stage: str | None = None
    archive_existing_versions: bool | None = None


class SetTag(ByNumber):
    required: ClassVar[Sequence[str]] = ("name", "version", "key")
    key: str | None = None
    value: str | None = None


class Search(Request):
    filter: str | None = None
    max_results: Long | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Page(Answer):
    model_versions: list[ShownVersion] = []
    next_page_token: str | None = None


class Uri(Answer):
    artifact_uri: str


@method("POST", "model-versions/create")
async def create(call: Call, request: Create) -> OneVersion:
    name, source, tags = request.model, request.source or "", tags_of(request.tags or [])
    if PROMPT_TAG not in tags:
        _refuse_local(source)
    found = await _found(call, source, request)
    wanted = ops.AddVersion(
        name=name,
        source=source,
        package=found.package,
        folder=found.folder,
        location=found.location,
        run=found.run,
        link=request.run_link or "",
        note=request.description or "",
        tags=tags,
    )
    with guarded(name):
        return OneVersion(model_version=shown_version(await call(wanted)))


def proxied(source: str) -> str | None:
    """The path in the proxy that an address leads to, if it is one."""
    place = _PROXY.fullmatch(source)
    return place[1].rstrip("/") if place else None


class _Source:
    """What a source leads to: a package, a folder of a run, or a place outside."""

    def __init__(
        self, *, package: str | None = None, folder: str | None = None, run: str | None = None, location: str = ""
    ) -> None:
        self.package = package
        self.folder = folder
        self.run = run
        self.location = location


async def _found(call: Call, source: str, request: Create) -> _Source:
    run = request.run_id or None
    if source.startswith("models:/"):
        return await _of_model(call, source, run)
    path = proxied(source) or ""
    if match := packages.PROXIED.fullmatch(path):
        if not match[2]:
            await packages.read(call, match[1])
            return _Source(package=match[1], run=run)
    elif request.model_id:
        return _Source(package=(await packages.read(call, packages.own_id(request.model_id))).id, run=run)
    elif match := _OF_RUN.fullmatch(path):
        return await _of_run(call, match[1], match[2] or "", run)
    elif source.startswith("runs:/"):
        of, _, folder = source.removeprefix("runs:/").strip("/").partition("/")
        if checks.is_run_id(of):
            return await _of_run(call, of, folder, run)
    return _Source(run=run, location=source)


async def _of_model(call: Call, source: str, run: str | None) -> _Source:
    """`models:/m-…`, `models:/NAME/7` or `models:/NAME@alias`: the same package as that one's."""
    rest = source.removeprefix("models:/").strip("/")
    name, mark, which = rest.partition("/")
    if not mark and "@" not in rest:
        package = await packages.read(call, packages.own_id(rest))
        return _Source(package=package.id, run=run or package.run)
    ref = f"{name}@v{version_number(which)}" if mark else rest
    try:
        version = await call(ops.GetVersion(ref=ref))
    except NotFound as error:
        raise invalid(
            f"Unable to fetch model from model URI source artifact location '{source[:500]}'. Error: {error.message}"
        ) from None
    return _Source(package=version.package, run=run or version.run, location=version.location)


async def _of_run(call: Call, of: str, folder: str, run: str | None) -> _Source:
    """A folder of a run is frozen as a package; where nothing lies yet the address is only kept."""
    try:
        there = await call(track.ListArtifacts(id=of, folder=folder, limit=1))
    except NotFound:
        return _Source(run=run)
    if not there.artifacts:
        return _Source(run=run)
    return _Source(folder=folder, run=of)


@method("GET", "model-versions/get")
async def get(call: Call, request: ByNumber) -> OneVersion:
    return OneVersion(model_version=shown_version(await read(call, request)))


@method("PATCH", "model-versions/update")
async def update(call: Call, request: Update) -> OneVersion:
    with guarded(request.model, request.number):
        edited = await call(ops.EditVersion(ref=request.ref, note=request.description or ""))
    return OneVersion(model_version=shown_version(edited))


@method("POST", "model-versions/transition-stage")
async def transition(call: Call, request: Transition) -> OneVersion:
    to, archive = stage(request.stage), bool(request.archive_existing_versions)
    if archive and to not in ("Staging", "Production"):
        raise invalid(
            "Model version transition cannot archive existing model versions because "
            f"'{(request.stage or '')[:100]}' is not an Active stage. Valid stages are ['Staging', 'Production']"
        )
    with guarded(request.model, request.number):
        moved = await call(ops.StageVersion(ref=request.ref, stage=to, archive=archive))  # type: ignore[arg-type]
    return OneVersion(model_version=shown_version(moved))


@method("DELETE", "model-versions/delete")
async def delete(call: Call, request: ByNumber) -> None:
    with guarded(request.model, request.number):
        await call(ops.DeleteVersion(ref=request.ref, with_aliases=True))


@method("GET", "model-versions/search")
async def search(call: Call, request: Search) -> Page:
    limit = checks.most(request.max_results, PAGE, MOST_RESULTS)
    found: list[ShownVersion] = []
    cursor = request.page_token or ""
    while True:
        page = await call(
            ops.ListVersions(
                filter=without_prompts(request.filter or "").replace("'m-", "'"),
                order=[*(request.order_by or NEWEST), *AMONG_EQUALS],
                limit=min(AT_ONCE, limit - len(found)),
                cursor=cursor,
            )
        )
        found += map(shown_version, page.versions)
        cursor = page.next or ""
        if not cursor or len(found) >= limit:
            return Page(model_versions=found, next_page_token=cursor or None)


@method("GET", "model-versions/get-download-uri")
async def get_download_uri(call: Call, request: ByNumber) -> Uri:
    version = await read(call, request)
    if version.package is not None:
        return Uri(artifact_uri=packages.artifact_uri(await packages.read(call, version.package)))
    return Uri(artifact_uri=version.location or version.source)


@method("POST", "model-versions/set-tag")
async def set_tag(call: Call, request: SetTag) -> None:
    key, value = checks.key(request.key, "key"), checks.value(request.value, "value")
    with guarded(request.model, request.number):
        await call(ops.TagVersion(ref=request.ref, set={key: value}))


@method("DELETE", "model-versions/delete-tag")
async def delete_tag(call: Call, request: SetTag) -> None:
    key = checks.key(request.key, "key")
    with guarded(request.model, request.number):
        await call(ops.TagVersion(ref=request.ref, unset=[key]))


async def read(call: Call, request: ByNumber) -> Version:
    with guarded(request.model, request.number):
        return await call(ops.GetVersion(ref=request.ref))


def _refuse_local(source: str) -> None:
    """A path of the client's own machine says nothing to a server, and one that climbs says too much."""
    try:
        parts = urlsplit(source)
    except ValueError:
        raise invalid(f"Invalid model version source: '{source[:500]}'.") from None
    if parts.scheme in ("", "file"):
        raise invalid(
            f"Invalid model version source: '{source[:500]}'. To use a local path as a model version source, the "
            "run_id request parameter has to be specified and the local path has to be contained within the artifact "
            "directory of the run specified by the run_id."
        )
    path = unquote(unquote(parts.path))
    if "\x00" in path or ".." in path.replace("\\", "/").split("/"):
        raise invalid(
            f"Invalid model version source: '{source[:500]}'. If supplying a source as an http, https, local file "
            "path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without relative path "
            "references present. Please provide an absolute path."
        )

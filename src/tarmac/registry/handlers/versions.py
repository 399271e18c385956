"""Versions: numbered references to packages."""

from __future__ import annotations

from typing import Any, get_args

from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.operation import handles
from tarmac.registry import operations as ops
from tarmac.registry import references, rules
from tarmac.registry.handlers import models, moves, packages
from tarmac.registry.queries import models as rows
from tarmac.registry.queries import packages as package_rows
from tarmac.registry.queries import search, texts
from tarmac.registry.records import Stage, Version
from tarmac.store.lineage import link
from tarmac.store.sql import Reader, Tx
from tarmac.track.filter import parse
from tarmac.track.queries import rows as run_rows


@handles(ops.AddVersion)
def add_version(request: ops.AddVersion, tx: Tx) -> Version:
    if request.package is None and request.folder is None and not request.source:
        raise Invalid(
            "a version is of something: a `package`, a `folder` of a run, or a `source` outside",
            hint="`tarmac models add NAME --run ID --folder model`",
        )
    if request.package is not None and request.folder is not None:
        raise Invalid("a version is of a `package` or of a run's `folder`, not of both")
    model = models.made(tx, request.name, create=request.create)
    package, run = None, packages.whole_run(tx, request.run)
    if request.package is not None:
        package, made_by = _sealed(tx, request.package)
        run = run or made_by
    elif request.folder is not None:
        package = _packed(tx, request)
    location = "" if package is not None else request.location or request.source
    fields = {
        "package": package, "source": request.source, "location": location, "run": run, "link": request.link,
        "note": request.note,
    }  # fmt: skip
    return _add(tx, model, request.name, fields, request.tags, request.number)


def _sealed(tx: Tx, id: str) -> tuple[int, str | None]:
    """Key and run of a package. One whose files have come is sealed by being registered: what a version refers to does
    not change any more."""
    package = package_rows.alive(tx, id)
    if package.state == "failed":
        raise Conflict(f"package {package.id} could not be made: no version can be of it")
    key = package_rows.key_of(tx, id)
    assert key is not None
    if package.state == "pending" and package.files:
        tx.evidence = packages.seal(tx, key, package, None)
    return key, package.run


def _packed(tx: Tx, request: ops.AddVersion) -> int:
    assert request.folder is not None
    files = packages.files_of_run(tx, request.run, request.folder)
    made = packages.new(tx, ops.CreatePackage(name=request.name, run=request.run), files)
    if isinstance(made, list):  # a run's files are counted as needed, so that no gc takes them
        raise Conflict(f"{len(made)} files of run {request.run} are gone", hint="`tarmac store check` says which")
    return made


def _add(
    tx: Tx, model: int, name: str, fields: dict[str, Any], tags: dict[str, str], wanted: int | None = None
) -> Version:
    added = rows.add_version(tx, model, fields, wanted)
    if added is None:
        raise Conflict(
            f"{bounded(name)}@v{wanted} would be below numbers that were given already, and none is given twice",
            hint="leave the number out to get the next",
        )
    key, number = added
    texts.put(tx, "version_tags", key, tags)
    made = rows.version(tx, key)
    thing = f"models/{name}@v{number}"
    if made.package is not None:
        link(tx, f"packages/{made.package}", thing, "registered")
    elif made.run is not None and run_rows.run_key(tx, made.run) is not None:
        link(tx, f"runs/{made.run}", thing, "registered")
    tx.subject = thing
    tx.evidence = {**(tx.evidence or {}), "number": number, "package": made.package, "digest": made.digest}
    return made


@handles(ops.CopyVersion)
def copy_version(request: ops.CopyVersion, tx: Tx) -> Version:
    reference = references.parse(request.ref)
    source = rows.version(tx, rows.version_key(tx, reference))
    model = models.made(tx, request.to, create=request.create)
    package = package_rows.key_of(tx, source.package) if source.package is not None else None
    fields = {
        "package": package,
        "source": f"models:/{source.model}/{source.number}",
        "location": source.location,
        "run": source.run,
        "link": source.link,
        "note": source.note,
    }
    copy = _add(tx, model, request.to, fields, source.tags)
    link(tx, f"models/{source.model}@v{source.number}", f"models/{request.to}@v{copy.number}", "copied")
    return copy


@handles(ops.GetVersion)
def get_version(request: ops.GetVersion, read: Reader) -> Version:
    return rows.version(read, rows.version_key(read, references.parse(request.ref)))


@handles(ops.ListVersions)
def list_versions(request: ops.ListVersions, read: Reader) -> ops.VersionPage:
    where, values = ["x.deleted_at IS NULL"], dict[str, Any]()
    if request.model:
        where.append("x.model = :model")
        values["model"] = rows.key_of(read, request.model)
    found = search.page(
        read,
        search.VERSIONS,
        parse(request.filter, search.VERSIONS.words),
        where,
        values,
        search.orders_of(search.VERSIONS, request.order),
        request.limit,
        request.cursor,
    )
    return ops.VersionPage(versions=rows.versions_by_key(read, found.keys), next=found.next)


@handles(ops.ListLatest)
def list_latest(request: ops.ListLatest, read: Reader) -> ops.VersionList:
    keys = [rows.key_of(read, name) for name in request.models]
    found = rows.latest(read, keys, request.stages or get_args(Stage))
    return ops.VersionList(versions=rows.versions_by_key(read, found))


@handles(ops.EditVersion)
def edit_version(request: ops.EditVersion, tx: Tx) -> Version:
    key = rows.version_key(tx, references.parse(request.ref))
    tx.run(
        "UPDATE versions SET note = :note, updated_at = :now WHERE key = :key", note=request.note, now=tx.now, key=key
    )
    return _answer(tx, key)


@handles(ops.TagVersion)
def tag_version(request: ops.TagVersion, tx: Tx) -> Version:
    key = rows.version_key(tx, references.parse(request.ref))
    texts.put(tx, "version_tags", key, request.set)
    gone = texts.drop(tx, "version_tags", key, request.unset)
    if gone or request.set:
        rows.touch_version(tx, key)
    else:
        tx.unchanged()
    return _answer(tx, key)


@handles(ops.StageVersion)
def stage_version(request: ops.StageVersion, tx: Tx) -> Version:
    reference = references.parse(request.ref)
    key = rows.version_key(tx, reference)
    model = rows.key_of(tx, reference.model)
    if request.archive and request.stage not in rules.ACTIVE_STAGES:
        raise Invalid(
            f"`archive` is for {' and '.join(rules.ACTIVE_STAGES)}: nothing has to make room in `{request.stage}`"
        )
    tx.evidence = moves.may_enter(tx, model, rows.version(tx, key), request.stage, request.reason)
    if request.archive:
        tx.run(
            "UPDATE versions SET stage = 'Archived', updated_at = :now WHERE model = :model AND stage = :stage "
            "AND key <> :key AND deleted_at IS NULL",
            now=tx.now,
            model=model,
            stage=request.stage,
            key=key,
        )
    tx.run(
        "UPDATE versions SET stage = :stage, updated_at = :now WHERE key = :key",
        stage=request.stage,
        now=tx.now,
        key=key,
    )
    rows.touch(tx, model)
    return _answer(tx, key)


@handles(ops.DeleteVersion)
def delete_version(request: ops.DeleteVersion, tx: Tx) -> Version:
    reference = references.parse(request.ref)
    key = rows.version_key(tx, reference)
    model = rows.key_of(tx, reference.model)
    before = rows.version(tx, key)
    name = f"{before.model}@v{before.number}"
    gated = moves.gated(tx, model, before.aliases, [before.stage])
    rules.check_removal(bounded(name), before.aliases, gated, with_aliases=request.with_aliases)
    for alias in before.aliases:
        moves.move(tx, model, alias, "retire", None, f"v{before.number} was deleted")
    rows.delete_version(tx, key, f"models/{name}")
    rows.touch(tx, model)
    tx.subject = f"models/{name}"
    tx.evidence = {
        "package": before.package, "digest": before.digest, "run": before.run, "aliases": before.aliases,
        "moves": (tx.evidence or {}).get("moves", {}),
    }  # fmt: skip
    return before


def _answer(tx: Tx, key: int) -> Version:
    found = rows.version(tx, key)
    tx.subject = f"models/{found.model}@v{found.number}"
    return found

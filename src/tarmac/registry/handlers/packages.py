"""How packages come to be, are sealed, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, Invalid, NotFound, bounded
from tarmac.core.ids import time_ordered
from tarmac.core.operation import handles
from tarmac.registry import operations as ops
from tarmac.registry.queries import packages as rows
from tarmac.registry.queries import search, texts
from tarmac.registry.records import Package
from tarmac.store import manifests
from tarmac.store.lineage import link
from tarmac.store.records import File, Manifest
from tarmac.store.sql import Reader, Tx
from tarmac.track.filter import parse
from tarmac.track.queries import files as run_files
from tarmac.track.queries import rows as run_rows

MOST_FILES = 100_000


@handles(ops.CreatePackage)
def create_package(request: ops.CreatePackage, tx: Tx) -> ops.PackageMade:
    if request.id is not None and (known := rows.key_of(tx, request.id)) is not None:
        tx.unchanged()  # sent again, because the answer was lost
        return ops.PackageMade(package=_whole(tx, known))
    if request.files and request.folder is not None:
        raise Invalid("a package is made of `files` or of a run's `folder`, not of both")
    files: Sequence[File] = request.files
    if request.folder is not None:
        files = files_of_run(tx, request.run, request.folder)
    made = new(tx, request, files)
    if isinstance(made, list):
        tx.unchanged()
        return ops.PackageMade(missing=made)
    return ops.PackageMade(package=_whole(tx, made))


def new(tx: Tx, request: ops.CreatePackage, files: Sequence[File]) -> int | list[str]:
    """The key of a new package, sealed if it has files; or the blobs that have to be uploaded first."""
    sealed = manifests.commit(tx, "package", files) if files else None
    if isinstance(sealed, list):
        return sealed
    run = whole_run(tx, request.run)
    package = Package(
        id=request.id or time_ordered(),
        name=request.name,
        kind=request.kind,
        state="ready" if sealed else "pending",
        run=run,
        experiment=request.experiment or _experiment_of(tx, run),
        manifest=None,
        digest=None,
        files=0,
        size=0,
        actor=tx.actor.signature,
        created_at=tx.now,
        updated_at=tx.now,
        document=request.document,
    )
    key = rows.add(tx, package)
    rows.put_params(tx, key, request.params)
    texts.put(tx, "package_tags", key, request.tags)
    if run is not None:
        _link_run(tx, run, package.id, key, "output", 0)
    if sealed is not None:
        rows.set_sealed(tx, key, sealed)
        tx.evidence = _proof(sealed, request.document)
    tx.subject = f"packages/{package.id}"
    return key


def files_of_run(tx: Tx, run: str | None, folder: str) -> list[File]:
    """What a run's folder holds now, as files of a package: later changes of the run do not reach it."""
    if run is None:
        raise Invalid("`folder` is a folder of a run: `run` is missing")
    key = run_rows.run_row(tx, run)[0]
    prefix = f"{folder}/" if folder else ""
    found = [
        File(path=file.path.removeprefix(prefix), digest=file.digest, size=file.size)
        for file in run_files.below(tx, key, folder, MOST_FILES + 1)
        if file.digest is not None
    ]
    if len(found) > MOST_FILES:
        raise Invalid(f"run {bounded(run)} has more than {MOST_FILES:,} files there: name a folder")
    if not found:
        known = [item.path for item in run_files.folder(tx, key, "", "", 1000)]
        raise NotFound.named("folder", folder or "/", known, hint="`tarmac runs files ID` lists what the run has")
    return found


def whole_run(tx: Tx, run: str | None) -> str | None:
    """A run by its whole id, where somebody gave its beginning; what is no run of ours stays as it was written."""
    if run is None or run_rows.run_key(tx, run) is not None:
        return run
    try:
        return run_rows.whole_id(tx, run)
    except NotFound:
        return run


def _experiment_of(tx: Tx, run: str | None) -> str | None:
    if run is None:
        return None
    found: str | None = tx.value(
        "SELECT e.id FROM runs r JOIN experiments e ON e.key = r.experiment WHERE r.project = :project AND r.id = :id",
        project=tx.project,
        id=run,
    )
    return found


def _link_run(tx: Tx, run: str, package: str, key: int, part: str, step: int) -> int:
    """A run that exists becomes part of the lineage, and is kept from being purged by it."""
    new = rows.add_run(tx, run, key, part, step)
    if run_rows.run_key(tx, run) is not None:
        ends = (f"runs/{run}", f"packages/{package}")
        link(tx, *(ends if part == "output" else ends[::-1]), "made" if part == "output" else "used")
    return new


def _proof(manifest: Manifest, document: dict[str, object]) -> dict[str, str]:
    """What the event says of a sealed package: who has it can prove that files and document are what they were."""
    return {"files": manifest.digest, "document": digest(msgspec.json.encode(document, order="sorted"))}


@handles(ops.AttachPackageFiles)
def attach_files(request: ops.AttachPackageFiles, tx: Tx) -> ops.PackageMade:
    package = rows.alive(tx, request.id)
    key = _key(tx, package)
    reopened = request.reopen and package.state == "ready"
    if reopened:
        _refuse_registered(tx, key, package)
    elif package.manifest is not None:
        raise Conflict(
            f"package {package.id} is sealed: its files do not change",
            hint="make a new package, and add it as a new version",
        )
    if missing := manifests.absent(tx, request.files):
        tx.unchanged()
        return ops.PackageMade(missing=missing)
    manifests.check_paths(sorted(request.files, key=lambda file: file.path))
    before = package.manifest if reopened else None
    if before is not None:
        rows.put_files(tx, key, rows.sealed_files(tx, before))
    rows.put_files(tx, key, request.files)
    if reopened:
        rows.drop_compiled(tx, key)  # it was proved to be equal to other bytes
        tx.evidence = {**seal(tx, key, package, None), **({"before": package.digest} if package.digest else {})}
        if before is not None:
            manifests.delete(tx, before)
    elif package.state == "ready":  # it stood for files elsewhere, and now gets some of its own
        rows.set_state(tx, key, "pending", None)
    tx.subject = f"packages/{package.id}"
    return ops.PackageMade(package=_whole(tx, key))


def _refuse_registered(tx: Tx, key: int, package: Package) -> None:
    """What a version refers to does not change."""
    if version := rows.needed_by(tx, key):
        raise Conflict(
            f"package {package.id} is sealed: {bounded(version)} is made of it, so it does not change any more",
            hint="make a new package, and add it as a new version",
        )


@handles(ops.SealPackage)
def seal_package(request: ops.SealPackage, tx: Tx) -> Package:
    package = rows.alive(tx, request.id)
    key = _key(tx, package)
    if package.state == "ready":
        changed = request.document is not None and request.document != package.document
        if request.state == "ready" and not changed:
            tx.unchanged()
            return _whole(tx, key)
        if not request.reopen:
            raise Conflict(f"package {package.id} is sealed already", hint="what may still change are its tags")
        _refuse_registered(tx, key, package)
    if request.state == "failed":
        if package.state == "failed" and request.document is None:
            tx.unchanged()
        rows.set_state(tx, key, "failed", request.document)
    else:
        tx.evidence = seal(tx, key, package, request.document)
    return _whole(tx, key)


def seal(tx: Tx, key: int, package: Package, document: dict[str, object] | None) -> dict[str, str]:
    """Bind the files that came to a manifest; the proof of it. Without files there is nothing to seal: the package is
    one whose bytes are elsewhere."""
    files = rows.loose_files(tx, key)
    if not files:
        rows.set_state(tx, key, "ready", document)
        return {}
    made = manifests.commit(tx, "package", files)
    if isinstance(made, list):  # they are counted as needed, so that no gc takes them
        raise Conflict(f"{len(made)} files of package {package.id} are gone", hint="`tarmac store check` says which")
    rows.drop_files(tx, key)
    rows.set_sealed(tx, key, made)
    rows.set_state(tx, key, "ready", document)
    return _proof(made, package.document if document is None else document)


@handles(ops.GetPackage)
def get_package(request: ops.GetPackage, read: Reader) -> Package:
    return _whole(read, rows.row(read, request.id)[0])


@handles(ops.ListPackages)
def list_packages(request: ops.ListPackages, read: Reader) -> ops.PackagePage:
    where = {"no": ["x.deleted_at IS NULL"], "only": ["x.deleted_at IS NOT NULL"], "also": []}[request.deleted]
    values = {f"e{index}": id for index, id in enumerate(request.experiment)}
    if values:
        where.append(f"x.experiment IN ({', '.join(f':{name}' for name in values)})")
    found = search.page(
        read,
        search.PACKAGES,
        parse(request.filter, search.PACKAGES.words),
        where,
        values,
        search.orders_of(search.PACKAGES, request.order),
        request.limit,
        request.cursor,
        request.data,
    )
    return ops.PackagePage(packages=rows.by_keys(read, found.keys), next=found.next)


@handles(ops.ListPackageFiles)
def list_files(request: ops.ListPackageFiles, read: Reader) -> ops.PackageFiles:
    key, *_ = found = rows.row(read, request.id)
    package = rows.as_package(found)
    if package.manifest is not None:
        files = rows.sealed_files(read, package.manifest, request.folder, request.after, request.limit)
    else:
        files = rows.loose_files(read, key, request.folder, request.after, request.limit)
    return ops.PackageFiles(files=files, next=files[-1].path if len(files) == request.limit else None)


@handles(ops.TagPackage)
def tag_package(request: ops.TagPackage, tx: Tx) -> Package:
    key = _key(tx, rows.alive(tx, request.id))
    texts.put(tx, "package_tags", key, request.set)
    gone = texts.drop(tx, "package_tags", key, request.unset)
    if gone or request.set:
        rows.touch(tx, key)
    else:
        tx.unchanged()
    return _whole(tx, key)


@handles(ops.LogPackage)
def log_package(request: ops.LogPackage, tx: Tx) -> Package:
    key = _key(tx, rows.alive(tx, request.id))
    rows.put_params(tx, key, request.params)
    rows.put_metrics(tx, key, request.metrics)
    return _whole(tx, key)


@handles(ops.LinkPackage)
def link_package(request: ops.LinkPackage, tx: Tx) -> ops.PackageRuns:
    package = rows.alive(tx, request.id)
    run = whole_run(tx, request.run) or request.run
    if not _link_run(tx, run, package.id, _key(tx, package), request.part, request.step):
        tx.unchanged()
    tx.subject = f"packages/{package.id}"
    return ops.PackageRuns(links=[found for found in rows.runs(tx, [run]) if found.package == package.id])


@handles(ops.ListPackageRuns)
def list_package_runs(request: ops.ListPackageRuns, read: Reader) -> ops.PackageRuns:
    return ops.PackageRuns(links=rows.runs(read, request.runs))


@handles(ops.DeletePackage)
def delete_package(request: ops.DeletePackage, tx: Tx) -> Package:
    found = rows.row(tx, request.id)
    key, package = found[0], rows.as_package(found)
    if package.deleted_at is not None:
        tx.unchanged()
    else:
        if version := rows.needed_by(tx, key):
            raise Conflict(
                f"package {package.id} is what {bounded(version)} refers to", hint="delete its versions first"
            )
        rows.set_deleted(tx, key, tx.now)
    return _whole(tx, key)


@handles(ops.RestorePackage)
def restore_package(request: ops.RestorePackage, tx: Tx) -> Package:
    found = rows.row(tx, request.id)
    if rows.as_package(found).deleted_at is None:
        tx.unchanged()
    else:
        rows.set_deleted(tx, found[0], None)
    return _whole(tx, found[0])


def _key(tx: Tx, package: Package) -> int:
    key = rows.key_of(tx, package.id)
    assert key is not None
    return key


def _whole(read: Reader, key: int) -> Package:
    return rows.by_keys(read, [key])[0]

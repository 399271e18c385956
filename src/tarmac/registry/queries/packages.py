"""The tables of packages: what they are, their files until they are sealed, what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tarmac.core.errors import Conflict, NotFound, bounded
from tarmac.registry.queries import texts
from tarmac.registry.records import CompiledForm, Package, PackageMetric, PackageRun
from tarmac.store import manifests
from tarmac.store.blobs import rows as blobs
from tarmac.store.records import File, Manifest
from tarmac.store.sql import Connection, Reader, Row, Tx
from tarmac.track import points

COLUMNS = (
    "key", "id", "name", "kind", "state", "run", "experiment", "manifest", "digest", "files", "size", "actor",
    "created_at", "updated_at", "deleted_at", "document",
)  # fmt: skip
MOST_VERSIONS = 1000

blobs.REFERENCES.append(
    "SELECT p.project AS project, f.digest AS digest, count(*) AS n FROM package_files f "
    "JOIN packages p ON p.key = f.package GROUP BY p.project, f.digest"
)


def _needs(tx: Tx, manifest: str) -> str | None:
    id = tx.value(
        "SELECT id FROM packages WHERE project = :project AND manifest = :manifest",
        project=tx.project,
        manifest=manifest,
    )
    return f"packages/{id}" if id else None


def _needs_compiled(tx: Tx, manifest: str) -> str | None:
    id = tx.value(
        "SELECT p.id FROM compiled c JOIN packages p ON p.key = c.package "
        "WHERE p.project = :project AND c.manifest = :manifest",
        project=tx.project,
        manifest=manifest,
    )
    return f"the compiled form of packages/{id}" if id else None


manifests.HOLDERS += [_needs, _needs_compiled]


def row(read: Reader, id: str) -> Row:
    """The package's own columns; a writer holds it until its transaction ends."""
    lock = blobs.FOR_UPDATE[read.kind] if isinstance(read, Tx) else ""
    found = read.one(
        f"SELECT {', '.join(COLUMNS)} FROM packages WHERE project = :project AND id = :id {lock}",
        project=read.project,
        id=id,
    )
    if found is None:
        raise NotFound.named("package", id, hint="`tarmac packages ls` lists them")
    return found


def alive(tx: Tx, id: str) -> Package:
    """A package that is not in the trash, held until the transaction ends, without what is said of it."""
    found = as_package(row(tx, id))
    if found.deleted_at is not None:
        raise Conflict(f"package {bounded(id)} is in the trash", hint=f"`tarmac packages restore {bounded(id)}`")
    return found


def key_of(read: Reader, id: str) -> int | None:
    key: int | None = read.value(
        "SELECT key FROM packages WHERE project = :project AND id = :id", project=read.project, id=id
    )
    return key


def by_keys(read: Reader, keys: Sequence[int]) -> list[Package]:
    """Packages in the order of their keys, with all that is said of them."""
    if not keys:
        return []
    chosen = ", ".join(map(str, keys))
    rows = read.all(f"SELECT {', '.join(COLUMNS)} FROM packages WHERE key IN ({chosen})")
    place = {found[0]: found for found in rows}
    params, tags = texts.of(read, "package_params", keys), texts.of(read, "package_tags", keys)
    metrics: dict[int, list[PackageMetric]] = {key: [] for key in keys}
    for package, *values in read.all(
        "SELECT package, name, value, step, at, run, data, data_digest FROM package_metrics "
        f"WHERE package IN ({chosen}) ORDER BY package, name, at, step"
    ):
        metrics[package].append(_metric(values))
    versions: dict[int, list[str]] = {key: [] for key in keys}
    for package, name, number in read.all(
        "SELECT v.package, m.name, v.number FROM versions v JOIN models m ON m.key = v.model "
        f"WHERE v.package IN ({chosen}) AND v.deleted_at IS NULL ORDER BY v.key LIMIT {MOST_VERSIONS}"
    ):
        versions[package].append(f"{name}@v{number}")
    forms = compiled(read, keys)
    return [
        as_package(
            place[key],
            params=params[key],
            tags=tags[key],
            metrics=metrics[key],
            versions=versions[key],
            compiled=forms.get(key),
        )
        for key in keys
    ]


def as_package(found: Row, **said: Any) -> Package:
    fields = dict(zip(COLUMNS[1:], found[1:], strict=True))
    return Package(**{**fields, "document": msgspec.json.decode(fields["document"])}, **said)


def add(tx: Tx, package: Package) -> int:
    names = COLUMNS[1:]
    fields = {name: getattr(package, name) for name in names}
    fields["document"] = _document(package.document)
    key: int = tx.value(
        f"INSERT INTO packages (project, {', '.join(names)}) "
        f"VALUES (:project, {', '.join(f':{name}' for name in names)}) RETURNING key",
        project=tx.project,
        **fields,
    )
    return key


def _document(document: dict[str, Any]) -> str:
    return msgspec.json.encode(document, order="sorted").decode()


def touch(tx: Tx, key: int) -> None:
    tx.run("UPDATE packages SET updated_at = :now WHERE key = :key", now=tx.now, key=key)


def set_state(tx: Tx, key: int, state: str, document: dict[str, Any] | None) -> None:
    tx.run("UPDATE packages SET state = :state, updated_at = :now WHERE key = :key", state=state, now=tx.now, key=key)
    if document is not None:
        tx.run("UPDATE packages SET document = :document WHERE key = :key", document=_document(document), key=key)


def set_sealed(tx: Tx, key: int, manifest: Manifest) -> None:
    tx.run(
        "UPDATE packages SET manifest = :manifest, digest = :digest, files = :files, size = :size WHERE key = :key",
        manifest=manifest.id,
        digest=manifest.digest,
        files=manifest.files,
        size=manifest.size,
        key=key,
    )


def set_deleted(tx: Tx, key: int, at: int | None) -> None:
    tx.run("UPDATE packages SET deleted_at = :at, updated_at = :now WHERE key = :key", at=at, now=tx.now, key=key)


# --- files before they are sealed ---


def loose_files(read: Reader, key: int, folder: str = "", after: str = "", limit: int = 1_000_000) -> list[File]:
    return _files(read, "package_files", "package = :of", key, folder, after, limit)


def sealed_files(
    read: Reader, manifest: str, folder: str = "", after: str = "", limit: int = 1_000_000
) -> list[File]:  # fmt: skip
    key = read.value(
        "SELECT key FROM manifests WHERE project = :project AND id = :id", project=read.project, id=manifest
    )
    return _files(read, "manifest_files", "manifest = :of", key, folder, after, limit)


def _files(read: Reader, table: str, whose: str, of: int, folder: str, after: str, limit: int) -> list[File]:
    below = "AND (path = :folder OR (path > :low AND path < :high))" if folder else ""
    rows = read.all(
        f"SELECT path, digest, size FROM {table} WHERE {whose} AND path > :after {below} ORDER BY path LIMIT :n",
        of=of,
        after=after,
        folder=folder,
        low=f"{folder}/",
        high=f"{folder}0",  # "0" follows "/"
        n=limit,
    )
    return [File(path=path, digest=digest, size=size) for path, digest, size in rows]


def put_files(tx: Tx, key: int, files: Sequence[File]) -> None:
    """Add files to those of a package, each of which counts as needed once for each path."""
    before: dict[str, tuple[str, int]] = {}
    for names, values in blobs.placeholders(sorted(file.path for file in files)):
        rows = tx.all(
            f"SELECT path, digest, size FROM package_files WHERE package = :key AND path IN ({names})",
            key=key,
            **values,
        )
        before.update({path: (digest, size) for path, digest, size in rows})
    fresh = [file for file in files if file.path not in before or before[file.path][0] != file.digest]
    replaced = [before[file.path] for file in fresh if file.path in before]
    for file in fresh:
        if file.path not in before:
            _refuse_clash(tx, key, file.path)
    blobs.add_refs(tx, [file.digest for file in fresh], +1)
    blobs.add_refs(tx, [digest for digest, _ in replaced], -1)
    tx.insert(
        "package_files",
        ("package", "path", "digest", "size"),
        [(key, file.path, file.digest, file.size) for file in fresh],
        otherwise="ON CONFLICT (package, path) DO UPDATE SET digest = excluded.digest, size = excluded.size",
    )
    tx.run(
        "UPDATE packages SET files = files + :files, size = size + :size, updated_at = :now WHERE key = :key",
        files=len(fresh) - len(replaced),
        size=sum(file.size for file in fresh) - sum(size for _, size in replaced),
        now=tx.now,
        key=key,
    )


def _refuse_clash(tx: Tx, key: int, path: str) -> None:
    """A path is a file or a folder: a package in which one is both could never be sealed."""
    parts = path.split("/")
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    for names, values in blobs.placeholders(above):
        taken = tx.value(
            f"SELECT path FROM package_files WHERE package = :key AND path IN ({names}) LIMIT 1", key=key, **values
        )
        if taken:
            raise Conflict(f"`{bounded(taken)}` is a file of this package; `{bounded(path)}` cannot lie below it")
    below = tx.value(
        "SELECT path FROM package_files WHERE package = :key AND path > :low AND path < :high LIMIT 1",
        key=key,
        low=f"{path}/",
        high=f"{path}0",  # "0" follows "/"
    )
    if below:
        raise Conflict(f"`{bounded(path)}` is a folder of this package: `{bounded(below)}` lies in it")


def drop_files(tx: Tx, key: int) -> None:
    gone = tx.all("DELETE FROM package_files WHERE package = :key RETURNING digest", key=key)
    blobs.add_refs(tx, [digest for (digest,) in gone], -1)


# --- what is said of packages ---


def put_params(tx: Tx, key: int, params: dict[str, str]) -> None:
    """A param says how the package was made: it is never changed."""
    before = texts.of(tx, "package_params", [key])[key]
    for name, value in params.items():
        if before.get(name, value) != value:
            raise Conflict(
                f"param `{bounded(name)}` of the package is `{bounded(before[name])}` and cannot become "
                f"`{bounded(value)}`",
                hint="what may change is a tag",
            )
    texts.put(tx, "package_params", key, params)


def put_metrics(tx: Tx, key: int, metrics: Iterable[PackageMetric]) -> None:
    rows = {}
    for metric in metrics:
        value = points.number(metric.value) if isinstance(metric.value, str) else metric.value
        where = (metric.name, metric.run, metric.data, metric.data_digest, metric.step)
        rows[where] = (key, *where, None if value != value else value, metric.at or tx.now)
    tx.insert(
        "package_metrics",
        ("package", "name", "run", "data", "data_digest", "step", "value", "at"),
        [rows[where] for where in sorted(rows)],
        otherwise="ON CONFLICT (package, name, run, data, data_digest, step) "
        "DO UPDATE SET value = excluded.value, at = excluded.at",
    )


def _metric(values: Sequence[Any]) -> PackageMetric:
    name, value, step, at, run, data, data_digest = values
    return PackageMetric(
        name=name,
        value=points.text(value),  # type: ignore[arg-type]
        step=step,
        at=at,
        run=run,
        data=data,
        data_digest=data_digest,
    )


def add_run(tx: Tx, run: str, package: int, part: str, step: int) -> int:
    return tx.run(
        "INSERT INTO package_runs (project, run, package, part, step) VALUES (:project, :run, :package, :part, :step) "
        "ON CONFLICT (project, run, package, part) DO UPDATE SET step = excluded.step "
        "WHERE package_runs.step <> excluded.step",
        project=tx.project,
        run=run,
        package=package,
        part=part,
        step=step,
    )


def runs(read: Reader, ids: Sequence[str]) -> list[PackageRun]:
    found = []
    for names, values in blobs.placeholders(sorted(set(ids))):
        found += read.all(
            "SELECT r.run, p.id, r.part, r.step FROM package_runs r JOIN packages p ON p.key = r.package "
            f"WHERE r.project = :project AND r.run IN ({names}) ORDER BY r.run, r.part, p.key",
            project=read.project,
            **values,
        )
    return [PackageRun(run=run, package=package, part=part, step=step) for run, package, part, step in found]


def needed_by(tx: Tx, key: int) -> str | None:
    """A version that refers to the package."""
    found = tx.one(
        "SELECT m.name, v.number FROM versions v JOIN models m ON m.key = v.model "
        "WHERE v.package = :key AND v.deleted_at IS NULL ORDER BY v.key LIMIT 1",
        key=key,
    )
    return f"{found[0]}@v{found[1]}" if found else None


# --- compiled ---


def compiled(read: Reader, keys: Sequence[int]) -> dict[int, CompiledForm]:
    if not keys:
        return {}
    rows = read.all(
        "SELECT package, equal, why, digest, manifest, proof, actor, at FROM compiled "
        f"WHERE package IN ({', '.join(map(str, keys))})"
    )
    return {
        package: CompiledForm(
            equal=bool(equal), why=why, digest=digest, manifest=manifest, proof=msgspec.json.decode(proof), actor=actor,
            at=at,
        )
        for package, equal, why, digest, manifest, proof, actor, at in rows
    }  # fmt: skip


def put_compiled(tx: Tx, key: int, form: CompiledForm) -> None:
    """What came of compiling, in place of what came of it before."""
    drop_compiled(tx, key)
    tx.insert(
        "compiled",
        ("package", "equal", "why", "digest", "manifest", "proof", "actor", "at"),
        [
            (
                key, int(form.equal), form.why, form.digest, form.manifest, _document(form.proof), form.actor, form.at,
            )
        ],
    )  # fmt: skip


def drop_compiled(tx: Tx, key: int) -> None:
    for (manifest,) in tx.all("DELETE FROM compiled WHERE package = :key RETURNING manifest", key=key):
        manifests.delete(tx, manifest)


# --- for good ---

Trash = tuple[int, str, int, str | None]
"""Key, id and bytes of a package in the trash, and the thing that was made from it, if one was."""


def in_trash(connection: Connection, project: int, before: int, after: int, limit: int) -> list[Trash]:
    found = connection.all(
        "SELECT p.key, p.id, p.size, (SELECT min(l.target) FROM lineage l WHERE l.project = p.project "
        "AND l.source = 'packages/' || p.id AND l.target NOT LIKE 'runs/%') FROM packages p "
        "WHERE p.project = :project AND p.deleted_at <= :before AND p.key > :after ORDER BY p.key LIMIT :n",
        project=project,
        before=before,
        after=after,
        n=limit,
    )
    return [(key, id, size, thing) for key, id, size, thing in found]


def delete(tx: Tx, found: Sequence[Trash]) -> list[Trash]:
    """Delete those that are still in the trash and that no version refers to; which ones."""
    gone = []
    for entry in found:
        key, id, *_ = entry
        package = as_package(row(tx, id))
        if package.deleted_at is None or needed_by(tx, key):
            continue
        drop_files(tx, key)
        drop_compiled(tx, key)
        for table in ("package_params", "package_tags", "package_metrics", "package_runs", "signatures"):
            tx.run(f"DELETE FROM {table} WHERE package = :key", key=key)
        for side in ("source", "target"):
            tx.run(
                f"DELETE FROM lineage WHERE project = :project AND {side} = :thing",
                project=tx.project,
                thing=f"packages/{id}",
            )
        tx.run("DELETE FROM packages WHERE key = :key", key=key)
        if package.manifest is not None:
            manifests.delete(tx, package.manifest)
        gone.append(entry)
    return gone

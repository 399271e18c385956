"""How the store answers for itself."""

from __future__ import annotations

from pathlib import Path

from tarmac import __version__
from tarmac.core.errors import Conflict
from tarmac.core.operation import handles
from tarmac.store import lineage, manifests, migrations, queries
from tarmac.store import operations as ops
from tarmac.store.backup import backup
from tarmac.store.blobs import rows as blobs
from tarmac.store.blobs.gc import Collector
from tarmac.store.check import check
from tarmac.store.job import JobContext
from tarmac.store.records import BackupReport, CheckReport, Garbage, Manifest, Me, Project, Status, StoreFacts
from tarmac.store.sql import Reader, Tx

HOUR = 3_600_000


@handles(ops.GetStatus)
def status(request: ops.GetStatus, read: Reader) -> Status:
    return Status(
        version=__version__,
        project=read.project_name,
        store=StoreFacts(kind=read.kind, format=len(migrations.known()), bytes=_database_bytes(read)),
        experiments=queries.count(read, "experiments"),
        runs=queries.counts(read, "runs", "status"),
        blobs=queries.blob_facts(read),
        ledger=queries.ledger_facts(read.connection),
        jobs=queries.counts(read, "jobs", "state"),
        people=read.value("SELECT count(*) FROM persons"),
        me=Me(
            name=read.actor.name,
            verified=read.actor.verified,
            permissions=sorted(read.actor.permissions(read.project_name)),
        ),
    )


def _database_bytes(read: Reader) -> int:
    if read.kind == "sqlite":
        return int(read.value("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"))
    return int(read.value("SELECT pg_database_size(current_database())"))


@handles(ops.CreateProject)
def create_project(request: ops.CreateProject, tx: Tx) -> Project:
    made = tx.run(
        "INSERT INTO projects (name, created_at) VALUES (:name, :now) ON CONFLICT DO NOTHING",
        name=request.name,
        now=tx.now,
    )
    if not made:
        raise Conflict.exists("project", request.name)
    return Project(name=request.name, created_at=tx.now)


@handles(ops.ListProjects)
def list_projects(request: ops.ListProjects, read: Reader) -> ops.ProjectList:
    found = queries.projects(read.connection)
    return ops.ProjectList(projects=[project for project in found if read.actor.may("read", project.name)])


@handles(ops.ShowLineage)
def show_lineage(request: ops.ShowLineage, read: Reader) -> ops.Edges:
    thing = lineage.named(read, request.thing)
    ways: tuple[lineage.Direction, ...] = ("up", "down") if request.direction == "both" else (request.direction,)
    edges = [edge for way in ways for edge in lineage.walk(read, thing, way, request.depth)]
    return ops.Edges(thing=thing, edges=edges)


@handles(ops.FindMissing)
def find_missing(request: ops.FindMissing, read: Reader) -> ops.Missing:
    return ops.Missing(missing=blobs.missing(read, request.digests))


@handles(ops.CommitManifest)
def commit_manifest(request: ops.CommitManifest, tx: Tx) -> ops.Committed:
    made = manifests.commit(tx, request.kind, request.files)
    if isinstance(made, list):
        tx.unchanged()
        return ops.Committed(missing=made)
    tx.subject = f"manifests/{made.id}"
    return ops.Committed(manifest=made)


@handles(ops.ListManifests)
def list_manifests(request: ops.ListManifests, read: Reader) -> ops.ManifestPage:
    found = manifests.newest(read, request.before, request.limit)
    return ops.ManifestPage(manifests=found, next=found[-1].id if len(found) == request.limit else None)


@handles(ops.GetManifest)
def get_manifest(request: ops.GetManifest, read: Reader) -> Manifest:
    return manifests.get(read, request.id)


@handles(ops.ListFiles)
def list_files(request: ops.ListFiles, read: Reader) -> ops.FilePage:
    found = manifests.files(read, request.id, request.after, request.limit)
    return ops.FilePage(files=found, next=found[-1].path if len(found) == request.limit else None)


@handles(ops.DeleteManifest)
def delete_manifest(request: ops.DeleteManifest, tx: Tx) -> Manifest:
    manifests.refuse_needed(tx, request.id)
    return manifests.delete(tx, request.id)


@handles(ops.CheckStore)
def check_store(request: ops.CheckStore, job: JobContext) -> CheckReport:
    return check(job, read_bytes=not request.quick)


@handles(ops.BackupStore)
def backup_store(request: ops.BackupStore, job: JobContext) -> BackupReport:
    return backup(job.store, Path(request.to) if request.to else None, job.progress)


@handles(ops.CollectGarbage)
def collect_garbage(request: ops.CollectGarbage, job: JobContext) -> Garbage:
    collector = Collector(job.store.database, job.store.writer, job.store.blobs, int(request.grace_hours * HOUR))
    return collector.collect(dry_run=request.dry_run, progress=lambda done, what: job.progress(done, 0, what))

"""What can be asked about the store itself."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tarmac.core.names import Digest, Id, Limit, Name, ProjectName
from tarmac.core.operation import Command, Job, Query, operation
from tarmac.store.records import BackupReport, CheckReport, Edge, File, Garbage, Manifest, Project, Status

Digests = Annotated[list[Digest], Meta(max_length=500, description="at most 500 digests")]
Files = Annotated[list[File], Meta(min_length=1, max_length=100_000, description="1 to 100,000 files")]


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """The thing that was asked about, and what it hangs together with, nearest first."""

    thing: str = ""
    edges: list[Edge]


class ProjectList(msgspec.Struct, frozen=True, kw_only=True):
    projects: list[Project]


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    missing: list[str]


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest, or what has to be uploaded before it can be."""

    manifest: Manifest | None = None
    missing: list[str] = []


class ManifestPage(msgspec.Struct, frozen=True, kw_only=True):
    manifests: list[Manifest]
    next: str | None = None


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    files: list[File]
    next: str | None = None


@operation("status", needs="read")
class GetStatus(Query[Status], frozen=True, kw_only=True):
    """The workspace at a glance: what is in it, how big it is, where its ledger stands, who you are."""


@operation("projects.create", needs="admin", scope="workspace", positional=("name",))
class CreateProject(Command[Project], frozen=True, kw_only=True):
    """Make a project: the owner of every named thing."""

    name: ProjectName


@operation("projects.ls", needs="read")
class ListProjects(Query[ProjectList], frozen=True, kw_only=True):
    """The projects of this workspace that you may read."""


@operation("lineage", needs="read", positional=("thing",))
class ShowLineage(Query[Edges], frozen=True, kw_only=True):
    """What made a thing, or what was made of it, or both."""

    thing: Name
    direction: Literal["up", "down", "both"] = "up"
    depth: Annotated[int, Meta(ge=1, le=50, description="1 to 50")] = 10


@operation("blobs.missing", needs="read", positional=("digests",))
class FindMissing(Query[Missing], frozen=True, kw_only=True):
    """Which of these blobs would have to be uploaded."""

    digests: Digests


@operation("manifests.commit", needs="write")
class CommitManifest(Command[Committed], frozen=True, kw_only=True):
    """Bind uploaded blobs to an immutable list of files, or hear which blobs are missing."""

    kind: Name
    files: Files


@operation("manifests.ls", needs="read")
class ListManifests(Query[ManifestPage], frozen=True, kw_only=True):
    """Lists of files, newest first."""

    limit: Limit = 100
    before: Annotated[str, Meta(max_length=64)] = ""


@operation("manifests.show", needs="read", quick=True, positional=("id",))
class GetManifest(Query[Manifest], frozen=True, kw_only=True):
    """One list of files: its size and digest."""

    id: Id


@operation("manifests.files", needs="read", positional=("id",))
class ListFiles(Query[FilePage], frozen=True, kw_only=True):
    """The files of a manifest, by path."""

    id: Id
    after: Annotated[str, Meta(max_length=4096)] = ""
    limit: Limit = 1000


@operation("manifests.rm", needs="write", positional=("id",))
class DeleteManifest(Command[Manifest], frozen=True, kw_only=True):
    """Forget a list of files; blobs that nothing else needs go with the next gc."""

    id: Id


@operation("store.check", needs="admin", scope="workspace")
class CheckStore(Job[CheckReport], frozen=True, kw_only=True):
    """Read everything that is stored and name whatever is not as it was stored."""

    quick: bool = False


@operation("store.backup", needs="admin", scope="workspace", positional=("to",))
class BackupStore(Job[BackupReport], frozen=True, kw_only=True):
    """Copy facts and bytes, as of one moment, to a new folder beside working writers."""

    to: Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00]*$")] = ""


@operation("store.gc", needs="admin", scope="workspace")
class CollectGarbage(Job[Garbage], frozen=True, kw_only=True):
    """Delete bytes that nothing needs, after a time of grace."""

    dry_run: bool = False
    grace_hours: Annotated[float, Meta(ge=0, le=24 * 365, description="0 to 8760 hours")] = 24

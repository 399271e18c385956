"""What can be asked about packages, models, their versions and aliases."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tarmac.core.names import Digest, Folder, Id, Limit, Name, Note, Value
from tarmac.core.operation import Command, Job, Query, operation
from tarmac.registry.records import (
    AliasName,
    Approval,
    Model,
    ModelName,
    Move,
    Package,
    PackageMetric,
    PackageRun,
    Part,
    Purged,
    Ref,
    Signature,
    Stage,
    Version,
)
from tarmac.store.records import File

Cursor = Annotated[str, Meta(max_length=4000, description="the `next` of the page before")]
Filter = Annotated[str, Meta(max_length=20_000, description="which, like: name LIKE 'churn%' AND tags.team = 'risk'")]
Orders = Annotated[list[str], Meta(max_length=5, description="fields to sort by, each like: updated DESC")]
Files = Annotated[list[File], Meta(max_length=10_000, description="at most 10,000 files")]
Metrics = Annotated[list[PackageMetric], Meta(max_length=10_000, description="at most 10,000 values")]
Texts = Annotated[dict[Name, Value], Meta(max_length=10_000, description="at most 10,000 names with text")]
Unset = Annotated[list[Name], Meta(max_length=10_000)]
RunName = Annotated[
    str,
    Meta(min_length=1, max_length=250, pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*$(?!\n)", description="a run's id"),
]
PackageId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", description="32 hex digits")]
Text = Annotated[
    str, Meta(max_length=20_000, pattern=r"^[^\x00\ud800-\udfff]*$", description="at most 20,000 characters")
]
Kind = Annotated[
    str, Meta(max_length=250, pattern=r"^[^\x00-\x1f\x7f\ud800-\udfff]*$(?!\n)", description="like sklearn or onnx")
]
Moment = Annotated[str, Meta(max_length=64, description="a time: 2026-11-20T14:03, -7d, or milliseconds since 1970")]
Stages = Annotated[list[Stage], Meta(max_length=4)]
WithAliases = Annotated[bool, Meta(description="also when aliases point to it: they are retired, and that is recorded")]
Deleted = Literal["no", "only", "also"]


class PackagePage(msgspec.Struct, frozen=True, kw_only=True):
    packages: list[Package]
    next: str | None = None


class PackageMade(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The package, or the blobs that have to be uploaded first."""

    package: Package | None = None
    missing: list[str] = []


class CompileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of compiling, and how equality was looked for."""

    ref: str
    equal: bool
    why: str
    proof: dict[str, Any]


class PackageFiles(msgspec.Struct, frozen=True, kw_only=True):
    files: list[File]
    next: str | None = None


class PackageRuns(msgspec.Struct, frozen=True, kw_only=True):
    links: list[PackageRun]


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    models: list[Model]
    next: str | None = None


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    versions: list[Version]
    next: str | None = None


class VersionList(msgspec.Struct, frozen=True, kw_only=True):
    versions: list[Version]


class Approvals(msgspec.Struct, frozen=True, kw_only=True):
    approvals: list[Approval]


class Signatures(msgspec.Struct, frozen=True, kw_only=True):
    signatures: list[Signature]


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    moves: list[Move]
    next: str | None = None


# --- packages ---


@operation("packages.create", needs="write", positional=("name",))
class CreatePackage(Command[PackageMade], frozen=True, kw_only=True):
    """Make a package of uploaded blobs, or of a run's files below a folder; without either its files may still come."""

    name: Name
    kind: Kind = ""
    run: RunName | None = None
    folder: Annotated[Folder | None, Meta(description="a folder of the run; empty for all of its files")] = None
    files: Files = []
    experiment: Annotated[Name | None, Meta(description="id of an experiment; by default the run's")] = None
    document: dict[str, Any] = {}
    params: Texts = {}
    tags: Texts = {}
    id: Annotated[
        PackageId | None, Meta(description="made by the caller; a package that is there already is answered with")
    ] = None


Reopen = Annotated[bool, Meta(description="also if it is sealed, as long as no version refers to it")]


@operation("packages.attach", needs="write", positional=("id",))
class AttachPackageFiles(Command[PackageMade], frozen=True, kw_only=True):
    """Add uploaded blobs to a package that is not sealed yet."""

    id: Id
    files: Annotated[list[File], Meta(min_length=1, max_length=10_000, description="1 to 10,000 files")]
    reopen: Reopen = False


@operation("packages.seal", needs="write", positional=("id",))
class SealPackage(Command[Package], frozen=True, kw_only=True):
    """Say that a package is whole; from then on nothing of its files and its document changes."""

    id: Id
    state: Annotated[Literal["ready", "failed"], Meta(description="failed: it could not be made")] = "ready"
    document: dict[str, Any] | None = None
    reopen: Reopen = False


@operation("packages.show", needs="read", quick=True, positional=("id",))
class GetPackage(Query[Package], frozen=True, kw_only=True):
    """One package with its params, tags and metrics, and the versions that refer to it."""

    id: Id


@operation("packages.ls", needs="read")
class ListPackages(Query[PackagePage], frozen=True, kw_only=True):
    """Packages that pass a filter, sorted, a page at a time; the newest first by default."""

    filter: Filter = ""
    order: Orders = []
    experiment: Annotated[list[Name], Meta(max_length=1000, description="ids; none means all")] = []
    data: Annotated[list[Name], Meta(max_length=100, description="measured on one of these: NAME or NAME@DIGEST")] = []
    deleted: Deleted = "no"
    limit: Limit = 100
    cursor: Cursor = ""


@operation("packages.files", needs="read", positional=("id",))
class ListPackageFiles(Query[PackageFiles], frozen=True, kw_only=True):
    """The files of a package, or what of it is a path or lies below it."""

    id: Id
    folder: Folder = ""
    after: Annotated[str, Meta(max_length=4096)] = ""
    limit: Limit = 1000


@operation("packages.tag", needs="write", positional=("id",))
class TagPackage(Command[Package], frozen=True, kw_only=True):
    """Set and remove tags of a package; sealed or not, they are no part of what it is."""

    id: Id
    set: Texts = {}
    unset: Unset = []


@operation("packages.log", needs="write", positional=("id",))
class LogPackage(Command[Package], frozen=True, kw_only=True):
    """Add params, and values of metrics with the run and the data they were measured with, to a package."""

    id: Id
    params: Texts = {}
    metrics: Metrics = []


@operation("packages.link", needs="write", positional=("id", "run"))
class LinkPackage(Command[PackageRuns], frozen=True, kw_only=True):
    """Record that a run made a package, or was given it; it becomes part of the lineage."""

    id: Id
    run: RunName
    part: Part = "output"
    step: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0


@operation("packages.links", needs="read", positional=("runs",))
class ListPackageRuns(Query[PackageRuns], frozen=True, kw_only=True):
    """The packages that runs made or were given."""

    runs: Annotated[list[RunName], Meta(min_length=1, max_length=1000, description="1 to 1000 ids of runs")]


@operation("packages.rm", needs="write", positional=("id",))
class DeletePackage(Command[Package], frozen=True, kw_only=True):
    """Put a package that no version needs into the trash."""

    id: Id


@operation("packages.restore", needs="write", positional=("id",))
class RestorePackage(Command[Package], frozen=True, kw_only=True):
    """Take a package out of the trash."""

    id: Id


@operation("packages.purge", needs="admin")
class PurgePackages(Job[Purged], frozen=True, kw_only=True):
    """Delete packages that have been in the trash long enough; their bytes go with the next gc."""

    days: Annotated[float, Meta(ge=0, le=36500, description="how long it must have been in the trash")] = 30
    dry_run: bool = False


# --- models ---


@operation("models.create", needs="write", positional=("name",))
class CreateModel(Command[Model], frozen=True, kw_only=True):
    """Make a model: a name that versions are added to."""

    name: ModelName
    note: Note = ""
    tags: Texts = {}


@operation("models.show", needs="read", quick=True, positional=("name",))
class GetModel(Query[Model], frozen=True, kw_only=True):
    """One model, with its aliases and where they point."""

    name: Annotated[str, Meta(max_length=256)]


@operation("models.ls", needs="read")
class ListModels(Query[ModelPage], frozen=True, kw_only=True):
    """Models that pass a filter, by name or sorted, a page at a time."""

    filter: Filter = ""
    order: Orders = []
    limit: Limit = 100
    cursor: Cursor = ""


@operation("models.edit", needs="write", positional=("name",))
class EditModel(Command[Model], frozen=True, kw_only=True):
    """Give a model another note."""

    name: ModelName
    note: Note


@operation("models.rename", needs="write", positional=("name", "to"))
class RenameModel(Command[Model], frozen=True, kw_only=True):
    """Give a model another name. It keeps its versions, aliases and history."""

    name: ModelName
    to: ModelName


@operation("models.tag", needs="write", positional=("name",))
class TagModel(Command[Model], frozen=True, kw_only=True):
    """Set and remove tags of a model."""

    name: ModelName
    set: Texts = {}
    unset: Unset = []


@operation("models.rm", needs="write", positional=("name",))
class DeleteModel(Command[Model], frozen=True, kw_only=True):
    """Delete a model and its versions. Packages stay; history can still be asked; no number is given again."""

    name: ModelName
    with_aliases: WithAliases = False


@operation("models.add", needs="write", positional=("name",))
class AddVersion(Command[Version], frozen=True, kw_only=True):
    """Add a version: of a package, of a run's files below a folder, or of a place outside that is only named.

    A model that does not exist is made with `create`. A package that is not sealed yet and has files is sealed.
    """

    name: ModelName
    package: Id | None = None
    run: RunName | None = None
    folder: Annotated[Folder | None, Meta(description="a folder of the run, made a package; empty for all")] = None
    source: Annotated[Text, Meta(description="where it comes from, as its maker wrote it")] = ""
    location: Annotated[Text, Meta(description="where its bytes are outside; by default its source")] = ""
    link: Text = ""
    note: Note = ""
    tags: Texts = {}
    create: bool = False
    number: (
        Annotated[int, Meta(ge=1, le=2**62, description="one that it had elsewhere, above all given; else the next")]
        | None
    ) = None


@operation("models.compile", needs="admin", positional=("ref",))
class CompileModel(Job[CompileReport], frozen=True, kw_only=True):
    """Convert a version to ONNX, compare both forms on the same rows, and keep the proof; serving then uses the equal.

    Compared on the package's example, on `rows`, and on rows made from its signature. It runs the model: a package that
    brings code has to be yours, or named by its digest with `trust`. That is why it needs an admin.
    """

    ref: Ref
    rows: Annotated[
        list[Any], Meta(max_length=10_000, description="of the training data: objects by column, or lists")
    ] = []
    tolerance: Annotated[float, Meta(ge=0, le=1, description="the largest difference that is still equal")] = 1e-4
    trust: Annotated[list[Digest], Meta(max_length=100, description="packages that may run their code")] = []
    seconds: Annotated[float, Meta(ge=1, le=86_400, description="when a converter is stopped")] = 300.0


@operation("models.copy", needs="write", positional=("ref", "to"))
class CopyVersion(Command[Version], frozen=True, kw_only=True):
    """Add a version of one model to another: the same package, with its note, tags and lineage."""

    ref: Ref
    to: ModelName
    create: bool = False


@operation("models.promote", needs="write", positional=("ref",))
class PromoteVersion(Command[Move], frozen=True, kw_only=True):
    """Point an alias to a version, if the rules of its gate hold; the move is kept with who, when, why and evidence.

    With `expected`, only if the alias points to that number now; 0 stands for nowhere. An admin may `override` rules.
    """

    ref: Ref
    to: AliasName
    reason: Note = ""
    expected: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    override: Annotated[bool, Meta(description="move it though rules do not hold: an admin may, with a reason")] = False


@operation("models.rollback", needs="write", positional=("ref",))
class RollbackAlias(Command[Move], frozen=True, kw_only=True):
    """Point an alias, written NAME@ALIAS, to what it pointed to before. Again, it goes one further back."""

    ref: Ref
    reason: Note = ""


@operation("models.retire", needs="write", positional=("ref",))
class RetireAlias(Command[Move], frozen=True, kw_only=True):
    """Take an alias, written NAME@ALIAS, away. Its history stays, and a rollback brings it back."""

    ref: Ref
    reason: Note = ""


@operation("models.history", needs="read", positional=("name",))
class ShowHistory(Query[Moves], frozen=True, kw_only=True):
    """The moves of a model's aliases, newest first; or, at a time, the move that had brought each where it pointed."""

    name: Annotated[str, Meta(max_length=256)]
    alias: Annotated[str, Meta(max_length=255)] = ""
    at: Moment = ""
    limit: Limit = 100
    before: Annotated[str, Meta(max_length=64, description="the `next` of the page before")] = ""


@operation("models.approve", needs="approve", positional=("ref",))
class ApproveVersion(Command[Approval], frozen=True, kw_only=True):
    """Consent to exactly the bytes of a version; by somebody other than who made it, or by a key of the gate."""

    ref: Ref
    to: Annotated[AliasName | None, Meta(description="for this alias only")] = None
    note: Note = ""
    signed: Annotated[Text, Meta(description="a signed statement, as `tarmac approve --key` makes it")] = ""
    withdraw: Annotated[bool, Meta(description="take back what was said before")] = False


@operation("models.approvals", needs="read", positional=("ref",))
class ListApprovals(Query[Approvals], frozen=True, kw_only=True):
    """Who consented to the bytes of a version."""

    ref: Ref


@operation("models.attach", needs="write", positional=("ref",))
class AttachSignature(Command[Signature], frozen=True, kw_only=True):
    """Keep an OpenSSF model signature with a version's package; `tarmac models sign` makes one."""

    ref: Ref
    bundle: Annotated[str, Meta(max_length=4 * 1024 * 1024, description="the signature's file")]


@operation("models.signatures", needs="read", positional=("ref",))
class ListSignatures(Query[Signatures], frozen=True, kw_only=True):
    """The signatures that are kept with a version's package; `tarmac models verify` proves them."""

    ref: Ref


# --- versions ---


@operation("versions.show", needs="read", quick=True, positional=("ref",))
class GetVersion(Query[Version], frozen=True, kw_only=True):
    """One version, by its number, an alias, or as the latest: churn@v7, churn@production, churn@latest."""

    ref: Ref


@operation("versions.ls", needs="read")
class ListVersions(Query[VersionPage], frozen=True, kw_only=True):
    """Versions that pass a filter, sorted, a page at a time; the last changed first by default."""

    filter: Filter = ""
    order: Orders = []
    model: Annotated[str, Meta(max_length=256)] = ""
    limit: Limit = 100
    cursor: Cursor = ""


@operation("versions.latest", needs="read", positional=("models",))
class ListLatest(Query[VersionList], frozen=True, kw_only=True):
    """The newest version of each model in each of MLflow's stages."""

    models: Annotated[list[str], Meta(min_length=1, max_length=1000, description="1 to 1000 names")]
    stages: Annotated[Stages, Meta(description="none means all")] = []


@operation("versions.edit", needs="write", positional=("ref",))
class EditVersion(Command[Version], frozen=True, kw_only=True):
    """Give a version another note."""

    ref: Ref
    note: Note


@operation("versions.tag", needs="write", positional=("ref",))
class TagVersion(Command[Version], frozen=True, kw_only=True):
    """Set and remove tags of a version."""

    ref: Ref
    set: Texts = {}
    unset: Unset = []


@operation("versions.stage", needs="write", positional=("ref", "stage"))
class StageVersion(Command[Version], frozen=True, kw_only=True):
    """Put a version into one of MLflow's stages. For its older clients: aliases say more."""

    ref: Ref
    stage: Stage
    archive: Annotated[bool, Meta(description="those that are in the stage now go to Archived")] = False
    reason: Note = ""


@operation("versions.rm", needs="write", positional=("ref",))
class DeleteVersion(Command[Version], frozen=True, kw_only=True):
    """Delete a version; its number is never given again. The package stays."""

    ref: Ref
    with_aliases: WithAliases = False

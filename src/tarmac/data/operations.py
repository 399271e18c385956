"""What can be asked about data sets and their versions. Their files are cut, packed and compared where they lie."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tarmac.core.names import Limit, Name, Note, Value
from tarmac.core.operation import Command, Job, Query, operation
from tarmac.data.records import DataName, DataRef, DataSet, DataVersion, Layout, Origin
from tarmac.data.tables.records import TableDiff
from tarmac.formats.records import ContractReport

Texts = Annotated[dict[Name, Value], Meta(max_length=10_000, description="at most 10,000 names with text")]
Listing = Annotated[bytes, Meta(max_length=24_000_000, description="made by tarmac where the files are")]


class Logged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The version, or the blobs that have to be uploaded first. `made` is false if the same was there already."""

    version: DataVersion | None = None
    made: bool = False
    missing: list[str] = []


class DataSets(msgspec.Struct, frozen=True, kw_only=True):
    data: list[DataSet]
    next: str | None = None


class DataVersions(msgspec.Struct, frozen=True, kw_only=True):
    versions: list[DataVersion]
    next: int | None = None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A version and where the parts of its list of files lie."""

    version: DataVersion
    listing: bytes


class DataPurged(msgspec.Struct, frozen=True, kw_only=True):
    """`repacked` packs, of which little was needed any more, were given up: what was needed was written anew."""

    versions: list[str]
    bytes: int
    kept: list[str]
    repacked: int


class DataDiff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Paths of files, at most 1,000 of each kind; `table` if both versions are tables."""

    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    more: int = 0
    table: TableDiff | None = None


@operation("data.commit", needs="write", positional=("name",))
class CommitData(Command[Logged], frozen=True, kw_only=True):
    """Make uploaded packs a version of a data set, or hear which of them are missing.

    A list of files that is the latest version's already makes no new one. With `number`, as when a version is pushed
    from another workspace, it becomes just that one.
    """

    name: DataName
    listing: Listing
    message: Note = ""
    tags: Texts = {}
    document: dict[str, Any] = {}
    layout: Layout | None = None
    number: Annotated[int, Meta(ge=1, le=2**62)] | None = None
    origin: Origin | None = None


@operation("data.ls", needs="read")
class ListData(Query[DataSets], frozen=True, kw_only=True):
    """Data sets, by name."""

    limit: Limit = 100
    after: Annotated[str, Meta(max_length=250)] = ""


@operation("data.versions", needs="read", positional=("name",))
class ListDataVersions(Query[DataVersions], frozen=True, kw_only=True):
    """The versions of a data set, newest first."""

    name: Annotated[str, Meta(max_length=250)]
    deleted: Annotated[bool, Meta(description="those in the trash instead")] = False
    limit: Limit = 100
    before: Annotated[int, Meta(ge=0, le=2**62)] = 0


@operation("data.show", needs="read", quick=True, positional=("ref",))
class GetData(Query[DataVersion], frozen=True, kw_only=True):
    """One version, with its tags and what was found in it: schema, profile, report of its contract."""

    ref: DataRef


@operation("data.listing", needs="read", quick=True, positional=("ref",))
class GetListing(Query[Listed], frozen=True, kw_only=True):
    """Where the parts of a version's list of files lie, for programs that read them."""

    ref: DataRef


@operation("data.tag", needs="write", positional=("ref",))
class TagData(Command[DataVersion], frozen=True, kw_only=True):
    """Set and remove tags of a version; they are no part of what it is."""

    ref: DataRef
    set: Texts = {}
    unset: Annotated[list[Name], Meta(max_length=10_000)] = []


@operation("data.rm", needs="write", positional=("ref",))
class DeleteData(Command[DataVersion], frozen=True, kw_only=True):
    """Put a version into the trash; its number is never given again."""

    ref: DataRef


@operation("data.restore", needs="write", positional=("ref",))
class RestoreData(Command[DataVersion], frozen=True, kw_only=True):
    """Take a version, named by its number, out of the trash."""

    ref: DataRef


@operation("data.purge", needs="admin")
class PurgeData(Job[DataPurged], frozen=True, kw_only=True):
    """Delete versions that have been in the trash long enough; their bytes go with the next gc.

    A version that something was made of is kept, unless `used` says that it may go too.
    """

    days: Annotated[float, Meta(ge=0, le=36500, description="how long it must have been in the trash")] = 30
    used: Annotated[bool, Meta(description="also those that runs were given")] = False
    dry_run: bool = False


@operation("data.validate", needs="write", positional=("ref",))
class ValidateData(Job[ContractReport], frozen=True, kw_only=True):
    """What a contract says of the rows of a version: the one it was logged with, or another as TOML."""

    ref: DataRef
    contract: Annotated[str, Meta(max_length=4_000_000)] = ""


@operation("data.diff", needs="write", positional=("one", "other"))
class DiffData(Job[DataDiff], frozen=True, kw_only=True):
    """What differs between two versions: files, and of tables rows by key, columns and distributions."""

    one: DataRef
    other: DataRef
    key: Annotated[list[Name], Meta(max_length=100, description="columns that tell rows apart")] = []
    no_key: Annotated[bool, Meta(description="compare whole rows, even if the contract names a key")] = False
    only_files: bool = False

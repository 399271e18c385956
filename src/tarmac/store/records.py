"""What the store tells of itself."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tarmac.core.names import Digest, RelativePath


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    target: str
    how: str
    at: int
    depth: int


class Project(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    created_at: int


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a manifest: where it lies in it, and which bytes it has."""

    path: RelativePath
    digest: Digest
    size: Annotated[int, Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable list of files; `digest` proves all of them."""

    id: str
    kind: str
    digest: str
    files: int
    size: int
    created_at: int


class StoreFacts(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["sqlite", "postgres"]
    format: int
    bytes: int


class BlobFacts(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    bytes: int


class LedgerFacts(msgspec.Struct, frozen=True, kw_only=True):
    events: int
    seals: int
    head: str
    sealed_at: int | None


class Me(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    verified: bool
    permissions: list[str]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A workspace at a glance."""

    version: str
    project: str
    store: StoreFacts
    experiments: int
    runs: dict[str, int]
    blobs: BlobFacts
    ledger: LedgerFacts
    jobs: dict[str, int]
    people: int
    me: Me


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `store check` looked at and what it found wrong."""

    database: str
    blobs: int
    blob_bytes: int
    manifests: int
    events: int
    faults: list[str]


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    rows: int
    blobs: int
    bytes: int


class Garbage(msgspec.Struct, frozen=True, kw_only=True):
    """What gc did, or would do."""

    dry_run: bool
    condemned: int
    condemned_bytes: int
    deleted: int
    deleted_bytes: int
    strays: int
    stray_bytes: int

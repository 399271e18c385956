"""What is told of data sets and their versions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

DataName = Annotated[
    str,
    Meta(
        max_length=128,
        pattern=r"^\w([\w.-]*\w)?$(?!\n)",
        description="1 to 128 letters, digits, dots, dashes and underscores, with a letter or digit at both ends",
    ),
]
DataRef = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=250,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*$(?!\n)",
        description="a version, like faces@v3, faces@latest or faces@2026-11-01; a bare name means the latest",
    ),
]
Layout = Literal["packed", "whole"]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version was logged first, if it came from another workspace."""

    workspace: Annotated[str, Meta(max_length=1000)] = ""
    actor: Annotated[str, Meta(max_length=250)] = ""
    created_at: int = 0


class DataSet(msgspec.Struct, frozen=True, kw_only=True):
    """A name, with what its newest version is like."""

    name: str
    layout: Layout
    versions: int
    latest: int
    files: int
    size: int
    created_at: int
    updated_at: int


class DataVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version. `added` is how many bytes the store grew by when it was logged."""

    name: str
    number: int
    digest: str
    files: int
    size: int
    added: int
    message: str
    actor: str
    layout: Layout
    created_at: int
    deleted_at: int | None = None
    origin: Origin | None = None
    tags: dict[str, str] = {}
    document: dict[str, Any] = {}

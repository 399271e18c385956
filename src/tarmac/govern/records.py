"""Who did what."""

from __future__ import annotations

from typing import Any

import msgspec


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One sealed change. `payload` is what was asked; an erased one is null, and its digest still proves the chain."""

    position: int
    at: int
    project: str
    actor: str
    operation: str
    subject: str
    payload: Any
    payload_digest: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What the chain looked like, fault by fault."""

    events: int
    seals: int
    head: str
    faults: list[str]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """Where the exported events lie."""

    events: int
    bytes: int
    blob: str
    head: str

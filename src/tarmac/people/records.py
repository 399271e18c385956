"""Persons, what they may do, and the tokens that stand for them."""

from __future__ import annotations

import msgspec

from tarmac.core.actor import Permission, Role


class Person(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: int
    disabled_at: int | None = None
    roles: dict[str, Role] = {}


class Token(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    person: str
    project: str
    note: str
    permissions: list[Permission]
    created_at: int
    expires_at: int
    revoked_at: int | None = None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """The only time the token itself is seen; the store keeps its digest."""

    token: str
    facts: Token

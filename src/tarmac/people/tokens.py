"""Tokens: made here, recognised here, stored as digests."""

from __future__ import annotations

import secrets

from tarmac.core.actor import EVERYWHERE, ROLES, Actor, Permission
from tarmac.core.clock import now
from tarmac.core.digest import digest
from tarmac.core.errors import Unauthenticated
from tarmac.people import queries
from tarmac.store.sql import Connection

PREFIX = "tarmac_"
LONGEST = 200


def make() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def secret_digest(token: str) -> str:
    return digest(token.encode("utf-8", "surrogatepass"))


def actor_of(connection: Connection, token: str) -> Actor:
    """The person behind a token, with what person and token both allow."""
    row = queries.bearer(connection, secret_digest(token)) if len(token) <= LONGEST else None
    if row is None:
        raise Unauthenticated("this token is not known here", hint="an admin makes one: `tarmac tokens create NAME`")
    person, name, project, permissions, expires_at = row
    if expires_at <= now():
        raise Unauthenticated("this token has expired", hint="an admin makes one: `tarmac tokens create NAME`")
    allowed: frozenset[Permission] = frozenset(permissions.split())
    grants: dict[str, frozenset[Permission]] = {}
    for granted, role in queries.grants_of(connection, person):
        if project in (EVERYWHERE, granted) or granted == EVERYWHERE:
            where = granted if project == EVERYWHERE else project  # a grant everywhere is narrowed to the token's
            grants[where] = grants.get(where, frozenset()) | (ROLES[role] & allowed)
    return Actor(name, verified=True, person=person, grants=grants)

"""What can be asked about people and tokens."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tarmac.core.actor import PERMISSIONS, Permission, Role
from tarmac.core.names import Id, Name
from tarmac.core.operation import Command, Query, operation
from tarmac.people.records import NewToken, Person, Token
from tarmac.store.records import Me

ProjectOrAll = Annotated[
    str,
    Meta(
        max_length=63,
        pattern=r"^(\*|[a-z0-9]([a-z0-9._-]*[a-z0-9])?)$(?!\n)",
        description="a project's name, or `*` for all of them",
    ),
]
PersonName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=250,
        pattern=r"^[^\x00-\x20\x7f-\x9f:\u2028\u2029\ud800-\udfff][^\x00-\x1f\x7f-\x9f:\u2028\u2029\ud800-\udfff]*$(?!\n)",
        description="1 to 250 characters, no colon and no control characters",
    ),
]
Days = Annotated[int, Meta(ge=1, le=3650, description="1 to 3650 days")]


class PersonList(msgspec.Struct, frozen=True, kw_only=True):
    people: list[Person]


class TokenList(msgspec.Struct, frozen=True, kw_only=True):
    tokens: list[Token]


@operation("people.add", needs="admin", scope="workspace", positional=("name",))
class AddPerson(Command[Person], frozen=True, kw_only=True):
    """Make a person known, with a role in one project or in all of them."""

    name: PersonName
    role: Role = "contributor"
    in_project: ProjectOrAll = "*"


@operation("people.ls", needs="read", scope="workspace")
class ListPeople(Query[PersonList], frozen=True, kw_only=True):
    """Who is known here, and which role each has where."""


@operation("people.grant", needs="admin", scope="workspace", positional=("name",))
class GrantRole(Command[Person], frozen=True, kw_only=True):
    """Give a person a role in a project; it replaces the one they had there."""

    name: Name
    role: Role
    in_project: ProjectOrAll = "*"


@operation("people.revoke", needs="admin", scope="workspace", positional=("name",))
class RevokeRole(Command[Person], frozen=True, kw_only=True):
    """Take a person's role in a project away."""

    name: Name
    in_project: ProjectOrAll = "*"


@operation("people.disable", needs="admin", scope="workspace", positional=("name",))
class DisablePerson(Command[Person], frozen=True, kw_only=True):
    """Shut a person out: none of their tokens works from now on. Their history stays."""

    name: Name


@operation("people.enable", needs="admin", scope="workspace", positional=("name",))
class EnablePerson(Command[Person], frozen=True, kw_only=True):
    """Let a disabled person in again."""

    name: Name


@operation("people.me", needs="read", quick=True)
class WhoAmI(Query[Me], frozen=True, kw_only=True):
    """Who the server takes you for, and what you may do in this project."""


@operation("tokens.create", needs="admin", scope="workspace", positional=("person",))
class CreateToken(Command[NewToken], frozen=True, kw_only=True):
    """Make a token for a person. It is shown once; the store keeps only its digest."""

    person: Name
    note: Annotated[str, Meta(max_length=250, pattern=r"^[^\x00-\x1f\x7f]*$", description="at most 250 characters")] = (
        ""
    )
    in_project: ProjectOrAll = "*"
    permissions: tuple[Permission, ...] = PERMISSIONS
    days: Days = 90


@operation("tokens.ls", needs="admin", scope="workspace")
class ListTokens(Query[TokenList], frozen=True, kw_only=True):
    """All tokens with their scope and expiry; never the tokens themselves."""

    person: Name | None = None


@operation("tokens.revoke", needs="admin", scope="workspace", positional=("id",))
class RevokeToken(Command[Token], frozen=True, kw_only=True):
    """Make a token useless at once."""

    id: Id

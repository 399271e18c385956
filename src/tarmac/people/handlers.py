"""How people and tokens change."""

from __future__ import annotations

from tarmac.core.actor import PERMISSIONS
from tarmac.core.errors import Conflict, Forbidden, Invalid, NotFound
from tarmac.core.ids import short
from tarmac.core.operation import handles
from tarmac.people import operations as ops
from tarmac.people import queries, tokens
from tarmac.people.records import NewToken, Person, Token
from tarmac.store.records import Me
from tarmac.store.sql import Reader, Tx

DAY = 24 * 3600 * 1000


@handles(ops.AddPerson)
def add_person(request: ops.AddPerson, tx: Tx) -> Person:
    _check_project(tx, request.in_project)
    if not queries.anybody(tx.connection) and (request.role, request.in_project) != ("admin", "*"):
        raise Invalid(
            "the first person must be an admin everywhere, or nobody could add the second",
            hint="tarmac people add NAME --role admin",
        )
    person = Person(id=short(), name=request.name, created_at=tx.now)
    made = tx.run(
        "INSERT INTO persons (id, name, created_at) VALUES (:id, :name, :at) ON CONFLICT DO NOTHING",
        id=person.id,
        name=person.name,
        at=tx.now,
    )
    if not made:
        raise Conflict.exists("person", request.name)
    queries.set_role(tx, person.id, request.in_project, request.role)
    return queries.person_named(tx, request.name)


@handles(ops.ListPeople)
def list_people(request: ops.ListPeople, read: Reader) -> ops.PersonList:
    return ops.PersonList(people=queries.people(read))


@handles(ops.GrantRole)
def grant_role(request: ops.GrantRole, tx: Tx) -> Person:
    _check_project(tx, request.in_project)
    person = queries.person_named(tx, request.name)
    queries.set_role(tx, person.id, request.in_project, request.role)
    _keep_an_admin(tx)
    return queries.person_named(tx, request.name)


@handles(ops.RevokeRole)
def revoke_role(request: ops.RevokeRole, tx: Tx) -> Person:
    person = queries.person_named(tx, request.name)
    gone = tx.run(
        "DELETE FROM grants WHERE person = :person AND project = :in_project",
        person=person.id,
        in_project=request.in_project,
    )
    if not gone:
        raise NotFound.named("role", f"of {request.name} in {request.in_project}", hint="`tarmac people ls` shows them")
    _keep_an_admin(tx)
    return queries.person_named(tx, request.name)


@handles(ops.DisablePerson)
def disable_person(request: ops.DisablePerson, tx: Tx) -> Person:
    return _set_disabled(tx, request.name, tx.now)


@handles(ops.EnablePerson)
def enable_person(request: ops.EnablePerson, tx: Tx) -> Person:
    return _set_disabled(tx, request.name, None)


def _set_disabled(tx: Tx, name: str, at: int | None) -> Person:
    person = queries.person_named(tx, name)
    if (person.disabled_at is None) == (at is None):
        tx.unchanged()
        return person
    tx.run("UPDATE persons SET disabled_at = :at WHERE id = :id", at=at, id=person.id)
    _keep_an_admin(tx)
    return queries.person_named(tx, name)


@handles(ops.WhoAmI)
def who_am_i(request: ops.WhoAmI, read: Reader) -> Me:
    return me(read)


def me(read: Reader) -> Me:
    allowed = read.actor.permissions(read.project_name)
    return Me(
        name=read.actor.name,
        verified=read.actor.verified,
        permissions=[permission for permission in PERMISSIONS if permission in allowed],
    )


@handles(ops.CreateToken)
def create_token(request: ops.CreateToken, tx: Tx) -> NewToken:
    _check_project(tx, request.in_project)
    person = queries.person_named(tx, request.person)
    if person.disabled_at is not None:
        raise Conflict(f"{person.name} is disabled", hint=f"tarmac people enable {person.name}")
    if not request.permissions:
        raise Invalid("a token without permissions would be of no use", hint=f"choose of: {', '.join(PERMISSIONS)}")
    secret = tokens.make()
    facts = Token(
        id=short(),
        person=person.name,
        project=request.in_project,
        note=request.note,
        permissions=[permission for permission in PERMISSIONS if permission in request.permissions],
        created_at=tx.now,
        expires_at=tx.now + request.days * DAY,
    )
    tx.run(
        "INSERT INTO tokens (id, person, project, secret_digest, note, permissions, created_at, expires_at) "
        "VALUES (:id, :person, :in_project, :secret_digest, :note, :permissions, :created_at, :expires_at)",
        id=facts.id,
        person=person.id,
        in_project=facts.project,
        secret_digest=tokens.secret_digest(secret),
        note=facts.note,
        permissions=" ".join(facts.permissions),
        created_at=facts.created_at,
        expires_at=facts.expires_at,
    )
    tx.subject = f"tokens/{facts.id}"
    return NewToken(token=secret, facts=facts)


@handles(ops.ListTokens)
def list_tokens(request: ops.ListTokens, read: Reader) -> ops.TokenList:
    return ops.TokenList(tokens=queries.tokens(read, request.person))


@handles(ops.RevokeToken)
def revoke_token(request: ops.RevokeToken, tx: Tx) -> Token:
    if queries.token(tx, request.id).revoked_at is not None:
        tx.unchanged()
    else:
        tx.run("UPDATE tokens SET revoked_at = :now WHERE id = :id", now=tx.now, id=request.id)
    return queries.token(tx, request.id)


def _check_project(tx: Tx, name: str) -> None:
    known = [row[0] for row in tx.all("SELECT name FROM projects")]
    if name != "*" and name not in known:
        raise NotFound.named("project", name, known, hint="`tarmac projects ls` lists them")


def _keep_an_admin(tx: Tx) -> None:
    if not queries.admins(tx):
        raise Forbidden(
            "this would leave the workspace without an admin",
            hint="make somebody else admin first: `tarmac people grant NAME --role admin`",
        )

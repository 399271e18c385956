"""The tables of persons, grants and tokens."""

from __future__ import annotations

from tarmac.core.errors import NotFound
from tarmac.people.records import Person, Token
from tarmac.store.sql import Connection, Reader, Row, Tx

_PERSON = "SELECT id, name, created_at, disabled_at FROM persons"
_TOKENS = (
    "SELECT t.id, p.name, t.project, t.note, t.permissions, t.created_at, t.expires_at, t.revoked_at "
    "FROM tokens t JOIN persons p ON p.id = t.person"
)


def people(read: Reader) -> list[Person]:
    roles: dict[str, dict[str, str]] = {}
    for person, project, role in read.all("SELECT person, project, role FROM grants ORDER BY project"):
        roles.setdefault(person, {})[project] = role
    return [_person(row, roles.get(row[0], {})) for row in read.all(f"{_PERSON} ORDER BY name")]


def person_named(read: Reader, name: str) -> Person:
    row = read.one(f"{_PERSON} WHERE name = :name", name=name)
    if row is None:
        known = [found for (found,) in read.all("SELECT name FROM persons")]
        raise NotFound.named("person", name, known, hint="`tarmac people ls` lists them")
    roles = read.all("SELECT project, role FROM grants WHERE person = :id ORDER BY project", id=row[0])
    return _person(row, dict(roles))


def tokens(read: Reader, person: str | None) -> list[Token]:
    if person is None:
        return [_token(row) for row in read.all(f"{_TOKENS} ORDER BY t.created_at DESC, t.id")]
    found = person_named(read, person)
    rows = read.all(f"{_TOKENS} WHERE t.person = :person ORDER BY t.created_at DESC, t.id", person=found.id)
    return [_token(row) for row in rows]


def token(read: Reader, id: str) -> Token:
    row = read.one(f"{_TOKENS} WHERE t.id = :id", id=id)
    if row is None:
        raise NotFound.named("token", id, hint="`tarmac tokens ls` lists them")
    return _token(row)


def admins(tx: Tx) -> set[str]:
    """Who may still administer the whole workspace."""
    rows = tx.all(
        "SELECT p.id FROM persons p JOIN grants g ON g.person = p.id "
        "WHERE g.project = '*' AND g.role = 'admin' AND p.disabled_at IS NULL"
    )
    return {row[0] for row in rows}


def set_role(tx: Tx, person: str, project: str, role: str) -> None:
    tx.run(
        "INSERT INTO grants (project, person, role, granted_at) VALUES (:in_project, :person, :role, :now) "
        "ON CONFLICT (project, person) DO UPDATE SET role = excluded.role, granted_at = excluded.granted_at",
        in_project=project,
        person=person,
        role=role,
        now=tx.now,
    )


def anybody(connection: Connection) -> bool:
    """Whether this workspace knows any person: from then on, everybody needs a token."""
    return connection.value("SELECT 1 FROM persons LIMIT 1") is not None


def bearer(connection: Connection, secret_digest: str) -> Row | None:
    """Whom a token stands for: person's id and name, the token's project, permissions and expiry."""
    return connection.one(
        "SELECT p.id, p.name, t.project, t.permissions, t.expires_at FROM tokens t JOIN persons p ON p.id = t.person "
        "WHERE t.secret_digest = :secret_digest AND t.revoked_at IS NULL AND p.disabled_at IS NULL",
        secret_digest=secret_digest,
    )


def grants_of(connection: Connection, person: str) -> list[Row]:
    return connection.all("SELECT project, role FROM grants WHERE person = :person", person=person)


def _person(row: Row, roles: dict[str, str]) -> Person:
    return Person(id=row[0], name=row[1], created_at=row[2], disabled_at=row[3], roles=roles)  # type: ignore[arg-type]


def _token(row: Row) -> Token:
    return Token(
        id=row[0],
        person=row[1],
        project=row[2],
        note=row[3],
        permissions=row[4].split(),
        created_at=row[5],
        expires_at=row[6],
        revoked_at=row[7],
    )

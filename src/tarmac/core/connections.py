"""The connections of a project file: places outside, and where their secrets are found."""

from __future__ import annotations

from pathlib import Path

from tarmac.core import project_file
from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.project_file import Connection
from tarmac.core.secrets import Secret, resolve

REFERENCES = ("env:", "file:", "keyring:")


def declared(start: Path) -> dict[str, Connection]:
    """All connections of the nearest project file."""
    found = project_file.find(start)
    return project_file.load(found).connections if found else {}


def named(name: str, start: Path) -> Connection:
    known = declared(start)
    if name not in known:
        raise NotFound.named(
            "connection", name, known, hint=f"declare [connections.{bounded(name, 40)}] in {project_file.FILE_NAME}"
        )
    return known[name]


def url_of(name: str, connection: Connection) -> Secret:
    """The URL with its password. It never stands in the project file, which is shared."""
    if not connection.secret:
        raise Invalid(
            f"connection `{bounded(name)}` does not say where its URL is found", hint='secret = "env:SHOP_URL"'
        )
    refuse_open(name, connection)
    return resolve(connection.secret)


def refuse_open(name: str, connection: Connection) -> None:
    """A secret is named in the project file, and never stands there."""
    if connection.secret and not connection.secret.startswith(REFERENCES):
        raise Invalid(
            f"connection `{bounded(name)}`: its secret stands in the open in {project_file.FILE_NAME}",
            hint="write env:NAME, file:PATH or keyring:SERVICE/USER, and change what was there",
        )

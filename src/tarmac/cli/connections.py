"""`tarmac connections`: the places outside that the project file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, take_options
from tarmac.cli.show import show
from tarmac.core import connections, project_file
from tarmac.core.errors import TarmacError


@click.group("connections")
def command() -> None:
    """Places outside that the project file names."""


@click.command("ls")
def list_all(**values: Any) -> None:
    """The connections of the project file, with where their secrets are found."""
    *_, as_json = take_options(values)
    found = [
        {"name": name, "kind": one.kind, "secret": _reference(one), "path": one.path}
        for name, one in sorted(connections.declared(Path.cwd()).items())
    ]
    if not found and not as_json:
        click.echo(f"{project_file.FILE_NAME} has no [connections.NAME]")
        return
    show({"connections": found}, as_json=as_json)


@click.command("test")
@click.argument("name")
def test(name: str, **values: Any) -> int:
    """Ask a database for its version; exit code 1 if it does not answer."""
    from tarmac.data.tables.querying import test as ask

    *_, as_json = take_options(values)
    try:
        said = ask(name, Path.cwd())
    except TarmacError as error:
        if not as_json:
            raise
        show({"name": name, "answers": False, "said": error.message}, as_json=True)
        return 1
    show({"name": name, "answers": True, "said": said}, as_json=as_json)
    return 0


def _reference(connection: project_file.Connection) -> str:
    """Where a secret is found; one that stands in the open is not shown."""
    safe = connection.secret.startswith(connections.REFERENCES)
    return connection.secret if safe else ("***" if connection.secret else "")


command.add_command(add_options(list_all))
command.add_command(add_options(test))

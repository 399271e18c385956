"""`tarmac rollback`: one step back, one command."""

from __future__ import annotations

from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.show import show
from tarmac.core.errors import bounded
from tarmac.registry.operations import RollbackAlias


@click.command("rollback")
@click.argument("ref", metavar="NAME@ALIAS")
@click.option("--reason", default="", help="Kept with the move.")
def command(ref: str, reason: str, **values: Any) -> int:
    """Point an alias to what it pointed to before. Rules are not asked: it was there already."""
    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        move = door(RollbackAlias(ref=ref, reason=reason))
    if as_json:
        return show(move, as_json=True)
    before = f"v{move.before}" if move.before else "nothing"
    click.echo(f"{bounded(ref)} pointed to {before}, and points to v{move.after} again")
    return 0


command = add_options(command)

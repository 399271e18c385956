"""What every command has: which workspace, which project, and the form of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from tarmac.workspace import Workspace, connect


def options() -> list[click.Parameter]:
    return [
        click.Option(["--workspace", "-w"], metavar="PLACE", help="A folder or a server's URL."),
        click.Option(["--project"], metavar="NAME", help="The project."),
        click.Option(["--json", "as_json"], is_flag=True, help="Answer as JSON."),
    ]


def add_options(command: click.Command) -> click.Command:
    command.params.extend(options())
    return command


@contextmanager
def opened(workspace: str | None, project: str | None) -> Iterator[Workspace]:
    with connect(workspace, project) as found:
        for warning in found.warnings:
            click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)
        yield found


def take_options(values: dict[str, Any]) -> tuple[str | None, str | None, bool]:
    """Remove what every command has from its values."""
    return values.pop("workspace"), values.pop("project"), values.pop("as_json")

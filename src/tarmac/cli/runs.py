"""Files of runs on this machine: `tarmac runs put` and `tarmac runs get`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.workspace.files import download, upload


@click.command("put")
@click.argument("id")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--to", default="", metavar="PATH", help="What it is called in the run.  [default: its own name]")
def put(id: str, source: Path, to: str, **values: Any) -> None:
    """Give a run a file, or all files of a folder."""
    workspace, project, _ = take_options(values)
    with opened(workspace, project) as door:
        count = upload(door, id, source, to)
    click.echo(f"{count} file{'' if count == 1 else 's'} attached to run {id}")


@click.command("get")
@click.argument("id")
@click.argument("path")
@click.argument("target", type=click.Path(path_type=Path), default=Path())
def get(id: str, path: str, target: Path, **values: Any) -> None:
    """Fetch a file or a folder of a run. Nothing that is there is overwritten."""
    workspace, project, _ = take_options(values)
    with opened(workspace, project) as door:
        count = download(door, id, path.strip("/"), target)
    click.echo(f"{count} file{'' if count == 1 else 's'} fetched")


commands = {"put": add_options(put), "get": add_options(get)}

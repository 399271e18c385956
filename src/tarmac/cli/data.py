"""What of `tarmac data` touches this machine's files: log, checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.show import show
from tarmac.data import listing
from tarmac.data.checkout import checkout as check_out
from tarmac.data.log import LogRequest
from tarmac.data.log import log as log_data
from tarmac.data.operations import GetListing


@click.command("log")
@click.argument("name")
@click.argument("path", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--message", "-m", default="", help="What is new in it.")
def log(name: str, path: tuple[Path, ...], message: str, **values: Any) -> None:
    """Make what lies in a folder, or files, a version of a data set."""
    workspace, project, as_json = take_options(values)
    sources = [("", path[0])] if len(path) == 1 and path[0].is_dir() else [(one.name, one) for one in path]
    with opened(workspace, project) as door:
        made = log_data(door, LogRequest(name, sources, message), {}, lambda done, total, what: None)
        show(made, as_json=as_json)


@click.command("checkout")
@click.argument("ref")
@click.argument("target", type=click.Path(path_type=Path))
def checkout(ref: str, target: Path, **values: Any) -> None:
    """Make a folder what a version is."""
    workspace, project, _ = take_options(values)
    with opened(workspace, project) as door:
        listed = door(GetListing(ref=ref))
        count = check_out(door, listing.decode(listed.listing), target, lambda done, total, what: None)
    click.echo(f"{listed.version.name}@v{listed.version.number} is in {target}: {count} files")


commands = {name: add_options(made) for name, made in {"log": log, "checkout": checkout}.items()}

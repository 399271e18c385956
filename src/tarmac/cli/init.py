"""`tarmac init`: make a workspace."""

from __future__ import annotations

from pathlib import Path

import click

from tarmac import store
from tarmac.cli.show import show
from tarmac.core import project_file
from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.places import check_project
from tarmac.core.secrets import mask_url
from tarmac.core.settings import Settings
from tarmac.store import folder as folders


@click.command("init")
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option(
    "--store", "address", default="sqlite", help="`sqlite`, a postgresql:// address, or env:NAME that holds one."
)
@click.option("--project", metavar="NAME", help="Name of the project.  [default: tarmac.toml's, else `default`]")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def command(folder: Path, address: str, project: str | None, as_json: bool) -> None:
    """Make a workspace in FOLDER: a `.tarmac` folder that holds facts, bytes and the ledger."""
    settings = Settings.from_environment()
    if str(folder).startswith(("http:/", "https:/")):
        raise Invalid(f"{bounded(folder)} is not a folder", hint="a workspace is made in a folder of this machine")
    place = folders.at(folder.absolute())
    if place.exists():
        raise Conflict(f"{place.path} is a workspace already", hint="look at it: `tarmac status`")
    file = project_file.find(folder.absolute())
    name = check_project(project or settings.project)
    if name is None:
        name = project_file.load(file).project.name if file else "default"
    opened = store.create(place, settings, address)
    try:
        opened.project_key(name, create=True)
    finally:
        opened.close()
    for warning in place.warnings():
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)
    if as_json:
        show({"folder": str(place.path), "store": mask_url(address), "project": name}, as_json=True)
        return
    click.echo(f"made {place.path} ({mask_url(address)}) with project {name}")
    click.echo("next: `tarmac runs create baseline`, or `tarmac up` to see it in a browser")

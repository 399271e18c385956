"""`tarmac gates sync`: the gates of a project file, taken to where they are enforced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.show import show
from tarmac.core import project_file
from tarmac.core.errors import Invalid


@click.command("sync")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
def sync(file: Path | None, **values: Any) -> int:
    """Make the gates those of the project file: the nearest `tarmac.toml`, or FILE. Gates set by hand stay."""
    from tarmac.workspace import gates

    workspace, project, as_json = take_options(values)
    found = file or project_file.find(Path.cwd())
    if found is None:
        raise Invalid(f"there is no {project_file.FILE_NAME} here", hint="name it: `tarmac gates sync FILE`")
    with opened(workspace, project) as door:
        changed = gates.bring(door, found)
    if as_json:
        return show({"changed": changed}, as_json=True)
    for line in changed or ["nothing to change"]:
        click.echo(line)
    return 0


commands = {"sync": add_options(sync)}

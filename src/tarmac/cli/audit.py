"""`tarmac audit export`: the one answer that is a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.follow import follow
from tarmac.cli.show import show
from tarmac.core.errors import Conflict, Invalid, ReadOnly
from tarmac.govern.operations import ExportEvents


@click.command("export")
@click.option("--after", default=0, type=click.IntRange(min=0), help="Only events behind this position.")
@click.option(
    "--to",
    "target",
    default="-",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A new file; `-` is the screen.",
)
def export(after: int, target: Path, **values: Any) -> int:
    """Write this project's events as JSON lines."""
    workspace, project, as_json = take_options(values)
    on_screen = str(target) == "-"
    if not on_screen and target.exists():
        raise Conflict(f"{target} exists already", hint="name a file that does not exist yet")
    if not on_screen and not target.parent.is_dir():
        raise Invalid(f"there is no folder {target.parent}", hint="make it first, or name a file elsewhere")
    with opened(workspace, project) as door:
        made = follow(door, ExportEvents(after=after), quiet=as_json)
        if on_screen:
            for piece in door.read(made.blob):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return 0
        try:
            file = target.open("xb")
        except OSError as error:
            raise ReadOnly(f"{target} cannot be written: {error.strerror}") from None
        with file:
            try:
                for piece in door.read(made.blob):
                    file.write(piece)
            except BaseException:  # half an export could be taken for a whole one
                target.unlink()
                raise
    return show(made, as_json=as_json)


commands = {"export": add_options(export)}

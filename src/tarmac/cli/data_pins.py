"""`tarmac data pin`, `unpin` and `pins`: which versions the code here uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.show import show


@click.command("pin")
@click.argument("ref")
@click.argument("folder", type=click.Path(path_type=Path))
def pin(ref: str, folder: Path, **values: Any) -> None:
    """Write into tarmac.pins that the code here uses a version, and where it belongs."""
    from tarmac.data.operations import GetData
    from tarmac.workspace import pins

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        made = pins.pin(pins.place(Path.cwd()), door(GetData(ref=ref)), folder)
    show(made._asdict(), as_json=True) if as_json else click.echo(str(made))


@click.command("unpin")
@click.argument("name")
def unpin(name: str, **values: Any) -> None:
    """Take a data set out of tarmac.pins."""
    from tarmac.workspace import pins

    _, _, as_json = take_options(values)
    gone = pins.unpin(pins.place(Path.cwd()), name)
    show(gone._asdict(), as_json=True) if as_json else click.echo(f"{gone.ref} is not pinned any more")


@click.command("pins")
def list_pins(**values: Any) -> None:
    """Which versions the code here uses."""
    from tarmac.workspace import pins

    _, _, as_json = take_options(values)
    found = [one._asdict() for one in pins.read(pins.place(Path.cwd())).values()]
    show({"pins": found}, as_json=as_json)


commands = {made.name or "": add_options(made) for made in (pin, unpin, list_pins)}

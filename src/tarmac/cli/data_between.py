"""`tarmac data push`, `pull` and `export`: versions between workspaces, and out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.data_said import files, progress, size
from tarmac.cli.show import show


def _moved(done: Any, where: str, *, as_json: bool) -> None:
    if as_json:
        show({"version": done.version, "made": done.made, "packs": done.packs, "bytes": done.bytes}, as_json=True)
        return
    ref = f"{done.version.name}@v{done.version.number}"
    sent = f"{done.packs} pack{'' if done.packs == 1 else 's'}, {size(done.bytes)}"
    click.echo(f"{ref} is in {where}: {sent}" if done.made or done.packs else f"{ref} is in {where} already")


@click.command("push")
@click.argument("ref")
@click.argument("to", metavar="WORKSPACE")
@click.option("--to-project", metavar="NAME", help="Its project there.  [default: the same]")
def push(ref: str, to: str, to_project: str | None, **values: Any) -> None:
    """Bring a version to another workspace: a folder or a server's URL. It keeps its number."""
    from tarmac.workspace.datasets import remember_other
    from tarmac.workspace.transfer import transfer

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door, opened(to, to_project) as other, progress("pushing") as told:
        done = transfer(door, other, ref, told)
        remember_other(door, other)
    _moved(done, to, as_json=as_json)


@click.command("pull")
@click.argument("ref")
@click.argument("source", metavar="WORKSPACE")
@click.option("--from-project", metavar="NAME", help="Its project there.  [default: the same]")
@click.option("--repair", is_flag=True, help="Read all that is here already, and fetch again what is damaged.")
def pull(ref: str, source: str, from_project: str | None, repair: bool, **values: Any) -> None:
    """Bring a version here from another workspace: a folder or a server's URL. It keeps its number."""
    from tarmac.workspace.datasets import remember_other
    from tarmac.workspace.transfer import transfer

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door, opened(source, from_project) as other, progress("pulling") as told:
        done = transfer(other, door, ref, told, repair=repair)
        remember_other(door, other)
    _moved(done, door.place, as_json=as_json)


@click.command("export")
@click.argument("ref")
@click.argument("target", type=click.Path(path_type=Path))
def export(ref: str, target: Path, **values: Any) -> None:
    """Write the files of a version to a new folder, for those who have no tarmac."""
    from tarmac.workspace.datasets import Version

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door, progress("writing") as told:
        version = Version.named(door, ref)
        done = version.export(target, progress=told)
    if as_json:
        show({"version": version.ref, "folder": str(target), "files": done.written, "bytes": done.bytes}, as_json=True)
        return
    click.echo(f"{version.ref} is in {target}: {files(done.written)}, {size(done.bytes)}")


commands = {name: add_options(made) for name, made in {"push": push, "pull": pull, "export": export}.items()}

"""What of `tarmac runs` touches this machine's files or keeps following: put, get, cat, diff, logs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.show import show, text
from tarmac.core.errors import NotFound
from tarmac.track.operations import ReadLog
from tarmac.workspace.files import artifacts, download, source_diff, upload

LOOK_SECONDS = 0.5


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


@click.command("cat")
@click.argument("id")
@click.argument("path")
@click.option("--bytes", "most", type=click.IntRange(1), default=None, help="Only so many bytes from the start.")
def cat(id: str, path: str, most: int | None, **values: Any) -> None:
    """Print a file of a run."""
    workspace, project, _ = take_options(values)
    with opened(workspace, project) as door:
        found = next((file for file in artifacts(door, id) if file.path == path.strip("/")), None)
        if found is None or found.digest is None:
            raise NotFound.named("file", path, [file.path for file in artifacts(door, id)])
        for piece in door.read(found.digest, 0, most):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


@click.command("logs")
@click.argument("id")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run has ended.")
@click.option("--start", type=click.IntRange(0), default=0, help="From this character on.")
def logs(id: str, follow: bool, start: int, **values: Any) -> None:
    """What a run has printed."""
    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        while True:
            part = door(ReadLog(id=id, start=start))
            if as_json:
                show(part, as_json=True)
            else:
                click.echo(text(to_builtins(part)), nl=False)
            if not part.text and (part.ended or not follow):
                return
            if not part.text:
                time.sleep(LOOK_SECONDS)
            start = part.next


@click.command("diff")
@click.argument("one")
@click.argument("other")
def diff(one: str, other: str, **values: Any) -> int:
    """The lines in which the source of two runs differs; exit code 1 if it does."""
    workspace, project, _ = take_options(values)
    with opened(workspace, project) as door:
        lines = list(source_diff(door, one, other))
    for line in lines:
        click.echo(line)
    return 1 if lines else 0


commands = {
    name: add_options(made) for name, made in {"put": put, "get": get, "cat": cat, "logs": logs, "diff": diff}.items()
}

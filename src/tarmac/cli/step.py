"""`tarmac step PIPELINE STEP`: one step of a pipeline, as a container of a cluster calls it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options


@click.command("step")
@click.argument("pipeline")
@click.argument("step")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the pipeline.")
@click.option("--within", default=None, metavar="NAME", help="The workflow that this is a part of, for the run's name.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the project is.  [default: .]",
)
def step(
    pipeline: str, step: str, params: tuple[str, ...], within: str | None, folder: Path | None, **values: Any
) -> int:
    """Run STEP of PIPELINE, as a container of an exported pipeline does.

    What the step needs is taken from the workspace, where the steps before it have left it; what is not there is made.
    """
    from tarmac.cli import pipeline as pipelines
    from tarmac.cli.progress import progress
    from tarmac.flow import session

    workspace, project, as_json = take_options(values)
    if folder is not None:
        os.chdir(folder)
    found = pipelines.find(pipeline)
    with opened(workspace, project) as door, progress(quiet=as_json) as shown:
        done = session.run(
            found, door, pipelines.pairs(params), typed=True, only=step, name=f"{within}/{step}" if within else step,
            watch=shown.watch, show=shown.log, begun=shown.begun,
        )  # fmt: skip
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode({"run": done.id, "steps": list(done.steps.values())}).decode())
    return 0


command = add_options(step)

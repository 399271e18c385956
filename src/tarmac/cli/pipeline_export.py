"""`tarmac pipeline export`: a pipeline as a file for the engine of a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from tarmac.core import places, project_file
from tarmac.core.errors import Conflict, Invalid


@click.group("pipeline")
def command() -> None:
    """A pipeline for other engines."""


@command.command("export")
@click.argument("pipeline", required=False)
@click.option(
    "--to", type=click.Choice(["argo", "kfp"]), required=True, help="Argo Workflows, or Kubeflow Pipelines 2."
)
@click.option("--image", required=True, metavar="NAME", help="An image with the project, its packages and tarmac.")
@click.option("--workspace", "-w", required=True, metavar="URL", help="The server that all containers can reach.")
@click.option("--project", metavar="NAME", help="The project.")
@click.option("--folder", default="", metavar="PATH", help="Where the project lies in the image.")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="Another default of a parameter.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file.  [default: the screen]")
def export(
    pipeline: str | None,
    to: str,
    image: str,
    workspace: str,
    project: str | None,
    folder: str,
    params: tuple[str, ...],
    output: Path | None,
) -> None:
    """Write PIPELINE as a file for a cluster: the same graph, each step a container that calls `tarmac step`.

    The cluster needs a secret `tarmac` with the key TARMAC_TOKEN. Whether a file fits was tried against the published
    schemas, not on a cluster.
    """
    from tarmac.cli import pipeline as pipelines
    from tarmac.flow.exports import argo, containers, kfp, yaml

    if not places.is_address(workspace):
        raise Invalid(
            f"`{workspace}` is no server's address", hint="containers share no folder: `tarmac up` serves one"
        )
    if output is not None and output.exists():
        raise Conflict(f"{output} exists already", hint="name a file that does not exist yet")
    url, named = places.address(workspace)
    file = project_file.find(Path.cwd())
    known = project_file.load(file) if file is not None else project_file.ProjectFile()
    found = pipelines.find(pipeline)
    exported = containers.export(
        found,
        pipelines.pairs(params),
        target=pipeline or found.name,
        image=image,
        workspace=url,
        project=places.check_project(project) or named or known.project.name,
        folder=folder,
        secrets=[
            one.secret.removeprefix("env:") for one in known.connections.values() if one.secret.startswith("env:")
        ],
    )
    text = yaml.text([argo.workflow(exported)] if to == "argo" else kfp.documents(exported))
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"{output}: {len(exported.containers)} containers", err=True)

"""`tarmac why STEP`: why a step of a pipeline would run."""

from __future__ import annotations

from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options


@click.command("why")
@click.argument("step")
@click.argument("pipeline", required=False)
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the pipeline.")
def why(step: str, pipeline: str | None, params: tuple[str, ...], **values: Any) -> None:
    """Say why STEP of PIPELINE would run, would be reused, or what it waits for."""
    from tarmac.cli import pipeline as shown
    from tarmac.core.errors import NotFound
    from tarmac.flow import session

    workspace, project, as_json = take_options(values)
    found = shown.find(pipeline)
    with opened(workspace, project) as door:
        made = session.plan(found, door, shown.pairs(params), typed=True)
    one = next((one for one in made.steps if one.node == step), None)
    if one is None:
        raise NotFound.named(
            "step",
            step,
            [one.node for one in made.steps],
            hint=f"`tarmac plan {pipeline or ''}` shows the steps".replace(" `", "`"),
        )
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(one).decode())
        return
    if one.mark == "reuse":
        click.echo(f"`{step}` would be reused: nothing it is made of has changed")
    elif one.mark == "depends":
        click.echo(f"`{step}` depends on what `{one.depends}` makes")
        above = next((other for other in made.steps if other.node == one.depends), None)
        for reason in above.why if above is not None else []:
            click.echo(f"  {one.depends}: {reason}")
    else:
        click.echo(f"`{step}` would {'run' if one.mark == 'run' else 'be left out'}:")
        for reason in one.why:
            click.echo(f"  {reason}")


command = add_options(why)

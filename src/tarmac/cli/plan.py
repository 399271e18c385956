"""`tarmac plan [PIPELINE]`: what would run, what would be reused, and why. Nothing is run."""

from __future__ import annotations

from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options


@click.command("plan")
@click.argument("pipeline", required=False)
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the pipeline.")
def plan(pipeline: str | None, params: tuple[str, ...], **values: Any) -> None:
    """Show what PIPELINE would run, what it would reuse, and why; nothing is run.

    PIPELINE is a name of [pipelines] in tarmac.toml, or MODULE:FUNCTION.
    """
    from tarmac.cli import pipeline as shown
    from tarmac.flow import session

    workspace, project, as_json = take_options(values)
    found = shown.find(pipeline)
    with opened(workspace, project) as door:
        made = session.plan(found, door, shown.pairs(params), typed=True)
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(made).decode())
        return
    click.echo(shown.draw(made))
    click.echo(shown.summary(made))


command = add_options(plan)

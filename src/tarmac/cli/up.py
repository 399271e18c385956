"""`tarmac up`: the server."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import click

from tarmac import store
from tarmac.core.errors import NotAWorkspace, bounded
from tarmac.core.settings import Settings
from tarmac.store import folder as folders


@click.command("up")
@click.option("--workspace", "-w", metavar="PLACE", help="The folder.  [default: the nearest, else here]")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free one.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name this server is called by.")
@click.option(
    "--trash-days",
    default=30,
    show_default=True,
    type=click.IntRange(0, 36500),
    help="How long deleted runs can be restored; 0 keeps them for good.",
)
@click.option(
    "--at-once",
    default=2,
    show_default=True,
    type=click.IntRange(0, 1000),
    help="So many pipelines are run by schedules at the same time; 0 starts none here.",
)
@click.option("--json", "as_json", is_flag=True, help="Say as one line of JSON where it is up.")
def command(
    workspace: str | None,
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    trash_days: int,
    at_once: int,
    as_json: bool,
) -> None:
    """Server, UI and jobs in one process, until Ctrl-C. A folder that holds no workspace gets one."""
    from tarmac.server.up import up

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings.from_environment()
    chosen = workspace or settings.workspace
    if chosen and "://" in chosen:
        raise NotAWorkspace(f"{bounded(chosen)} is not a folder", hint="a server is started on a folder")
    folder = folders.at(Path(chosen).absolute()) if chosen else folders.find(Path.cwd()) or folders.at(Path.cwd())
    opened = store.open_store(folder, settings) if folder.exists() else store.create(folder, settings)
    opened.project_key("default", create=True)
    for warning in folder.warnings():
        click.echo(f"{click.style('warning:', fg='yellow')} {warning}", err=True)

    def ready(url: str, key: str) -> None:
        if as_json:
            click.echo(json.dumps({"url": url, "key": key, "browser": f"{url}/?key={key}", "process": os.getpid()}))
        else:
            click.echo(f"tarmac is up: {url}/?key={key}")

    up(
        opened,
        settings,
        host=host,
        port=port,
        allow_hosts=allow_host,
        trash_days=trash_days,
        at_once=at_once,
        ready=ready,
    )

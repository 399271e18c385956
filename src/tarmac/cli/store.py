"""What is done to a store that is not open: upgrade and restore."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from tarmac import store
from tarmac.cli.show import show
from tarmac.core.clock import iso
from tarmac.core.errors import NotAWorkspace, bounded
from tarmac.core.locks import acquire_or_refuse
from tarmac.core.settings import Settings
from tarmac.store import backup
from tarmac.store import folder as folders


@click.command("upgrade")
@click.option("--workspace", "-w", metavar="PLACE", help="The folder.  [default: the nearest]")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def upgrade(workspace: str | None, dry_run: bool, as_json: bool) -> None:
    """Bring a store made by an older tarmac to this one's format. A backup is made first."""
    settings = Settings.from_environment()
    place = workspace or settings.workspace
    if place and "://" in place:
        raise NotAWorkspace(f"{bounded(place)} is not a folder", hint="a store is upgraded where its folder is")
    folder = folders.at(Path(place).absolute()) if place else folders.find(Path.cwd())
    if folder is None or not folder.exists():
        raise NotAWorkspace.at(place or Path.cwd())
    lock = acquire_or_refuse(
        folder.path / "server.lock", f"a server is up for {folder.path}", "stop it first, upgrade, start it again"
    )
    try:
        done = store.upgrade(folder, settings, dry_run=dry_run, say=_silent if as_json else click.echo)
        if as_json:
            show(done, as_json=True)
    finally:
        lock.release()
        lock.close()


@click.command("restore")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--to", "target", type=click.Path(path_type=Path), default=".", help="The folder that gets the workspace."
)
@click.option("--store", "address", default="sqlite", help="For a Postgres backup: the address of an empty database.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def restore(source: Path, target: Path, address: str, as_json: bool) -> None:
    """Make a workspace out of a backup. What is there already is never overwritten."""
    folder = folders.at(target.absolute())
    contents = backup.restore(source, folder, address, lambda done, total, what: None)
    if as_json:
        facts = msgspec.structs.asdict(contents)
        del facts["files"]  # the digests in the backup itself
        show({"folder": str(folder.path), **facts}, as_json=True)
        return
    click.echo(
        f"restored {folder.path} as of {iso(contents.made_at)}: {contents.rows:,} rows, {contents.blobs:,} blobs"
    )
    click.echo(f"prove it: `tarmac store check -w {target}`")


def _silent(line: str) -> None:
    pass


commands = {"upgrade": upgrade, "restore": restore}

"""`tarmac sync`: what runs left on this machine comes to their workspace, as often as somebody likes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from tarmac.cli.common import add_options, take_options
from tarmac.core.errors import NotFound, TarmacError
from tarmac.core.locks import FileLock
from tarmac.logging import carrier as carriers
from tarmac.logging import place
from tarmac.logging.place import Place
from tarmac.workspace.cargo import Cargo
from tarmac.workspace.carrier import Carrier, folders, sync, where_to

LOOK_SECONDS = 0.1
PATIENCE = 30.0


class Waiting(msgspec.Struct, frozen=True):
    """A run that is not whole in the workspace."""

    run: str
    spool: str
    why: str


class Synced(msgspec.Struct, frozen=True):
    """What `tarmac sync` did."""

    sent: int
    running: int
    waiting: list[Waiting]


@click.command("sync")
@click.argument("spools", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
def command(spools: Path | None, **values: Any) -> int:
    """Send what runs have left on this machine to their workspace.

    Runs do this by themselves while they can; this is for what was logged while the server was away. It may be called
    at any time, while runs go on, and again. SPOOLS is a folder of spools that was copied from another machine.
    """
    workspace, project, as_json = take_options(values)
    if spools is not None:
        where = workspace or where_to(spools)
        if where is None:
            raise NotFound(f"{spools} does not say which workspace it belongs to", hint="name it: `--workspace PLACE`")
        report = _here(spools.absolute(), place.find(where, project).where, foreign=True)
    else:
        found = place.find(workspace, project)
        parts = [_sync(spools, found.where) for spools in _all_of(found)]
        report = Synced(
            sum(part.sent for part in parts),
            sum(part.running for part in parts),
            [one for part in parts for one in part.waiting],
        )
    _tell(report, as_json=as_json)
    return 1 if report.waiting else 0


def _all_of(found: Place) -> list[Path]:
    """The folders of spools that belong to a workspace: a server has one for each token that was used with it."""
    if not found.is_server or not found.spools.parent.is_dir():
        return [found.spools] if found.spools.is_dir() else []
    return sorted(path for path in found.spools.parent.iterdir() if where_to(path) == found.where)


def _sync(spools: Path, where: str) -> Synced:
    lock = FileLock(spools / carriers.LOCK_FILE)
    try:
        if not lock.acquire(wait=False):
            return _follow(spools)
        try:
            return _here(spools, where)
        finally:
            lock.release()
    finally:
        lock.close()


def _here(spools: Path, where: str, *, foreign: bool = False) -> Synced:
    """Send it ourselves."""
    carrier = sync(spools, where, _progress, foreign=foreign)
    waiting, running = [], 0
    for name, cargo in carrier.cargos.items():
        why = carrier.trouble or carrier.troubles.get(name, "")
        if why:
            waiting.append(Waiting(cargo.begin.run, str(cargo.folder), why))
        else:
            running += 1
    waiting += [
        Waiting("", str(spools / name), why) for name, why in carrier.troubles.items() if name not in carrier.cargos
    ]
    return Synced(carrier.sent, running, waiting)


def _follow(spools: Path) -> Synced:
    """A carrier is at it already: wait until it has sent what lies here now."""
    aims = {folder: _size(folder) for folder in folders(spools)}
    began = time.time()
    for folder in aims:
        _release(folder)
    carriers.wake(spools)
    waiting: list[Waiting] = []
    sent = running = 0
    for folder, size in aims.items():
        carried, moved = -1, time.time()
        while folder.exists():
            state = carriers.state(folder)
            if state is not None and state.carried != carried:
                carried, moved = state.carried, time.time()
            if time.time() - moved > PATIENCE:
                waiting.append(Waiting("", str(folder), "another process carries it, and does not get on"))
                break
            if state is not None and state.trouble and (_said_since(folder, began) or time.time() - began > PATIENCE):
                waiting.append(Waiting("", str(folder), state.trouble))
                break
            if state is not None and state.carried >= size and _is_alive(folder):
                running += 1
                break
            time.sleep(LOOK_SECONDS)
        else:
            sent += 1
    return Synced(sent, running, waiting)


def _release(folder: Path) -> None:
    try:
        (folder / carriers.SEND_FILE).touch()
    except OSError:
        pass  # it is gone already


def _said_since(folder: Path, began: float) -> bool:
    """Whether it is news: what a carrier said that was killed stands there still."""
    try:
        return (folder / carriers.STATE_FILE).stat().st_mtime > began
    except OSError:
        return False


def _size(folder: Path) -> int:
    cargo = _load(folder)
    return cargo.size() if cargo is not None else 0


def _is_alive(folder: Path) -> bool:
    cargo = _load(folder)
    return cargo is not None and cargo.is_alive()


def _load(folder: Path) -> Cargo | None:
    try:
        return Cargo.load(folder)
    except (TarmacError, OSError):
        return None


def _progress(carrier: Carrier) -> None:
    if sys.stderr.isatty():
        carried = sum(cargo.carried() for cargo in carrier.cargos.values())
        left = sum(cargo.size() for cargo in carrier.cargos.values()) - carried
        click.echo(
            f"\r{carrier.sent} sent, {len(carrier.cargos)} to go, {left / 1e6:,.1f} MB\x1b[K", nl=False, err=True
        )


def _tell(report: Synced, *, as_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
        return
    if not report.sent and not report.running and not report.waiting:
        click.echo("nothing waits to be sent")
    if report.sent:
        click.echo(f"{_runs(report.sent)} sent")
    if report.running:
        click.echo(f"{_runs(report.running)} sent as far as it is; it goes on")
    for one in report.waiting:
        click.echo(f"{click.style('not sent:', fg='red')} {one.run or one.spool}: {one.why}", err=True)


def _runs(count: int) -> str:
    return f"{count} spool{'s' if count != 1 else ''}"


add_options(command)

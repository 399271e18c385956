"""`tarmac doctor`: what is missing here, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click

from tarmac import __version__
from tarmac.core import project_file
from tarmac.core.errors import TarmacError
from tarmac.core.settings import Settings
from tarmac.store import folder as folders
from tarmac.store import open_store

LITTLE_DISK = 0.05
FIRST_WHOLE_WAL = (3, 51, 3)


class Finding(NamedTuple):
    level: str
    what: str
    mend: str = ""


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
def command(as_json: bool) -> int:
    """Look at this machine and this workspace; say what is missing and the command that mends it."""
    findings = list(examine(Path.cwd()))
    if as_json:
        import json

        click.echo(json.dumps([finding._asdict() for finding in findings], indent=2))
    else:
        colours = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}
        for finding in findings:
            click.echo(f"{click.style(finding.level.rjust(7), fg=colours[finding.level])}  {finding.what}")
            if finding.mend:
                click.echo(f"{'':7}  → {finding.mend}")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def examine(here: Path) -> Iterator[Finding]:
    yield Finding(
        "ok", f"tarmac {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    yield from _sqlite()
    yield from _extras()
    yield from _project(here)
    yield from _workspace(here)


def _sqlite() -> Iterator[Finding]:
    if sqlite3.sqlite_version_info < FIRST_WHOLE_WAL:
        yield Finding(
            "note",
            f"SQLite {sqlite3.sqlite_version} has a known fault when several processes write and checkpoint at once; "
            "tarmac's write lock keeps clear of it, other programs that write to store.db would not",
        )
    else:
        yield Finding("ok", f"SQLite {sqlite3.sqlite_version}")


def _extras() -> Iterator[Finding]:
    for module, what in (("psycopg", "postgres"),):
        if find_spec(module) is None:
            yield Finding("note", f"{what}: not installed", f"pip install 'tarmac[{what}]'")
        else:
            yield Finding("ok", f"{what}: installed")
    if not (Path(__file__).parents[1] / "server" / "static" / "index.html").is_file():
        yield Finding("note", "the web page is not built in this development install", "make web")


def _project(here: Path) -> Iterator[Finding]:
    file = project_file.find(here)
    if file is None:
        yield Finding("note", "no tarmac.toml here or above; the project is `default`")
        return
    try:
        yield Finding("ok", f"{file}: project {project_file.load(file).project.name}")
    except TarmacError as error:
        yield Finding("error", error.message, error.hint or "")


def _workspace(here: Path) -> Iterator[Finding]:
    try:
        settings = Settings.from_environment()
    except TarmacError as error:
        yield Finding("error", error.message, error.hint or "")
        return
    folder = folders.at(Path(settings.workspace)) if settings.workspace else folders.find(here)
    if settings.workspace and "://" in settings.workspace:
        yield Finding("note", f"the workspace is a server: {settings.workspace}", "tarmac status")
        return
    if folder is None or not folder.exists():
        what = f"{settings.workspace} is no workspace" if settings.workspace else "no workspace here or above"
        yield Finding("note", what, "tarmac init")
        return
    for warning in folder.warnings():
        yield Finding("warning", warning)
    if not os.access(folder.path, os.W_OK):
        yield Finding("error", f"{folder.path} cannot be written by this user", f"chown -R $USER {folder.path}")
    disk = shutil.disk_usage(folder.path)
    if disk.free < disk.total * LITTLE_DISK:
        yield Finding("warning", f"the disk of {folder.path} is {disk.used / disk.total:.0%} full", "tarmac store gc")
    if sys.platform != "win32" and folder.key_file.exists() and folder.key_file.stat().st_mode & 0o077:
        yield Finding("warning", f"{folder.key_file} can be read by others", f"chmod 600 {folder.key_file}")
    try:
        opened = open_store(folder, settings)
    except TarmacError as error:
        yield Finding("error", error.message, error.hint or "")
        return
    yield Finding("ok", f"{folder.path}: {opened.database.kind}, format {opened.format}")
    opened.close()

"""Where a run belongs, found without opening anything: its workspace, its project, and the folder of its spools."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from tarmac.core import places
from tarmac.core.errors import NotAWorkspace
from tarmac.core.settings import Settings

ADDRESS_FILE = "address"
"""In a folder of spools: the workspace they belong to."""


TAKEN = ":taken"
"""Behind the id in TARMAC_RUN, once the script that `tarmac run` started has become that run."""


class Place(NamedTuple):
    where: str
    project: str
    spools: Path
    around: str | None = None
    """The run that this process belongs to (TARMAC_RUN), until some `tarmac.run(...)` is it."""
    above: str | None = None
    """The run that was taken over by the process that started this one."""
    offline: bool = False

    @property
    def is_server(self) -> bool:
        return places.is_address(self.where)

    @property
    def page(self) -> str:
        return f"{self.where}/p/{self.project}"

    def new_spool(self, name: str) -> Path:
        """A path for it; the folder of spools is there then, and says whose they are."""
        self.spools.mkdir(parents=True, exist_ok=True)
        if not (self.spools / ADDRESS_FILE).exists():
            (self.spools / ADDRESS_FILE).write_text(self.where + "\n", encoding="utf-8")
        return self.spools / name


def find(workspace: str | Path | None = None, project: str | None = None) -> Place:
    settings = Settings.from_environment()
    where = workspace or settings.workspace
    project = places.check_project(project or settings.project)
    if isinstance(where, str) and places.is_address(where):
        url, named = places.address(where)
        spools = _of_server(url, settings)
        return Place(url, project or named or "default", spools, *_around(settings), settings.offline)
    start = Path(where).absolute() if where is not None else Path.cwd()
    folder = places.at(start) if where is not None else places.find(start)
    if folder is None or not (folder / places.DESCRIPTION_FILE).is_file():
        raise NotAWorkspace.at(start)
    spools = _of_folder(folder, settings)
    return Place(str(folder), project or places.project_here(start), spools, *_around(settings), settings.offline)


def _around(settings: Settings) -> tuple[str | None, str | None]:
    run, taken, _ = (settings.run or "").partition(TAKEN)
    return (None, run) if taken else (run or None, None)


def _of_folder(folder: Path, settings: Settings) -> Path:
    if settings.spool is None:
        return folder / "spool"
    return settings.spool / f"folder-{_short(str(folder))}"


def _of_server(url: str, settings: Settings) -> Path:
    # one folder for each server and token: whoever carries what lies in it has one right to do so
    name = re.sub(r"[^a-z0-9.-]+", "-", url.partition("://")[2].lower())
    return (settings.spool or settings.state / "spool") / f"{name}-{_short(url + (settings.token or ''))}"


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

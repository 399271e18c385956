"""Where a workspace is: the folder `.tarmac/` that is nearest, or a server's address."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from tarmac.core import project_file
from tarmac.core.errors import Invalid, bounded
from tarmac.core.names import ProjectName

FOLDER_NAME = ".tarmac"
DESCRIPTION_FILE = "workspace.toml"


class Address(NamedTuple):
    """A server, and the project its URL names."""

    url: str
    project: str | None


def is_address(where: object) -> bool:
    return isinstance(where, str) and where.startswith(("http://", "https://"))


def address(url: str) -> Address:
    """What `https://host/base/p/NAME` says."""
    hint = "like https://host or https://host/p/PROJECT"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:  # a port that is none, half an IPv6 address
        raise Invalid(f"`{bounded(url)}` is not a server's address: {error}", hint=hint) from None
    base, _, named = parts.path.rstrip("/").partition("/p/")
    if not host or named.count("/"):
        raise Invalid(f"`{bounded(url)}` is not a server's address", hint=hint)
    return Address(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{base}", check_project(named or None))


def check_project(name: str | None) -> str | None:
    """The name of a project, refused before anything is opened or sent if it cannot be one."""
    try:
        return msgspec.convert(name, ProjectName | None)
    except msgspec.ValidationError:
        raise Invalid(
            f"`{bounded(name)}` cannot be the name of a project",
            hint="1 to 63 of a-z, 0-9, dot, dash and underscore, with a letter or digit at both ends",
        ) from None


def project_here(start: Path) -> str:
    """The project that the nearest `tarmac.toml` names."""
    file = project_file.find(start if start.is_dir() else start.parent)
    return project_file.load(file).project.name if file else "default"


def find(start: Path) -> Path | None:
    """The nearest workspace folder, here or upwards."""
    for folder in (start, *start.parents):
        if folder.name == FOLDER_NAME and (folder / DESCRIPTION_FILE).is_file():
            return folder
        if (folder / FOLDER_NAME / DESCRIPTION_FILE).is_file():
            return folder / FOLDER_NAME
    return None


def at(place: Path) -> Path:
    """The workspace folder that a person means by `place`: the folder itself, or the one that holds it."""
    return place if place.name == FOLDER_NAME else place / FOLDER_NAME

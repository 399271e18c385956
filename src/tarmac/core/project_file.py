"""`tarmac.toml`: what a project says of itself. Unknown keys are errors, so that a typing mistake never passes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tarmac.core.errors import Invalid, UnknownKey, bounded
from tarmac.core.names import ProjectName

FILE_NAME = "tarmac.toml"


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: ProjectName = "default"
    goal: str = ""
    owners: dict[str, str] = {}
    timezone: str = "UTC"


class Trust(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose models may run code here."""

    digests: list[str] = []
    """Packages that are trusted, whoever made them."""


class Pipeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pipeline by name: `entry` is `module:function`. A server beside the file starts it by itself."""

    entry: Annotated[str, msgspec.Meta(pattern=r"^[\w.]+:[\w.]+$(?!\n)", description="module:function")]
    schedule: str = ""
    triggers: list[
        Annotated[
            str,
            msgspec.Meta(
                pattern=r"^(data:\S+|event:[a-z]+\.[a-z]+( \S+)?|webhook)$(?!\n)",
                description="data:NAME, event:GROUP.VERB, event:GROUP.VERB SUBJECT, or webhook",
            ),
        ]
    ] = []
    params: dict[str, str | int | float | bool] = {}
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0


class Connection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something outside that steps talk to. The secret is a reference (env:, file:, keyring:), never the value."""

    kind: str = ""
    url: str = ""
    user: str = ""
    secret: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^$|^(env|file|keyring):.+$(?!\n)", description="env:NAME, file:PATH or keyring:SERVICE/USER"
        ),
    ] = ""


class ProjectFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    project: Project = Project()
    trust: Trust = Trust()
    pipelines: dict[str, Pipeline] = {}
    connections: dict[str, Connection] = {}


def find(start: Path) -> Path | None:
    """The nearest project file, here or upwards."""
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def load(path: Path) -> ProjectFile:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from None
    _refuse_unknown(path, "", document, ProjectFile)
    try:
        found = msgspec.convert(document, ProjectFile)
    except msgspec.ValidationError as error:
        raise Invalid(f"{path}: {error}") from None
    _refuse_lines(path, found)
    return found


def _refuse_lines(path: Path, found: ProjectFile) -> None:
    """What is no cron line, or never comes, is said by whoever reads the file first."""
    for name, pipeline in found.pipelines.items():
        if pipeline.schedule:
            from tarmac.core import cron

            try:
                cron.parse(pipeline.schedule, found.project.timezone)
            except Invalid as error:
                raise Invalid(f"{path} [pipelines.{bounded(name)}]: {error.message}", hint=error.hint) from None


def _refuse_unknown(path: Path, where: str, document: dict[str, Any], shape: type[msgspec.Struct]) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(shape)}
    for key, value in document.items():
        if key not in fields:
            raise UnknownKey.at(f"{path}{f' [{where}]' if where else ''}", bounded(key), fields)
        inner = fields[key]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and isinstance(value, dict):
            _refuse_unknown(path, f"{where}.{key}".strip("."), value, inner)

"""`tarmac.toml`: what a project says of itself. Unknown keys are errors, so that a typing mistake never passes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

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
    """A pipeline by name: `entry` is `module:function`."""

    entry: Annotated[str, msgspec.Meta(pattern=r"^[\w.]+:[\w.]+$(?!\n)", description="module:function")]


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
        return msgspec.convert(document, ProjectFile)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        if "entry" in where and "regex" in what:
            what = "is written module:function"
        elif "secret" in where and "regex" in what:
            what = "is a reference: env:NAME, file:PATH or keyring:SERVICE/USER"
        raise Invalid(f"{path}: {where} {what}".strip()) from None


def _refuse_unknown(path: Path, where: str, document: dict[str, Any], shape: type[msgspec.Struct]) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(shape)}
    for key, value in document.items():
        if key not in fields:
            raise UnknownKey.at(f"{path}{f' [{where}]' if where else ''}", bounded(key), fields)
        inner = fields[key]
        here = f"{where}.{key}".strip(".")
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct) and isinstance(value, dict):
            _refuse_unknown(path, here, value, inner)
        elif get_origin(inner) is dict and isinstance(value, dict):  # many of a kind, by name
            of = get_args(inner)[1]
            for name, one in value.items():
                if isinstance(of, type) and issubclass(of, msgspec.Struct) and isinstance(one, dict):
                    _refuse_unknown(path, f"{here}.{bounded(name)}", one, of)

"""`tarmac.toml`: what a project says of itself. Unknown keys are errors, so that a typing mistake never passes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

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
    keys: list[str] = []
    """Files with public keys: packages that are signed by one of them are trusted."""


class Approvals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many people have to consent; `signed_by` are files with keys whose signed consent counts too."""

    count: int = 1
    signed_by: list[str] = []


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has to hold before an alias of a model moves."""

    require: list[str] = []
    """Rules, like `metrics['val/accuracy'] >= 0.95`; docs/guides/gates.md has all that they may name."""
    first: Literal["allow", "refuse"] = "allow"
    """Whether rules that name a champion let the first version pass, when there is none."""
    signed_by: list[str] = []
    """Files with public keys: the rule `signed` needs a signature by one of them."""
    approvals: Approvals | None = None
    """How many people other than the author have to consent, and keys whose signed consent counts."""
    valid_for: str = "24h"
    """How long a measurement counts: a number and s, m, h, d or w."""
    data: str = ""
    """A file of rows (CSV, Parquet, JSON lines), or one of a version of data (`holdout@v3/rows.csv`): what is measured
    on. Its bytes are kept with the gate."""
    label: str = ""
    """The column of the rows that has the answers."""
    positive: str = ""
    """Which answer counts as yes; by default the last in order."""
    licences: list[str] = []
    """Licences that are allowed, like `MIT` or `BSD*`; none means any."""


class ModelTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of one model."""

    gates: dict[str, Gate] = {}
    """By alias."""


class DataTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said of one data set."""

    path: str = ""
    """Where its files lie: `tarmac data log NAME` reads them."""
    contract: str = ""
    """What its rows have to be; `contracts/NAME.toml` if that is there."""
    connection: str = ""
    """Where its rows come from, with `query`."""
    query: str = ""
    """What is asked there, when `tarmac data log NAME` is called without a path."""


class Connection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A place outside that things are read from or sent to. The secret is a reference, never the value."""

    kind: str = ""
    """What it is: `sqlite`, `postgres`, `webhook`."""
    url: str = ""
    """Its address, without a password."""
    user: str = ""
    secret: str = ""
    """Where its password, or its URL with user and password, is found."""
    path: str = ""
    """The file of a SQLite database."""


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


class ProjectFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    project: Project = Project()
    trust: Trust = Trust()
    data: dict[str, DataTable] = {}
    connections: dict[str, Connection] = {}
    models: dict[str, ModelTable] = {}
    pipelines: dict[str, Pipeline] = {}


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
        what, _, where = str(error).partition(" - at ")
        if "entry" in where and "regex" in what:
            what = "is written module:function"
        elif "secret" in where and "regex" in what:
            what = "is a reference: env:NAME, file:PATH or keyring:SERVICE/USER"
        raise Invalid(f"{path}: {where} {what}".strip()) from None
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
        _look_into(path, f"{where}.{key}".strip("."), value, fields[key])


def _look_into(path: Path, where: str, value: Any, kind: Any) -> None:
    """Tables inside, whether there is one of them or one for each name."""
    if not isinstance(value, dict):
        return
    if get_origin(kind) is dict:
        for name, inner in value.items():
            _look_into(path, f"{where}.{name}", inner, get_args(kind)[1])
        return
    for shape in (kind, *get_args(kind)):
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
            _refuse_unknown(path, where, value, shape)

"""What the rows of a table have to be: a readable TOML file, the same where data is logged and where a model is served.

    format = 1
    key = ["customer"]

    [columns.age]
    type = "integer"
    min = 0
    max = 120

    [checks.dates]
    rule = "missing(ended) or ended >= started"

`rows.py` carries it out on some rows at hand, `table.py` on tables of any size; both fill a `Tally`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from tarmac.core.errors import Invalid, NewerFormat, UnknownKey, bounded
from tarmac.core.expressions import Expression, parse
from tarmac.formats import patterns

FORMAT = 1
LARGEST_FILE = 4 << 20
MOST_COLUMNS = 20_000
MOST_VALUES = 10_000

Kind = Literal["integer", "number", "text", "boolean", "date", "time", "bytes", "list", "other", "any"]
Bound = float | int | datetime


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one column has to be. What is not said is not judged, but for nulls: none, unless a share is allowed."""

    type: Kind = "any"
    optional: bool = False
    """The column may be absent from the table."""
    nulls: float = 0.0
    """The largest share of rows, 0 to 1, that may be null or NaN."""
    min: Any = None
    max: Any = None
    values: tuple[str | float | int | bool, ...] | None = None
    pattern: str | None = None
    """What the whole text has to match; `patterns.py` has the language."""
    shortest: int | None = None
    longest: int | None = None
    unique: bool = False
    note: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule over the columns of one row; `core/expressions.py` has the language."""

    rule: str
    note: str = ""


class Rows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    min: int = 0
    max: int | None = None


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    format: int = FORMAT
    key: tuple[str, ...] = ()
    """The columns that tell rows apart: no two rows have the same values there."""
    others: Literal["allow", "refuse"] = "allow"
    """Columns that the contract does not name."""
    rows: Rows = Rows()
    columns: dict[str, Column] = {}
    checks: dict[str, Check] = {}

    def rules(self) -> dict[str, Expression]:
        """Its own checks, read."""
        roots = {*self.columns, "row"}
        return {
            name: parse(check.rule, where=f"check `{bounded(name)}`", roots=roots)
            for name, check in self.checks.items()
        }


def column_of(path: tuple[str, ...]) -> str:
    """The column that a name in a rule means: `age`, or `row['age at entry']` where it is no word."""
    return path[1] if path[0] == "row" and len(path) == 2 else ".".join(path)


# ------------------------------------------------------------------------------------------------------------- reading


def load(path: Path) -> Contract:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise Invalid(f"{path} has more than {LARGEST_FILE >> 20} MiB; a contract has not")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8: byte {error.start}") from None
    except OSError as error:
        raise Invalid(
            f"the contract {path} cannot be read: {error.strerror}",
            hint="`tarmac data infer NAME` writes one from what is logged",
        ) from None
    return loads(text, str(path))


def loads(text: str, where: str = "the contract") -> Contract:
    """A contract from its text; `where` is named in errors."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"{bounded(where, 300)} is not valid TOML: {error}") from None
    return from_document(document, where)


def from_document(document: Mapping[str, Any], where: str = "the contract") -> Contract:
    found = document.get("format", FORMAT)
    if isinstance(found, int) and found > FORMAT:
        raise NewerFormat.of(where, found, FORMAT)
    _refuse_unknown(document, where)
    try:
        contract = msgspec.convert(document, Contract, builtin_types=(datetime, date))
    except msgspec.ValidationError as error:
        raise Invalid(f"{bounded(where, 300)}: {error}") from None
    _refuse_nonsense(contract, where)
    return msgspec.structs.replace(contract, columns={n: _with_moments(c) for n, c in contract.columns.items()})


def _refuse_unknown(document: Mapping[str, Any], where: str) -> None:
    def look(table: Any, shape: type[msgspec.Struct], at: str) -> None:
        for key in table if isinstance(table, dict) else ():
            if key not in shape.__struct_fields__:
                raise UnknownKey.at(f"{bounded(where, 300)}{at}", str(key), shape.__struct_fields__)

    look(document, Contract, "")
    look(document.get("rows"), Rows, " [rows]")
    for part, shape in (("columns", Column), ("checks", Check)):
        tables = document.get(part)
        for name, table in tables.items() if isinstance(tables, dict) else ():
            look(table, shape, f" [{part}.{bounded(name, 60)}]")


def _refuse_nonsense(contract: Contract, where: str) -> None:
    def refuse(what: str, hint: str | None = None) -> Invalid:
        return Invalid(f"{bounded(where, 300)}: {what}", hint=hint)

    if len(contract.columns) > MOST_COLUMNS:
        raise refuse(f"more than {MOST_COLUMNS:,} columns")
    for name in contract.key:
        if name not in contract.columns:
            raise UnknownKey.at(f"{bounded(where, 300)}: `key` names a column that [columns]", name, contract.columns)
    for name, column in contract.columns.items():
        if fault := _fault_of(column):
            raise refuse(f"[columns.{bounded(name, 60)}] {fault}")
    for name, rule in contract.rules().items():
        for used in rule.names:
            if column_of(used.path) not in contract.columns:
                raise UnknownKey.at(f"check `{bounded(name)}`: the table", column_of(used.path), contract.columns)


def _fault_of(column: Column) -> str | None:
    """What makes no sense in one column, in words."""
    if not 0 <= column.nulls <= 1:
        return f"nulls = {column.nulls}: a share of the rows, 0 to 1"
    if column.values is not None and (fault := _fault_of_values(column.type, column.values)):
        return fault
    for name in ("min", "max"):
        bound = getattr(column, name)
        timed = column.type in ("date", "time")
        fits = isinstance(bound, date) if timed else isinstance(bound, int | float) and not isinstance(bound, bool)
        if bound is not None and not (fits and column.type in ("integer", "number", "date", "time")):
            return f"{name} = {bounded(bound, 60)}: a number for integer and number, a date for date and time"
    if column.min is not None and column.max is not None and moment(column.min) > moment(column.max):
        return "min is above max"
    for name in ("pattern", "shortest", "longest"):
        if getattr(column, name) is not None and column.type != "text":
            return f"{name} is for text"
    if column.pattern is not None:
        return patterns.fault(column.pattern)
    return None


def _fault_of_values(kind: str, values: tuple[Any, ...]) -> str | None:
    if len(values) > MOST_VALUES:
        return f"more than {MOST_VALUES:,} values"
    fitting: dict[str, tuple[type, ...]] = {
        "text": (str,),
        "boolean": (bool,),
        "integer": (int,),
        "number": (int, float),
    }
    if kind not in fitting:
        return f"values are for {', '.join(fitting)}"
    for value in values:
        if not isinstance(value, fitting[kind]) or (isinstance(value, bool) and kind != "boolean"):
            return f"the value {bounded(value, 60)} is not of type {kind}"
    return None


def moment(value: Any) -> Any:
    """A date or a time without a zone as a time in UTC; anything else as it is."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def _with_moments(column: Column) -> Column:
    if column.type not in ("date", "time"):
        return column
    return msgspec.structs.replace(column, min=moment(column.min), max=moment(column.max))


# ------------------------------------------------------------------------------------------------------------- writing


def dumps(contract: Contract, head: str = "") -> str:
    """The contract as TOML that people like to edit; `head` becomes comments at its top."""
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    lines.append(f"format = {contract.format}")
    if contract.key:
        lines.append(f"key = {_toml(contract.key)}")
    if contract.others != "allow":
        lines.append(f"others = {_toml(contract.others)}")
    if contract.rows != Rows():
        lines += ["", "[rows]", *_entries(contract.rows)]
    for name, column in contract.columns.items():
        lines += ["", f"[columns.{_toml_key(name)}]", *_entries(column)]
    for name, check in contract.checks.items():
        lines += ["", f"[checks.{_toml_key(name)}]", *_entries(check)]
    return "\n".join(lines) + "\n"


def _entries(part: msgspec.Struct) -> list[str]:
    defaults = type(part)(rule="") if isinstance(part, Check) else type(part)()
    return [
        f"{name} = {_toml(getattr(part, name))}"
        for name in part.__struct_fields__
        if getattr(part, name) != getattr(defaults, name)
    ]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if value != value else ("inf" if value > 0 else "-inf")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        whole_day = value.tzinfo is UTC and (value.hour, value.minute, value.second, value.microsecond) == (0, 0, 0, 0)
        return value.date().isoformat() if whole_day else value.isoformat()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(str(value)).decode().replace("\x7f", "\\u007f")


def _toml_key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _toml(name)


KINDS: tuple[str, ...] = get_args(Kind)

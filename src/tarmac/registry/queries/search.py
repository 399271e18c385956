"""Finding packages, models and versions: a filter and an order, a page at a time.

There are thousands of them, not millions as of runs, and one plan is enough: an index gives the project's or the
model's, conditions are asked of each, and a page starts where the one before ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import Invalid, bounded
from tarmac.store.sql import Reader
from tarmac.track.conditions import Conditions, joined
from tarmac.track.filter import Both, Compare, Either, Field, Kind, Negated, Node, Vocabulary, parse_order

LONG = 100
"""A longer text is told in a cursor by its digest: a cursor has to fit into an address."""
_TAGS: dict[str, Kind] = {"tag": "tag", "tags": "tag", "attribute": "attribute", "attributes": "attribute"}
_TIMES = {
    "created": "created", "creation_timestamp": "created", "creation_time": "created", "created_at": "created",
    "updated": "updated", "last_updated_timestamp": "updated", "last_updated_time": "updated", "updated_at": "updated",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """Where one kind of thing lies, and what its fields are called there."""

    source: str
    key: str
    columns: Mapping[str, str]
    words: Vocabulary
    texts: Mapping[str, tuple[str, str]]
    """Tables of what a thing carries, and the column that names the thing, for each kind of field."""
    always: frozenset[str]
    """Attributes that each of them has: sorted by one, an index is read in its order."""
    order: tuple[tuple[str, bool], ...]
    """What is sorted by if nothing is asked for, and what equal ones are sorted by in the end."""

    def has_always(self, field: Field) -> bool:
        return field.kind == "attribute" and field.name in self.always


PACKAGES = Table(
    source="packages x",
    key="x.key",
    columns={
        "id": "x.id", "name": "x.name", "kind": "x.kind", "state": "x.state", "run": "x.run", "digest": "x.digest",
        "experiment": "x.experiment", "actor": "x.actor", "size": "x.size", "created": "x.created_at",
        "updated": "x.updated_at",
    },
    words=Vocabulary(
        thing="a package",
        kinds={**_TAGS, "param": "param", "params": "param", "metric": "metric", "metrics": "metric"},
        attributes={
            "id": "id", "model_id": "id", "name": "name", "kind": "kind", "model_type": "kind", "state": "state",
            "status": "state", "run": "run", "source_run_id": "run", "digest": "digest", "experiment": "experiment",
            "actor": "actor", "size": "size", **_TIMES,
        },
        numeric=frozenset({"created", "updated", "size"}),
        times=frozenset({"created", "updated"}),
        example="name, kind, state, run, tags.team, params.depth, metrics.acc or created",
    ),
    texts={
        "tag": ("package_tags", "package"), "param": ("package_params", "package"),
        "metric": ("package_metrics", "package"),
    },
    always=frozenset({"id", "name", "kind", "state", "actor", "size", "created", "updated"}),
    order=(("created", True),),
)  # fmt: skip
MODELS = Table(
    source="models x",
    key="x.key",
    columns={
        "name": "x.name", "note": "x.note", "actor": "x.actor", "created": "x.created_at", "updated": "x.updated_at",
    },
    words=Vocabulary(
        thing="a model",
        kinds=_TAGS,
        attributes={
            "name": "name", "note": "note", "description": "note", "actor": "actor", "user_id": "actor", **_TIMES
        },
        numeric=frozenset({"created", "updated"}),
        times=frozenset({"created", "updated"}),
        example="name, note, tags.team or updated",
    ),
    texts={"tag": ("model_tags", "model")},
    always=frozenset({"name", "note", "actor", "created", "updated"}),
    order=(("name", False),),
)  # fmt: skip
VERSIONS = Table(
    source="versions x JOIN models m ON m.key = x.model LEFT JOIN packages p ON p.key = x.package",
    key="x.key",
    columns={
        "model": "m.name", "number": "x.number", "run": "x.run", "source": "x.source", "stage": "x.stage",
        "package": "p.id", "digest": "p.digest", "note": "x.note", "actor": "x.actor", "created": "x.created_at",
        "updated": "x.updated_at",
    },
    words=Vocabulary(
        thing="a version",
        kinds=_TAGS,
        attributes={
            "model": "model", "name": "model", "number": "number", "version": "number", "version_number": "number",
            "run": "run", "run_id": "run", "source": "source", "source_path": "source", "stage": "stage",
            "current_stage": "stage", "package": "package", "model_id": "package", "digest": "digest", "note": "note",
            "description": "note", "actor": "actor", "user_id": "actor", **_TIMES,
        },
        numeric=frozenset({"created", "updated", "number"}),
        times=frozenset({"created", "updated"}),
        example="model, number, run, stage, tags.team or updated",
    ),
    texts={"tag": ("version_tags", "version")},
    always=frozenset({"model", "number", "source", "stage", "note", "actor", "created", "updated"}),
    order=(("updated", True), ("model", False), ("number", True)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    field: Field
    descending: bool


class Page(msgspec.Struct, frozen=True):
    """Keys of the things on one page, in order, and where the next one starts."""

    keys: list[int]
    next: str | None


def orders_of(table: Table, asked: Sequence[str]) -> list[Order]:
    """What is asked for, and after it the usual order, in which no two are equal."""
    orders = [Order(*parse_order(text, table.words)) for text in asked]
    named = {order.field for order in orders}
    usual = [Order(Field("attribute", name), descending) for name, descending in table.order]
    return orders + [order for order in usual if order.field not in named]


def page(
    read: Reader, table: Table, node: Node | None, where: Sequence[str], values: Mapping[str, Any],
    orders: Sequence[Order], limit: int, cursor: str, data: Sequence[str] = (),
) -> Page:  # fmt: skip
    """`where` and its `values` say which things are looked through; `node` is the filter. With `data`, only metrics
    count that were measured on one of these."""
    sql = _Sql(read, table, data)
    sql.values.update(values)
    conditions = ["x.project = :project", *where]
    if node is not None:
        conditions.append(sql.passes(node))
    if data:
        conditions.append(sql.measured())
    columns = [sql.sorted_by(order.field) for order in orders]
    after = _read_cursor(cursor, table, orders)
    if after is not None:
        _fill_in(read, table, columns, sql, after)
        conditions.append(_behind(sql, table, columns, orders, after))
    terms = []
    for column, order in zip(columns, orders, strict=True):
        if not table.has_always(order.field):
            terms.append(f"({column} IS NULL) ASC")
        terms.append(f"{column} {'DESC' if order.descending else 'ASC'}")
    rows = read.all(  # one more than asked for says whether there is a next page
        f"SELECT {', '.join(columns)}, {table.key} FROM {table.source} WHERE {' AND '.join(conditions)} "
        f"ORDER BY {', '.join(terms)}, {table.key} DESC LIMIT {limit + 1}",
        **sql.values,
    )
    following = _write_cursor(list(rows[limit - 1]), orders) if len(rows) > limit else None
    return Page([row[-1] for row in rows[:limit]], following)


class _Sql(Conditions):
    def __init__(self, read: Reader, table: Table, data: Sequence[str]) -> None:
        super().__init__(read)
        self._table = table
        self._data = data

    def measured(self) -> str:
        """That there is a metric which was measured on the right data."""
        carried, owner = self._table.texts["metric"]
        return f"(EXISTS (SELECT 1 FROM {carried} c WHERE c.{owner} = {self._table.key}{self._on_data()}))"

    def _on_data(self) -> str:
        if not self._data:
            return ""
        ways = []
        for name, mark, version in (text.partition("@") for text in self._data):
            same = f"c.data = {self.value(name)}"
            ways.append(f"({same} AND c.data_digest = {self.value(version)})" if mark else same)
        return f" AND ({' OR '.join(ways)})"

    def passes(self, node: Node) -> str:
        if isinstance(node, Both):
            return joined([self.passes(part) for part in node.parts], "AND")
        if isinstance(node, Either):
            return joined([self.passes(part) for part in node.parts], "OR")
        if isinstance(node, Negated):
            return f"NOT {self.passes(node.part)}"
        if node.field.kind == "attribute":
            # a comparison with nothing is false, so that NOT turns it into true
            found = self._compared(self._table.columns[node.field.name], node)
            return f"coalesce({found}, {'FALSE' if self.read.kind == 'postgres' else '0'})"
        if node.sign == "is null":
            return f"NOT {self.passes(Compare(node.field, 'is not null', None))}"
        _refuse_aggregate(node.field)
        carried, owner = self._table.texts[node.field.kind]
        where = f"c.{owner} = {self._table.key} AND c.name = {self.value(node.field.name)}"
        if node.field.kind == "metric":
            where += self._on_data()
        if node.sign != "is not null":
            where += f" AND {self._compared('c.value', node)}"
        return f"(EXISTS (SELECT 1 FROM {carried} c WHERE {where}))"

    def _compared(self, column: str, node: Compare) -> str:
        if node.sign == "is null":
            return f"({column} IS NULL)"
        if node.sign == "is not null":
            return f"({column} IS NOT NULL)"
        if isinstance(node.value, float):
            if node.field.kind == "param":
                raise Invalid(
                    "params of packages are text",
                    hint=f"write it in quotes: params.{node.field.name} = '{node.value:g}'",
                )
            return f"({column} {node.sign} {self.value(node.value)})"
        return f"({self.text(column, node)})"

    def sorted_by(self, wanted: Field) -> str:
        if wanted.kind == "attribute":
            return self._table.columns[wanted.name]
        _refuse_aggregate(wanted)
        carried, owner = self._table.texts[wanted.kind]
        named = f"FROM {carried} c WHERE c.{owner} = {self._table.key} AND c.name = {self.value(wanted.name)}"
        if wanted.kind == "metric":  # one with many values counts with its newest
            named += f"{self._on_data()} ORDER BY c.at DESC, c.step DESC LIMIT 1"
        return f"(SELECT c.value {named})"


def _refuse_aggregate(field: Field) -> None:
    if field.aggregate != "last":
        raise Invalid(
            f"a package has values of `{bounded(field.name)}`, no curve: there is no {field.aggregate}() of it",
            hint=f"write metrics.{bounded(field.name, 60)}",
        )


def _behind(sql: _Sql, table: Table, columns: Sequence[str], orders: Sequence[Order], after: Sequence[Any]) -> str:
    """The condition of coming after a given thing in the order."""
    same: list[str] = []
    ways: list[str] = []
    reached = ""
    for column, order, value in zip(columns, orders, after[:-1], strict=True):
        if value is None:
            same.append(f"{column} IS NULL")
            continue
        held = sql.value(value)
        sign = "<" if order.descending else ">"
        behind = f"{column} {sign} {held}"
        if not table.has_always(order.field):
            behind = f"({behind} OR {column} IS NULL)"
        elif not ways and not same:
            reached = f"{column} {sign}= {held} AND "  # what an index is read by
        ways.append(" AND ".join([*same, behind]))
        same.append(f"{column} = {held}")
    ways.append(" AND ".join([*same, f"{table.key} < {sql.value(after[-1])}"]))
    return reached + "(" + " OR ".join(f"({way})" for way in ways) + ")"


def _order_digest(orders: Sequence[Order]) -> str:
    return digest(msgspec.json.encode([(o.field.kind, o.field.name, o.descending) for o in orders]))[:8]


def _write_cursor(row: list[Any], orders: Sequence[Order]) -> str:
    import base64

    held = [[digest(value.encode())] if isinstance(value, str) and len(value) > LONG else value for value in row]
    return base64.urlsafe_b64encode(msgspec.msgpack.encode([_order_digest(orders), *held])).decode().rstrip("=")


def _read_cursor(cursor: str, table: Table, orders: Sequence[Order]) -> list[Any] | None:
    import base64
    import binascii

    if not cursor:
        return None
    try:
        found = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        found = None
    fits = isinstance(found, list) and len(found) == len(orders) + 2 and found[0] == _order_digest(orders)
    if (
        not fits
        or not _is_whole(found[-1])
        or not all(
            _may_be_held(value, number=table.words.is_number(order.field))
            for value, order in zip(found[1:-1], orders, strict=True)
        )
    ):
        raise Invalid("`cursor` is not a page's `next`", hint="pass on what the page before said, with the same order")
    return list(found[1:])


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _may_be_held(value: Any, *, number: bool) -> bool:
    if value is None:
        return True
    if number:
        return type(value) is float or _is_whole(value)
    is_digest = isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)
    return is_digest or isinstance(value, str)


def _fill_in(read: Reader, table: Table, columns: Sequence[str], sql: _Sql, after: list[Any]) -> None:
    """The long texts of the thing at which the page ended, if they are still what they were."""
    if not any(isinstance(value, list) for value in after):
        return
    row = read.one(
        f"SELECT {', '.join(columns)} FROM {table.source} WHERE {table.key} = {sql.value(after[-1])}", **sql.values
    )
    for index, value in enumerate(after):
        if isinstance(value, list):
            text = None if row is None else row[index]
            if text is None or digest(str(text).encode()) != value[0]:
                raise Invalid("what the page before ended at has changed", hint="begin again without `cursor`")
            after[index] = text

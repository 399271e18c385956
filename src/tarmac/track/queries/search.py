"""Finding runs among very many: a filter and an order become one of three plans.

    walk     along the index of the order, asking of each run whether it passes: best when most do
    gather   from the smallest set that the filter names: best when few do
    sift     all runs against sets read from the indexes: best when each condition is common and all together are rare

Each is ten to a thousand times worse than another somewhere. Which one it is, is decided by counting the filter's
ranges, up to a bound; and a walk that has not filled its page within its window is given up for sifting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tarmac.core.errors import Invalid
from tarmac.store.sql import Reader, Row
from tarmac.track.filter import Both, Compare, Either, Field, Negated, Node

FEW = 2000  # a set this small is gathered from
WINDOW = 4000
SILENT_AFTER = 45_000
PREFIX = 100

STATUS = "CASE WHEN r.status = 'running' AND r.heartbeat_at < :silent THEN 'killed' ELSE r.status END"
ATTRIBUTE = {
    "id": "r.id",
    "name": "r.name",
    "status": f"({STATUS})",
    "experiment": "(SELECT e.name FROM experiments e WHERE e.key = r.experiment)",
    "actor": "r.actor",
    "note": "r.note",
    "parent": "(SELECT p.id FROM runs p WHERE p.key = r.parent)",
    "started": "r.started_at",
    "ended": "r.ended_at",
    "duration": "(r.ended_at - r.started_at)",
}
TABLES = {"metric": "metrics", "param": "params", "tag": "tags"}
MLFLOW_STATUS = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "killed",
}
SIGNS = ("=", "!=", "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Order:
    field: Field
    descending: bool


NEWEST = Order(Field("attribute", "started"), descending=True)


@dataclass(slots=True)
class Wanted:
    """Which runs are looked for: in which experiments, passing what, deleted or not."""

    experiments: tuple[int, ...] | None
    node: Node | None
    deleted: bool | None
    now: int


class Sql:
    """Text under construction, and its values."""

    def __init__(self, read: Reader, wanted: Wanted) -> None:
        self.read = read
        self.values: dict[str, Any] = {"project": read.project, "silent": wanted.now - SILENT_AFTER}
        self._numbers: dict[str, int] = {}

    def value(self, value: Any) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def number(self, name: str) -> int:
        """The key's number; -1, which no row has, for a name that was never used."""
        if name not in self._numbers:
            found = self.read.names.number(self.read, name)
            self._numbers[name] = -1 if found is None else found
        return self._numbers[name]

    # --- conditions ---

    def passes(self, node: Node, *, as_set: bool) -> str:
        """A condition on the run `r`. With `as_set`, what runs carry is read once as a set; without, asked of each."""
        if isinstance(node, Both):
            return "(" + " AND ".join(self.passes(part, as_set=as_set) for part in node.parts) + ")"
        if isinstance(node, Either):
            return "(" + " OR ".join(self.passes(part, as_set=as_set) for part in node.parts) + ")"
        if isinstance(node, Negated):
            return f"NOT {self.passes(node.part, as_set=as_set)}"
        if node.field.kind == "attribute":
            # a comparison with nothing is false, so that NOT turns it into true
            return f"coalesce({self.attribute(node)}, {'FALSE' if self.read.kind == 'postgres' else '0'})"
        positive = self._absence(node)
        if positive is not None:
            return f"NOT {self.passes(positive, as_set=as_set)}"
        table, where = self.carried(node)
        if as_set:
            return f"(r.key IN (SELECT x.run FROM {table} x WHERE {where}))"
        return f"(EXISTS (SELECT 1 FROM {table} x WHERE x.run = r.key AND {where}))"

    def _absence(self, node: Compare) -> Compare | None:
        if node.sign == "is null":
            return Compare(node.field, "is not null", None)
        return None

    def carried(self, node: Compare) -> tuple[str, str]:
        """The table of what runs carry, and the condition on its row `x`."""
        field = node.field
        if field.kind == "dataset":
            column = "name" if field.name == "name" else "version"
            return "run_inputs", self._text(f"x.{column}", node, indexed=False)
        key = f"x.key = {self.number(field.name)}"
        if node.sign == "is not null":
            return TABLES[field.kind], key
        if field.kind == "metric":
            column = {"last": "x.last", "min": "x.min", "max": "x.max"}[field.aggregate]
            return "metrics", f"{key} AND {column} {node.sign} {self.value(node.value)}"
        if isinstance(node.value, float):
            return "params", f"{key} AND x.number {node.sign} {self.value(node.value)}"
        return TABLES[field.kind], f"{key} AND {self._text('x.value', node, indexed=True)}"

    def attribute(self, node: Compare) -> str:
        column = ATTRIBUTE[node.field.name]
        if node.sign == "is null":
            return f"({column} IS NULL)"
        if node.sign == "is not null":
            return f"({column} IS NOT NULL)"
        if isinstance(node.value, float):
            return f"({column} {node.sign} {self.value(node.value)})"
        if node.field.name == "status":
            node = _our_status(node)
        return f"({self._text(column, node, indexed=False)})"

    def _text(self, column: str, node: Compare, *, indexed: bool) -> str:
        sign, value = node.sign, node.value
        if sign in ("in", "not in"):
            assert isinstance(value, tuple)
            names = ", ".join(self.value(item) for item in value)
            beginnings = ", ".join(self.value(item[:PREFIX]) for item in value)
            narrowed = f"substr({column}, 1, {PREFIX}) IN ({beginnings}) AND " if indexed and sign == "in" else ""
            return f"{narrowed}{column} {'NOT ' if sign == 'not in' else ''}IN ({names})"
        assert isinstance(value, str)
        if sign == "=" and indexed:
            beginning = self.value(value[:PREFIX])
            if len(value) < PREFIX:  # the beginning is all there is
                return f"substr({column}, 1, {PREFIX}) = {beginning}"
            return f"substr({column}, 1, {PREFIX}) = {beginning} AND {column} = {self.value(value)}"
        if sign in SIGNS:
            return f"{column} {sign} {self.value(value)}"
        turned = "NOT " if sign.startswith("not ") else ""
        return f"{turned}{self._like(column, value, minds_case=not sign.endswith('ilike'))}"

    def _like(self, column: str, pattern: str, *, minds_case: bool) -> str:
        if self.read.kind == "postgres":
            return f"({column} {'LIKE' if minds_case else 'ILIKE'} {self.value(pattern)} ESCAPE '')"
        if minds_case:  # SQLite's LIKE never does; GLOB always does
            return f"({column} GLOB {self.value(_glob(pattern))})"
        return f"({column} LIKE {self.value(pattern)})"


def _glob(pattern: str) -> str:
    return "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(c, c) for c in pattern)


def _our_status(node: Compare) -> Compare:
    value = node.value
    if isinstance(value, tuple):
        return Compare(node.field, node.sign, tuple(MLFLOW_STATUS.get(item, item) for item in value))
    return Compare(node.field, node.sign, MLFLOW_STATUS.get(str(value), str(value)))


# --- pages ---


class Page(msgspec.Struct, frozen=True):
    """Keys of the runs on one page, in order, and where the next one starts."""

    keys: list[int]
    next: str | None


def page(read: Reader, wanted: Wanted, orders: Sequence[Order], limit: int, cursor: str) -> Page:
    orders = list(orders) or [NEWEST]
    after = _read_cursor(cursor, orders)
    rows = None
    if smallest := _smallest_set(read, wanted):
        rows = _sorted(read, wanted, orders, limit, after, gather_from=smallest)
    elif len(orders) == 1:
        if orders[0].field == NEWEST.field:
            rows = _walk_time(read, wanted, orders[0], limit, after)
        elif orders[0].field.kind == "metric" and orders[0].field.aggregate == "last":
            rows = _walk_metric(read, wanted, orders[0], limit, after)
    if rows is None:
        rows = _sorted(read, wanted, orders, limit, after)
    following = _write_cursor(rows[-1]) if len(rows) == limit else None
    return Page([row[-1] for row in rows], following)


def count(read: Reader, wanted: Wanted) -> int:
    sql = Sql(read, wanted)
    found: int = read.value(f"SELECT count(*) FROM runs r WHERE {base(sql, wanted, as_set=True)}", **sql.values)
    return found


def base(sql: Sql, wanted: Wanted, *, as_set: bool) -> str:
    """The whole condition on `r`."""
    where = ["r.project = :project"]
    if wanted.experiments is not None:
        where.append(f"r.experiment IN ({', '.join(map(str, wanted.experiments)) or 'NULL'})")
    if wanted.deleted is not None:
        where.append(f"r.deleted_at IS {'NOT NULL' if wanted.deleted else 'NULL'}")
    if wanted.node is not None:
        where.append(sql.passes(wanted.node, as_set=as_set))
    return " AND ".join(where)


def _smallest_set(read: Reader, wanted: Wanted) -> Compare | None:
    """The condition that must hold and that the fewest runs meet, if these are few."""
    if wanted.node is None:
        return None
    parts = wanted.node.parts if isinstance(wanted.node, Both) else (wanted.node,)
    best, fewest = None, FEW
    for part in parts:
        if not isinstance(part, Compare) or part.field.kind == "attribute" or not _is_range(part):
            continue
        sql = Sql(read, wanted)
        table, where = sql.carried(part)
        found = read.value(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} x WHERE {where} LIMIT {fewest}) AS few", **sql.values
        )
        if found < fewest:
            best, fewest = part, max(found, 1)
    return best


def _is_range(node: Compare) -> bool:
    """Whether an index leads straight to the rows that pass."""
    if node.field.kind == "metric" and node.field.aggregate != "last":
        return False
    return node.sign in ("=", "in", "<", "<=", ">", ">=")


def _sorted(
    read: Reader,
    wanted: Wanted,
    orders: Sequence[Order],
    limit: int,
    after: list[Any] | None,
    *,
    gather_from: Compare | None = None,
) -> list[Row]:
    """All that pass, sorted, the first of them: from a small set, or by sifting."""
    sql = Sql(read, wanted)
    columns, joins = _order_columns(sql, orders)
    where = base(sql, wanted, as_set=gather_from is None)
    if gather_from is not None:
        table, condition = sql.carried(gather_from)
        start = f"(SELECT DISTINCT x.run AS run FROM {table} x WHERE {condition}) few JOIN runs r ON r.key = few.run"
    else:
        start = "runs r"
    if after is not None:
        where += f" AND {_behind(sql, columns, orders, after)}"
    order = ", ".join(_sort_terms(columns, orders))
    return read.all(
        f"SELECT {', '.join(columns)}, r.started_at, r.key FROM {start} {' '.join(joins)} "
        f"WHERE {where} ORDER BY {order} LIMIT {limit}",
        **sql.values,
    )


def _walk_time(read: Reader, wanted: Wanted, order: Order, limit: int, after: list[Any] | None) -> list[Row] | None:
    """Along the time index, through a window; None if the page was not filled in it."""
    sql = Sql(read, wanted)
    sign, way = ("<", "DESC") if order.descending else (">", "ASC")
    bound = ""
    if after is not None:
        bound = f"AND (r.started_at, r.key) {sign} ({sql.value(after[-2])}, {sql.value(after[-1])})"
    where = base(sql, wanted, as_set=False)
    chosen = ["r.project = :project"]
    if wanted.experiments is not None and len(wanted.experiments) == 1:
        chosen = [f"r.experiment = {wanted.experiments[0]}"]
    window = (
        f"SELECT r.* FROM runs r WHERE {' AND '.join(chosen)} {bound} "
        f"ORDER BY r.started_at {way}, r.key {way} LIMIT {WINDOW}"
    )
    rows = read.all(
        f"SELECT r.started_at, r.started_at, r.key FROM ({window}) r WHERE {where} "
        f"ORDER BY r.started_at {way}, r.key {way} LIMIT {limit}",
        **sql.values,
    )
    if len(rows) == limit or _window_is_all(read, f"runs r WHERE {' AND '.join(chosen)} {bound}", sql.values):
        return rows
    return None


def _walk_metric(read: Reader, wanted: Wanted, order: Order, limit: int, after: list[Any] | None) -> list[Row] | None:
    """Along the index of a metric's last values, through a window; None if the page was not filled in it."""
    if after is not None and after[0] is None:
        return None  # behind the last value: those without one are sifted
    sql = Sql(read, wanted)
    sign, way = ("<=", "DESC") if order.descending else (">=", "ASC")
    number = sql.number(order.field.name)
    bound = "" if after is None else f"AND m.last {sign} {sql.value(after[0])}"
    where = base(sql, wanted, as_set=False)
    if after is not None:
        where += f" AND {_behind(sql, ['m.last'], [order], after)}"
    window = (
        f"SELECT m.run, m.last FROM metrics m WHERE m.key = {number} AND m.last IS NOT NULL {bound} "
        f"ORDER BY m.last {way} LIMIT {WINDOW}"
    )
    rows = read.all(
        f"SELECT m.last, r.started_at, r.key FROM ({window}) m JOIN runs r ON r.key = m.run WHERE {where} "
        f"ORDER BY m.last {way}, r.started_at DESC, r.key DESC LIMIT {limit}",
        **sql.values,
    )
    if len(rows) < limit:
        return None
    far = "ASC" if order.descending else "DESC"
    edge = read.value(f"SELECT last FROM ({window}) m ORDER BY last {far} LIMIT 1", **sql.values)
    return rows if rows[-1][0] != edge else None  # runs that share the value at the window's edge may lie beyond it


def _window_is_all(read: Reader, source: str, values: dict[str, Any]) -> bool:
    found = read.value(f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT {WINDOW + 1}) AS there", **values)
    return bool(found <= WINDOW)


def _order_columns(sql: Sql, orders: Sequence[Order]) -> tuple[list[str], list[str]]:
    """What is sorted by, and the joins it takes."""
    columns, joins = [], []
    for index, order in enumerate(orders):
        field = order.field
        if field.kind == "attribute":
            columns.append(ATTRIBUTE[field.name])
        elif field.kind == "dataset":
            raise Invalid(
                "runs cannot be sorted by their data sets", hint="sort by a metric, a param, a tag or an attribute"
            )
        else:
            column = field.aggregate if field.kind == "metric" else "value"
            joins.append(
                f"LEFT JOIN {TABLES[field.kind]} o{index} ON o{index}.run = r.key "
                f"AND o{index}.key = {sql.number(field.name)}"
            )
            columns.append(f"o{index}.{column}")
    return columns, joins


def _sort_terms(columns: Sequence[str], orders: Sequence[Order]) -> list[str]:
    """What a run lacks, and NaN, come last both ways; the newest first among equals."""
    terms = []
    newest_first = True
    for column, order in zip(columns, orders, strict=True):
        way = "DESC" if order.descending else "ASC"
        if order.field == NEWEST.field:
            newest_first = order.descending
        else:
            terms.append(f"({column} IS NULL) ASC")
        terms.append(f"{column} {way}")
    last = "DESC" if newest_first else "ASC"
    return [*terms, f"r.started_at {last}", f"r.key {last}"]


def _behind(sql: Sql, columns: Sequence[str], orders: Sequence[Order], after: list[Any]) -> str:
    """The condition of coming after a given run in the order."""
    last = "<"
    same: list[str] = []
    ways: list[str] = []
    for column, order, value in zip(columns, orders, after[:-2], strict=True):
        if order.field == NEWEST.field and not order.descending:
            last = ">"
        sign = "<" if order.descending else ">"
        if value is None:
            same.append(f"{column} IS NULL")
            continue
        held = sql.value(value)
        ways.append(" AND ".join([*same, f"({column} {sign} {held} OR {column} IS NULL)"]))
        same.append(f"{column} = {held}")
    ways.append(" AND ".join([*same, f"(r.started_at, r.key) {last} ({sql.value(after[-2])}, {sql.value(after[-1])})"]))
    return "(" + " OR ".join(f"({way})" for way in ways) + ")"


def _write_cursor(row: Row) -> str:
    import base64

    return base64.urlsafe_b64encode(msgspec.msgpack.encode(row)).decode().rstrip("=")


def _read_cursor(cursor: str, orders: Sequence[Order]) -> list[Any] | None:
    import base64
    import binascii

    if not cursor:
        return None
    try:
        values = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        values = None
    fits = isinstance(values, list) and len(values) == len(orders) + 2
    if not fits or not all(isinstance(v, (int, float, str, type(None))) for v in values):
        raise Invalid("`cursor` is not a page's `next`", hint="pass on what the page before said, with the same order")
    if not all(isinstance(v, int) for v in values[-2:]):
        raise Invalid("`cursor` is not a page's `next`", hint="pass on what the page before said, with the same order")
    return values  # type: ignore[no-any-return]

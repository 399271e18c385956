"""Finding runs among very many: a filter and an order become one of three plans.

    walk     along the index of the order, asking of each run whether it passes: best when most do
    gather   from the smallest set that the filter names: best when few do
    sift     all runs against sets read from the indexes: best when each condition is common and all together are rare

Each is ten to a thousand times worse than another somewhere. Which one it is, is decided by counting the filter's
ranges up to a bound, and for a walk in time by how many of its first runs passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import Invalid
from tarmac.store.sql import Reader, Row
from tarmac.track.conditions import Conditions, joined
from tarmac.track.filter import NUMERIC, Both, Compare, Either, Field, Negated, Node

FEW = 2000
"""A set this small is gathered from, whatever the order."""
MANY = 30_000
"""A set smaller than this is better gathered from than sifted."""
WINDOW = 1500
"""So many runs are looked at before it is decided whether to walk on."""
WIDEST = 8000
SILENT_AFTER = 45_000
BEGINNING = 100
"""So many characters of a text stand in the index; the rest stands beside them."""

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
DELETED_IS = {"no": False, "only": True, "also": None}


@dataclass(frozen=True, slots=True)
class Order:
    field: Field
    descending: bool
    numbers: bool = False
    """By what a param is as a number; a param that is none has nothing there."""


NEWEST = Order(Field("attribute", "started"), descending=True)


@dataclass(slots=True)
class Wanted:
    """Which runs are looked for: in which experiments, passing what, deleted or not."""

    experiments: tuple[int, ...] | None
    node: Node | None
    deleted: bool | None
    now: int


class _All:
    """Every condition there is."""

    def __contains__(self, node: object) -> bool:
        return True


ALL = _All()
NONE: frozenset[Compare] = frozenset()
Sets = frozenset[Compare] | _All


class Sql(Conditions):
    """Text under construction, and its values."""

    def __init__(self, read: Reader, wanted: Wanted) -> None:
        super().__init__(read)
        self.run = "r.key"
        self.owner = "run"
        """The column that says whose a carried row is."""
        self.given: Compare | None = None
        """The condition that all runs of the source meet, because they were gathered by it."""
        self.values["silent"] = wanted.now - SILENT_AFTER
        self._numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The key's number; -1, which no row has, for a name that was never used."""
        if name not in self._numbers:
            found = self.read.names.number(self.read, name)
            self._numbers[name] = -1 if found is None else found
        return self._numbers[name]

    # --- conditions ---

    def passes(self, node: Node, sets: Sets) -> str:
        """A condition on the run `r`. What stands in `sets` is read once as a set, the rest is asked of each run."""
        if isinstance(node, Both):
            return joined([self.passes(part, sets) for part in node.parts], "AND")
        if isinstance(node, Either):
            return joined([self.passes(part, sets) for part in node.parts], "OR")
        if isinstance(node, Negated):
            return f"NOT {self.passes(node.part, sets)}"
        if node.field.kind == "attribute":
            # a comparison with nothing is false, so that NOT turns it into true
            return f"coalesce({self.attribute(node)}, {'FALSE' if self.read.kind == 'postgres' else '0'})"
        positive = self._absence(node)
        if positive is not None:
            return f"NOT {self.passes(positive, sets)}"
        table, where = self.carried(node)
        if node == self.given:
            return "(1 = 1)"
        if node in sets:
            return f"({self.run} IN (SELECT x.{self.owner} FROM {table} x WHERE {where}))"
        return f"(EXISTS (SELECT 1 FROM {table} x WHERE x.{self.owner} = {self.run} AND {where}))"

    def _absence(self, node: Compare) -> Compare | None:
        if node.sign == "is null":
            return Compare(node.field, "is not null", None)
        return None

    def carried(self, node: Compare, row: str = "x") -> tuple[str, str]:
        """The table of what runs carry, and the condition on a row of it, called `row`."""
        field = node.field
        if field.kind == "dataset":
            column = field.name if field.name in ("name", "context") else "version"
            if node.sign == "is not null":
                return "run_inputs", f"{row}.{column} IS NOT NULL"
            return "run_inputs", self.text(f"{row}.{column}", node)
        key = f"{row}.key = {self.number(field.name)}"
        if node.sign == "is not null":
            return TABLES[field.kind], key
        if field.kind == "metric":
            column = f"{row}.{field.aggregate}"
            return "metrics", f"{key} AND {column} {node.sign} {self.value(node.value)}"
        if isinstance(node.value, float):
            return "params", f"{key} AND {row}.number {node.sign} {self.value(node.value)}"
        return TABLES[field.kind], f"{key} AND {self._carried_text(row, node)}"

    def attribute(self, node: Compare) -> str:
        if node.field.name == "status":
            node = _our_status(node)
        return self.condition(ATTRIBUTE[node.field.name], node)

    def condition(self, column: str, node: Compare) -> str:
        """A comparison of one column."""
        if node.sign == "is null":
            return f"({column} IS NULL)"
        if node.sign == "is not null":
            return f"({column} IS NOT NULL)"
        if isinstance(node.value, float):
            return f"({column} {node.sign} {self.value(node.value)})"
        return f"({self.text(column, node)})"

    def _carried_text(self, row: str, node: Compare) -> str:
        """A condition on a param or a tag, by its beginning where that is enough."""
        sign, value = node.sign, node.value
        if sign == "=" and isinstance(value, str):
            found = f"{row}.value = {self.value(value[:BEGINNING])}"
            if len(value) < BEGINNING:  # the beginning is all there is
                return found
            return f"{found} AND {row}.rest = {self.value(value[BEGINNING:])}"
        whole = self.text(f"({row}.value || {row}.rest)", node)
        if sign == "in" and isinstance(value, tuple):
            beginnings = f"{row}.value IN ({', '.join(self.value(item[:BEGINNING]) for item in value)})"
            return beginnings if all(len(item) < BEGINNING for item in value) else f"{beginnings} AND {whole}"
        return whole


def _our_status(node: Compare) -> Compare:
    value = node.value
    if value is None or isinstance(value, float):
        return node
    if isinstance(value, tuple):
        return Compare(node.field, node.sign, tuple(MLFLOW_STATUS.get(item, item) for item in value))
    return Compare(node.field, node.sign, MLFLOW_STATUS.get(str(value), str(value)))


# --- pages ---


class Page(msgspec.Struct, frozen=True):
    """Keys of the runs on one page, in order, and where the next one starts."""

    keys: list[int]
    next: str | None


def page(read: Reader, wanted: Wanted, orders: Sequence[Order], limit: int, cursor: str) -> Page:
    orders = [part for order in orders for part in _parts(order)] or [NEWEST]
    after = _read_cursor(read, wanted, cursor, orders)
    rows, many = None, limit + 1  # one more says whether there is a next page
    small = _small_sets(read, wanted, FEW)
    if not small:
        if (way := _along_time(orders)) is not None:
            rows = _walk_time(read, wanted, way, many, after)
        elif _has_index(orders[0].field):
            rows = _walk_index(read, wanted, orders, many, after)
        if rows is None:
            small = _small_sets(read, wanted, MANY)
    if rows is None:
        rows = _gather(read, wanted, orders, many, after, small)
    following = _write_cursor(rows[limit - 1], orders) if len(rows) > limit else None
    return Page([row[-1] for row in rows[:limit]], following)


def _parts(order: Order) -> list[Order]:
    """A param sorts as a number where it is one, and after the numbers as text; `1` and `1.0` by their text."""
    if order.field.kind != "param":
        return [order]
    return [Order(order.field, order.descending, numbers=True), order]


def count(read: Reader, wanted: Wanted) -> int:
    sql = Sql(read, wanted)
    small = _small_sets(read, wanted, MANY)
    if not small or small[0].field.kind == "dataset":
        found = read.value(f"SELECT count(*) FROM {all_runs(sql, wanted)} WHERE {base(sql, wanted, ALL)}", **sql.values)
    else:
        table, condition = sql.carried(small[0], "few")
        sql.run, sql.given = "few.run", small[0]
        join = "CROSS JOIN" if read.kind == "sqlite" else "JOIN"
        where = base(sql, wanted, frozenset(small[1:]))
        found = read.value(
            f"SELECT count(*) FROM {table} few {join} runs r ON r.key = few.run WHERE {condition} AND {where}",
            **sql.values,
        )
    return int(found)


def all_runs(sql: Sql, wanted: Wanted) -> str:
    """The runs as a source that is read through: in the order they lie in, which is that of what they carry too."""
    return "runs r NOT INDEXED" if sql.read.kind == "sqlite" and wanted.experiments is None else "runs r"


def base(sql: Sql, wanted: Wanted, sets: Sets) -> str:
    """The whole condition on `r`."""
    where = ["r.project = :project"]
    if wanted.experiments is not None:
        where.append(f"r.experiment IN ({', '.join(map(str, wanted.experiments)) or 'NULL'})")
    if wanted.deleted is not None:
        where.append(f"r.deleted_at IS {'NOT NULL' if wanted.deleted else 'NULL'}")
    if wanted.node is not None:
        where.append(sql.passes(wanted.node, sets))
    return " AND ".join(where)


def _small_sets(read: Reader, wanted: Wanted, bound: int) -> list[Compare]:
    """The conditions that must hold and that fewer runs than so many meet, the rarest first."""
    if wanted.node is None:
        return []
    found: list[tuple[int, int, Compare]] = []
    parts = wanted.node.parts if isinstance(wanted.node, Both) else (wanted.node,)
    for part in parts:
        if not isinstance(part, Compare) or part.field.kind == "attribute" or not _is_range(part):
            continue
        sql = Sql(read, wanted)
        table, where = sql.carried(part)
        size = read.value(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} x WHERE {where} LIMIT {bound}) AS few", **sql.values
        )
        if size < bound:
            found.append((size, len(found), part))
    return [part for _, _, part in sorted(found, key=lambda entry: entry[:2])]


def _is_range(node: Compare) -> bool:
    """Whether an index leads straight to the rows that pass."""
    if node.field.kind == "metric" and node.field.aggregate != "last":
        return False
    return node.sign in ("=", "in", "<", "<=", ">", ">=")


def _gather(
    read: Reader,
    wanted: Wanted,
    orders: Sequence[Order],
    limit: int,
    after: list[Any] | None,
    small: Sequence[Compare],
) -> list[Row]:
    """All that pass, sorted, the first of them: from the smallest of the small sets, or by sifting if there is none."""
    sql = Sql(read, wanted)
    columns, joins = _order_columns(sql, orders)
    where = []
    if small:
        table, condition = sql.carried(small[0], "few")
        where.append(condition)
        join = "CROSS JOIN" if read.kind == "sqlite" else "JOIN"
        source = f"{table} few"
        if table == "run_inputs":  # the one table that may name a run twice
            source, where = f"(SELECT DISTINCT few.run AS run FROM {table} few WHERE {condition}) few", []
        start = f"{source} {join} runs r ON r.key = few.run"
        sql.run, sql.given = "few.run", small[0]
        where.append(base(sql, wanted, frozenset(small[1:])))
    else:
        start = all_runs(sql, wanted)
        where.append(base(sql, wanted, ALL))
    if after is not None:
        where.append(_behind(sql, columns, orders, after))
    return read.all(
        f"SELECT {', '.join(columns)}, r.started_at, r.key FROM {start} {' '.join(joins)} "
        f"WHERE {' AND '.join(where)} ORDER BY {', '.join(_sort_terms(columns, orders))} LIMIT {limit}",
        **sql.values,
    )


@dataclass(frozen=True, slots=True)
class AlongTime:
    """The order of the time index: by when runs started, and those of one moment by their key or by their id."""

    descending: bool
    tie: str
    tie_descending: bool
    columns: tuple[str, ...]


def _along_time(orders: Sequence[Order]) -> AlongTime | None:
    if not orders or orders[0].field != NEWEST.field:
        return None
    descending = orders[0].descending
    if len(orders) == 1:
        return AlongTime(descending, "r.key", descending, ("r.started_at",))
    if len(orders) == 2 and orders[1].field == Field("attribute", "id"):
        return AlongTime(descending, "r.id", orders[1].descending, ("r.started_at", "r.id"))
    return None


def _walk_time(read: Reader, wanted: Wanted, order: AlongTime, limit: int, after: list[Any] | None) -> list[Row] | None:
    """Along the time index, through a window; then through a wider one, if what was found says that it will do."""
    rows, all_seen = _time_window(read, wanted, order, limit, after, WINDOW)
    if len(rows) == limit or all_seen:
        return rows
    needed = WINDOW * limit * 3 // (2 * len(rows)) if rows else WIDEST + 1
    if needed > WIDEST:
        return None
    rows, all_seen = _time_window(read, wanted, order, limit, after, needed)
    return rows if len(rows) == limit or all_seen else None


def _time_window(
    read: Reader, wanted: Wanted, order: AlongTime, limit: int, after: list[Any] | None, width: int
) -> tuple[list[Row], bool]:
    """The first that pass among the first so many runs, and whether those were all."""
    sql = Sql(read, wanted)
    way = "DESC" if order.descending else "ASC"
    tie_way = "DESC" if order.tie_descending else "ASC"
    chosen = "r.project = :project"
    if wanted.experiments is not None and len(wanted.experiments) == 1:
        chosen = f"r.experiment = {wanted.experiments[0]}"
    if after is not None:
        tie = after[-1] if order.tie == "r.key" else after[1]
        chosen += f" AND {_beyond(sql, order, after[-2], tie, behind=True)}"
    order_by = f"r.started_at {way}, {order.tie} {tie_way}"
    edge = read.one(
        f"SELECT r.started_at, {order.tie} FROM runs r WHERE {chosen} ORDER BY {order_by} LIMIT 1 OFFSET {width - 1}",
        **sql.values,
    )
    if edge is not None:
        chosen += f" AND {_beyond(sql, order, edge[0], edge[1], behind=False)}"
    rows = read.all(
        f"SELECT {', '.join(order.columns)}, r.started_at, r.key FROM runs r "
        f"WHERE {chosen} AND {base(sql, wanted, NONE)} ORDER BY {order_by} LIMIT {limit}",
        **sql.values,
    )
    return rows, edge is None


def _beyond(sql: Sql, order: AlongTime, moment: int, tie: Any, *, behind: bool) -> str:
    """The runs behind a place in the order, or those up to it, with it."""
    at, its = sql.value(moment), sql.value(tie)
    sign = "<" if order.descending == behind else ">"
    if order.descending == order.tie_descending:
        return f"(r.started_at, {order.tie}) {sign}{'' if behind else '='} ({at}, {its})"
    tie_sign = f"{'<' if order.tie_descending == behind else '>'}{'' if behind else '='}"
    # the first condition is what the index is read by
    return f"r.started_at {sign}= {at} AND (r.started_at {sign} {at} OR {order.tie} {tie_sign} {its})"


INDEXES = {"metric": "metrics_by_value", "param": "params_by_value", "tag": "tags_by_value"}


def _has_index(field: Field) -> bool:
    return field.kind in INDEXES and field.aggregate == "last"


def _walk_index(
    read: Reader, wanted: Wanted, orders: Sequence[Order], limit: int, after: list[Any] | None
) -> list[Row] | None:
    """Along the index of a metric's, param's or tag's values: equal ones are sorted among themselves, and when the page
    is full the rest is not looked at. None if there are too few that have a value: those without come after them."""
    rows: list[Row] = []
    for led in range(2 if orders[0].numbers else 1):  # first the params that are numbers, then the others
        if len(rows) < limit and (after is None or any(value is not None for value in after[: led + 1])):
            rows += _walk_values(read, wanted, orders, limit - len(rows), after, led)
    return rows if len(rows) == limit else None


def _walk_values(
    read: Reader, wanted: Wanted, orders: Sequence[Order], limit: int, after: list[Any] | None, led: int
) -> list[Row]:
    """Along the index of one of the first orders, of runs that have nothing in those before it."""
    sql = Sql(read, wanted)
    columns, joins = _order_columns(sql, orders)
    order, field = orders[led], orders[led].field
    way, sign = ("DESC", "<=") if order.descending else ("ASC", ">=")
    index = "params_by_number" if order.numbers else INDEXES[field.kind]
    is_text = field.kind != "metric" and not order.numbers
    indexed = f"o{led}.{'value' if is_text else 'number' if order.numbers else 'last'}"
    where = [f"o{led}.key = {sql.number(field.name)}", f"{indexed} IS NOT NULL", base(sql, wanted, NONE)]
    where += [f"{column} IS NULL" for column in columns[:led]]
    if after is not None:
        where.append(_behind(sql, columns, orders, after))
        if all(value is None for value in after[:led]):  # else the page before ended ahead of all that is looked at
            start = str(after[led])[:BEGINNING] if is_text else after[led]
            where.append(f"{indexed} {sign} {sql.value(start)}")
    terms = [f"{indexed} {way}", *([f"o{led}.rest {way}"] if is_text else []), *_sort_terms(columns, orders)]
    del terms[1 + is_text : 3 + is_text + 2 * led]
    # SQLite is told the way, because its planner knows nothing of how many will pass
    source = f"{TABLES[field.kind]} o{led} "
    source += f"INDEXED BY {index} CROSS JOIN" if read.kind == "sqlite" else "JOIN"
    others = [join for place, join in enumerate(joins) if place != led]
    return read.all(
        f"SELECT {', '.join(columns)}, r.started_at, r.key FROM {source} runs r ON r.key = o{led}.run "
        f"{' '.join(others)} WHERE {' AND '.join(where)} ORDER BY {', '.join(terms)} LIMIT {limit}",
        **sql.values,
    )


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
            joins.append(
                f"LEFT JOIN {TABLES[field.kind]} o{index} ON o{index}.run = r.key "
                f"AND o{index}.key = {sql.number(field.name)}"
            )
            if order.numbers:
                columns.append(f"o{index}.number")
            elif field.kind == "metric":
                columns.append(f"o{index}.{field.aggregate}")
            else:
                columns.append(f"(o{index}.value || o{index}.rest)")
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
        if order.field == NEWEST.field:
            last = "<" if order.descending else ">"
        sign = "<" if order.descending else ">"
        if value is None:
            same.append(f"{column} IS NULL")
            continue
        held = sql.value(value)
        ways.append(" AND ".join([*same, f"({column} {sign} {held} OR {column} IS NULL)"]))
        same.append(f"{column} = {held}")
    ways.append(" AND ".join([*same, f"(r.started_at, r.key) {last} ({sql.value(after[-2])}, {sql.value(after[-1])})"]))
    return "(" + " OR ".join(f"({way})" for way in ways) + ")"


def _write_cursor(row: Row, orders: Sequence[Order]) -> str:
    """Where the page ended. Of a long text only the digest is kept: a cursor has to fit into an address."""
    import base64

    held = [
        [digest(value.encode())] if isinstance(value, str) and len(value) > BEGINNING else value for value in row[:-2]
    ]
    packed = msgspec.msgpack.encode([_order_digest(orders), *held, *row[-2:]])
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _order_digest(orders: Sequence[Order]) -> str:
    facts = [(o.field.kind, o.field.name, o.field.aggregate, o.descending, o.numbers) for o in orders]
    return digest(msgspec.json.encode(facts))[:8]


def _read_cursor(read: Reader, wanted: Wanted, cursor: str, orders: Sequence[Order]) -> list[Any] | None:
    import base64
    import binascii

    if not cursor:
        return None
    try:
        found = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        found = None
    fits = isinstance(found, list) and len(found) == len(orders) + 3 and found[0] == _order_digest(orders)
    if not fits or not all(map(_may_be_held, found[1:-2], orders)) or not all(map(_is_whole, found[-2:])):
        raise Invalid("`cursor` is not a page's `next`", hint="pass on what the page before said, with the same order")
    after: list[Any] = found[1:]
    if any(isinstance(value, list) for value in after):
        _fill_in(read, wanted, orders, after)
    return after


def _is_whole(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _may_be_held(value: Any, order: Order) -> bool:
    """Whether the field can have such a value."""
    if value is None:
        return True
    field = order.field
    if order.numbers or field.kind == "metric" or (field.kind == "attribute" and field.name in NUMERIC):
        return type(value) is float or _is_whole(value)
    is_digest = isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)
    return is_digest or isinstance(value, str)


def _fill_in(read: Reader, wanted: Wanted, orders: Sequence[Order], after: list[Any]) -> None:
    """The long texts of the run at which the page ended, if they are still what they were."""
    sql = Sql(read, wanted)
    columns, joins = _order_columns(sql, orders)
    row = read.one(
        f"SELECT {', '.join(columns)} FROM runs r {' '.join(joins)} "
        f"WHERE r.project = :project AND r.key = {sql.value(after[-1])}",
        **sql.values,
    )
    for index, value in enumerate(after):
        if isinstance(value, list):
            text = None if row is None else row[index]
            if text is None or digest(str(text).encode()) != value[0]:
                raise Invalid("the run at which the page before ended has changed", hint="begin again without `cursor`")
            after[index] = text

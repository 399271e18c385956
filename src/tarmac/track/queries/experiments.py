"""Finding experiments: the language of runs, over a few attributes and tags."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import Invalid
from tarmac.store.sql import Reader
from tarmac.track.filter import Compare, Field, Vocabulary, parse, parse_order
from tarmac.track.queries.rows import DEFAULT, DEFAULT_ID, EXPERIMENT, as_experiments
from tarmac.track.queries.search import DELETED_IS, Order, Sql, Wanted
from tarmac.track.records import Experiment, ExperimentInput

EXPERIMENTS = Vocabulary(
    thing="an experiment",
    kinds={"tag": "tag", "tags": "tag", "attribute": "attribute", "attributes": "attribute", "attr": "attribute"},
    attributes={
        "id": "id", "experiment_id": "id",
        "name": "name",
        "note": "note",
        "created": "created", "creation_time": "created", "created_at": "created",
        "updated": "updated", "last_update_time": "updated", "updated_at": "updated",
    },
    numeric=frozenset({"created", "updated"}),
    times=frozenset({"created", "updated"}),
    example="name, id, created, updated or tags.team",
)  # fmt: skip
NEWEST = Order(Field("attribute", "created"), descending=True)
ID = Field("attribute", "id")


class ExperimentSql(Sql):
    """Conditions on the experiment `e`."""

    def __init__(self, read: Reader, default: str, now: int) -> None:
        super().__init__(read, Wanted(None, None, None, now))
        name = "e.name"
        if default != DEFAULT:
            name = (
                f"CASE WHEN e.id = '{DEFAULT_ID}' AND e.name = '{DEFAULT}' THEN {self.value(default)} ELSE e.name END"
            )
        self.columns = {
            "id": "e.id",
            "name": f"({name})",
            "note": "e.note",
            "created": "e.created_at",
            "updated": "coalesce(e.updated_at, e.created_at)",
        }

    def attribute(self, node: Compare) -> str:
        return self.condition(self.columns[node.field.name], node)

    def carried(self, node: Compare, row: str = "x") -> tuple[str, str]:
        key = f"{row}.name = {self.value(node.field.name)}"
        if node.sign == "is not null":
            return "experiment_tags", key
        return "experiment_tags", f"{key} AND {self.condition(f'{row}.value', node)}"


def search(
    read: Reader, filter: str, order: Sequence[str], deleted: str, default: str, limit: int, cursor: str, now: int
) -> tuple[list[Experiment], str | None]:
    """A page of those that pass, and where the next one starts."""
    sql = ExperimentSql(read, default, now)
    sql.run, sql.owner = "e.key", "experiment"
    node = parse(filter, EXPERIMENTS)
    orders = [Order(*parse_order(text, EXPERIMENTS)) for text in order] or [NEWEST]
    if any(one.field.kind != "attribute" for one in orders):
        raise Invalid("experiments are sorted by name, id, created or updated")
    orders.append(Order(ID, descending=False))
    where = ["e.project = :project"]
    if DELETED_IS[deleted] is not None:
        where.append(f"e.deleted_at IS {'NOT NULL' if DELETED_IS[deleted] else 'NULL'}")
    if node is not None:
        where.append(sql.passes(node, frozenset()))
    columns = [sql.columns[one.field.name] for one in orders]
    signature = digest(msgspec.json.encode([filter, list(order), deleted]))[:8]
    if cursor:
        where.append(_behind(sql, columns, orders, _read(cursor, signature, len(columns))))
    terms = ", ".join(f"{c} {'DESC' if o.descending else 'ASC'}" for c, o in zip(columns, orders, strict=True))
    select = EXPERIMENT.replace("SELECT ", f"SELECT {', '.join(columns)}, ") + " e"
    rows = read.all(f"{select} WHERE {' AND '.join(where)} ORDER BY {terms} LIMIT {limit + 1}", **sql.values)
    page, width = rows[:limit], len(columns)
    following = None
    if len(rows) > limit:
        following = base64.urlsafe_b64encode(msgspec.msgpack.encode([signature, *page[-1][:width]])).decode()
    found = as_experiments(read, [row[width:] for row in page])
    return found, following


def _behind(sql: Sql, columns: Sequence[str], orders: Sequence[Order], after: Sequence[Any]) -> str:
    ways: list[str] = []
    same: list[str] = []
    for column, order, value in zip(columns, orders, after, strict=True):
        held = sql.value(value)
        ways.append(" AND ".join([*same, f"{column} {'<' if order.descending else '>'} {held}"]))
        same.append(f"{column} = {held}")
    return "(" + " OR ".join(f"({way})" for way in ways) + ")"


def _read(cursor: str, signature: str, width: int) -> list[Any]:
    try:
        found = msgspec.msgpack.decode(base64.urlsafe_b64decode(cursor))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        found = None
    fits = isinstance(found, list) and len(found) == width + 1 and found[0] == signature
    if not fits or not all(isinstance(value, (str, int)) for value in found[1:]):
        raise Invalid("`cursor` is not a page's `next`", hint="pass on what the page before said, with the same filter")
    after: list[Any] = found[1:]
    return after


def inputs(read: Reader, experiments: Sequence[int], limit: int) -> list[ExperimentInput]:
    """What the runs of experiments were given, the newest run's first."""
    keys = ", ".join(map(str, experiments)) or "NULL"
    rows = read.all(
        "SELECT e.id, i.name, i.version, i.context, max(r.key) AS newest FROM run_inputs i "
        "JOIN runs r ON r.key = i.run JOIN experiments e ON e.key = r.experiment "
        f"WHERE r.experiment IN ({keys}) AND r.deleted_at IS NULL "
        "GROUP BY e.id, i.name, i.version, i.context ORDER BY newest DESC, i.name, i.version LIMIT :n",
        n=limit,
    )
    return [
        ExperimentInput(experiment=id, name=name, version=version, context=context)
        for id, name, version, context, _ in rows
    ]

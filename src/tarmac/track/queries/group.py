"""All matching runs by the values of some fields, computed in the store."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tarmac.core.errors import Invalid
from tarmac.store.sql import Reader
from tarmac.track import points
from tarmac.track.filter import Field
from tarmac.track.queries.search import ALL, ATTRIBUTE, TABLES, Sql, Wanted, all_runs, base
from tarmac.track.records import Group, Spread


def group(
    read: Reader, wanted: Wanted, names: Sequence[str], fields: Sequence[Field], metrics: Sequence[str], limit: int
) -> list[Group]:
    """The largest groups first."""
    sql = Sql(read, wanted)
    columns, joins = [], []
    for index, field in enumerate(fields):
        if field.kind == "attribute":
            columns.append(ATTRIBUTE[field.name])
        elif field.kind in ("param", "tag"):
            joins.append(_join(TABLES[field.kind], f"g{index}", sql.number(field.name)))
            columns.append(f"(g{index}.value || g{index}.rest)")
        else:
            raise Invalid(f"runs cannot be grouped by `{names[index]}`", hint="group by params, tags or attributes")
    figures = []
    for index, name in enumerate(metrics):
        joins.append(_join("metrics", f"m{index}", sql.number(name)))
        value = f"m{index}.last"
        # squares are taken around a middle value: of large numbers that lie close they would cancel out
        middle = sql.value(_middle(read, sql.number(name)))
        figures += [
            f"count({value})", f"avg({value})", f"min({value})", f"max({value})",
            f"avg(({value} - {middle}) * ({value} - {middle}))", f"avg({value} - {middle})",
        ]  # fmt: skip
    by = ", ".join(str(index + 1) for index in range(len(columns)))
    # the databases do not agree on where what is missing stands
    order = ", ".join([f"{len(columns) + 1} DESC", *(f"{index + 1} NULLS LAST" for index in range(len(columns)))])
    rows = read.all(
        f"SELECT {', '.join([*columns, 'count(*)', *figures])} FROM {all_runs(sql, wanted)} {' '.join(joins)} "
        f"WHERE {base(sql, wanted, ALL)} GROUP BY {by} ORDER BY {order} LIMIT {limit}",
        **sql.values,
    )
    return [
        Group(
            by={name: None if value is None else str(value) for name, value in zip(names, row, strict=False)},
            runs=row[len(columns)],
            metrics={
                name: _spread(row[len(columns) + 1 + 6 * index : len(columns) + 7 + 6 * index])
                for index, name in enumerate(metrics)
            },
        )
        for row in rows
    ]


def _join(table: str, name: str, key: int) -> str:
    return f"LEFT JOIN {table} {name} ON {name}.run = r.key AND {name}.key = {key}"


def _middle(read: Reader, key: int) -> float:
    found = read.value("SELECT last FROM metrics WHERE key = :key AND last > -1e300 AND last < 1e300 LIMIT 1", key=key)
    return float(found or 0.0)


def _spread(row: Sequence[float | None]) -> Spread:
    n, mean, low, high, squares, shift = row
    if not n:
        return Spread(n=0, mean=None, std=None, min=None, max=None)
    # SQLite has no NaN: what infinities of both signs come to is NULL there
    mean, squares, shift = (math.nan if value is None else value for value in (mean, squares, shift))
    variance = squares - shift * shift
    std = math.sqrt(max(0.0, variance)) if variance == variance else math.nan
    return Spread(
        n=int(n),
        mean=points.text(mean),  # type: ignore[arg-type]
        std=points.text(std),  # type: ignore[arg-type]
        min=points.text(low),  # type: ignore[arg-type]
        max=points.text(high),  # type: ignore[arg-type]
    )

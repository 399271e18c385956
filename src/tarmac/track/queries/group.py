"""All matching runs by the values of some fields, computed in the store."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tarmac.core.errors import Invalid
from tarmac.store.sql import Reader, Row
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
    source = f"{all_runs(sql, wanted)} {' '.join(joins)} WHERE {base(sql, wanted, ALL)}"
    rows = read.all(
        f"SELECT {', '.join([*columns, 'count(*)', *figures])} FROM {source} "
        f"GROUP BY {by} ORDER BY {order} LIMIT {limit}",
        **sql.values,
    )
    wide = len(columns)
    cut = [[row[wide + 1 + 6 * index : wide + 7 + 6 * index] for row in rows] for index in range(len(metrics))]
    for index, found in enumerate(cut):
        if any(map(_cancels, found)):
            exact = _around_own_mean(read, sql, columns, f"m{index}.last", source)
            cut[index] = [
                (*figure[:4], *exact[row[:wide]]) if _cancels(figure) and row[:wide] in exact else figure
                for row, figure in zip(rows, found, strict=True)
            ]
    return [
        Group(
            by={name: None if value is None else str(value) for name, value in zip(names, row, strict=False)},
            runs=row[wide],
            metrics={name: _spread(found[place]) for name, found in zip(metrics, cut, strict=True)},
        )
        for place, row in enumerate(rows)
    ]


def _cancels(row: Sequence[float | None]) -> bool:
    """Whether a group lies so far from the middle of all that the squares around that say little of its spread."""
    _, _, low, high, squares, shift = row
    if low == high or squares is None or shift is None:
        return False
    return squares - shift * shift < 1e-4 * squares


def _around_own_mean(read: Reader, sql: Sql, columns: Sequence[str], value: str, source: str) -> dict[Row, Row]:
    """Squares and shift of each group around its own mean: exact, and slower."""
    named = [f"{column} AS b{index}" for index, column in enumerate(columns)]
    by = ", ".join(f"b{index}" for index in range(len(columns)))
    mean = f"avg({value}) OVER (PARTITION BY {', '.join(columns)})"
    rows = read.all(
        f"SELECT {by}, avg((v - mean) * (v - mean)), avg(v - mean) "
        f"FROM (SELECT {', '.join(named)}, {value} AS v, {mean} AS mean FROM {source}) AS every GROUP BY {by}",
        **sql.values,
    )
    return {row[:-2]: row[-2:] for row in rows}


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
    if low == high and math.isfinite(mean):
        std = 0.0
    return Spread(
        n=int(n),
        mean=points.text(mean),  # type: ignore[arg-type]
        std=points.text(std),  # type: ignore[arg-type]
        min=points.text(low),  # type: ignore[arg-type]
        max=points.text(high),  # type: ignore[arg-type]
    )

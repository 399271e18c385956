"""Runs as a table, in whichever library is there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from tarmac.track.operations import ListRuns
from tarmac.workspace import connect

PAGE = 1000


def runs(
    filter: str = "",
    *,
    columns: list[str] | None = None,
    order: list[str] | None = None,
    experiment: list[str] | None = None,
    most: int | None = None,
    workspace: str | Path | None = None,
    project: str | None = None,
    form: str | None = None,
) -> Any:
    """All runs that pass a filter, as a polars or pandas frame if one of them is installed, else as dictionaries.

    Columns are named as in the filter language: metrics.acc, params.depth, tags.stage. `form` is "polars", "pandas" or
    "rows".
    """
    rows: list[dict[str, Any]] = []
    cursor = ""
    with connect(workspace, project) as opened:
        while most is None or len(rows) < most:
            limit = PAGE if most is None else min(PAGE, most - len(rows))
            page = opened(
                ListRuns(
                    filter=filter,
                    columns=columns,
                    order=order or [],
                    experiment=experiment or [],
                    limit=limit,
                    cursor=cursor,
                )
            )
            rows += [_flat(msgspec.to_builtins(run)) for run in page.runs]
            if page.next is None:
                break
            cursor = page.next
    return _as(form or _installed(), rows)


def _flat(run: dict[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in run.items() if not isinstance(value, dict)}
    for kind in ("metrics", "params", "tags"):
        for name, value in run[kind].items():
            row[f"{kind}.{name}"] = float(value) if kind == "metrics" else value
    return row


def _installed() -> str:
    return next((name for name in ("polars", "pandas") if find_spec(name)), "rows")


def _as(form: str, rows: list[dict[str, Any]]) -> Any:
    if form == "polars":
        import polars as pl

        return pl.from_dicts(rows, infer_schema_length=None) if rows else pl.DataFrame()
    if form == "pandas":
        import pandas as pd

        return pd.DataFrame(rows)
    return rows

"""How tables of pandas, polars and Arrow are written."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tarmac.logging.documents import Ways, write_json


def pandas() -> Ways:
    """Parquet is implied where a library for it is installed, else CSV."""
    parquet: Ways = {".parquet": _pandas_parquet}
    others: Ways = {".csv": _pandas_csv, ".json": _pandas_json}
    if any(find_spec(library) is not None for library in ("pyarrow", "fastparquet")):
        return {**parquet, **others}
    return {**others, **parquet}


def _frame(table: Any) -> Any:
    """A pandas table with columns, called by text as the formats want it."""
    if not hasattr(table, "columns"):
        table = table.to_frame("value" if table.name is None else table.name)
    return table.rename(columns=str)


def _has_plain_index(table: Any) -> bool:
    return type(table.index).__name__ == "RangeIndex" and table.index.name is None


def _pandas_parquet(table: Any, path: Path) -> None:
    with path.open("wb") as file:
        _frame(table).to_parquet(file)


def _pandas_csv(table: Any, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        _frame(table).to_csv(file, index=not _has_plain_index(table), lineterminator="\n")


def _pandas_json(table: Any, path: Path) -> None:
    rows = table if _has_plain_index(table) else table.reset_index()
    with path.open("w", encoding="utf-8") as file:
        _frame(rows).to_json(file, orient="records", date_format="iso")


def _polars(way: str) -> Callable[[Any, Path], None]:
    def write(table: Any, path: Path) -> None:
        if hasattr(table, "collect"):
            table = table.collect()
        if hasattr(table, "to_frame"):
            table = table.to_frame()
        with path.open("wb") as file:
            getattr(table, way)(file)

    return write


def _arrow(table: Any) -> Any:
    import pyarrow as pa

    return table if isinstance(table, pa.Table) else pa.Table.from_batches([table])


def _arrow_parquet(table: Any, path: Path) -> None:
    from pyarrow import parquet

    with path.open("wb") as file:
        parquet.write_table(_arrow(table), file)


def _arrow_csv(table: Any, path: Path) -> None:
    from pyarrow import csv

    with path.open("wb") as file:
        csv.write_csv(table, file)


def _arrow_json(table: Any, path: Path) -> None:
    write_json(table.to_pylist(), path)


POLARS: Ways = {".parquet": _polars("write_parquet"), ".csv": _polars("write_csv"), ".json": _polars("write_json")}
ARROW: Ways = {".parquet": _arrow_parquet, ".csv": _arrow_csv, ".json": _arrow_json}

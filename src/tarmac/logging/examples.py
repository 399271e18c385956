"""What an example of a model's input looks like: its shape, its types and some rows, from which a signature is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tarmac.core.errors import Invalid, bounded
from tarmac.logging.documents import json
from tarmac.logging.things import is_a

MOST_ROWS = 20
MOST_BYTES = 256 * 1024
MOST_FIELDS = 2000


def describe(example: Any) -> dict[str, Any]:
    """Rows are left out from the end, down to none, until what is kept is small."""
    try:
        return _describe(example)
    except Invalid as error:
        raise Invalid(
            f"the example cannot be kept: {error.message}",
            hint="an example is a table, an array, a tensor, or lists and dicts of numbers and text",
        ) from None


def _describe(example: Any) -> dict[str, Any]:
    if is_a(example, "pandas", "Series"):
        example = example.to_frame("value" if example.name is None else example.name)
    if is_a(example, "pandas", "DataFrame"):
        types = [str(kind) for kind in example.dtypes]
        rows = [list(row) for row in example.head(MOST_ROWS).itertuples(index=False, name=None)]
        nulls = [bool(found) for found in example.isna().any()]
        return _table("pandas", example.shape, [str(name) for name in example.columns], types, rows, nulls)
    if is_a(example, "polars", "DataFrame"):
        types = [str(kind) for kind in example.dtypes]
        rows = [list(row) for row in example.head(MOST_ROWS).rows()]
        nulls = [bool(column.null_count()) or _has_nan(column) for column in example.get_columns()]
        return _table("polars", example.shape, example.columns, types, rows, nulls)
    if is_a(example, "pyarrow", "Table"):
        types = [str(kind) for kind in example.schema.types]
        rows = [list(row.values()) for row in example.slice(0, MOST_ROWS).to_pylist()]
        nulls = [bool(column.null_count) for column in example.columns]
        return _table("arrow", example.shape, example.column_names, types, rows, nulls)
    if hasattr(example, "shape") and hasattr(example, "dtype"):
        return _array(example)
    if isinstance(example, Mapping):
        if len(example) > MOST_FIELDS:
            raise Invalid(f"it has {len(example):,} fields; at most {MOST_FIELDS:,} are kept")
        return {"kind": "dict", "fields": {str(name): _describe(value) for name, value in example.items()}}
    if isinstance(example, list | tuple):
        return {"kind": "list", "shape": [len(example)], "rows": _bounded(list(example[:MOST_ROWS]))}
    return {"kind": type(example).__name__, "rows": _bounded([example])}


def _has_nan(column: Any) -> bool:
    return bool(column.dtype.is_float()) and bool(column.is_nan().any())


def _table(
    kind: str, shape: Any, columns: list[str], types: list[str], rows: list[Any], nulls: list[bool]
) -> dict[str, Any]:
    named = [
        {"name": name, "dtype": dtype, **({"nullable": True} if null else {})}
        for name, dtype, null in zip(columns, types, nulls, strict=True)
    ]
    return {"kind": kind, "shape": list(shape), "columns": named, "rows": _bounded(rows)}


def _array(example: Any) -> dict[str, Any]:
    kind = type(example).__module__.partition(".")[0]
    found = {"kind": kind, "shape": [int(size) for size in example.shape], "dtype": str(example.dtype)}
    if not hasattr(example, "tolist"):  # sparse: rows of it would be mostly zeros
        return {**found, "rows": []}
    first = example[:MOST_ROWS] if len(found["shape"]) else example
    return {**found, "rows": _bounded(first.tolist() if len(found["shape"]) else [first.tolist()])}


def _bounded(rows: list[Any]) -> list[Any]:
    while rows and len(json(rows)) > MOST_BYTES:
        rows = rows[: len(rows) // 2]
    for row in rows[:1]:
        if callable(row):
            raise Invalid(f"it holds {bounded(repr(row))}")
    return rows

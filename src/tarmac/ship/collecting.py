"""From the runtime's segments to tables: one of predictions for each endpoint, one of what was right.

A segment that was cut by a crash gives what is whole of it. Segments are deleted only by whoever has kept the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.formats import segments
from tarmac.formats.segments import Column, Predictions, Truths
from tarmac.formats.signature import INPUT, Signature

if TYPE_CHECKING:
    import pyarrow as pa

SignatureOf = Callable[[str, str], Signature | None]
"""Of an endpoint's version, as the package says."""


def finished(folder: Path) -> list[Path]:
    """Segments that do not grow any more, the oldest first."""
    return sorted(folder.glob("*.seg"))


def abandoned(folder: Path, *, before: float) -> Iterator[Path]:
    """Segments of workers that were killed: nobody has written to them since `before`."""
    for part in sorted(folder.glob("*.seg.part")):
        if part.stat().st_mtime < before:
            whole = part.with_suffix("")
            part.replace(whole)
            yield whole


def read(paths: Sequence[Path]) -> list[Predictions | Truths]:
    found: list[Predictions | Truths] = []
    for path in paths:
        with path.open("rb") as file:
            found += segments.read(file, path.name)
    return found


def predictions(parts: Sequence[Predictions | Truths], signature_of: SignatureOf) -> dict[str, pa.Table]:
    """A row for each row that was predicted, by endpoint; what was asked of a matrix has its columns' names again."""
    import pyarrow as pa

    by_endpoint: dict[str, list[pa.Table]] = {}
    for part in parts:
        if isinstance(part, Predictions):
            by_endpoint.setdefault(part.endpoint, []).append(_table(part, signature_of(part.endpoint, part.version)))
    return {
        endpoint: pa.concat_tables(tables, promote_options="permissive") for endpoint, tables in by_endpoint.items()
    }


def truths(parts: Sequence[Predictions | Truths]) -> pa.Table | None:
    """What was right, by the id of the prediction, as JSON: it is of any type."""
    import msgspec
    import pyarrow as pa

    found = [part for part in parts if isinstance(part, Truths)]
    if not found:
        return None
    return pa.table(
        {
            "id": [id for part in found for id in part.ids],
            "endpoint": [endpoint or None for part in found for endpoint in part.endpoints],
            "at": _times([at for part in found for at in part.at]),
            "truth": [msgspec.json.encode(truth).decode() for part in found for truth in part.truths],
            "facts": [msgspec.json.encode(facts).decode() for part in found for facts in part.facts],
        }
    )


def _times(seconds: list[float]) -> pa.Array:
    import pyarrow as pa

    return pa.array([int(at * 1e6) for at in seconds], pa.timestamp("us", "UTC"))


def _table(part: Predictions, signature: Signature | None) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    counts = np.array(part.rows)
    whose = np.repeat(np.arange(len(counts)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    columns: dict[str, Any] = {
        "id": pa.array(part.ids).take(whose),
        "row": np.arange(len(whose)) - first,
        "at": _times(part.at).take(whose),
        "version": pa.array([part.version] * len(whose)),
        "key": pa.array(part.keys, pa.string()).take(whose),
        "microseconds": np.array(part.micros)[whose],
    }
    for column in part.inputs:
        columns |= _columns(column, "input.", signature, whose)
    for column in part.outputs:
        columns |= _columns(column, "", None, whose)
    return pa.table(columns)


def _columns(column: Column, prefix: str, signature: Signature | None, whose: Any) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa

    name = f"{prefix}{column.name}"
    if column.digests:
        return {f"{name}.digest": pa.array(column.digests).take(whose)}
    width = 1
    for size in column.shape:
        width *= size
    if column.dtype == "text":
        flat: Any = pa.array(column.texts, pa.string())
        return {name: flat if not column.shape else pa.FixedSizeListArray.from_arrays(flat, width)}
    values = np.frombuffer(column.data, column.dtype).reshape(-1, *column.shape)
    names = signature.names() if signature is not None and signature.layout == "columns" else []
    if column.name == INPUT and len(column.shape) == 1 and len(names) == column.shape[0]:
        return {f"{prefix}{each}": values[:, place] for place, each in enumerate(names)}
    if not column.shape:
        return {name: values}
    return {name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)}

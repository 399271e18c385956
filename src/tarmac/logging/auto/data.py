"""What a data set was, told without keeping it: its shape, its columns, and a digest of what is in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tarmac.core.digest import digest

MOST_COLUMNS = 200
LARGEST_WHOLE = 64 * 1024 * 1024
"""Of larger data, rows that are spread evenly over it are digested."""
SAMPLED_ROWS = 10_000


def describe(parts: Mapping[str, Any]) -> tuple[str, str]:
    """A name for these arrays and frames, the same whenever they hold the same, and a JSON document about them."""
    about = {}
    for name, part in parts.items():
        if part is None:
            continue
        facts = _facts(part)
        digested, whole = _digest(part)
        if digested is not None:
            facts["digest"] = digested
            facts["digest_of"] = "all" if whole else f"{SAMPLED_ROWS:,} rows"
        about[name] = facts
    document = msgspec.json.encode(about)
    return f"training-data@{digest(document)[:16]}", document.decode()


def _facts(part: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": f"{type(part).__module__.partition('.')[0]}.{type(part).__name__}"}
    shape = shape_of(part)
    if shape:
        facts["shape"] = shape
    columns = getattr(part, "columns", None)
    if columns is not None and not callable(columns):
        kinds = [str(kind) for kind in getattr(part, "dtypes", [])]
        names = [str(column) for column in columns]
        facts["columns"] = dict(zip(names[:MOST_COLUMNS], kinds[:MOST_COLUMNS], strict=False))
        if len(names) > MOST_COLUMNS:
            facts["more_columns"] = len(names) - MOST_COLUMNS
    elif getattr(part, "dtype", None) is not None:
        facts["dtype"] = str(part.dtype)
    return facts


def shape_of(part: Any) -> list[int]:
    shape = getattr(part, "shape", None)
    if shape is None or callable(shape):
        return [len(part)] if hasattr(part, "__len__") else []
    return [int(length) for length in shape]


def rows_of(part: Any, most: int) -> Any:
    """At most so many rows of an array or a frame, spread evenly over it, in its own kind."""
    count = shape_of(part)[0]
    if count <= most:
        return part
    step = count // most
    if hasattr(part, "iloc"):
        return part.iloc[::step].iloc[:most]
    return part[::step][:most]


def _digest(part: Any) -> tuple[str | None, bool]:
    """A digest of the content and whether it is of all of it; None for what we cannot look into."""
    numpy: Any = sys.modules.get("numpy")
    shape = shape_of(part)
    if numpy is None or not shape or not shape[0] or not _can_be_read(part, numpy):
        return None, False
    whole = _size(part, numpy) <= LARGEST_WHOLE
    digests = []
    for array in _arrays(part if whole else rows_of(part, SAMPLED_ROWS), numpy):
        if array.dtype.hasobject:
            content: Any = "\x1f".join(map(str, array.ravel())).encode("utf-8", "replace")
        else:
            content = numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)
        digests.append(f"{array.dtype} {digest(content)}")
    return digest("\n".join(digests).encode()), whole


def _can_be_read(part: Any, numpy: Any) -> bool:
    ways = ("indptr", "iloc", "get_columns")
    return isinstance(part, (numpy.ndarray, list, tuple)) or any(hasattr(part, way) for way in ways)


def _size(part: Any, numpy: Any) -> int:
    """In bytes, roughly."""
    if hasattr(part, "indptr"):
        return int(part.data.nbytes)
    if isinstance(part, numpy.ndarray) and not part.dtype.hasobject:
        return int(part.nbytes)
    cells = 1
    for length in shape_of(part):
        cells *= length
    return cells * 64


def _arrays(part: Any, numpy: Any) -> Iterator[Any]:
    """What holds the content, as numpy arrays."""
    if hasattr(part, "indptr"):  # sparse, by rows or columns
        yield from (part.data, part.indices, part.indptr)
    elif isinstance(part, numpy.ndarray):
        yield part
    elif hasattr(part, "columns") and hasattr(part, "iloc"):  # a frame of pandas, which may have a name twice
        for number in range(len(part.columns)):
            yield part.iloc[:, number].to_numpy()
    elif hasattr(part, "iloc"):
        yield part.to_numpy()
    elif hasattr(part, "get_columns"):  # polars
        for column in part.get_columns():
            yield column.to_numpy()
    elif isinstance(part[0], (bool, int, float, list, tuple, numpy.ndarray)):
        yield numpy.asarray(part)
    else:  # texts: as an array of their own kind each would take as much as the longest
        yield numpy.asarray(part, dtype=object)

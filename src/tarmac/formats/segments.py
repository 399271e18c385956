"""Prediction segments: what the runtime answered, as frames of columns that an agent makes tables of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from tarmac.core.digest import digest
from tarmac.formats import frames

if TYPE_CHECKING:
    import numpy as np

header = frames.header
frame = frames.encode


class Column(msgspec.Struct, array_like=True, gc=False):
    """All rows of one input or output. A tensor that is too large to be kept has digests instead of bytes."""

    name: str
    dtype: str
    shape: list[int]
    data: bytes
    texts: list[str | None] = []
    digests: list[str] = []


class Predictions(msgspec.Struct, array_like=True, gc=False, tag="predictions"):
    """Requests of one version with the same inputs; `rows` says how many rows each of them has."""

    endpoint: str
    version: str
    ids: list[str]
    at: list[float]
    micros: list[int]
    keys: list[str | None]
    rows: list[int]
    inputs: list[Column]
    outputs: list[Column]


class Truths(msgspec.Struct, array_like=True, gc=False, tag="truths"):
    """What was right, by the ids of predictions; it may come long after them, or before."""

    ids: list[str]
    endpoints: list[str]
    at: list[float]
    truths: list[Any]
    facts: list[dict[str, Any]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Predictions | Truths)
encode = _encoder.encode


def columns(endpoint: str, version: str, entries: Sequence[tuple[Any, ...]], largest: int) -> Predictions:
    """Of the runtime's tuples: endpoint, version, id, at, micros, key, rows, inputs, outputs."""
    _, _, ids, at, micros, keys, rows, inputs, outputs, *_ = (list(part) for part in zip(*entries, strict=True))
    return Predictions(
        endpoint, version, ids, at, micros, keys, rows, _columns(inputs, largest), _columns(outputs, largest)
    )


def _columns(parts: list[dict[str, np.ndarray[Any, Any]]], largest: int) -> list[Column]:
    import numpy as np

    found = []
    for name, first in parts[0].items():
        arrays = [part[name] for part in parts]
        if first.nbytes > largest:
            digests = [digest(np.ascontiguousarray(array).tobytes()) for array in arrays]
            found.append(Column(name, first.dtype.str, list(first.shape[1:]), b"", digests=digests))
            continue
        joined = np.concatenate(arrays) if first.ndim else np.stack(arrays)
        shape = list(joined.shape[1:])
        if joined.dtype.kind in "OSU":
            found.append(Column(name, "text", shape, b"", [_text(item) for item in joined.ravel().tolist()]))
        else:
            found.append(Column(name, joined.dtype.str, shape, joined.tobytes()))
    return found


def _text(item: Any) -> str | None:
    if item is None:
        return None
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)


def read(file: BinaryIO, name: str = "this segment") -> Iterator[Predictions | Truths]:
    """Every whole frame; one that was cut off by a crash ends it."""
    for found in frames.read(file, name):
        yield _decoder.decode(found.payload)

"""Tensors as the Open Inference Protocol writes them: the names of types, and bytes as they lie on the wire."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Invalid, bounded
from tarmac.formats.arrays import dtype

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32",
    "float64": "FP64", "text": "BYTES", "bytes": "BYTES", "time": "INT64", "any": "BYTES",
}  # fmt: skip
TYPES = {name: kind for kind, name in DATATYPES.items() if kind not in ("text", "time", "any")}
_LENGTH = struct.Struct("<I")


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """A tensor of raw little-endian bytes. Numbers are not copied: they look into `data`."""
    import numpy as np

    count = _count(name, shape)
    if datatype == "BYTES":
        found = np.empty(count, dtype=object)
        found[:] = _pieces(name, memoryview(data), count)
        return found.reshape(shape)
    kind = np.dtype(_type(name, datatype)).newbyteorder("<")
    if len(data) != count * kind.itemsize:
        raise Invalid(
            f"`{bounded(name)}` has {len(data)} bytes; {datatype} of shape {list(shape)} has {count * kind.itemsize}"
        )
    return np.frombuffer(data, dtype=kind).reshape(shape)


def from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> Array:
    """A tensor of JSON values, flat or nested."""
    import numpy as np

    count = _count(name, shape)
    kind = "object" if datatype == "BYTES" else _type(name, datatype)
    try:
        found = np.asarray(values, dtype=kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid(f"`{bounded(name)}` is no {datatype}: {bounded(error)}") from None
    if found.size != count:
        raise Invalid(f"`{bounded(name)}` has {found.size} values; the shape {list(shape)} has {count}")
    return found.reshape(shape)


def to_bytes(array: Array) -> tuple[str, bytes]:
    """The datatype and the raw bytes of an answer."""
    import numpy as np

    if array.dtype.kind in "OUS":
        pieces = [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]
        return "BYTES", b"".join(part for piece in pieces for part in (_LENGTH.pack(len(piece)), piece))
    if array.dtype.kind == "M":
        array = array.astype("datetime64[ns]").astype("int64")
    return datatype_of(array), np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def datatype_of(array: Array) -> str:
    return DATATYPES.get(str(array.dtype), "INT64" if array.dtype.kind == "M" else "BYTES")


def _type(name: str, datatype: str) -> str:
    if datatype not in TYPES:
        raise Invalid(f"`{bounded(name)}` has no known datatype: `{bounded(datatype)}`", hint=", ".join(TYPES))
    return dtype(TYPES[datatype])


def _count(name: str, shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        if type(size) is not int or size < 0:
            raise Invalid(f"`{bounded(name)}` has no shape that can be: {bounded(list(shape))}")
        count *= size
    return count


def _pieces(name: str, data: memoryview, count: int) -> list[bytes]:
    """Byte strings, each behind its length."""
    found: list[bytes] = []
    at = 0
    for _ in range(count):
        if at + 4 > len(data):
            raise Invalid(f"`{bounded(name)}` ends after {len(found)} of {count} strings")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise Invalid(f"`{bounded(name)}` ends within string {len(found)}")
        found.append(bytes(data[at : at + length]))
        at += length
    if at != len(data):
        raise Invalid(f"`{bounded(name)}` has {len(data) - at} bytes behind its {count} strings")
    return found

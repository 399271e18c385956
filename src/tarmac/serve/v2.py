"""The Open Inference Protocol, version 2: JSON and binary tensors to arrays, and back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from tarmac.core.errors import Invalid, bounded

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MOST_TENSORS = 1000
MOST_ELEMENTS = 1 << 28
PACKED = 4096
"""Up to here a list of floats is packed faster than numpy converts it."""
HEADER = b"inference-header-content-length"

DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
NAMES = {
    ("b", 1): "BOOL", ("u", 1): "UINT8", ("u", 2): "UINT16", ("u", 4): "UINT32", ("u", 8): "UINT64", ("i", 1): "INT8",
    ("i", 2): "INT16", ("i", 4): "INT32", ("i", 8): "INT64", ("f", 2): "FP16", ("f", 4): "FP32", ("f", 8): "FP64",
}  # fmt: skip
FLOATS = ("FP16", "FP32", "FP64")
LARGEST = {"FP16": 65504.0, "FP32": 3.4028234663852886e38}
"""JSON has no number that is not finite, but numbers that are not in these types."""
NOTHING = msgspec.Raw()


class Tensor(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: list[int]
    data: msgspec.Raw = NOTHING
    parameters: dict[str, Any] | None = None


class Wanted(msgspec.Struct, gc=False):
    name: str
    parameters: dict[str, Any] | None = None


class Body(msgspec.Struct, gc=False):
    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Wanted] | None = None


class Call:
    """What a caller asks: arrays by the names of inputs, and how the answer shall look."""

    __slots__ = ("binary", "id", "inputs", "outputs", "parameters")

    def __init__(self, body: Body, inputs: dict[str, Array]) -> None:
        self.inputs = inputs
        self.id = body.id
        self.parameters = body.parameters
        self.outputs = body.outputs
        self.binary = bool(body.parameters and body.parameters.get("binary_data_output"))


_body = msgspec.json.Decoder(Body)
_floats = msgspec.json.Decoder(list[float]).decode
_integers = msgspec.json.Decoder(list[int]).decode
DECODERS: dict[str, Callable[[msgspec.Raw], list[Any]]] = {
    **dict.fromkeys(DTYPES, _integers),
    **dict.fromkeys(FLOATS, _floats),
    "BOOL": msgspec.json.Decoder(list[bool]).decode,
    "BYTES": msgspec.json.Decoder(list[str]).decode,
}


@cache
def _packer(count: int, kind: str) -> Callable[..., bytes]:
    return struct.Struct(f"{count}{kind}").pack


def decode(body: bytes, header: bytes | None) -> Call:
    """`header` is the length of the JSON in front of binary tensors, if there are any."""
    if header is None:
        head, tail = body, memoryview(b"")
    else:
        if not header.isdigit() or int(header) > len(body):
            raise Invalid(
                f"`Inference-Header-Content-Length: {bounded(header.decode('latin-1'), 40)}` is not the length of the "
                f"JSON in a body of {len(body):,} bytes",
            )
        length = int(header)
        head, tail = body[:length], memoryview(body)[length:]
    try:
        request = _body.decode(head)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(
            f"the body is no inference request: {bounded(error, 300)}",
            hint='like {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}',
        ) from None
    if len(request.inputs) > MOST_TENSORS:
        raise Invalid(f"a request may have {MOST_TENSORS:,} inputs at most")
    inputs: dict[str, Array] = {}
    at = 0
    for tensor in request.inputs:
        if tensor.name in inputs:
            raise Invalid(f"input `{bounded(tensor.name)}` stands in the request twice")
        count = elements(tensor)
        size = tensor.parameters.get("binary_data_size") if tensor.parameters else None
        if size is None:
            inputs[tensor.name] = _from_json(tensor, count)
            continue
        if type(size) is not int or size < 0 or at + size > len(tail):
            raise Invalid(
                f"input `{bounded(tensor.name)}` is said to have {bounded(size, 40)} binary bytes; "
                f"{len(tail) - at:,} follow",
                hint="say where the JSON ends in the header `Inference-Header-Content-Length`",
            )
        if tensor.data is not NOTHING:
            raise Invalid(f"input `{bounded(tensor.name)}` has both `data` and binary data")
        inputs[tensor.name] = from_bytes(tensor, count, tail[at : at + size])
        at += size
    if at != len(tail):
        raise Invalid(f"{len(tail) - at:,} bytes after the binary tensors belong to none of them")
    return Call(request, inputs)


def elements(tensor: Tensor) -> int:
    if tensor.datatype not in DTYPES and tensor.datatype != "BYTES":
        raise Invalid(
            f"input `{bounded(tensor.name)}` has the unknown datatype `{bounded(tensor.datatype)}`",
            hint=f"known: {', '.join(DTYPES)}, BYTES",
        )
    count = 1
    for length in tensor.shape:
        if length < 0:
            raise Invalid(f"input `{bounded(tensor.name)}` has the impossible shape {bounded(tensor.shape)}")
        count *= length
    if count > MOST_ELEMENTS or len(tensor.shape) > 32:
        raise Invalid(f"input `{bounded(tensor.name)}` is said to have {bounded(count, 40)} elements: too many")
    return count


def _from_json(tensor: Tensor, count: int) -> Array:
    import numpy as np

    if tensor.data is NOTHING:
        raise Invalid(f"input `{bounded(tensor.name)}` has no data")
    kind = tensor.datatype
    try:
        values = DECODERS[kind](tensor.data)
    except (msgspec.DecodeError, RecursionError):
        values = _nested(tensor)
    if len(values) != count:
        raise miscounted(tensor, count, len(values))
    if kind in LARGEST and values and not (-LARGEST[kind] <= min(values) and max(values) <= LARGEST[kind]):
        raise Invalid(f"input `{bounded(tensor.name)}` has a number that is not finite as {kind}")
    if kind == "FP32" and count <= PACKED:
        return np.frombuffer(_packer(count, "f")(*values), np.float32).reshape(tensor.shape)
    try:
        flat = np.array(values, object if kind == "BYTES" else DTYPES[kind])
    except OverflowError:
        raise Invalid(f"input `{bounded(tensor.name)}` has a number that no {kind} can hold") from None
    return flat.reshape(tensor.shape)


def _nested(tensor: Tensor) -> list[Any]:
    """`data` as lists in lists, which the protocol allows too."""
    try:
        value = msgspec.json.decode(tensor.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"the data of input `{bounded(tensor.name)}` cannot be read: {bounded(error)}") from None
    if not isinstance(value, list):
        raise Invalid(f"the data of input `{bounded(tensor.name)}` is not a list")
    for length in tensor.shape[:-1]:
        if len(value) != length or not all(isinstance(part, list) for part in value):
            break
        value = [item for part in value for item in part]
    wanted = str if tensor.datatype == "BYTES" else bool if tensor.datatype == "BOOL" else (int, float)
    whole = tensor.datatype not in FLOATS
    for place, item in enumerate(value):
        wrong = not isinstance(item, wanted) or (isinstance(item, bool) and wanted is not bool)
        if wrong or (whole and isinstance(item, float)):
            raise Invalid(
                f"the data of input `{bounded(tensor.name)}` does not have the shape {bounded(tensor.shape)} of "
                f"{tensor.datatype}: item {place} is {bounded(item, 40)}"
            )
    return value


def from_bytes(tensor: Tensor, count: int, data: memoryview) -> Array:
    import numpy as np

    if tensor.datatype == "BYTES":
        return np.array(_items(tensor, count, data), object).reshape(tensor.shape)
    dtype = np.dtype(DTYPES[tensor.datatype])
    if len(data) != count * dtype.itemsize:
        raise Invalid(
            f"input `{bounded(tensor.name)}` of shape {bounded(tensor.shape)} and {tensor.datatype} has "
            f"{count * dtype.itemsize:,} bytes, not {len(data):,}"
        )
    # a tensor may start at any byte behind the JSON, and engines want theirs aligned
    flat = np.frombuffer(bytearray(data), dtype)
    if tensor.datatype in FLOATS:
        check_finite(flat, tensor.name)
    return flat.reshape(tensor.shape)


def _items(tensor: Tensor, count: int, data: memoryview) -> list[bytes]:
    items: list[bytes] = []
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise Invalid(f"input `{bounded(tensor.name)}` ends inside the length of item {len(items)}")
        length = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if at + length > len(data):
            raise Invalid(f"input `{bounded(tensor.name)}` ends inside item {len(items)}")
        items.append(bytes(data[at : at + length]))
        at += length
        if len(items) > count:
            break
    if len(items) != count:
        raise miscounted(tensor, count, len(items))
    return items


def check_finite(flat: Array, name: str) -> None:
    import numpy as np

    finite = np.isfinite(flat)
    if not finite.all():
        place = int(np.argmin(finite))
        raise Invalid(f"input `{bounded(name)}` has {flat[place]} at {place}: only finite numbers are taken")


def miscounted(tensor: Tensor, count: int, found: int) -> Invalid:
    return Invalid(
        f"input `{bounded(tensor.name)}` has the shape {bounded(tensor.shape)}, which is {count:,} values; "
        f"{found:,} came"
    )


# --- back ---


def datatype(array: Array) -> str:
    return NAMES.get((array.dtype.kind, array.dtype.itemsize), "BYTES")


class Out(msgspec.Struct, omit_defaults=True, gc=False):
    name: str
    datatype: str
    shape: Sequence[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class Answer(msgspec.Struct, omit_defaults=True, gc=False):
    model_name: str
    model_version: str
    outputs: list[Out]
    id: str | None = None
    parameters: dict[str, Any] | None = None


_encoder = msgspec.json.Encoder()


def encode(
    call: Call, model: str, version: str, outputs: Mapping[str, Array], parameters: dict[str, Any] | None
) -> tuple[bytes, int]:
    """The body, and how many bytes of it are JSON if binary tensors follow, else zero."""
    wanted = call.outputs
    if wanted is None and not call.binary:
        answer = Answer(
            model,
            version,
            [Out(name, datatype(array), array.shape, listed(array)) for name, array in outputs.items()],
            call.id,
            parameters,
        )
        return _encoder.encode(answer), 0
    tails: list[bytes] = []
    outs: list[Out] = []
    for name, binary in _chosen(call, outputs):
        array = outputs[name]
        if binary:
            raw = raw_bytes(array)
            tails.append(raw)
            outs.append(Out(name, datatype(array), array.shape, None, {"binary_data_size": len(raw)}))
        else:
            outs.append(Out(name, datatype(array), array.shape, listed(array)))
    head = _encoder.encode(Answer(model, version, outs, call.id, parameters))
    return (b"".join((head, *tails)), len(head)) if tails else (head, 0)


def _chosen(call: Call, outputs: Mapping[str, Array]) -> list[tuple[str, bool]]:
    if not call.outputs:
        return [(name, call.binary) for name in outputs]
    chosen = []
    for wanted in call.outputs:
        if wanted.name not in outputs:
            raise Invalid(f"the model has no output `{bounded(wanted.name)}`", hint=f"it has: {', '.join(outputs)}")
        asked = wanted.parameters.get("binary_data") if wanted.parameters else None
        chosen.append((wanted.name, call.binary if asked is None else bool(asked)))
    return chosen


def listed(array: Array) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    if array.dtype.kind in "SO":
        return [item.decode("utf-8", "replace") if isinstance(item, bytes) else _plain(item) for item in values]
    return values


def _plain(item: Any) -> Any:
    return item if item is None or isinstance(item, str | int | float | bool) else str(item)


def raw_bytes(array: Array) -> bytes:
    if datatype(array) != "BYTES":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    pieces = []
    for item in array.ravel().tolist():
        raw = item if isinstance(item, bytes) else str(item).encode()
        pieces += [len(raw).to_bytes(4, "little"), raw]
    return b"".join(pieces)

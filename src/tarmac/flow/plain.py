"""Plain values as bytes and back, exactly: a tuple stays a tuple, and 1, 1.0 and True stay apart.

msgpack, with tags for what it does not know. Equal values have equal bytes, so their digest stands for them.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import importlib
import sys
import uuid
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

import msgspec

from tarmac.core.errors import Damaged

Leaf = Callable[[Any], int | None]

_encode = msgspec.msgpack.Encoder().encode
Ext = msgspec.msgpack.Ext
TUPLE, SET, FROZENSET, PAIRS, BIG, COMPLEX, TIME, DECIMAL, SCALAR, RECORD, ENUM, PATH, LEAF, UUID, BYTEARRAY, NAN = (
    range(1, 17)
)
NATIVE = (bool, float, str, bytes, type(None))
TIMES = (dt.datetime, dt.date, dt.time, dt.timedelta)
DEEPEST = 200


class NotPlain(Exception):
    """A value, or something in it, that is none of these."""

    def __init__(self, value: object) -> None:
        super().__init__(type(value).__name__)
        self.value = value


def encode(value: Any, leaf: Leaf | None = None) -> bytes:
    """`leaf` may take a value out, and answers with its number."""
    try:
        return _encode(tree(value, leaf, 0))
    except (RecursionError, UnicodeEncodeError):
        raise NotPlain(value) from None


def tree(value: Any, leaf: Leaf | None, depth: int) -> Any:
    kind = type(value)
    if kind in NATIVE:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else Ext(BIG, str(value).encode())
    if depth > DEEPEST:
        raise NotPlain(value)
    if kind is list:
        return [tree(item, leaf, depth + 1) for item in value]
    if kind is dict:
        if all(type(key) is str for key in value):
            return {key: tree(item, leaf, depth + 1) for key, item in value.items()}
        pairs = [[tree(key, leaf, depth + 1), tree(item, leaf, depth + 1)] for key, item in value.items()]
        return Ext(PAIRS, _encode(pairs))
    if kind is tuple:
        return Ext(TUPLE, _encode([tree(item, leaf, depth + 1) for item in value]))
    if kind in (set, frozenset):
        inner = sorted(_encode(tree(item, leaf, depth + 1)) for item in value)
        return Ext(SET if kind is set else FROZENSET, _encode(inner))
    if leaf is not None and (number := leaf(value)) is not None:
        return Ext(LEAF, str(number).encode())
    return _rare(value, leaf, depth)


def _rare(value: Any, leaf: Leaf | None, depth: int) -> Any:
    kind = type(value)
    if kind is complex:
        return Ext(COMPLEX, _encode([value.real, value.imag]))
    if kind is bytearray:
        return Ext(BYTEARRAY, bytes(value))
    if kind in TIMES:
        if kind is dt.timedelta:
            return Ext(TIME, _encode(["timedelta", [value.days, value.seconds, value.microseconds]]))
        return Ext(TIME, _encode([kind.__name__, value.isoformat()]))
    if kind is decimal.Decimal:
        return Ext(DECIMAL, str(value).encode())
    if kind is uuid.UUID:
        return Ext(UUID, value.bytes)
    if isinstance(value, enum.Enum):
        return Ext(ENUM, _encode([*_where(kind), value.name]))
    if isinstance(value, PurePath) and kind.__module__.startswith("pathlib"):
        return Ext(PATH, value.as_posix().encode())
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject:
        return Ext(SCALAR, _encode([value.dtype.str, value.tobytes()]))
    named = isinstance(value, tuple) and hasattr(kind, "_fields")
    if named or isinstance(value, msgspec.Struct) or (is_dataclass(value) and not isinstance(value, type)):
        names = kind._fields if named else kind.__struct_fields__ if isinstance(value, msgspec.Struct) else None
        names = [one.name for one in fields(value)] if names is None else names
        inner = {name: tree(getattr(value, name), leaf, depth + 1) for name in names}
        return Ext(RECORD, _encode([*_where(kind), inner]))
    raise NotPlain(value)


def _where(kind: type) -> tuple[str, str]:
    """Where a class is to be had again."""
    if "<" in kind.__qualname__ or kind.__module__ == "__main__":
        raise NotPlain(kind)
    return kind.__module__, kind.__qualname__


def decode(data: bytes, leaf: Callable[[int], Any] | None = None) -> Any:
    def hook(code: int, payload: memoryview) -> Any:
        return _decoded(code, bytes(payload), decoder, leaf)

    decoder = msgspec.msgpack.Decoder(ext_hook=hook)
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise Damaged(f"a stored value cannot be read: {error}") from None


def _decoded(code: int, data: bytes, decoder: msgspec.msgpack.Decoder[Any], leaf: Any) -> Any:  # noqa: C901
    if code == LEAF:
        return leaf(int(data))
    if code == BIG:
        return int(data)
    if code == DECIMAL:
        return decimal.Decimal(data.decode())
    if code == PATH:
        return Path(data.decode())
    if code == UUID:
        return uuid.UUID(bytes=data)
    if code == BYTEARRAY:
        return bytearray(data)
    inner = decoder.decode(data)
    if code == TUPLE:
        return tuple(inner)
    if code in (SET, FROZENSET):
        items = (decoder.decode(one) for one in inner)
        return set(items) if code == SET else frozenset(items)
    if code == PAIRS:
        return {key: item for key, item in inner}  # noqa: C416 - keys may be lists turned tuples
    if code == COMPLEX:
        return complex(*inner)
    if code == TIME:
        return dt.timedelta(*inner[1]) if inner[0] == "timedelta" else getattr(dt, inner[0]).fromisoformat(inner[1])
    if code == SCALAR:
        import numpy as np

        return np.frombuffer(inner[1], dtype=inner[0])[0]
    if code == ENUM:
        return _found(*inner[:2])[inner[2]]
    if code == RECORD:
        return _record(_found(*inner[:2]), inner[2])
    raise Damaged(f"a stored value has an unknown tag: {code}")


def _record(kind: Any, values: dict[str, Any]) -> Any:
    if is_dataclass(kind):
        made: Any = object.__new__(kind)  # type: ignore[arg-type]  # as it was, whatever `__init__` would make of it now
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made
    return kind(**values)


def _found(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found

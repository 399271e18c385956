"""What people hand to `run.log` and `run.params`, as it can be kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from tarmac.core.names import Name

LONGEST_VALUE = 1_000_000
DEEPEST = 10


def number(value: Any) -> float:
    """A value as a double: numbers, and what holds exactly one (a tensor, an array, a Decimal). Raises for others."""
    if isinstance(value, (str, bytes)):
        raise TypeError("text is not a number")
    if isinstance(value, complex) or getattr(getattr(value, "dtype", None), "kind", "") == "c":
        raise TypeError("a complex number is two")
    try:
        return float(value.item() if getattr(value, "ndim", 0) else value)
    except OverflowError:  # a whole number beyond all doubles
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        item = getattr(value, "item", None)  # some that hold one value say it only this way
        if item is None:
            raise
        return float(item())


@lru_cache(maxsize=65_536, typed=True)  # 1 and True are two names
def key(name: Any) -> str:
    """The name of a metric, param or tag. Raises for what cannot be one."""
    text: str = msgspec.convert(name if isinstance(name, str) else str(name), Name)
    return text


def text(value: Any) -> str:
    """A param's or tag's value as text, whole."""
    found = value if isinstance(value, str) else str(value)
    if "\x00" in found or not found.isascii():
        found = found.replace("\x00", "").encode("utf-8", "replace").decode()
    return found[:LONGEST_VALUE]


def pairs(given: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Params as flat names: of a mapping, or of an object that holds settings; what is nested is joined by dots."""
    for name, value in fields(given).items():
        whole = f"{prefix}{name}"
        if depth < DEEPEST and isinstance(value, Mapping) and value:
            yield from pairs(value, f"{whole}.", depth + 1)
        else:
            yield whole, value


def fields(given: Any) -> Mapping[Any, Any]:
    """The settings in a dict, an argparse or plain object, a dataclass, a msgspec or pydantic model."""
    if isinstance(given, Mapping):
        return given
    for way in ("model_dump", "_asdict"):
        method = getattr(given, way, None)
        if callable(method):
            found: Mapping[Any, Any] = method()
            return found
    if isinstance(given, msgspec.Struct):
        return {name: getattr(given, name) for name in given.__struct_fields__}
    if hasattr(given, "__dict__") and not isinstance(given, type):
        return {name: value for name, value in vars(given).items() if not name.startswith("_")}
    raise TypeError(f"params are a mapping or an object with fields, not {type(given).__name__}")

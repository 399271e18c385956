"""How text, bytes, dicts and lists are written.

JSON has no NaN and no infinity: they become null.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, KeysView, Mapping, ValuesView
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.errors import Invalid, bounded

READABLE_BYTES = 1 << 20
"""Up to here JSON is laid out for eyes."""
PLAIN: tuple[Any, ...] = (str, int, float, list, tuple)


def json(thing: Any) -> bytes:
    """Numbers, arrays and tensors of libraries are written as what they hold."""
    try:
        data = msgspec.json.encode(thing, enc_hook=_plain)
    except RecursionError:
        raise Invalid("it holds itself, which JSON cannot say", hint="or it is nested too deep") from None
    except TypeError as error:
        raise Invalid(f"JSON has no such key or value: {bounded(error)}", hint="keys are text or numbers") from None
    except UnicodeEncodeError as error:
        raise Invalid(f"JSON is UTF-8, and some text in it cannot be: {bounded(error)}") from None
    return msgspec.json.format(data, indent=2) if len(data) <= READABLE_BYTES else data


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    if type(value).__name__ in ("NaTType", "NAType"):  # what pandas has for nothing
        return None
    if isinstance(value, date):  # pandas' own
        return value.isoformat()
    for plain in PLAIN:  # a class made of one of them
        if isinstance(value, plain) and type(value) is not plain:  # a tuple as a key is one
            return plain(value)
    for way in ("tolist", "item", "to_list"):  # numpy, torch, jax, pandas; polars
        method = getattr(value, way, None)
        if callable(method):
            return method()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, KeysView | ValuesView | Iterator | deque | range):
        return list(value)
    cls = type(value)
    raise Invalid(
        f"it holds a {cls.__module__}.{cls.__qualname__}, which JSON cannot say",
        hint="it says text, numbers, lists and dicts; keys are text or numbers",
    )


def write_json(thing: Any, path: Path) -> None:
    path.write_bytes(json(thing))


def _lines(rows: list[Mapping[Any, Any]], path: Path) -> None:
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row, enc_hook=_plain) + b"\n")


def _csv(rows: list[Mapping[Any, Any]], path: Path) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _text(text: str, path: Path) -> None:
    path.write_bytes(text.encode("utf-8", "replace"))


def _bytes(data: Any, path: Path) -> None:
    with path.open("wb") as file:
        file.write(data.getbuffer() if isinstance(data, io.BytesIO) else memoryview(data))


Ways = dict[str, Callable[[Any, Path], None]]
TEXT: Ways = {".txt": _text, "*": _text}
BYTES: Ways = {"": _bytes, "*": _bytes}
JSON: Ways = {".json": write_json}
ROWS: Ways = {".csv": _csv, ".jsonl": _lines}

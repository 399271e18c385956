"""Parameters of a pipeline: what was typed, as the function's annotations have it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import msgspec

from tarmac.core.errors import Invalid, UnknownKey, bounded
from tarmac.core.secrets import mask_value
from tarmac.flow.steps import File

PATHS = ("File", "Path", "tarmac.File", "pathlib.Path")


def bind(name: str, function: Any, given: Mapping[str, Any], *, typed: bool) -> dict[str, Any]:
    """Values for all parameters of a pipeline; `typed` ones are texts from a command line."""
    signature = inspect.signature(function)
    known = signature.parameters
    for key in given:
        if key not in known:
            raise UnknownKey.at(f"pipeline `{name}`", key, known)
    kinds = hints(function)
    values = {}
    for key, parameter in known.items():
        if key in given:
            values[key] = convert(name, key, given[key], kinds.get(key, Any), typed=typed)
        elif parameter.default is not parameter.empty:
            values[key] = convert(name, key, parameter.default, kinds.get(key, Any), typed=False, default=True)
        elif parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise Invalid(f"pipeline `{name}` needs the parameter `{key}`", hint=f"`-p {key}=…`")
    return values


def convert(name: str, key: str, value: Any, kind: Any, *, typed: bool, default: bool = False) -> Any:
    if is_path(kind):
        if isinstance(value, (str, PurePath)):
            return File(value)
        kind = Any if value is None else kind
    if kind is Any or (default and value is None):
        return value
    wrong = Invalid(
        f"pipeline `{name}`: parameter `{key}` is {describe(kind)}, and `{bounded(mask_value(key, str(value)))}` is not"
    )
    if typed and isinstance(value, str) and _is_text(kind):
        return value
    try:
        if typed and isinstance(value, str) and value[:1] in ("[", "{", '"'):
            value = msgspec.json.decode(value)
        return msgspec.convert(value, kind, strict=not typed)
    except (msgspec.ValidationError, msgspec.DecodeError):
        raise wrong from None
    except TypeError:  # a type that msgspec does not know: only an object of it will do
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        raise wrong from None


def _is_text(kind: Any) -> bool:
    return kind is str or str in typing.get_args(kind)


def is_path(kind: Any) -> bool:
    """Whether a parameter is a file whose content counts; annotations may be text."""
    if isinstance(kind, str):
        return kind.replace("None", "").strip(" |") in PATHS
    if any(is_path(inner) for inner in typing.get_args(kind) if inner is not type(None)):
        return typing.get_origin(kind) not in (list, tuple, dict, set)
    return isinstance(kind, type) and issubclass(kind, PurePath)


def describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if kind in names:
        return names[kind]
    return f"`{bounded(getattr(kind, '__name__', kind))}`" if isinstance(kind, type) else f"`{bounded(kind)}`"


def hints(function: Any) -> dict[str, Any]:
    """Annotations as types; one that cannot be found is anything."""
    raw = dict(getattr(function, "__annotations__", {}))
    if not any(isinstance(kind, str) for kind in raw.values()):
        return raw
    found = {}
    for key, kind in raw.items():
        if isinstance(kind, str):
            try:
                kind = eval(kind, function.__globals__)  # noqa: S307, PLW2901 - what typing.get_type_hints does
            except Exception:  # noqa: BLE001 - names that exist for type checkers only
                kind = Path if is_path(kind) else Any  # noqa: PLW2901
        found[key] = kind
    return found

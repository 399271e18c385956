"""The key of a step's result: all it was made of, as one digest."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec
from blake3 import blake3

from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.secrets import MASK, SECRET_WORDS, mask_value
from tarmac.flow import source, typed
from tarmac.flow.graph import Each, Handle, Node, source_of
from tarmac.flow.parameters import is_path
from tarmac.flow.records import MadeOf
from tarmac.flow.steps import File, Step

FORMAT = 1
SHOWN = 60
Known = Callable[[Node, int | None], tuple[str, str]]
"""For a node: what it is called, and the digest of what it made."""


class Codes:
    """The code of steps, found out once in a session."""

    def __init__(self) -> None:
        self._found: dict[FunctionType, source.Closure] = {}
        self._packages: dict[str, str] = {}

    def of(self, step: Step[..., Any]) -> source.Closure:
        function: Any = step.function
        found = self._found.get(function)
        if found is None:
            found = self._found[function] = source.closure(function)
            _refuse_changed(step, found)
        return found

    def packages(self, step: Step[..., Any]) -> dict[str, str]:
        found = {"python": f"{sys.version_info[0]}.{sys.version_info[1]}"}
        for name in self.of(step).packages:
            if name not in self._packages:
                self._packages[name] = source.version(name)
            found[name] = self._packages[name]
        for asked in step.options.packages:
            found[f"asked: {asked}"] = ""
        return found


def _refuse_changed(step: Step[..., Any], code: source.Closure) -> None:
    """What is in memory is what would run: text that was changed since it was imported says nothing about it."""
    for file, (modified, _) in code.files.items():
        if step.made_at < modified <= time.time_ns():
            raise Conflict(
                f"{bounded(file, 300)} was changed after it was imported: what would run is not what it says",
                hint="start again (in a notebook: restart the kernel)",
            )


def made_of(node: Node, codes: Codes, known: Known, digests: dict[int, str] | None = None) -> MadeOf:
    """What a node's result is made of, as far as it can be known before it runs."""
    step = node.step
    code = codes.of(step)
    values: dict[str, tuple[str, str]] = {}
    steps: dict[str, tuple[str, str]] = {}
    for name, value in node.arguments.items():
        if isinstance(value, Each):
            if isinstance(value.items, Handle):
                steps[name] = known(*source_of(value.items))
            continue
        plain = _without_handles(value, name, steps, known)
        if isinstance(value, Handle):
            continue
        plain = as_declared(step, name, plain)
        digest = typed.digest_of(plain, f"{node.line}`{name}` of step `{node.name}`")
        values[name] = digest[: source.DIGITS], shown(name, plain)
    values |= _enclosed(step, node)
    return MadeOf(
        step=f"{step.function.__module__}:{step.function.__qualname__}",
        code={label: part.digest for label, part in sorted(code.parts.items())},
        values=values,
        steps=steps,
        files=_reads(step),
        packages=codes.packages(step),
        env={name: _variable(name) for name in step.options.env},
    )


def key_of(made: MadeOf, *more: str) -> str:
    """The key: names of nodes and how values are shown are no part of it."""
    parts = (
        FORMAT,
        sorted(made.code.items()),
        sorted((name, value[0]) for name, value in made.values.items()),
        sorted((name, value[1]) for name, value in made.steps.items()),
        sorted(made.files.items()),
        sorted(made.packages.items()),
        sorted(made.env.items()),
        more,
    )
    return blake3(msgspec.json.encode(parts)).hexdigest()


def as_declared(step: Step[..., Any], name: str, value: Any) -> Any:
    """A text that is declared to be a file is one."""
    parameter = step.signature.parameters.get(name)
    if parameter is not None and isinstance(value, str) and is_path(parameter.annotation):
        value = File(value)
    if isinstance(value, File) and not value.exists():
        raise Invalid(f"`{name}` of step `{step.name}`: there is no file {bounded(value, 300)}")
    return value


def _enclosed(step: Step[..., Any], node: Node) -> dict[str, tuple[str, str]]:
    """What a function that was made by another one remembers of it; the code of functions is found with its own."""
    function: Any = step.function
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet, and so of no use to the step
            continue
        if not isinstance(value, (FunctionType, type, ModuleType)):
            digest = typed.digest_of(
                value, f"{node.line}`{name}`, which step `{node.name}` has from where it was made,"
            )
            found[f"({name})"] = digest[: source.DIGITS], shown(name, value)
    return found


def _without_handles(value: Any, name: str, steps: dict[str, tuple[str, str]], known: Known) -> Any:
    """The value with a mark in place of each handle; what the handles stand for is noted under its own name."""
    if isinstance(value, Handle):
        steps[name] = known(*source_of(value))
        return ("handle", name)
    if type(value) in (list, tuple):
        return type(value)(_without_handles(item, f"{name}[{i}]", steps, known) for i, item in enumerate(value))
    if type(value) is dict:
        return {key: _without_handles(item, f"{name}[{key!r}]", steps, known) for key, item in value.items()}
    return value


def shown(name: str, value: Any) -> str:
    """A value as it may be shown later, next to what it has become."""
    if isinstance(value, (bool, int, float, str, type(None), File)):
        return bounded(mask_value(name, str(value)), SHOWN)
    if isinstance(value, (list, tuple, dict, set)):
        return bounded(mask_value(name, repr(value)[:1000]), SHOWN)
    if hasattr(type(value), "__tarmac_thing__"):
        return bounded(value.__tarmac_thing__()[0], SHOWN)
    return f"<{type(value).__name__}>"


def _reads(step: Step[..., Any]) -> dict[str, str]:
    found = {}
    for pattern in step.options.reads:
        paths = sorted(Path().glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        found[pattern] = ""  # also one that matches nothing yet
        for path in paths:
            if path.is_file():
                found[path.as_posix()] = typed.digest_of(path, f"`{path}`")[: source.DIGITS]
    return found


def _variable(name: str) -> str:
    """A variable's value, as a digest; of one that holds a secret only whether it is set."""
    value = os.environ.get(name)
    if value is None:
        return ""
    return MASK if SECRET_WORDS.search(name) else blake3(value.encode("utf-8", "replace")).hexdigest()[: source.DIGITS]

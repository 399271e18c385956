"""`@tarmac.step`: a plain function, and what is said of how it is to be run.

Outside of a pipeline a step is just its function. Called while a pipeline's body is read, it gives a handle.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

import msgspec

from tarmac.core.errors import Invalid, bounded
from tarmac.flow import building
from tarmac.flow.graph import Each

P = ParamSpec("P")
R = TypeVar("R")

MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?")
UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}  # fmt: skip


class File(type(Path())):  # type: ignore[misc]
    """A path whose content counts: a file, or a folder with all below it."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a step is to be run; nothing here changes what it makes, so nothing here is part of its key, but `reads`,
    `env` and `packages`."""

    cache: bool = True
    retries: int = 0
    backoff: float = 1.0
    timeout: float | None = None
    cpu: float = 1
    memory: int = 0
    gpu: float = 0
    packages: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    network: bool = False
    executor: Literal["threads", "processes"] | None = None


class Step(Generic[P, R]):
    """A function that can be a node of a pipeline."""

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        self.function = function
        self.options = options
        self.name = function.__name__
        self.signature = inspect.signature(function)
        self.made_at = time.time_ns()
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = building.current()
        if graph is None:
            return _at_once(self.function, args, kwargs)  # type: ignore[no-any-return]
        handle: Any = graph.add(self, args, kwargs)
        return handle  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def __reduce__(self) -> str:
        return self.function.__qualname__


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    cache: bool = True,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    cpu: float = 1,
    memory: int | str = 0,
    gpu: float = 0,
    packages: Sequence[str] = (),
    reads: Sequence[str] = (),
    env: Sequence[str] = (),
    network: bool = False,
    executor: Literal["threads", "processes"] | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Any = None, /, **given: Any) -> Any:
    """Make a function a step.

    `cache=False` runs it every time. `retries` with `backoff` seconds, doubled each time; `timeout` in seconds. `cpu`,
    `memory` ("4GiB"), `gpu` and `packages` are what it needs; executors are told. `reads` names files and `env` names
    variables that it reads without being given them: they become part of its key. `network=True` says that what it
    fetches does not change. `executor="processes"` gives it a process of its own.
    """
    if function is None:
        options = _options(given)
        return lambda decorated: Step(_callable(decorated), options)
    return Step(_callable(function), Options())


def _at_once(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Outside of a pipeline: the function, and for `each` the function for each."""
    many = [value.items for value in (*args, *kwargs.values()) if isinstance(value, Each)]
    if not many:
        return function(*args, **kwargs)

    def one(item: Any) -> Any:
        here = [item if isinstance(value, Each) else value for value in args]
        return function(*here, **{key: item if isinstance(value, Each) else value for key, value in kwargs.items()})

    return [one(item) for item in many[0]]


def _callable(function: Any) -> Any:
    if (
        not inspect.isfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
    ):
        what = getattr(function, "__name__", type(function).__name__)
        raise Invalid(f"`{bounded(what)}` cannot be a step", hint="a step is a plain function that returns its result")
    return function


def _options(given: dict[str, Any]) -> Options:
    memory = given.get("memory", 0)
    if isinstance(memory, str):
        given = {**given, "memory": memory_bytes(memory)}
    known = Options.__struct_fields__
    for name in given:
        if name not in known:
            from tarmac.core.errors import UnknownKey

            raise UnknownKey.at("@tarmac.step", name, known)
    for name in ("packages", "reads", "env"):
        if isinstance(given.get(name), str):
            raise Invalid(f"@tarmac.step: `{name}` is a list of texts, not one text", hint=f'{name}=["…"]')
    try:
        options = msgspec.convert(given, Options)
    except msgspec.ValidationError as error:
        raise Invalid(f"@tarmac.step: {bounded(error, 300)}") from None
    if options.retries < 0 or options.backoff < 0 or (options.timeout is not None and options.timeout <= 0):
        raise Invalid("@tarmac.step: retries, backoff and timeout are not negative, and a timeout is not 0")
    return options


def memory_bytes(text: str) -> int:
    found = MEMORY.fullmatch(text.strip())
    if found is None:
        raise Invalid(f"`{bounded(text)}` is no amount of memory", hint='like "500MB" or "4GiB"')
    return int(float(found[1]) * UNITS[found[2] or ""])

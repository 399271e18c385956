"""Doing something at the moment when a module has been imported, without importing it.

A finder at the front of `sys.meta_path` finds nothing by itself. For a module that is waited for it takes the loader
that the others have found, and gives this one loader an `exec_module` of its own, which removes itself again before it
does anything. So the module, its spec and its loader are in the end what they would have been.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tarmac.logging.auto.record import complain

Then = Callable[[ModuleType], None]

_waiting: dict[str, Then] = {}


def when_imported(name: str, then: Then) -> None:
    """Now, if it is imported already."""
    module = sys.modules.get(name)
    if module is not None:
        return _do(then, module)
    _waiting[name] = then
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    return None


def forget() -> None:
    _waiting.clear()
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


class _Finder:
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _waiting:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None else None
            if isinstance(spec, ModuleSpec):
                _tap(spec.loader, name)
                return spec
        return None


_finder: Any = _Finder()


def _tap(loader: Any, name: str) -> None:
    try:
        original = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            original(module)
            then = _waiting.pop(name, None)
            if then is not None:
                _do(then, module)

        loader.exec_module = exec_module
    except AttributeError as error:  # a loader that takes no attributes: this library is not logged
        complain(None, name, error)


def _do(then: Then, module: ModuleType) -> None:
    try:
        then(module)
    except Exception as error:  # noqa: BLE001 - whatever has changed in that library, importing it goes well
        complain(None, module.__name__, error)

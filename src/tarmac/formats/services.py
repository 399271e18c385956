"""A model made of functions and other models: a pipeline for pictures, an ensemble, a router."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tarmac.formats.models import Model


class Service:
    """A function of rows, and the models it is given by name. It is packaged and served as any model is."""

    def __init__(self, function: Callable[..., Any], load: Callable[[], Mapping[str, Model]]) -> None:
        self.function = function
        self._load = load
        self._models: dict[str, Model] | None = None

    @property
    def models(self) -> dict[str, Model]:
        """Loaded when they are first needed: a module that only defines a service needs no workspace."""
        if self._models is None:
            self._models = dict(self._load())
        return self._models

    def predict(self, rows: Any) -> Any:
        return self.function(rows, **self.models)

    __call__ = predict

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.function, self.models)

    def __repr__(self) -> str:
        return f"<service {getattr(self.function, '__name__', '?')} of {', '.join(self.models) or 'no models'}>"


def _rebuilt(function: Callable[..., Any], models: Mapping[str, Model]) -> Service:
    return Service(function, lambda: models)

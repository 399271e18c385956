"""Whatever was pickled: estimators of scikit-learn and its like, any class with `predict`, any function.

To load a pickle is to run it. Nothing here asks for trust: `engines.load` has, before.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Invalid, bounded
from tarmac.formats.engines.predictor import Native
from tarmac.formats.package import CODE, Sealed

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array


class Pickled(Native):
    def __init__(self, sealed: Sealed, threads: int) -> None:
        super().__init__(sealed)
        self.model = unpickle(sealed, sealed.about.entry.file)
        self._call = caller(self.model)
        self._probable = _probable(self.model)

    def call(self, data: Any) -> Any:
        return self._call(data)

    def probabilities(self, data: Any) -> Array | None:
        if self._probable is None:
            return None
        import numpy as np

        found = self._probable(data)
        return None if isinstance(found, list) else np.asarray(found)  # a list is one array for each output


def caller(model: Any) -> Callable[[Any], Any]:
    """What of a model is called to predict."""
    for name in ("predict", "transform"):
        method = getattr(model, name, None)
        if callable(method):
            return _without_context(method)
    if callable(model):
        found: Callable[[Any], Any] = model
        return found
    raise Invalid(
        f"a {type(model).__module__}.{type(model).__qualname__} has neither `predict` nor `transform`, and cannot be "
        "called",
        hint="give it a method `predict(self, rows)`",
    )


def _without_context(method: Callable[..., Any]) -> Callable[[Any], Any]:
    """MLflow's Python models take a context first; without artifacts there is nothing in it."""
    import inspect

    try:
        names = list(inspect.signature(method).parameters)
    except (TypeError, ValueError):
        return method
    if names[:2] == ["context", "model_input"]:
        return lambda data: method(None, data)
    return method


def _probable(model: Any) -> Callable[[Any], Any] | None:
    """`predict_proba`, of what has classes and tells them apart by probability."""
    try:
        method = getattr(model, "predict_proba", None)
    except Exception:  # noqa: BLE001 - some say only when asked that they cannot
        return None
    return method if callable(method) and hasattr(model, "classes_") else None


def unpickle(sealed: Sealed, path: str) -> Any:
    """What a file of the package holds, with the package's own code at hand."""
    data = sealed.read(path)
    with own_code(sealed):
        if path.endswith(".joblib"):
            import joblib

            return joblib.load(io.BytesIO(data))
        return pickle.loads(data)  # noqa: S301 - trusted: `engines.load` asked


@contextmanager
def own_code(sealed: Sealed) -> Iterator[None]:
    """Modules that came with the package go before those of the same name, and stay with what was loaded: two
    versions of a model may have each its own."""
    names = {path.split("/")[1].removesuffix(".py") for path in sealed.below(CODE)}
    if not names:
        yield
        return
    for path in sealed.below(CODE):
        sealed.path(path)  # verified: from here on the interpreter reads the files by itself
    place = str(sealed.folder / CODE)
    before = _taken(names)
    sys.path.insert(0, place)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a package folder has the files it has
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(place)
        if before:
            _taken(names)
            sys.modules.update(before)


def _taken(names: set[str]) -> dict[str, Any]:
    """Modules of these names, taken out of what is loaded."""
    found = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names}
    if "__main__" in found:
        raise Invalid(f"a package cannot bring a module `{bounded('__main__')}`")
    for name in found:
        del sys.modules[name]
    return found

"""What is left of the score when inputs are not as they should be: noise, missing values, a shift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Refused

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SEED = 20_261_120
NOISE, SHIFT, MISSING = 0.1, 0.25, 0.1
"""In standard deviations of each column, and the share of values that go missing."""


def disturbed(inputs: Mapping[str, Array], how: str) -> dict[str, Array]:
    """The same rows, disturbed in the same way each time; text is left as it is."""
    import numpy as np

    random = np.random.default_rng(SEED)
    numbers = [name for name, array in inputs.items() if array.dtype.kind in "iuf"]
    if how == "missing":
        numbers = [name for name in numbers if inputs[name].dtype.kind == "f"]
    if not numbers:
        raise Refused(
            "no input is a number that may be missing" if how == "missing" else "no input is a number",
            hint="leave this rule out for such a model",
        )
    change: Callable[[Array], Array] = {
        "noise": lambda array: array + random.normal(size=array.shape) * (NOISE * _spread(array)),
        "shift": lambda array: array + SHIFT * _spread(array),
        "missing": lambda array: np.where(random.random(array.shape) < MISSING, np.nan, array),
    }[how]
    return {name: _as_before(change(array), array) if name in numbers else array for name, array in inputs.items()}


def dealt(inputs: Mapping[str, Array], which: str) -> dict[str, Array]:
    """The same rows with the values of one input in another order: what it told is gone."""
    import numpy as np

    order = np.random.default_rng(SEED).permutation(len(inputs[which]))
    return {name: array[order] if name == which else array for name, array in inputs.items()}


def _spread(array: Array) -> Array:
    import numpy as np

    spread: Array = np.nanstd(array, axis=0, dtype=float)
    return spread


def _as_before(changed: Array, before: Array) -> Array:
    import numpy as np

    if before.dtype.kind in "iu":
        limits = np.iinfo(before.dtype)
        changed = np.clip(np.rint(changed), limits.min, limits.max)
    return changed.astype(before.dtype)


def lost(clean: float | None, now: float | None, *, classes: bool) -> float:
    """Of classes how much accuracy is gone; of numbers by which share the error has grown."""
    if clean is None or now is None:
        raise Refused("there is no score to lose")
    if classes:
        return clean - now
    if not clean:
        raise Refused("the error is 0: no share of it can be told")
    return (now - clean) / clean

"""Rows to compare two forms of a model on: its example, rows that were given, and rows made from the signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tarmac.core.errors import Invalid
from tarmac.formats import arrays as holding
from tarmac.formats import packing
from tarmac.formats.package import Sealed
from tarmac.formats.signature import FLOATS, INTEGERS, Field, Signature

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array, Arrays

SEED = 20
WIDER = 0.5
"""How far made numbers go beyond those of the example, as a share of their range."""


class Rows(NamedTuple):
    inputs: Arrays
    given: int
    made: int


def rows(sealed: Sealed, signature: Signature, given: list[Any], make: int) -> Rows:
    """The example first, then what was given, then what was made of both."""
    import numpy as np

    parts = []
    example = packing.example_input(sealed)
    if example is not None:
        parts.append(holding.accept(example, signature))
    if given:
        parts.append(holding.accept(given, signature))
    known = {field.name: [part[field.name] for part in parts] for field in signature.inputs}
    if not parts and any(field.type in ("any", "bytes", "time") for field in signature.inputs):
        raise Invalid("there is no example to compare on", hint="add one: `run.model(model, name=…, example=rows)`")
    random = np.random.default_rng(SEED)
    found = {}
    for field in signature.inputs:
        values = known[field.name]
        made = _made(field, np.concatenate(values) if values else None, make, random)
        found[field.name] = np.concatenate([*values, made]) if values else made
    return Rows(found, len(given), make)


def _made(field: Field, seen: Array | None, count: int, random: Any) -> Array:
    """Numbers from a range a little wider than what was seen; of the rest, what was seen in another order."""
    import numpy as np

    shape = (count, *(size if size > 0 else 1 for size in field.shape[1:]))
    if field.type in (*FLOATS, *INTEGERS) and (seen is None or seen.dtype.kind in "fiu"):
        low, high = _range(seen)
        if field.type in INTEGERS:
            low, high = np.floor(low), np.ceil(high)
            least = 0 if field.type.startswith("u") else np.iinfo(field.type).min
            made = random.integers(max(least, int(low)), max(int(high), int(low)) + 1, size=shape)
        else:
            made = random.uniform(low, high, size=shape)
            if field.nullable:
                made[random.random(shape) < 0.1] = np.nan
        numbers: Array = made.astype(field.type if seen is None else seen.dtype)
        return numbers
    if field.type == "bool" and (seen is None or seen.dtype.kind == "b"):
        return random.random(shape) < 0.5  # type: ignore[no-any-return]
    if seen is None or not len(seen):
        return np.array(["a"] * count, dtype=object).reshape(shape)
    again: Array = seen[random.integers(0, len(seen), size=count)]
    return again


def _range(seen: Array | None) -> tuple[float, float]:
    import numpy as np

    if seen is None or not seen.size or np.isnan(seen.astype("float64")).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    if low >= 0 and high == low:
        return low, low + 1.0
    around = WIDER * (high - low) or 1.0
    # what is never negative in the example is probably a count, a length or a price
    return (max(0.0, low - around) if low >= 0 else low - around), high + around

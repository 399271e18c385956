"""Why a model answered as it did: what each input added to the answer, beside what the model answers on average.

Shapley values against a background, inputs set one by one (interventional): a coalition of inputs is worth what the
model answers, on average over the background rows, when these inputs are the caller's and the others the background's.
They sum up to the answer minus the base.
"""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MOST_EXACT = 10
"""Up to here all coalitions are asked for: 1024."""
CHECKS = 16
PAIRS = 16
ROUNDING = 2e-7
"""Of numbers with 32 bits, for each that is added."""

Worth = Callable[["Array"], "Array"]
"""Coalitions, as truths [coalition, input], to what each is worth [coalition, background row, answer]."""


class Explanation(NamedTuple):
    base: Array
    """What the model answers on average over the background: one number for each answer."""
    answer: Array
    values: Array
    """[input, answer]"""
    method: str
    error: float
    """The largest standard error of a value; zero where nothing was sampled."""


def explain(worth: Worth, inputs: int, seed: int = 0) -> Explanation:
    """Exact where all coalitions can be asked for, or where inputs do not act on one another; else sampled."""
    import numpy as np

    if inputs <= MOST_EXACT:
        return _exact(worth, inputs)
    chance = np.random.default_rng(seed)
    return _additive(worth, inputs, chance) or _sampled(worth, inputs, chance)


def _exact(worth: Worth, inputs: int) -> Explanation:
    import numpy as np

    numbers = np.arange(1 << inputs)
    masks = (numbers[:, None] >> np.arange(inputs)) & 1 == 1
    found = worth(masks).mean(axis=1, dtype=np.float64)
    sizes = masks.sum(axis=1)
    weights = np.array([factorial(n) * factorial(inputs - n - 1) / factorial(inputs) for n in range(inputs)])
    values = []
    for place in range(inputs):
        without = numbers[~masks[:, place]]
        gain = found[without | (1 << place)] - found[without]
        values.append((weights[sizes[without], None] * gain).sum(axis=0))
    return Explanation(found[0], found[-1], np.array(values), "exact", 0.0)


def _additive(worth: Worth, inputs: int, chance: np.random.Generator) -> Explanation | None:
    """Of a model in which each input adds its part whatever the others are, as in a linear one. That it is so is looked
    at on all inputs together and on coalitions by chance, for each row of the background."""
    import numpy as np

    masks = np.vstack([
        np.zeros(inputs, bool), np.ones(inputs, bool), np.eye(inputs, dtype=bool),
        chance.random((CHECKS, inputs)) < 0.5,
    ])  # fmt: skip
    found = worth(masks).astype(np.float64)
    alone = found[2 : inputs + 2] - found[0]
    expected = found[0] + np.einsum("ki,ibo->kbo", masks.astype(np.float64), alone)
    allowed = ROUNDING * (inputs + 4) * max(1.0, float(np.abs(found).max()))
    if np.abs(found - expected).max() > allowed:
        return None
    base, answer = found[0].mean(axis=0), found[1].mean(axis=0)
    values = alone.mean(axis=1)
    # what rounding left over is shared, so that the parts are the whole
    return Explanation(base, answer, values + (answer - base - values.sum(axis=0)) / inputs, "additive", 0.0)


def _sampled(worth: Worth, inputs: int, chance: np.random.Generator) -> Explanation:
    """Inputs joining in orders by chance, each order forwards and backwards: what each adds when it comes."""
    import numpy as np

    orders = [chance.permutation(inputs) for _ in range(PAIRS)]
    masks = [np.zeros((1, inputs), bool), np.ones((1, inputs), bool)]
    for order in orders:
        for one in (order, order[::-1]):
            joined = np.tri(inputs - 1, inputs, dtype=bool)
            masks.append(np.empty_like(joined))
            masks[-1][:, one] = joined
    found = worth(np.vstack(masks)).mean(axis=1, dtype=np.float64)
    base, answer, rest = found[0], found[1], found[2:].reshape(PAIRS, 2, inputs - 1, -1)
    gains = np.empty((PAIRS, inputs, found.shape[1]))
    for number, order in enumerate(orders):
        both = np.zeros((inputs, found.shape[1]))
        for one, steps in zip((order, order[::-1]), rest[number], strict=True):
            both[one] += np.diff(np.vstack([base, steps, answer]), axis=0)
        gains[number] = both / 2
    error = gains.std(axis=0, ddof=1) / PAIRS**0.5
    return Explanation(base, answer, gains.mean(axis=0), "sampled", float(error.max()))

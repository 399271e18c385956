"""What may be tried: ranges and choices, as people write them.

depth=1..10            a whole number
rate=0.001..0.1:log    a number, tried by its magnitude
width=16..256:16       in steps
kind=tree|forest       one of these
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tarmac.core.errors import Invalid, bounded

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(rf"({NUMBER})\.\.({NUMBER})(?::(log|{NUMBER}))?")
HINT = "like depth=1..10, rate=0.001..0.1:log, width=16..256:16 or kind=tree|forest"


@dataclass(frozen=True)
class Dimension:
    """One parameter: a range, or what it may be."""

    low: float = 0
    high: float = 0
    whole: bool = False
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    def distribution(self) -> Any:
        from optuna import distributions as known

        if self.choices:
            return known.CategoricalDistribution(self.choices)
        if self.whole:
            step = int(self.step) if self.step else 1
            return known.IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return known.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value(self, text: str) -> Any:
        """A param of a run as the value that was tried."""
        if self.choices:
            return next((choice for choice in self.choices if str(choice) == text), text)
        return int(text) if self.whole else float(text)

    def text(self) -> str:
        if self.choices:
            return "|".join(map(str, self.choices))
        low, high = (f"{int(end)}" if self.whole else repr(end) for end in (self.low, self.high))
        more = ":log" if self.log else f":{self.step:g}" if self.step else ""
        return f"{low}..{high}{more}"


def read(space: Mapping[str, Any]) -> dict[str, Dimension]:
    """A space from texts; or from Python: `(1, 10)`, `["a", "b"]`, `range(16, 257, 16)`."""
    if not space:
        raise Invalid("a search needs a space", hint=HINT)
    return {str(name): _dimension(str(name), given) for name, given in space.items()}


def pairs(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, mark, rest = text.partition("=")
        if not mark or not name or not rest:
            raise Invalid(f"`{bounded(text)}` is no part of a space", hint=HINT)
        if name in found:
            raise Invalid(f"`{bounded(name)}` stands in the space twice")
        found[name] = rest
    return found


def _dimension(name: str, given: Any) -> Dimension:
    if isinstance(given, range):
        return _checked(name, Dimension(given.start, given[-1] if given else 0, True, step=given.step))
    if isinstance(given, tuple) and len(given) == 2 and all(type(end) in (int, float) for end in given):
        return _checked(name, Dimension(*given, whole=all(type(end) is int for end in given)))
    if isinstance(given, (list, tuple)):
        return _chosen(name, tuple(given))
    if not isinstance(given, str):
        raise Invalid(f"`{bounded(name)}`: {bounded(repr(given))} is no range and no choice", hint=HINT)
    found = RANGE.fullmatch(given.strip())
    if found is None:
        return _chosen(name, tuple(_plain(part) for part in given.split("|")))
    low, high, more = found.groups()
    whole = all(re.fullmatch(r"[+-]?\d+", end) for end in (low, high))
    step = float(more) if more and more != "log" else None
    return _checked(name, Dimension(float(low), float(high), whole, more == "log", step))


def _chosen(name: str, choices: tuple[Any, ...]) -> Dimension:
    if len(choices) < 2 or any(not isinstance(one, (str, int, float, bool)) for one in choices):
        raise Invalid(f"`{bounded(name)}` has nothing to choose from: {bounded(choices)}", hint=HINT)
    if len({str(one) for one in choices}) < len(choices):
        raise Invalid(f"`{bounded(name)}` has one choice twice: {bounded(choices)}")
    return Dimension(choices=choices)


def _checked(name: str, made: Dimension) -> Dimension:
    wrong = None
    if not (math.isfinite(made.low) and math.isfinite(made.high)) or made.low >= made.high:
        wrong = "its end is not above its beginning"
    elif made.log and made.low <= 0:
        wrong = "by magnitude it has to begin above 0"
    elif made.step is not None and (made.step <= 0 or (made.whole and made.step != int(made.step))):
        wrong = "its step does not go up"
    if wrong:
        raise Invalid(f"`{bounded(name)}`: {made.text()} is no range: {wrong}", hint=HINT)
    return made


def _plain(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

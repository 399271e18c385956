"""Which libraries log themselves now, and how much."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    models: bool = True
    datasets: bool = True


_on: dict[str, Options] = {}


def turn_on(library: str, options: Options) -> None:
    _on[library] = options


def turn_off() -> None:
    _on.clear()


def options(library: str) -> Options | None:
    """None while it is off: whoever holds on to a function that we once replaced gets the original's behaviour."""
    return _on.get(library)

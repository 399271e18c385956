"""`each` and `when`: what a pipeline does many times, or only sometimes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tarmac.core.errors import Invalid
from tarmac.flow import building
from tarmac.flow.graph import Each, Handle
from tarmac.flow.steps import Options, Step

T = TypeVar("T")


def each(items: Iterable[T]) -> T:
    """Given to a step in place of one thing: the step is done for each of these, and each result is kept by itself.

    The items are a list, or what another step will make.
    """
    if isinstance(items, Handle):
        chosen: Any = Each(items)
    elif isinstance(items, (str, bytes)):
        raise Invalid("`each` takes a list of items, not one text")
    else:
        chosen = Each(list(items))
    return chosen  # type: ignore[no-any-return]


def when(condition: Any, then: Any, otherwise: Any = None) -> Any:
    """`then` if the condition comes out true, else `otherwise`; steps that only the other one needs are not run.

    Each is what a step will make, a value, or a function that gives it.
    """
    graph = building.current()
    if graph is None or not isinstance(condition, Handle):
        chosen = then if condition else otherwise
        return chosen() if _is_deferred(chosen) else chosen
    return graph.choose(_CHOICE, condition, *(one() if _is_deferred(one) else one for one in (then, otherwise)))


def _is_deferred(value: Any) -> bool:
    return callable(value) and not isinstance(value, (Handle, Step, type))


def _choose(condition: Any, then: Any, otherwise: Any) -> Any:
    return then if condition else otherwise


_CHOICE = Step(_choose, Options())

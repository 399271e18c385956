"""`@tarmac.pipeline`: a function that calls steps, read into a graph; and what can be done with it.

@tarmac.pipeline
def churn(path: tarmac.File = "data/raw.csv", depth: int = 6): ...

churn.plan(depth=8)      what would run, and why
churn.run(depth=8)       run it, tracked, reusing what has not changed
churn(...)               the plain function: steps are called as they are
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, overload

from tarmac.core.errors import Invalid, bounded
from tarmac.flow import building, parameters
from tarmac.flow.graph import Graph, handles_in
from tarmac.flow.keys import shown

P = ParamSpec("P")
R = TypeVar("R")


class Pipeline(Generic[P, R]):
    """A graph of steps, by name."""

    def __init__(self, function: Callable[P, R], name: str) -> None:
        self.function = function
        self.name = name
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = building.current()
        if graph is None:
            return self.function(*args, **kwargs)
        if self.name in graph.inside or graph.pipeline == self.name:
            circle = " → ".join([graph.pipeline, *graph.inside, self.name])
            raise Invalid(f"a cycle: {circle}", hint="a pipeline cannot be a part of itself")
        graph.inside.append(self.name)
        try:
            return self.function(*args, **kwargs)
        finally:
            graph.inside.pop()

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def graph(self, params: Mapping[str, Any] | None = None, *, typed: bool = False) -> tuple[Graph, dict[str, Any]]:
        """The graph for these parameters, and all parameters with their values; nothing is run."""
        values = parameters.bind(self.name, self.function, params or {}, typed=typed)
        graph = Graph(self.name)
        above = building.swap(graph)
        try:
            graph.result = self.function(**values)  # type: ignore[call-arg]
        except RecursionError:
            raise Invalid(f"pipeline `{self.name}` calls itself without end") from None
        finally:
            building.swap(above)
        for node, _ in handles_in(graph.result):
            if node not in graph.nodes:
                raise Invalid(f"pipeline `{self.name}` returns what another pipeline's step makes")
        if not graph.nodes:
            raise Invalid(
                f"pipeline `{self.name}` calls no step",
                hint="mark what it calls with @tarmac.step, above each function",
            )
        return graph, values

    def run(
        self, *, workspace: Any = None, resume: bool = False, workers: int = 0, on: str | None = None, **params: Any
    ) -> Any:
        """Run it and answer with what it returns; `tarmac.PipelineRun` has the rest. `on` is a Ray cluster."""
        from tarmac.flow import session

        with session.open_here(workspace) as door:
            done = session.run(self, door, params, resume=resume, workers=workers, on=on)
            return done.value

    def plan(self, *, workspace: Any = None, **params: Any) -> Any:
        """What would be run, what would be reused, and why."""
        from tarmac.flow import session

        with session.open_here(workspace) as door:
            return session.plan(self, door, params)


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(*, name: str) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(function: Any = None, /, *, name: str = "") -> Any:
    """Make a function that calls steps a pipeline."""
    if function is None:
        return lambda decorated: Pipeline(decorated, name or decorated.__name__)
    if not inspect.isfunction(function):
        raise Invalid(f"`{bounded(function)}` cannot be a pipeline", hint="a pipeline is a plain function")
    return Pipeline(function, function.__name__)


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as params of a run: shown, not handed on."""
    return {name: shown(name, value) for name, value in values.items()}

"""One command on a pipeline: its run from the first record to the last, or its plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Conflict, Invalid, NotFound, TarmacError
from tarmac.core.ids import time_ordered
from tarmac.core.settings import Settings
from tarmac.flow import needs
from tarmac.flow import plan as plans
from tarmac.flow.execution import Execution
from tarmac.flow.executors import Executor, logs
from tarmac.flow.executors.mixed import Mixed
from tarmac.flow.fetching import Results
from tarmac.flow.graph import Graph
from tarmac.flow.keeping import Keeper
from tarmac.flow.keys import Codes
from tarmac.flow.pipelines import Pipeline, as_texts
from tarmac.flow.plan import Looking, Plan
from tarmac.flow.records import Done, StepRun
from tarmac.flow.telling import Watcher
from tarmac.logging.place import TAKEN
from tarmac.track.operations import CreateRun, EndRun, ListRuns, ResumeRun

if TYPE_CHECKING:
    from tarmac.track.records import Run

TAG = "tarmac.pipeline"


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """What came of it."""

    id: str
    steps: dict[str, StepRun]
    _execution: Execution

    @property
    def value(self) -> Any:
        """What the pipeline returned."""
        return self._execution.result

    def count(self, done: Done) -> int:
        return sum(step.done == done for step in self.steps.values())


@contextmanager
def open_here(workspace: Any) -> Iterator[Any]:
    """A workspace that is open already, or the one that is meant."""
    if callable(workspace):
        yield workspace
        return
    import tarmac

    with tarmac.connect(workspace) as opened:
        yield opened


def results_of(door: Any) -> Results:
    actor = getattr(door, "actor", None)
    if actor is not None:
        return Results(door, Path(door.place) / "flow" / "files", actor.signature)
    return Results(door, Settings.from_environment().state / "flow" / "files", None)


def plan(pipeline: Pipeline[..., Any], door: Any, params: Mapping[str, Any], *, typed: bool = False) -> Plan:
    graph, values = pipeline.graph(params, typed=typed)
    results = results_of(door)
    results.load(graph.pipeline)
    return plans.make(graph, as_texts(values), Looking(graph, results, Codes()))


def run(
    pipeline: Pipeline[..., Any],
    door: Any,
    params: Mapping[str, Any],
    *,
    typed: bool = False,
    resume: bool = False,
    workers: int = 0,
    on: str | None = None,
    experiment: str | None = None,
    name: str | None = None,
    only: str | None = None,
    watch: Watcher | None = None,
    show: logs.Show | None = None,
    begun: Callable[[Run, Graph], None] = lambda run, graph: None,
) -> PipelineRun:
    """Run it: its run is there before the first step, and has ended when this returns or raises."""
    if workers < 0:
        raise Invalid(f"{workers} workers cannot run anything", hint="0 runs steps in this process")
    before = _to_resume(pipeline, door) if resume else None
    if before is not None:
        params = {**_kept_params(pipeline, before), **params}
        typed = True
    graph, values = pipeline.graph(params, typed=typed)
    if only is not None:
        needs.cut(graph, only)
    results = results_of(door)
    results.load(graph.pipeline)
    executor = _executor(on, graph, door, workers, show)  # first: where it cannot be had, there is no run
    try:
        started = _start(door, graph, values, before, experiment or pipeline.name, name)
    except BaseException:
        executor.close()
        raise
    begun(started, graph)
    keeper = Keeper(door, started.id, graph.pipeline, started.experiment)
    execution = Execution(graph, results, Codes(), executor, keeper, started.id, watch)
    status = "failed"
    try:
        execution.go()
        status = "finished"
    except (KeyboardInterrupt, SystemExit):
        status = "killed"
        raise
    finally:
        executor.close()
        _end(door, keeper, started.id, status)
    return PipelineRun(started.id, {node.name: step for node, step in execution.steps.items()}, execution)


def _executor(on: str | None, graph: Graph, door: Any, workers: int, show: logs.Show | None) -> Executor:
    if on is None:
        return Mixed(workers, show)
    from tarmac.flow.executors import carried, ray

    address = ray.check_address(on)
    reads = sorted({pattern for node in graph.nodes if not node.choice for pattern in node.step.options.reads})
    return ray.Ray(address, carried.pack(Path.cwd(), tuple(reads)), door, slots=workers, show=show)


def _start(
    door: Any, graph: Graph, values: dict[str, Any], before: Run | None, experiment: str, name: str | None
) -> Run:
    if before is not None:
        resumed: Run = door(ResumeRun(id=before.id))
        return resumed
    above = os.environ.get("TARMAC_RUN", "").removesuffix(TAKEN)
    request = CreateRun(
        id=time_ordered(),
        experiment=experiment,
        name=name,
        params=as_texts(values),
        tags={TAG: graph.pipeline},
        beats=True,
        parent=above or None,
    )
    try:
        made: Run = door(request)
    except (NotFound, Invalid):
        if not above:
            raise
        import msgspec

        made = door(msgspec.structs.replace(request, parent=None))  # it is a run of another workspace
    return made


def _end(door: Any, keeper: Keeper, run: str, status: Any) -> None:
    try:
        keeper.flush()
    except TarmacError as error:
        if status == "finished":
            _quietly(door, EndRun(id=run, status="failed"))
            raise
        raise Conflict(f"{error.message}; and the pipeline {status}", hint=error.hint) from error
    _quietly(door, EndRun(id=run, status=status))


def _quietly(door: Any, request: EndRun) -> None:
    try:
        door(request)
    except Conflict:
        pass  # it has been ended by somebody else


def _to_resume(pipeline: Pipeline[..., Any], door: Any) -> Run:
    """The last run of this pipeline, if it did not come to its end."""
    page = door(ListRuns(filter=f"tags.`{TAG}` = '{pipeline.name}'", limit=1))
    if not page.runs:
        raise NotFound(f"pipeline `{pipeline.name}` has not been run yet: there is nothing to resume")
    last: Run = page.runs[0]
    if last.status not in ("failed", "killed"):
        raise Conflict(
            f"the last run of pipeline `{pipeline.name}`, {last.id[:12]}, is {last.status}: there is nothing to resume",
            hint="without --resume, what has not changed is reused all the same",
        )
    return last


def _kept_params(pipeline: Pipeline[..., Any], before: Run) -> dict[str, Any]:
    import inspect

    known = inspect.signature(pipeline.function).parameters
    return {name: value for name, value in before.params.items() if name in known and value not in ("***", "None")}

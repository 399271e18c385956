"""What is told of steps while a pipeline runs: to the keeper, for the store, and to whoever watches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from tarmac.core.clock import now
from tarmac.core.errors import bounded
from tarmac.flow.executors import Fault, Outcome
from tarmac.flow.graph import Each, Graph, Handle, Node, handles_in
from tarmac.flow.keeping import Keeper
from tarmac.flow.keys import as_declared, shown
from tarmac.flow.operations import NewStep
from tarmac.flow.plan import Looked
from tarmac.flow.records import CodePart, Done, Output, StepResult, StepRun
from tarmac.flow.source import Closure

Watcher = Callable[[str, Node, Any], None]


class Started:
    """A step that was started, and what is told of it in the end."""

    __slots__ = ("began_at", "looked", "node", "run", "used", "why")

    def __init__(self, node: Node, looked: Looked | None, run: str, why: str) -> None:
        self.node = node
        self.looked = looked
        self.run = run
        self.why = why
        self.began_at = now()
        self.used: list[str] = []


class Teller:
    """Of one run."""

    def __init__(self, graph: Graph, keeper: Keeper, watch: Watcher | None) -> None:
        self.steps: dict[Node, StepRun] = {}
        self.watch: Watcher = watch or (lambda what, node, more: None)
        self._pipeline = graph.pipeline
        self._keeper = keeper
        self._number = {node: index for index, node in enumerate(graph.nodes)}

    def begun(self, started: Started, code: Closure, sources: list[Node]) -> None:
        """It has a run of its own from now on."""
        parts = code.parts.values()
        self._keeper.code(
            [CodePart(digest=p.digest, label=p.label, file=p.file, line=p.line, text=p.text) for p in parts]
        )
        started.used = self._used(started.node, sources)
        self._tell(started, "running", "running", 0.0)
        self.watch("begin", started.node, started)

    def reused(self, node: Node, result: StepResult) -> None:
        step = StepRun(
            node=node.name, step=reference(node), done="reused", run=result.run, key=result.key, seconds=result.seconds
        )
        self.steps[node] = step
        self._keeper.reused(self._number[node], step)
        self.watch("reused", node, result)

    def ended(
        self,
        started: Started,
        outcome: Outcome,
        outputs: list[Output],
        not_kept: str,
        blobs: dict[str, Any],
        *,
        heal: bool,
    ) -> None:
        """With its result, or why that is not kept."""
        node, looked = started.node, started.looked
        result = None
        if looked is not None:
            result = StepResult(
                key=looked.key, pipeline=self._pipeline, node=node.name, step=reference(node), run=started.run,
                actor="", outputs=[] if not_kept else outputs, made_of=looked.made,
                seconds=round(outcome.seconds, 6), held=round(outcome.held, 3), not_kept=not_kept,
            )  # fmt: skip
        metrics = {"seconds": outcome.seconds, "cpu_seconds": outcome.cpu_seconds, "memory": float(outcome.memory)}
        if outcome.attempts > 1:
            metrics["attempts"] = float(outcome.attempts)
        self._tell(
            started, "ran", "finished", outcome.seconds, metrics=metrics, result=result,
            blobs={} if not_kept else blobs, heal=heal,
        )  # fmt: skip
        self.watch("ended", node, (outcome, not_kept))

    def failed(self, started: Started, outcome: Outcome, fault: Fault) -> None:
        if fault.traceback:
            self._keeper.log(started.run, fault.traceback)
        started.why = f"{fault.kind}: {bounded(fault.message, 500)}"
        metrics = {"seconds": outcome.seconds, "cpu_seconds": outcome.cpu_seconds, "attempts": float(outcome.attempts)}
        self._tell(started, "failed", "failed", outcome.seconds, metrics=metrics)
        self.watch("failed", started.node, (outcome, fault))

    def stopped(self, started: Started) -> None:
        started.why = "it was stopped"
        self._tell(started, "failed", "killed", 0.0)

    def _tell(
        self,
        started: Started,
        done: Done,
        status: Any,
        seconds: float,
        *,
        metrics: dict[str, float] | None = None,
        result: StepResult | None = None,
        blobs: dict[str, Any] | None = None,
        heal: bool = False,
    ) -> None:
        node = started.node
        step = StepRun(
            node=node.name, step=reference(node), done=done, why=started.why, run=started.run,
            key=started.looked.key if started.looked is not None else "", seconds=round(seconds, 6),
            started_at=started.began_at,
        )  # fmt: skip
        self.steps[node] = step
        new = NewStep(
            number=self._number[node], step=step, status=status, ended_at=0 if status == "running" else now(),
            params=_params(node), metrics=metrics or {}, used=started.used, result=result,
        )  # fmt: skip
        self._keeper.step(new, blobs or {}, heal=heal)

    def _used(self, node: Node, sources: list[Node]) -> list[str]:
        """What a step is given, for lineage: the runs that made it, and files."""
        found = {f"runs/{self.steps[one].run}" for one in sources if one in self.steps and self.steps[one].run}
        found |= {f"files/{path.as_posix()}"[:250] for path in paths(node)}
        things = (value for value in node.arguments.values() if hasattr(type(value), "__tarmac_thing__"))
        found |= {thing.__tarmac_thing__()[0] for thing in things}
        return sorted(found)


def reference(node: Node) -> str:
    return f"{node.step.function.__module__}:{node.step.function.__qualname__}"


def paths(node: Node) -> list[PurePath]:
    """The files among a node's own arguments."""
    found: list[PurePath] = []
    for name, value in node.arguments.items():
        values = value.items if isinstance(value, Each) and not isinstance(value.items, Handle) else [value]
        for one in values:
            plain = one if isinstance(one, (Handle, Each)) else as_declared(node.step, name, one)
            if isinstance(plain, PurePath):
                found.append(plain)
    return found


def _params(node: Node) -> dict[str, str]:
    """Plain arguments, as params of the step's run."""
    found = {}
    for name, value in node.arguments.items():
        if not isinstance(value, (Handle, Each)) and not any(True for _ in handles_in(value)):
            found[name[:250]] = shown(name, value)
    return found

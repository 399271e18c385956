"""A run of a pipeline: steps are started as soon as what they need is there, reused where nothing has changed, and
what comes of them is kept beside. One thread drives; steps run where the executor runs them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tarmac.core.errors import Damaged, Invalid, StepFailed
from tarmac.core.ids import time_ordered
from tarmac.flow import connections, needs, typed
from tarmac.flow.executors import Executor, Fault, Given, Outcome, Task
from tarmac.flow.executors.work import Here
from tarmac.flow.fetching import Gone, Results
from tarmac.flow.graph import Each, Graph, Handle, Node, call, filled, handles_in, source_of
from tarmac.flow.handing import NOTHING, Hands
from tarmac.flow.items import Many
from tarmac.flow.keeping import Keeper
from tarmac.flow.keys import Codes, as_declared
from tarmac.flow.plan import Looked, Looking
from tarmac.flow.records import Done, Output, StepRun
from tarmac.flow.telling import Started, Teller, Watcher, paths

LOOK_SECONDS = 0.5
HELD_SECONDS = 1.0
"""How long a step must have kept others from the interpreter to be worth a process the next time."""
MOST_LOSSES = 2


class Running(Started):
    """A step that has been given to the executor."""

    __slots__ = ("deadline", "losses")

    def __init__(self, node: Node, looked: Looked | None, run: str, why: str) -> None:
        super().__init__(node, looked, run, why)
        limit = node.step.options.timeout
        self.deadline = time.monotonic() + limit if limit else None
        self.losses = 0


class Execution:
    """One run."""

    def __init__(
        self,
        graph: Graph,
        results: Results,
        codes: Codes,
        executor: Executor,
        keeper: Keeper,
        run: str,
        watch: Watcher | None = None,
    ) -> None:
        self.graph = graph
        self.done: dict[Node, Done] = {}
        self.outputs: dict[Node, list[Output]] = {}
        self._looking = Looking(graph, results, codes)
        self._results = results
        self._codes = codes
        self._executor = executor
        self._keeper = keeper
        self._run = run
        self._teller = Teller(graph, keeper, watch)
        self._hands = Hands(results)
        self._after = needs.consumers(graph)
        self._number = {node: index for index, node in enumerate(graph.nodes)}
        self._wanted: set[Node] = set()
        self._waiting: dict[Node, int] = {}
        self._ready: deque[Node] = deque()
        self._running: dict[str, Running] = {}
        self._many: dict[Node, Many] = {}
        self._unknown: set[Node] = set()
        """Steps whose result has no digest: it is only in memory, and what comes after cannot be looked up."""
        self._chosen: dict[Node, bool] = {}
        self._asking: dict[Node, list[Node]] = {}
        """Who waits for a result that was found gone and is made again."""
        self.result: Any = None
        """What the pipeline returned."""
        self._remade: set[str] = set()
        self._healed: set[Node] = set()
        self._failure: tuple[Node, Fault] | None = None
        self._returned = {node for node, _ in handles_in(graph.result)}
        self._used = 0.0
        for node in graph.nodes:  # all at once: who edits a file while we run changes nothing of this run
            if not node.choice:
                codes.of(node.step)

    @property
    def steps(self) -> dict[Node, StepRun]:
        """What became of each step that was needed."""
        return self._teller.steps

    def go(self) -> None:
        """To the end, or to the first failure; what runs then is waited for."""
        self._want(needs.unconditional(self.graph, self._after))
        try:
            self._drive()
            while self._failure is None and not self._read_result():
                self._drive()
        except BaseException:
            self._give_up()
            raise
        if self._failure is not None:
            node, fault = self._failure
            raise StepFailed(
                f"step `{node.name}` failed: {fault.kind}: {fault.message}"
                + (f" ({fault.where})" if fault.where else ""),
                hint=fault.hint or "mend it and run again: what is done is reused",
                detail={"step": node.name, "where": fault.where, "traceback": fault.traceback, "run": self._run},
            )

    def _drive(self) -> None:
        while self._ready or self._running:
            while self._ready and self._failure is None and self._room():
                self._begin(self._ready.popleft())
            if self._failure is not None and not self._running:
                return
            if self._running:
                self._hear()
            if self._keeper.failed is not None:
                raise self._keeper.failed

    def _read_result(self) -> bool:
        """What the pipeline returns is read here: if it is gone, it is made again."""
        try:
            self.result = filled(self.graph.result, self._value)
        except Gone as gone:
            if gone.node in self._remade:
                raise Damaged(f"what step `{gone.node}` made cannot be read again: {gone}") from gone
            self._remade.add(gone.node)
            self._redo_of(self.graph.node(gone.node), None, str(gone))
            return False
        return True

    # -------------------------------------------------------------------------------------------------- what is ready

    def _want(self, nodes: list[Node]) -> None:
        """These are needed, and so is what they need."""
        todo = list(nodes)
        fresh: list[Node] = []
        while todo:
            node = todo.pop()
            if node in self._wanted:
                continue
            self._wanted.add(node)
            fresh.append(node)
            todo += self._needed_by(node)
        for node in sorted(fresh, key=self._number.__getitem__):
            self._waiting[node] = sum(before not in self.done for before in self._needed_by(node))
            if not self._waiting[node]:
                self._ready.append(node)

    def _needed_by(self, node: Node) -> list[Node]:
        if not node.choice:
            return node.before
        condition = needs.condition_of(node)
        return [condition] if condition is not None else []

    def _settle(self, node: Node, done: Done) -> None:
        self.done[node] = done
        if node in self._asking:
            self._ready.extend(dict.fromkeys(self._asking.pop(node)))
            return
        for before in node.before:
            if before not in self._returned and all(one in self.done and not one.choice for one in self._after[before]):
                self._hands.release(before.name, before.parts or 1)
        for after in dict.fromkeys(self._after[node]):
            if after not in self._wanted or after in self.done:
                continue
            if after.choice and after in self._chosen:
                if all(one in self.done for one in needs.chosen_nodes(after, self._chosen[after])):
                    self._conclude(after)
            elif node in self._needed_by(after):
                self._waiting[after] -= 1
                if not self._waiting[after]:
                    self._ready.append(after)

    def _room(self) -> bool:
        """Whether another step fits beside those that run."""
        return not self._running or self._used + self._ready[0].step.options.cpu <= self._executor.slots

    # ------------------------------------------------------------------------------------------------------ beginning

    def _begin(self, node: Node) -> None:
        if node in self.done:
            return
        for before in self._needed_by(node):
            if before in self._asking:  # it is being made again
                self._asking[before].append(node)
                return
        if node.choice:
            self._choose(node)
            return
        try:
            looked = self._look(node)
        except Gone as gone:
            self._redo(node, gone)
            return
        if looked is not None and looked.result is not None:
            self._reuse(node, looked)
            return
        why = self._why(node, looked)
        if node.each is not None and looked is not None:
            self._many[node] = Many(node, looked, self._results, self._keeper)
            if not self._many[node].missing:
                self._all_items(node, self._many[node])
                return
        self._submit(node, looked, why)

    def _look(self, node: Node) -> Looked | None:
        """The key of a step; None where something it is given has no digest."""
        items = None
        if node.each is not None and isinstance(node.arguments[node.each].items, Handle):
            items = self._value(*source_of(node.arguments[node.each].items))
            if not isinstance(items, (list, tuple)):
                raise Invalid(
                    f"{node.line}`each` of step `{node.name}` was given no list, but `{type(items).__name__}`"
                )
        if any(before in self._unknown for before in node.before):
            return None
        return self._looking.look(node, self.outputs, items)

    def _why(self, node: Node, looked: Looked | None) -> str:
        if looked is None:
            return "what it is given is not kept"
        if not node.step.options.cache:
            return "it is run every time"
        from tarmac.flow import explaining

        before = self._results.newest(node.name)
        return "; ".join(explaining.reasons(looked.made, self._codes.of(node.step), before, self._results.texts))

    def _submit(self, node: Node, looked: Looked | None, why: str, run: str = "") -> None:
        running = Running(node, looked, run or time_ordered(), why)
        many = self._many.get(node)
        chunk = many.next_chunk() if many is not None else None
        task_id = running.run if chunk is None else f"{running.run}-{chunk[0]}"
        code = self._codes.of(node.step)
        lent = connections.lent(node)
        items = chunk[1] if chunk is not None else None
        if node.each is not None and many is None:  # nothing of it is kept: all at once
            given = node.arguments[node.each].items
            items = list(self._value(*source_of(given)) if isinstance(given, Handle) else given)
        task = Task(
            id=task_id,
            node=node.name,
            function=node.step.function,
            options=node.step.options,
            arguments=lambda: self._arguments(node, self._take),
            sent=lambda: self._arguments(node, self._given),
            parts=node.parts,
            allowed=(*map(str, paths(node)), str(self._results.folder)),
            code=dict(code.files),
            items=items,
            secrets=lent,
            place=(*self._keeper.where, running.run, node.name, self._keeper.experiment, self._run),
            apart=self._apart(node, looked),
        )
        if run == "":
            self._announce(running)
            self._used += node.step.options.cpu
        self._running[task_id] = running
        self._executor.submit(task)

    def _apart(self, node: Node, looked: Looked | None) -> bool:
        """Whether a step should have a process: it is said so, or it held the interpreter for long while others ran."""
        if node.step.options.executor is not None:
            return node.step.options.executor == "processes"
        before = self._results.newest(node.name)
        if before is None or before.held < HELD_SECONDS or node.step.function.__module__ == "__main__":
            return False
        return bool(self._running or self._ready)

    def _announce(self, running: Running) -> None:
        self._teller.begun(running, self._codes.of(running.node.step), self._sources(running.node))

    def _sources(self, node: Node) -> list[Node]:
        """The steps before this one; through a `when` those it has chosen."""
        found = []
        for before in node.before:
            if before.choice and before in self._chosen:
                found += list(needs.chosen_nodes(before, self._chosen[before]))
            else:
                found.append(before)
        return found

    def _arguments(self, node: Node, of: Callable[[Node, int | None], Any]) -> tuple[list[Any], dict[str, Any]]:
        """What the function is called with, taken when it is about to be."""
        values = {}
        for name, value in node.arguments.items():
            if isinstance(value, Each):
                values[name] = Here
            else:
                whole = filled(value, of)
                values[name] = connections.resolved(as_declared(node.step, name, whole) if whole is value else whole)
        return call(node, values)

    def _take(self, node: Node, part: int | None) -> Any:
        return self._value(node, part, take=True)

    def _value(self, node: Node, part: int | None, *, take: bool = False) -> Any:
        """What a node made, or a part of it."""
        node, part = self._chosen_for(node, part)
        if node.choice:
            return self._side(node)
        if node in self._many:
            return self._many[node].values()
        count = node.parts or 1
        if part is None and count > 1:
            return tuple(self._part(node, index, take=take) for index in range(count))
        return self._part(node, part or 0, take=take)

    def _given(self, node: Node, part: int | None) -> Any:
        """The same for another machine, which reads it from the workspace itself."""
        node, part = self._chosen_for(node, part)
        if node.choice:
            return self._side(node)
        if node in self._many:
            return [Given(node.name, output) for output in self._many[node].all_outputs()]
        outputs = self.outputs.get(node)
        if not outputs:
            return self._value(node, part)
        found = tuple(
            Given(node.name, output, self._hands.bytes_of(node.name, index)) for index, output in enumerate(outputs)
        )
        return found if part is None and (node.parts or 1) > 1 else found[part or 0]

    def _chosen_for(self, node: Node, part: int | None) -> tuple[Node, int | None]:
        """For a `when`, who makes what it is."""
        while node.choice and isinstance(side := self._side(node), Handle):
            node, inner = source_of(side)
            part = inner if part is None else part
        return node, part

    def _part(self, node: Node, index: int, *, take: bool) -> Any:
        outputs = self.outputs.get(node)
        output = outputs[index] if outputs else None
        return (self._hands.take if take else self._hands.look)(node.name, index, output)

    # --------------------------------------------------------------------------------------------------------- choices

    def _choose(self, node: Node) -> None:
        above, part = source_of(node.arguments["condition"])
        try:
            self._chosen[node] = bool(self._value(above, part))
        except Gone as gone:
            self._redo_of(above, node, str(gone))
            return
        chosen = list(needs.chosen_nodes(node, self._chosen[node]))
        self._teller.watch("chosen", node, self._chosen[node])
        self._want(chosen)
        if all(one in self.done for one in chosen):
            self._conclude(node)

    def _side(self, node: Node) -> Any:
        return node.arguments["then" if self._chosen[node] else "otherwise"]

    def _conclude(self, node: Node) -> None:
        """A `when` is what its chosen side is."""
        side = self._side(node)
        if isinstance(side, Handle):
            above, part = source_of(side)
            if above in self._unknown:
                self._unknown.add(node)
            else:
                self.outputs[node] = self.outputs[above] if part is None else [self.outputs[above][part]]
        else:
            self.outputs[node] = [typed.pack(side, f"{node.line}a side of `when`").output]
        self._settle(node, "ran")

    # ----------------------------------------------------------------------------------------------------------- ends

    def _reuse(self, node: Node, looked: Looked) -> None:
        assert looked.result is not None
        result = looked.result
        self.outputs[node] = result.outputs
        if node.each is not None:
            self._many[node] = Many(node, looked, self._results, self._keeper, whole=True)
        self._teller.reused(node, result)
        self._settle(node, "reused")

    def _hear(self) -> None:
        wait = LOOK_SECONDS
        deadlines = [one.deadline for one in self._running.values() if one.deadline is not None]
        if deadlines:
            wait = min(wait, max(0.0, min(deadlines) - time.monotonic()))
        for outcome in self._executor.next(wait):
            running = self._running.pop(outcome.id, None)
            if running is not None:
                self._ended(running, outcome)
        moment = time.monotonic()
        for id, running in list(self._running.items()):
            if running.deadline is not None and moment >= running.deadline:
                limit = running.node.step.options.timeout
                self._executor.stop(id, Fault("TimeoutError", f"it was not done after {limit:g} s"))
        self._teller.watch("tick", None, None)  # type: ignore[arg-type]

    def _ended(self, running: Running, outcome: Outcome) -> None:
        node = running.node
        many = self._many.get(node)
        if outcome.log:
            self._keeper.log(running.run, outcome.log)
        if outcome.fault is not None:
            if outcome.fault.lost and running.losses < MOST_LOSSES and self._failure is None:
                self._again(running, outcome)
                return
            self._used -= node.step.options.cpu
            if outcome.fault.gone and self._failure is None:
                self._redo_of(self.graph.node(outcome.fault.gone), node, outcome.fault.message)
                return
            self._failed(running, outcome)
            return
        if many is not None:
            many.take_in(outcome)
            if many.missing and self._failure is None:
                self._submit(node, running.looked, running.why, running.run)
                return
            self._used -= node.step.options.cpu
            if not many.missing:
                self._all_items(node, many, running, outcome)
            return
        self._used -= node.step.options.cpu
        asking = len(self._after[node]) + sum(1 for found, _ in handles_in(self.graph.result) if found is node)
        packed = outcome.packed
        for index, value in enumerate(outcome.values or [NOTHING] * len(packed)):
            self._hands.hold(node.name, index, value, packed[index] if packed else None, asking)
        if packed:
            self.outputs[node] = outcome.outputs
        else:
            self._unknown.add(node)
        blobs = {digest: data for one in packed for digest, data in one.blobs.items()}
        self._keep(running, outcome, outcome.outputs, blobs)
        self._settle(node, "ran")

    def _again(self, running: Running, outcome: Outcome) -> None:
        """Its process is gone: that may be no fault of the step."""
        assert outcome.fault is not None
        self._teller.watch("lost", running.node, outcome.fault)
        losses = running.losses + 1
        self._submit(running.node, running.looked, running.why, running.run)
        for one in self._running.values():
            if one.run == running.run:
                one.losses = losses

    def _not_kept(self, node: Node, looked: Looked | None, outcome: Outcome) -> str:
        """Why the result of a step is not to be found again, if it is not."""
        if not node.step.options.cache:
            return "is run every time: cache=False"
        if looked is None:
            return "was given what is not kept"
        if outcome.undeclared:
            return "; ".join(outcome.undeclared)
        return ""

    def _keep(self, running: Running, outcome: Outcome, outputs: list[Output], blobs: dict[str, Any]) -> None:
        not_kept = self._not_kept(running.node, running.looked, outcome)
        heal = running.node in self._healed
        self._teller.ended(running, outcome, outputs, not_kept, blobs, heal=heal)

    def _all_items(
        self, node: Node, many: Many, running: Running | None = None, outcome: Outcome | None = None
    ) -> None:
        """Every item has its result: so has the step."""
        looked = many.looked
        running = running or Running(node, looked, time_ordered(), "items are gone, or in another order")
        if outcome is None:
            self._announce(running)
        total = Outcome(running.run, seconds=many.seconds, cpu_seconds=many.cpu_seconds, undeclared=many.undeclared)
        total.memory = outcome.memory if outcome is not None else 0
        self.outputs[node] = [many.output()]
        many.finish()
        self._keep(running, total, self.outputs[node], {})
        self._settle(node, "ran")

    def _failed(self, running: Running, outcome: Outcome) -> None:
        node, fault = running.node, outcome.fault
        assert fault is not None
        self.done[node] = "failed"
        if self._failure is None:
            self._failure = node, fault
        self._teller.failed(running, outcome, fault)

    def _give_up(self) -> None:
        """Somebody stops us: what still runs is left."""
        for id, running in list(self._running.items()):
            self._executor.stop(id, Fault("Cancelled", "it was stopped"))
            self._teller.stopped(running)

    # ------------------------------------------------------------------------------------------- results that are gone

    def _redo(self, node: Node, gone: Gone) -> None:
        """Something a step needs to be looked at is gone: it is made again."""
        for before in node.before:
            if before.name == gone.node or (not gone.node and self.done.get(before) == "reused"):
                self._redo_of(before, node, str(gone))
                return
        raise Invalid(f"what step `{node.name}` needs is not there any more: {gone}")

    def _redo_of(self, gone: Node, asking: Node | None, why: str) -> None:
        """Make a reused result again, and then go on with who asked."""
        self._healed.add(gone)
        already = gone in self._asking
        self._asking.setdefault(gone, []).extend([asking] if asking is not None else [])
        if already:
            return
        self.done.pop(gone, None)
        self.outputs.pop(gone, None)
        self._many.pop(gone, None)
        looked = self._look(gone)
        if looked is not None:
            self._results.forget(looked.key)
            looked.result = None
            if gone.each is not None:
                self._many[gone] = Many(gone, looked, self._results, self._keeper, again=True)
        self._submit(gone, looked, f"its result is gone: {why}")

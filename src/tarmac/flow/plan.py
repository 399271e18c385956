"""What a pipeline would run, what it would reuse, and why: decided before anything runs, as plain values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from blake3 import blake3

from tarmac.core.errors import Invalid
from tarmac.flow import explaining, needs, source, typed
from tarmac.flow.fetching import Gone, Results
from tarmac.flow.graph import Each, Graph, Handle, Node, source_of
from tarmac.flow.keys import Codes, key_of, made_of
from tarmac.flow.records import MadeOf, Mark, Output, StepResult


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan."""

    node: str
    mark: Mark
    why: list[str] = []
    depends: str = ""
    seconds: float | None = None
    before: list[str] = []
    key: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline before it runs."""

    pipeline: str
    params: dict[str, str]
    steps: list[Planned]

    @property
    def seconds(self) -> float | None:
        """How long what is to be run took the last time, one after the other; None if that is not known."""
        times = [one.seconds for one in self.steps if one.mark in ("run", "depends")]
        known = [time for time in times if time is not None]
        return sum(known) if len(known) == len(times) else None


class Looked:
    """A node with its key, and the result that is there already."""

    __slots__ = ("group", "item_keys", "items", "key", "made", "result")

    def __init__(self, made: MadeOf, key: str) -> None:
        self.made = made
        self.key = key
        self.result: StepResult | None = None
        self.group = ""
        self.items: list[Any] | None = None
        self.item_keys: list[str] = []


class Looking:
    """What can be said of nodes from the digests of what comes before them."""

    def __init__(self, graph: Graph, results: Results, codes: Codes) -> None:
        self.graph = graph
        self.results = results
        self.codes = codes

    def look(self, node: Node, outputs: dict[Node, list[Output]], items: list[Any] | None = None) -> Looked:
        """The key of a node, all it depends on being known; `items` are those of its `each`."""

        def known(before: Node, part: int | None) -> tuple[str, str]:
            made = outputs[before]
            if part is not None:
                return f"{before.name}[{part}]", made[part].digest
            return before.name, whole_digest(made)

        made = made_of(node, self.codes, known)
        if node.each is None:
            looked = Looked(made, key_of(made))
        else:
            looked = self._each(node, made, items)
        looked.result = self.results.find([looked.key]).get(looked.key) if node.step.options.cache else None
        return looked

    def _each(self, node: Node, made: MadeOf, items: list[Any] | None) -> Looked:
        """The key of all items together, and of each of them."""
        assert node.each is not None
        steps = {name: value for name, value in made.steps.items() if name != node.each}
        group = key_of(msgspec.structs.replace(made, steps=steps), "each", node.each)
        given = items if items is not None else node.arguments[node.each].items
        if not isinstance(given, (list, tuple)):
            raise Invalid(f"{node.line}`each` of step `{node.name}` was given no list, but `{type(given).__name__}`")
        seed = bytes.fromhex(group)
        digests = [typed.digest_of(item, f"an item of `{node.name}`") for item in given]
        looked = Looked(made, "")
        looked.item_keys = [blake3(seed + bytes.fromhex(digest)).hexdigest() for digest in digests]
        looked.group, looked.items = group, list(given)
        all_items = blake3("".join(digests).encode()).hexdigest()
        if node.each not in made.steps:
            values = {**made.values, node.each: (all_items[: source.DIGITS], f"{len(digests):,} items")}
            looked.made = msgspec.structs.replace(made, values=values)
        looked.key = blake3(seed + all_items.encode()).hexdigest()
        return looked


def whole_digest(outputs: list[Output]) -> str:
    """What stands for all that a step returned."""
    if len(outputs) == 1:
        return outputs[0].digest
    return blake3("".join(output.digest for output in outputs).encode()).hexdigest()


def make(graph: Graph, params: dict[str, str], looking: Looking) -> Plan:
    """Look at each step in order: those whose inputs are all known are to be run or can be reused."""
    after = needs.consumers(graph)
    wanted = set(needs.unconditional(graph, after))
    outputs: dict[Node, list[Output]] = {}
    steps: list[Planned] = []
    settled: dict[Node, Planned] = {}

    chosen: dict[Node, bool] = {}
    for node in graph.nodes:
        if node.choice:
            _choose(node, chosen, outputs, settled)
            continue
        if node in wanted:
            planned = _step(node, outputs, settled, looking)
        else:
            planned = _unasked(node, after, chosen)
        settled[node] = planned
        steps.append(planned)
        if node in outputs:
            for choice in after[node]:
                if choice.choice and needs.condition_of(choice) is node:
                    _decide(choice, chosen, wanted, outputs, looking)
    return Plan(pipeline=graph.pipeline, params=params, steps=steps)


def _step(node: Node, outputs: dict[Node, list[Output]], settled: dict[Node, Planned], looking: Looking) -> Planned:
    before = looking.results.newest(node.name)
    seconds = before.seconds if before is not None else None
    for needed in node.before:
        if needed not in outputs:
            above = settled[needed]
            waits = above.depends if above.mark == "depends" and above.depends else needed.name
            return Planned(node=node.name, mark="depends", depends=waits, seconds=seconds, before=_names(node))
    items = None
    if node.each is not None:
        try:
            items = _items(node, outputs, looking)
        except Gone:
            return Planned(
                node=node.name, mark="depends", depends=node.before[0].name, seconds=seconds, before=_names(node)
            )
    looked = looking.look(node, outputs, items)
    if looked.result is not None:
        outputs[node] = looked.result.outputs
        return Planned(node=node.name, mark="reuse", seconds=looked.result.seconds, before=_names(node), key=looked.key)
    if not node.step.options.cache:
        why = ["it is run every time: cache=False"]
    else:
        why = explaining.reasons(looked.made, looking.codes.of(node.step), before, looking.results.texts)
    return Planned(node=node.name, mark="run", why=why, seconds=seconds, before=_names(node), key=looked.key)


def _items(node: Node, outputs: dict[Node, list[Output]], looking: Looking) -> list[Any] | None:
    """What `each` goes over: known by now, because the step that makes it can be reused."""
    assert node.each is not None
    given: Each = node.arguments[node.each]
    if not isinstance(given.items, Handle):
        return None
    above, part = source_of(given.items)
    items: list[Any] = value_of(looking.results, outputs[above], part)
    return items


def value_of(results: Results, outputs: list[Output], part: int | None) -> Any:
    if part is not None:
        return results.value(outputs[part])
    if len(outputs) == 1:
        return results.value(outputs[0])
    return tuple(results.value(output) for output in outputs)


def _decide(
    choice: Node, chosen: dict[Node, bool], wanted: set[Node], outputs: dict[Node, list[Output]], looking: Looking
) -> None:
    """The condition of a `when` is known already: so is which side is needed."""
    above, part = source_of(choice.arguments["condition"])
    try:
        chosen[choice] = bool(value_of(looking.results, outputs[above], part))
    except Gone:
        return
    todo = list(needs.chosen_nodes(choice, chosen[choice]))
    while todo:
        node = todo.pop()
        if node not in wanted:
            wanted.add(node)
            todo += node.before if not node.choice else [one for one in [needs.condition_of(node)] if one is not None]


def _choose(
    choice: Node, chosen: dict[Node, bool], outputs: dict[Node, list[Output]], settled: dict[Node, Planned]
) -> None:
    """What a `when` comes to, if its side is known and reused; else what has to be waited for."""
    condition = needs.condition_of(choice)
    assert condition is not None
    waits = condition.name
    if choice in chosen:
        side = choice.arguments["then" if chosen[choice] else "otherwise"]
        if not isinstance(side, Handle):
            outputs[choice] = [typed.pack(side, "a side of `when`").output]
            return
        above, part = source_of(side)
        if above in outputs:
            outputs[choice] = outputs[above] if part is None else [outputs[above][part]]
            return
        waits = settled[above].depends or above.name
    elif condition in settled and settled[condition].depends:
        waits = settled[condition].depends
    settled[choice] = Planned(node=choice.name, mark="depends", depends=waits)


def _unasked(node: Node, after: dict[Node, list[Node]], chosen: dict[Node, bool]) -> Planned:
    """A step that only a side of a `when` needs."""
    choice = _chooser(node, after)
    condition = needs.condition_of(choice) if choice is not None else None
    name = condition.name if condition is not None else ""
    if choice in chosen:
        said = "true" if chosen[choice] else "false"
        return Planned(node=node.name, mark="skip", why=[f"`{name}` comes out {said}"], before=_names(node))
    return Planned(node=node.name, mark="depends", depends=name, before=_names(node))


def _chooser(node: Node, after: dict[Node, list[Node]]) -> Node | None:
    """The `when` that decides about a node."""
    todo = list(after[node])
    while todo:
        found = todo.pop(0)
        if found.choice:
            return found
        todo += after[found]
    return None


def _names(node: Node) -> list[str]:
    return [before.name for before in node.before]


def counted(steps: Iterable[Planned]) -> dict[Mark, int]:
    found: dict[Mark, int] = {}
    for one in steps:
        found[one.mark] = found.get(one.mark, 0) + 1
    return found

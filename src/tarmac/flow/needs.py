"""Which steps of a graph are needed: those that only one side of a `when` asks for wait until it is chosen."""

from __future__ import annotations

from collections.abc import Iterator

from tarmac.flow.graph import Graph, Handle, Node, handles_in, source_of


def consumers(graph: Graph) -> dict[Node, list[Node]]:
    found: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for node in graph.nodes:
        for before in node.before:
            found[before].append(node)
    return found


def unconditional(graph: Graph, after: dict[Node, list[Node]]) -> list[Node]:
    """The steps that are run whatever comes out."""
    returned = {node for node, _ in handles_in(graph.result)}
    conditional: set[Node] = set()
    for node in reversed(graph.nodes):  # whoever asks for it comes after it
        if node in returned or not after[node]:
            continue
        if all(asking in conditional or (asking.choice and node is not condition_of(asking)) for asking in after[node]):
            conditional.add(node)
    return [node for node in graph.nodes if node not in conditional]


def condition_of(choice: Node) -> Node | None:
    condition = choice.arguments["condition"]
    return source_of(condition)[0] if isinstance(condition, Handle) else None


def chosen_nodes(choice: Node, outcome: object) -> Iterator[Node]:
    for node, _ in handles_in(choice.arguments["then" if outcome else "otherwise"]):
        yield node


def cut(graph: Graph, name: str) -> None:
    """Leave of a graph one step, and what it needs."""
    node = graph.node(name)
    keep, todo = {node}, [node]
    while todo:
        for before in todo.pop().before:
            if before not in keep:
                keep.add(before)
                todo.append(before)
    graph.nodes[:] = [one for one in graph.nodes if one in keep]
    graph.result = Handle(node)

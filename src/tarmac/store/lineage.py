"""What had a part in making what: edges written in the transaction of the change that made them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tarmac.store.records import Edge
from tarmac.store.sql import Reader, Tx

Direction = Literal["up", "down"]
MOST_EDGES = 10_000


def link(tx: Tx, source: str, target: str, how: str) -> None:
    """Record that `source` had a part in making `target`; both are `kind/id`. Twice is once."""
    tx.insert(
        "lineage",
        ("project", "source", "target", "how", "at"),
        [(tx.project, source, target, how, tx.now)],
        otherwise="ON CONFLICT DO NOTHING",
    )


def walk(read: Reader, thing: str, direction: Direction, depth: int) -> list[Edge]:
    """The edges on every road up (what made it) or down (what it made), nearest first."""
    here, there = ("target", "source") if direction == "up" else ("source", "target")
    seen, edges = {thing}, []
    frontier: Iterable[str] = [thing]
    for level in range(1, depth + 1):
        following = []
        for node in frontier:
            rows = read.all(
                f"SELECT source, target, how, at FROM lineage WHERE project = :project AND {here} = :node "
                f"ORDER BY {there}, how LIMIT :most",
                project=read.project,
                node=node,
                most=MOST_EDGES,
            )
            for source, target, how, at in rows:
                edges.append(Edge(source=source, target=target, how=how, at=at, depth=level))
                other = source if direction == "up" else target
                if other not in seen:
                    seen.add(other)
                    following.append(other)
                if len(edges) >= MOST_EDGES:
                    return edges
        if not following:
            break
        frontier = following
    return edges

"""What had a part in making what: edges written in the transaction of the change that made them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.store.records import Edge
from tarmac.store.sql import Reader, Tx

Direction = Literal["up", "down"]
MOST_EDGES = 10_000
KINDS = ("data", "models", "packages", "runs")


def link(tx: Tx, source: str, target: str, how: str) -> None:
    """Record that `source` had a part in making `target`; both are `kind/id`. Twice is once."""
    tx.insert(
        "lineage",
        ("project", "source", "target", "how", "at"),
        [(tx.project, source, target, how, tx.now)],
        otherwise="ON CONFLICT DO NOTHING",
    )


def named(read: Reader, text: str) -> str:
    """`kind/id`. The kind may be left out where only one kind of thing with edges is called so."""
    if "/" in text:
        return text
    found = [
        f"{kind}/{text}"
        for kind in KINDS
        if read.value(
            "SELECT 1 FROM lineage WHERE project = :project AND (source = :thing OR target = :thing) LIMIT 1",
            project=read.project,
            thing=f"{kind}/{text}",
        )
    ]
    if len(found) > 1:
        raise Invalid(f"`{bounded(text)}` can be several things: {bounded(', '.join(found), 600)}", hint="say which")
    if not found:
        raise NotFound(
            f"nothing called `{bounded(text)}` has a lineage",
            hint="things are written data/faces@v3, models/churn@v1, packages/ID or runs/ID",
        )
    return found[0]


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

"""Lineage on the screen: the thing, and below it what made it (`←`) and what was made of it (`→`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tarmac.core.errors import bounded

MOST_LINES = 500
Edge = dict[str, Any]


def tree(thing: str, edges: Sequence[Edge]) -> str:
    if not edges:
        return f"{bounded(thing)} has no lineage\n"
    lines = [bounded(thing)]
    shown = {thing}
    up, down = _by(edges, "target"), _by(edges, "source")
    branches = [("←", "source", edge) for edge in up.get(thing, ())]
    branches += [("→", "target", edge) for edge in down.get(thing, ())]
    for at, (arrow, end, edge) in enumerate(branches):
        following = up if arrow == "←" else down
        lines += _branch(edge, end, arrow, following, shown, "", last=at == len(branches) - 1)
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"… and {len(lines) - MOST_LINES:,} more; --json has all"]
    return "\n".join(lines) + "\n"


def _by(edges: Sequence[Edge], end: str) -> dict[str, list[Edge]]:
    found: dict[str, list[Edge]] = {}
    for edge in edges:
        found.setdefault(edge[end], []).append(edge)
    return found


def _branch(
    edge: Edge, end: str, arrow: str, following: dict[str, list[Edge]], shown: set[str], before: str, *, last: bool
) -> Iterator[str]:
    """A thing and all beyond it; one that was shown already is not gone into again."""
    thing = edge[end]
    beyond = following.get(thing, [])
    again = thing in shown and bool(beyond)
    shown.add(thing)
    yield f"{before}{'└─' if last else '├─'} {edge['how']} {arrow} {bounded(thing)}{' (above)' if again else ''}"
    for at, one in enumerate([] if again else beyond):
        inner = f"{before}{'   ' if last else '│  '}"
        yield from _branch(one, end, arrow, following, shown, inner, last=at == len(beyond) - 1)

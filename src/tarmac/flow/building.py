"""The graph that a pipeline's body is being read into, in this thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tarmac.flow.graph import Graph


class _Local(threading.local):
    graph: Graph | None = None


_local = _Local()


def current() -> Graph | None:
    return _local.graph


def swap(graph: Graph | None) -> Graph | None:
    """Let another graph be the one; answers with the one before."""
    before, _local.graph = _local.graph, graph
    return before

"""What steps hand to each other while a pipeline runs: in memory where it is there, else from the workspace.

A step may change what it is given. So each but the last to ask is given a copy, made from the bytes that are kept; a
value that cannot change is handed to all.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from tarmac.flow import typed
from tarmac.flow.fetching import Gone, Results
from tarmac.flow.records import Leaf, Output
from tarmac.flow.typed import Packed

LARGEST_HELD = 256 * 1024 * 1024
FIXED = (bool, int, float, complex, str, bytes, type(None))


class Held:
    """One thing that a step returned in this run."""

    __slots__ = ("asking", "has_value", "packed", "value")

    def __init__(self, value: Any, packed: Packed | None, asking: int) -> None:
        self.value = value
        self.has_value = True
        self.packed = packed
        self.asking = asking


class Hands:
    """The values of this run, by node and part."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._held: dict[tuple[str, int], Held] = {}
        self._lock = threading.Lock()

    def hold(self, node: str, part: int, value: Any, packed: Packed | None, asking: int) -> None:
        with self._lock:
            self._held[node, part] = Held(value, packed, asking)

    def replaced(self, node: str, part: int, packed: Packed) -> None:
        with self._lock:
            if (held := self._held.get((node, part))) is not None:
                held.packed = packed

    def take(self, node: str, part: int, output: Output | None) -> Any:
        """The value for one who asks; the last one gets the thing itself."""
        with self._lock:
            held = self._held.get((node, part))
            if held is not None:
                held.asking -= 1
                if is_fixed(held.value):
                    return held.value
                if held.asking <= 0:
                    value = held.value
                    if held.packed is not None:
                        del self._held[node, part]
                    return value
                packed = held.packed
            else:
                packed = None
        if packed is not None:
            return self.copy(packed)
        if output is None:
            raise Gone(f"what `{node}` made is not there any more")
        return self._results.value(output)

    def copy(self, packed: Packed) -> Any:
        def fetch(digest: str) -> bytes:
            data = packed.blobs.get(digest)
            if isinstance(data, bytes):
                return data
            return self._results.fetch(digest)

        def placed(leaf: Leaf) -> Any:
            for file in leaf.files:
                path = packed.blobs.get(file.digest)
                if leaf.codec == "file" and path is not None and not isinstance(path, bytes):
                    return path
            return self._results.placed(leaf)

        return typed.unpack(packed.output, fetch, placed)

    def peek(self, node: str, part: int) -> tuple[bool, Any]:
        """The value if it is here, for one who only looks."""
        with self._lock:
            held = self._held.get((node, part))
            return (True, held.value) if held is not None else (False, None)


def is_fixed(value: Any) -> bool:
    """Whether nobody can change it."""
    kind = type(value)
    if kind in FIXED:
        return True
    if kind is tuple:
        return len(value) < 1000 and all(is_fixed(item) for item in value)
    top = kind.__module__.partition(".")[0]
    if top in ("polars", "pyarrow"):
        library = sys.modules.get(top)
        return kind in (getattr(library, "DataFrame", None), getattr(library, "Table", None)) and top == "pyarrow"
    return top == "pathlib"

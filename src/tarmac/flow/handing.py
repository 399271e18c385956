"""What steps hand to each other while a pipeline runs: in memory where it is there, else from the workspace.

A step may change what it is given. So each but the last to ask is given a copy, made from the bytes that are kept; a
value that cannot change is handed to all.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from tarmac.flow import typed
from tarmac.flow.fetching import Gone, Results
from tarmac.flow.records import Leaf, Output
from tarmac.flow.typed import Packed

FIXED = (bool, int, float, complex, str, bytes, type(None))
NOTHING = object()


class Held:
    """One thing that a step returned in this run."""

    __slots__ = ("asking", "packed", "value")

    def __init__(self, value: Any, packed: Packed | None, asking: int) -> None:
        self.value = value
        self.packed = packed
        self.asking = asking


class Hands:
    """The values of this run, by node and part."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._held: dict[tuple[str, int], Held] = {}
        self._lock = threading.Lock()

    def hold(self, node: str, part: int, value: Any, packed: Packed | None, asking: int) -> None:
        """`value` is NOTHING if it is in another process; `packed` is None if it has no bytes."""
        with self._lock:
            self._held[node, part] = Held(value, packed, asking)

    def release(self, node: str, parts: int) -> None:
        """Nobody asks any more."""
        with self._lock:
            for part in range(parts):
                self._held.pop((node, part), None)

    def take(self, node: str, part: int, output: Output | None) -> Any:
        """The value for one who may change it: the last one to ask gets the thing itself."""
        with self._lock:
            held = self._held.get((node, part))
            if held is not None:
                held.asking -= 1
                if held.value is not NOTHING and (held.packed is None or is_fixed(held.value)):
                    return held.value
                if held.value is not NOTHING and held.asking <= 0:
                    value, held.value = held.value, NOTHING
                    return value
        return self._again(node, held, output)

    def look(self, node: str, part: int, output: Output | None) -> Any:
        """The value for one who only reads it."""
        with self._lock:
            held = self._held.get((node, part))
            if held is not None and held.value is not NOTHING:
                return held.value
        return self._again(node, held, output)

    def bytes_of(self, node: str, part: int) -> dict[str, bytes]:
        """Those bytes of what was made in this run that may not be in the workspace yet."""
        held = self._held.get((node, part))
        if held is None or held.packed is None:
            return {}
        return {digest: data for digest, data in held.packed.blobs.items() if isinstance(data, bytes)}

    def _again(self, node: str, held: Held | None, output: Output | None) -> Any:
        try:
            return self._from_bytes(node, held, output)
        except Gone as gone:
            gone.node = node
            raise

    def _from_bytes(self, node: str, held: Held | None, output: Output | None) -> Any:
        """The value made from its bytes: those that are here, or those that were kept."""
        if held is None or held.packed is None:
            if output is None:
                raise Gone(f"what `{node}` made is not there any more")
            return self._results.value(output)
        blobs = held.packed.blobs

        def fetch(digest: str) -> bytes:
            data = blobs.get(digest)
            return data if isinstance(data, bytes) else self._results.fetch(digest)

        def placed(leaf: Leaf) -> Path:
            path = blobs.get(leaf.files[0].digest) if leaf.codec == "file" else None
            return path if isinstance(path, Path) else self._results.placed(leaf)

        return typed.unpack(held.packed.output, fetch, placed)


def is_fixed(value: Any) -> bool:
    """Whether nobody can change it."""
    kind = type(value)
    if kind in FIXED:
        return True
    if kind is tuple:
        return len(value) < 1000 and all(is_fixed(item) for item in value)
    top = kind.__module__.partition(".")[0]
    return top == "pathlib" or (top == "pyarrow" and kind is getattr(sys.modules.get("pyarrow"), "Table", None))

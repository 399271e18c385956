"""Comparisons of a filter as SQL: what is the same for everything that can be searched."""

from __future__ import annotations

from typing import Any

from tarmac.store.sql import Reader
from tarmac.track.filter import Compare

SIGNS = ("=", "!=", "<", "<=", ">", ">=")


class Conditions:
    """Text under construction, and its values."""

    def __init__(self, read: Reader) -> None:
        self.read = read
        self.values: dict[str, Any] = {"project": read.project}

    def value(self, value: Any) -> str:
        if isinstance(value, float) and value != value:
            value = None  # NaN compares with nothing; to Postgres it would be the largest number
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def text(self, column: str, node: Compare) -> str:
        sign, value = node.sign, node.value
        if sign in ("in", "not in"):
            assert isinstance(value, tuple)
            names = ", ".join(self.value(item) for item in value)
            return f"{column} {'NOT ' if sign == 'not in' else ''}IN ({names})"
        assert isinstance(value, str)
        if sign in SIGNS:
            return f"{column} {sign} {self.value(value)}"
        turned = "NOT " if sign.startswith("not ") else ""
        return f"{turned}{self._like(column, value, minds_case=not sign.endswith('ilike'))}"

    def _like(self, column: str, pattern: str, *, minds_case: bool) -> str:
        if self.read.kind == "postgres":
            return f"({column} {'LIKE' if minds_case else 'ILIKE'} {self.value(pattern)} ESCAPE '')"
        if minds_case:  # SQLite's LIKE never does; GLOB always does
            return f"({column} GLOB {self.value(_glob(pattern))})"
        return f"({column} LIKE {self.value(pattern)})"


def joined(parts: list[str], word: str) -> str:
    """In halves: SQLite takes expressions 1,000 levels deep, and reads `a AND b AND c` as two of them."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return f"({joined(parts[:middle], word)} {word} {joined(parts[middle:], word)})"


def _glob(pattern: str) -> str:
    return "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(c, c) for c in pattern)

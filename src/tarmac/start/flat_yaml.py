"""The YAML of MLflow's `meta.yaml`, and no other: `key: value` on lines, one level of keys below a key, text as PyYAML
folds and quotes it. Anchors, tags, lists, blocks and documents are refused: a file from elsewhere is not trusted."""

from __future__ import annotations

import re
from typing import TypeAlias

from tarmac.core.errors import Invalid, bounded

LARGEST = 20_000_000
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.\- /]*):(?: (.*))?")
_SINGLE = re.compile(r"'(?:[^']|'')*'")
_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b", '"': '"',
    "\\": "\\", "/": "/", " ": " ", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_NOT_PLAIN = tuple("&*!|>@`%{}[]?,#")

Flat: TypeAlias = "dict[str, str | None]"


def read(text: str) -> tuple[Flat, dict[str, Flat]]:
    """The values by their keys, and those that stand below a key."""
    return _Reader(text.replace("\r\n", "\n").split("\n")).mapping("")


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._at = 0

    def mapping(self, indent: str) -> tuple[Flat, dict[str, Flat]]:
        values: Flat = {}
        below: dict[str, Flat] = {}
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if not line.strip():
                self._at += 1
                continue
            if not line.startswith(indent):
                break
            found = _KEY.fullmatch(line[len(indent) :])
            if found is None:
                raise Invalid(f"line {self._at + 1} is not `key: value`: `{bounded(line)}`")
            key, first = found[1], (found[2] or "").strip(" ")
            if key in values or key in below:
                raise Invalid(f"line {self._at + 1}: `{bounded(key)}` stands there twice")
            self._at += 1
            if not first and not indent and self._at < len(self._lines) and self._lines[self._at].startswith("  "):
                below[key] = self.mapping("  ")[0]
            else:
                values[key] = self._value(first, indent)
        return values, below

    def _value(self, first: str, indent: str) -> str | None:
        if first in ("", "null", "~", "{}", "[]"):
            return None
        if first[0] in "'\"":
            return self._quoted(first)
        if first.startswith(_NOT_PLAIN) or first.startswith("- ") or " #" in first or ": " in first:
            raise Invalid(f"line {self._at}: `{bounded(first)}` is more than plain text")
        parts = [first]
        while self._at < len(self._lines) and self._lines[self._at].startswith(indent + "  "):
            parts.append(self._lines[self._at].strip(" "))
            self._at += 1
        return " ".join(parts)

    def _quoted(self, first: str) -> str:
        """Text in quotes, to the line where they close. Quotes are counted once for each line, whatever it holds."""
        pattern = _SINGLE if first[0] == "'" else _DOUBLE
        start, lines = self._at, [first]
        while not _closes(lines[-1], first[0], opening=len(lines) == 1):
            if self._at == len(self._lines):
                raise Invalid(f"line {start}: a quote is not closed")
            lines.append(self._lines[self._at].strip(" "))
            self._at += 1
        if pattern.fullmatch("\n".join(lines)) is None:
            raise Invalid(f"line {start}: something follows the closing quote")
        folded = _fold(lines)[1:-1]
        if first[0] == "'":
            return folded.replace("''", "'")
        return _ESCAPE.sub(_unescape, folded)


def _closes(line: str, quote: str, *, opening: bool) -> bool:
    """Whether text in quotes ends with this line."""
    body = line[1:] if opening else line
    if quote == "'":
        return body.replace("''", "").count("'") > 0
    return '"' in re.sub(r"\\.", "", body)


def _fold(lines: list[str]) -> str:
    """One break is a space, each empty line is a newline; a backslash before the break joins without one."""
    parts = [lines[0]]
    newlines = 0
    for line in lines[1:]:
        if not line:
            newlines += 1
            continue
        before = parts[-1]
        if newlines:
            parts.append("\n" * newlines)
        elif lines[0][0] == '"' and (len(before) - len(before.rstrip("\\"))) % 2:
            parts[-1] = before[:-1]
        else:
            parts.append(" ")
        parts.append(line)
        newlines = 0
    return "".join(parts)


def _unescape(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) > 1:
        number = int(code[1:], 16)
        if number > 0x10FFFF:
            raise Invalid(f"`{found[0]}` is no character")
        return chr(number)
    if code not in _ESCAPES:
        raise Invalid(f"`{found[0]}` is no escape")
    return _ESCAPES[code]

r"""The patterns of contracts: the part of regular expressions that means the same to every engine.

Literals, `.`, classes, `\d \w \s` (ASCII), groups, `|` and `* + ? {m,n}`. The whole text has to match, so there are no
anchors. There is nothing that looks around or back. Python's engine, which the serving runtime has, tries one way after
another; so that no hostile text can keep it busy, the ways in which a pattern can match are counted and bounded.
"""

from __future__ import annotations

import re
from functools import lru_cache

from tarmac.core.errors import Invalid, bounded

LONGEST = 1_000
LONGEST_TEXT = 1_000
"""Characters; a longer text matches no pattern."""
MOST_REPEATS = 1_000
MOST_ENDLESS = 3
MOST_WAYS = 1_000_000

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r" \t\n\r\f\v"}
_SPECIAL = set("\\.^$*+?{}[]|()&~-#")
_CONTROL = {"t": r"\t", "n": r"\n", "r": r"\r", "f": r"\f", "v": r"\v"}
_REPEAT = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")


def fault(pattern: str) -> str | None:
    """Why this is no pattern, in words; None if it is one."""
    try:
        translated(pattern)
    except Invalid as error:
        return error.message
    return None


@lru_cache(maxsize=1024)
def translated(pattern: str) -> str:
    """The pattern in a form that Python's `re` and Rust's `regex` read alike."""
    if len(pattern) > LONGEST:
        raise Invalid(f"the pattern has more than {LONGEST:,} characters")
    reader = _Reader(pattern)
    text, _ = reader.either(0)
    if reader.at < len(pattern):
        raise reader.fault("a `)` that nothing opens")
    return text


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translated(pattern))


def matches(pattern: str, text: str) -> bool:
    return len(text) <= LONGEST_TEXT and compiled(pattern).fullmatch(text) is not None


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._endless = 0
        self.at = 0

    @property
    def _next(self) -> str:
        return self._pattern[self.at : self.at + 1]

    def fault(self, what: str) -> Invalid:
        near = bounded(self._pattern[max(0, self.at - 10) : self.at + 20], 40)
        return Invalid(f"pattern, character {self.at + 1}: {what}; near `{near}`")

    def either(self, deep: int) -> tuple[str, int]:
        """Alternatives up to a `)` or the end, and in how many ways they can match; repeats without end apart."""
        if deep > 20:
            raise self.fault("more than 20 levels deep")
        parts, ways = [], 0
        while True:
            text, inside = self._sequence(deep)
            parts.append(text)
            ways += inside
            if self._next != "|":
                return "|".join(parts), ways
            self.at += 1

    def _sequence(self, deep: int) -> tuple[str, int]:
        text, ways = "", 1
        while self._next and self._next not in "|)":
            before = self._endless
            atom, inside = self._atom(deep)
            holds_endless = self._endless > before
            count, low, high = self._repeats()
            if (high is None and inside > 1) or (holds_endless and high != 1):
                raise self.fault("what is repeated here can itself match in many ways")
            text += atom + count
            if high is not None:
                ways *= sum(inside**times for times in range(low, high + 1)) if inside > 1 else high - low + 1
            if ways > MOST_WAYS:
                raise self.fault(f"it could match in more than {MOST_WAYS:,} ways")
        return text, ways

    def _atom(self, deep: int) -> tuple[str, int]:
        sign = self._next
        self.at += 1
        if sign == "(":
            if self._pattern.startswith("?:", self.at):
                self.at += 2
            elif self._next == "?":
                raise self.fault("a group with `?` is not part of patterns, but for `(?:…)`")
            inner, ways = self.either(deep + 1)
            if self._next != ")":
                raise self.fault("a `)` is missing")
            self.at += 1
            return f"(?:{inner})", ways
        if sign == "[":
            return self._class(), 1
        if sign == "\\":
            return self._escape(inside=False), 1
        if sign in "*+?{":
            raise self.fault("nothing to repeat")
        if sign in "^$":
            raise self.fault("the whole text has to match anyway: leave `^` and `$` out, or write `\\^`, `\\$`")
        return ("." if sign == "." else _literal(sign)), 1

    def _repeats(self) -> tuple[str, int, int | None]:
        """How often: as text, at least, at most; None is without end."""
        sign = self._next
        if not sign or sign not in "*+?{":
            return "", 1, 1
        if sign == "{":
            found = _REPEAT.match(self._pattern, self.at)
            if not found:
                raise self.fault("`{` is written {2} or {2,5} or {2,}, or as `\\{`")
            count, low = found[0], int(found[1])
            high = int(found[3]) if found[3] else (None if found[2] else low)
            if max(low, high or 0) > MOST_REPEATS or (high is not None and high < low):
                raise self.fault(f"repeats at most {MOST_REPEATS:,} times, the lower number first")
        else:
            count = sign
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        self.at += len(count)
        self._endless += high is None
        if self._endless > MOST_ENDLESS:
            raise self.fault(f"more than {MOST_ENDLESS} repeats without end")
        if self._next and self._next in "*+?{":
            raise self.fault("one repeat after another")
        return count, low, high

    def _escape(self, *, inside: bool) -> str:
        sign = self._next
        self.at += 1
        if sign in _CLASSES and sign:
            return _CLASSES[sign] if inside else f"[{_CLASSES[sign]}]"
        if sign in _CONTROL and sign:
            return _CONTROL[sign]
        if not sign or sign.isalnum():
            raise self.fault("an escape that patterns do not have; there are \\d \\w \\s \\t \\n")
        return _literal(sign)

    def _class(self) -> str:
        text = "["
        if self._next == "^":
            self.at += 1
            text += "^"
        empty = True
        while self._next != "]" or empty:
            sign = self._next
            if not sign:
                raise self.fault("a `]` is missing")
            self.at += 1
            first = self._escape(inside=True) if sign == "\\" else _literal(sign)
            follows = self._pattern[self.at + 1 : self.at + 2]
            if self._next == "-" and follows not in ("]", ""):
                self.at += 1
                last = self._next
                self.at += 1
                if sign == "\\" or last in "\\[" or last < sign:
                    raise self.fault("a range is written from one character to a later one")
                first += f"-{_literal(last)}"
            text += first
            empty = False
        self.at += 1
        return text + "]"


def _literal(sign: str) -> str:
    return f"\\{sign}" if sign in _SPECIAL else sign

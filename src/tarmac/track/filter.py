"""The filter language: MLflow's, and `OR`, `NOT`, parentheses, `min(…)`, `max(…)`, numbers in params, relative times.

    metrics.acc > 0.9 AND params.depth IN ('6', '8') AND NOT tags.stage = 'draft' AND started > -7d
    min(metrics."val/loss") < 0.1 OR params.depth >= 8 OR name ILIKE '%base%' OR params.seed IS NULL

A comparison with something a run does not have is false, whatever the comparison; `NOT` turns a whole answer round.
NaN compares with nothing. `LIKE` minds case, `ILIKE` does not mind that of ASCII letters.

What can be named differs from one kind of thing to the next, and is a `Vocabulary`; the grammar is one for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tarmac.core.clock import UNITS, now
from tarmac.core.errors import Invalid, bounded, nearest

Kind = Literal["metric", "param", "tag", "dataset", "attribute"]
Aggregate = Literal["last", "min", "max"]
Value = str | float | tuple[str, ...] | None

LONGEST = 20_000
LONGEST_PATTERN = 10_000  # SQLite takes 50,000 bytes, and some characters have to be written as three
DEEPEST = 50

KINDS: dict[str, Kind] = {
    "metric": "metric", "metrics": "metric",
    "param": "param", "params": "param", "parameter": "param", "parameters": "param",
    "tag": "tag", "tags": "tag",
    "dataset": "dataset", "datasets": "dataset",
    "attribute": "attribute", "attributes": "attribute", "attr": "attribute", "run": "attribute",
}  # fmt: skip
ATTRIBUTES: dict[str, str] = {
    "id": "id", "run_id": "id",
    "name": "name", "run_name": "name", "run name": "name",
    "status": "status",
    "experiment": "experiment",
    "actor": "actor", "user": "actor",
    "user_id": "user_id",
    "note": "note",
    "parent": "parent",
    "started": "started", "start_time": "started", "created": "started", "started_at": "started",
    "ended": "ended", "end_time": "ended", "ended_at": "ended",
    "duration": "duration",
}  # fmt: skip
NUMERIC = {"started", "ended", "duration"}
DATASET = {"name", "version", "digest", "context"}
SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


@dataclass(frozen=True, slots=True)
class Field:
    kind: Kind
    name: str
    aggregate: Aggregate = "last"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the things that are filtered have. A time takes a date or `-7d`; what is numeric is compared as a number."""

    thing: str
    kinds: Mapping[str, Kind]
    attributes: Mapping[str, str]
    numeric: AbstractSet[str] = frozenset()
    times: AbstractSet[str] = frozenset()
    spans: AbstractSet[str] = frozenset()
    renamed: Mapping[Field, Field] = field(default_factory=dict)
    """What MLflow's clients know under a name that here is another's."""
    example: str = "metrics.acc, params.depth, tags.stage, status or started"

    def is_number(self, field: Field) -> bool:
        return field.kind == "metric" or (field.kind == "attribute" and field.name in self.numeric)

    def is_time(self, field: Field) -> bool:
        return field.kind == "attribute" and field.name in self.times


RUNS = Vocabulary(
    thing="a run",
    kinds=KINDS,
    attributes=ATTRIBUTES,
    numeric=NUMERIC,
    times=frozenset({"started", "ended"}),
    spans=frozenset({"duration"}),
    renamed={
        Field("tag", "mlflow.runName"): Field("attribute", "name"),
        Field("tag", "mlflow.note.content"): Field("attribute", "note"),
        Field("attribute", "user_id"): Field("tag", "mlflow.user"),
    },
)


@dataclass(frozen=True, slots=True)
class Compare:
    field: Field
    sign: str
    value: Value


@dataclass(frozen=True, slots=True)
class Both:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    part: Node


Node = Compare | Both | Either | Negated

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^'\\]|\\.|'')*')
    | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`)
    | (?P<time>[+-]?\d+[smhdw]\b)
    | (?P<number>[+-]?(?:\d+(?:\.\d*)?|(?<![\w"`])\.\d+)(?:[eE][+-]?\d+)?(?![\w]))
    | (?P<sign><=|>=|!=|<>|==|=|<|>)
    | (?P<mark>[(),.])
    | (?P<word>[^\s'"`()<>=!,.]+)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    at: int


def parse(text: str, words: Vocabulary = RUNS) -> Node | None:
    """The filter as a tree; None for an empty one, which everything passes."""
    if len(text) > LONGEST:
        raise Invalid(
            f"the filter has {len(text):,} characters; at most {LONGEST:,} are read",
            hint="a long list of ids is better asked for in portions",
        )
    tokens = _tokens(text)
    if tokens[0].kind == "end":
        return None
    parser = _Parser(text, tokens, words)
    node = parser.either()
    parser.expect_end()
    return node


def parse_order(text: str, words: Vocabulary = RUNS) -> tuple[Field, bool]:
    """`metrics.acc DESC` as a field and whether the largest comes first."""
    parser = _Parser(text, _tokens(text), words)
    field = parser.field()
    descending = False
    if parser.word("DESC"):
        descending = True
    else:
        parser.word("ASC")
    parser.expect_end()
    return field, descending


def parse_field(text: str, words: Vocabulary = RUNS) -> Field:
    parser = _Parser(text, _tokens(text), words)
    field = parser.field()
    parser.expect_end()
    return field


def _tokens(text: str) -> list[Token]:
    tokens, at = [], 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        if not match or match.end() == at:
            start = at + len(stripped[at:]) - len(stripped[at:].lstrip())
            raise _fault(text, start, "this cannot be read; is a quote missing?")
        kind = match.lastgroup or ""
        tokens.append(Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return [*tokens, Token("end", "", len(stripped))]


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str, tokens: list[Token], words: Vocabulary) -> None:
        self._text = text
        self._tokens = tokens
        self._words = words
        self._at = 0
        self._deep = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def word(self, *wanted: str) -> bool:
        """Take these key words if they are next."""
        ahead = self._tokens[self._at : self._at + len(wanted)]
        if [t.text.upper() for t in ahead if t.kind == "word"] != list(wanted):
            return False
        self._at += len(wanted)
        return True

    def mark(self, wanted: str) -> bool:
        if self._next.kind == "mark" and self._next.text == wanted:
            self._at += 1
            return True
        return False

    def expect_end(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected("AND, OR or the end")

    def either(self) -> Node:
        parts = [self.both()]
        while self.word("OR"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self) -> Node:
        parts = [self.single()]
        while self.word("AND"):
            parts.append(self.single())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def single(self) -> Node:
        self._deep += 1
        if self._deep > DEEPEST:
            raise _fault(self._text, self._next.at, f"more than {DEEPEST} levels deep")
        try:
            if self.word("NOT"):
                return Negated(self.single())
            if self.mark("("):
                node = self.either()
                if not self.mark(")"):
                    raise self._unexpected("`)`")
                return node
            return self.comparison()
        finally:
            self._deep -= 1

    def field(self) -> Field:
        start = self._next
        aggregate: Aggregate = "last"
        following = self._tokens[self._at + 1] if start.kind == "word" else start
        if start.text.lower() in ("min", "max", "last") and following.text == "(":
            aggregate = start.text.lower()  # type: ignore[assignment]
            self._at += 2
            if self._next.text.lower() in ("min", "max", "last") and self._tokens[self._at + 1].text == "(":
                raise self._unexpected("a metric like metrics.acc")
            field = self.field()
            if field.kind != "metric":
                raise _fault(self._text, start.at, f"{aggregate}() is of a metric")
            if not self.mark(")"):
                raise self._unexpected("`)`")
            return Field("metric", field.name, aggregate)
        if start.kind not in ("word", "quoted"):
            raise self._unexpected(f"a field like {self._words.example}")
        name = self._name()
        if not (self._next.kind == "mark" and self._next.text == "."):
            return self._attribute(name, start)
        kind = self._words.kinds.get(name.lower())
        if kind is None:
            near = nearest(name, self._words.kinds)
            known = ", ".join(dict.fromkeys(f"{kind}s" for kind in self._words.kinds.values()))
            raise _fault(
                self._text,
                start.at,
                f"`{bounded(name)}` is none of {known}",
                f"did you mean `{near}`?" if near else None,
            )
        self.mark(".")
        key = self._key()
        if kind == "attribute":
            return self._attribute(key, start)
        if kind == "dataset" and key not in DATASET:
            raise _fault(self._text, start.at, f"a dataset has {', '.join(sorted(DATASET))}, not `{bounded(key)}`")
        return self._words.renamed.get(Field(kind, key), Field(kind, key))

    def _name(self) -> str:
        token = self._next
        if token.kind not in ("word", "quoted"):
            raise self._unexpected("a name")
        self._at += 1
        return _unquote(token)

    def _key(self) -> str:
        """A key, with the dots it may have."""
        key = self._name() if self._next.kind not in ("number", "time") else self._take().text
        while self._next.kind == "mark" and self._next.text == "." and self._touches():
            self._at += 1
            key += "." + (self._take().text if self._next.kind in ("number", "time") else self._name())
        return key

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _touches(self) -> bool:
        before = self._tokens[self._at - 1]
        return before.kind in ("word", "number", "time") and before.at + len(before.text) == self._next.at

    def _attribute(self, name: str, start: Token) -> Field:
        known = self._words.attributes.get(name.lower())
        if known is None:
            near = nearest(name, self._words.attributes)
            kinds = [word for word in ("params", "metrics", "tags") if word in self._words.kinds]
            raise _fault(
                self._text,
                start.at,
                f"{self._words.thing} has no attribute `{bounded(name)}`",
                f"did you mean `{near}`?" if near else f"{', '.join(kinds)} are written {kinds[0]}.NAME and so on",
            )
        return self._words.renamed.get(Field("attribute", known), Field("attribute", known))

    def comparison(self) -> Compare:
        field = self.field()
        if self.word("IS", "NOT", "NULL"):
            return Compare(field, "is not null", None)
        if self.word("IS", "NULL"):
            return Compare(field, "is null", None)
        if self.word("NOT", "IN"):
            return Compare(field, "not in", self._list(field))
        if self.word("IN"):
            return Compare(field, "in", self._list(field))
        for sign in ("LIKE", "ILIKE"):
            if self.word(sign):
                return Compare(field, sign.lower(), self._pattern(field))
            if self.word("NOT", sign):
                return Compare(field, f"not {sign.lower()}", self._pattern(field))
        if self._next.kind != "sign":
            raise self._unexpected("a comparison: = != < <= > >= LIKE ILIKE IN IS NULL")
        sign = SIGNS[self._take().text]
        return Compare(field, sign, self._value(field))

    def _value(self, field: Field) -> str | float:
        token = self._next
        if token.kind == "time" and self._words.is_time(field):
            self._at += 1
            return now() + float(token.text[:-1]) * UNITS[token.text[-1]]
        if token.kind == "time" and field.kind == "attribute" and field.name in self._words.spans:
            self._at += 1
            return float(token.text[:-1]) * UNITS[token.text[-1]]
        if token.kind == "number":
            self._at += 1
            if field.kind == "param" or self._words.is_number(field):
                return float(token.text)
            return token.text
        text = self._text_value(field)
        if self._words.is_time(field):
            return _moment(self._text, token.at, text)
        if self._words.is_number(field):
            try:
                return float(text)
            except ValueError:
                raise _fault(self._text, token.at, "a number is expected here") from None
        return text

    def _text_value(self, field: Field) -> str:
        token = self._next
        if token.kind not in ("text", "quoted"):
            if token.kind == "word" and field.kind != "metric":
                raise _fault(self._text, token.at, "text is written in quotes", f"'{bounded(token.text, 60)}'")
            raise self._unexpected("a number" if field.kind == "metric" else "a value in quotes")
        self._at += 1
        return _unquote(token)

    def _pattern(self, field: Field) -> str:
        token = self._next
        if self._words.is_number(field):
            raise _fault(self._text, token.at, "LIKE is for text; compare numbers with = < >")
        pattern = self._text_value(field)
        if len(pattern) > LONGEST_PATTERN:
            raise _fault(self._text, token.at, f"a pattern has at most {LONGEST_PATTERN:,} characters")
        return pattern

    def _list(self, field: Field) -> tuple[str, ...]:
        if self._words.is_number(field):
            raise _fault(self._text, self._next.at, "IN is for text; compare numbers with = < >")
        if not self.mark("("):
            raise self._unexpected("`(`")
        values = [self._list_value(field)]
        while self.mark(","):
            values.append(self._list_value(field))
        if not self.mark(")"):
            raise self._unexpected("`,` or `)`")
        return tuple(values)

    def _list_value(self, field: Field) -> str:
        if self._next.kind == "number":  # a param is text: 6 is what '6' is
            return self._take().text
        return str(self._text_value(field))

    def _unexpected(self, wanted: str) -> Invalid:
        token = self._next
        found = f"`{bounded(token.text, 40)}`" if token.kind != "end" else "the end"
        return _fault(self._text, token.at, f"expected {wanted}, found {found}")


def _unquote(token: Token) -> str:
    if token.kind == "word":
        return token.text
    mark, inside = token.text[0], token.text[1:-1]
    if mark == "'":
        return re.sub(r"\\(.)|''", lambda match: match[1] or "'", inside)
    return inside.replace('""', '"') if mark == '"' else inside


def _moment(filter_text: str, at: int, text: str) -> float:
    """A date or time in UTC, or with its zone, in milliseconds."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _fault(
            filter_text, at, "not a time", "like '2026-11-20', '2026-11-20T14:03', or -7d without quotes"
        ) from None
    from datetime import UTC

    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000


def _fault(text: str, at: int, what: str, hint: str | None = None) -> Invalid:
    start = max(0, at - 20)
    shown = bounded(text[start : at + 40], 80)
    return Invalid(
        f"filter, character {at + 1}: {what}",
        hint=hint or (f"near: {shown}" if shown else "like: metrics.acc, params.depth, tags.stage, started"),
        detail={"position": at, "near": shown},
    )

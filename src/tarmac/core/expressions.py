"""Rules that people write: a small part of Python's expressions, read with `ast` and never given to Python to run.

    metrics['val/accuracy'] >= champion.metrics['val/accuracy'] - 0.01 and reproducible
    0 <= paid <= price and (missing(ended) or ended >= started)

There are names, numbers, texts, lists, comparisons (also chained, and `in`), `and`, `or`, `not`, `+ - * / // %` and the
functions of `FUNCTIONS`. As in Python, what decides early is not looked at further. An operand that is absent, null or
NaN decides nothing: the rule is not passed, and says why. Only `missing(…)` may be asked of such an operand.

The tree is plain values, so that others can carry it out in their own way, as a contract does for whole tables.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from tarmac.core.errors import Invalid, bounded, nearest

LONGEST = 2_000
MOST_PARTS = 300
DEEPEST = 40
LARGEST = 1 << 63

Path = tuple[str, ...]
Lookup = Callable[[Path], object]


@dataclass(frozen=True, slots=True)
class Literal:
    value: float | str | bool
    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """What is looked up: `latency.p99_ms` and `latency['p99_ms']` are both `("latency", "p99_ms")`."""

    path: Path
    at: int

    def __str__(self) -> str:
        return spelled(self.path)


@dataclass(frozen=True, slots=True)
class Several:
    """The right side of `in`."""

    values: tuple[float | str | bool, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Compare:
    """`a < b <= c` as its first operand and the signs with theirs."""

    first: Node
    others: tuple[tuple[str, Node], ...]
    at: int


@dataclass(frozen=True, slots=True)
class Arithmetic:
    sign: str
    left: Node
    right: Node
    at: int


@dataclass(frozen=True, slots=True)
class Minus:
    part: Node
    at: int


@dataclass(frozen=True, slots=True)
class Negated:
    part: Node
    at: int


@dataclass(frozen=True, slots=True)
class Both:
    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Node, ...]
    at: int


Node = Literal | Name | Several | Compare | Arithmetic | Minus | Negated | Both | Either | Call


class Answer(NamedTuple):
    """What a rule said. It is passed only if it was decided, and with yes."""

    passed: bool
    undecided: str | None
    """Why it could not be decided: `metrics['val/accuracy'] is missing`."""


@dataclass(frozen=True, slots=True)
class Expression:
    text: str
    root: Node
    names: tuple[Name, ...]
    """Each name once, in the order of the text."""
    _run: Callable[[Lookup], object] = field(compare=False, repr=False)

    def judge(self, lookup: Lookup) -> Answer:
        """Carry it out; `lookup` answers None for what is absent."""
        try:
            value = self._run(lookup)
            if type(value) is not bool:
                raise _Undecided(f"{_source(self.root)} is {_said(value)}, not yes or no")
        except _Undecided as reason:
            return Answer(False, reason.why)
        return Answer(value, None)


FUNCTIONS: Mapping[str, tuple[int, int]] = {
    "abs": (1, 1),
    "ends_with": (2, 2),
    "len": (1, 1),
    "max": (2, 20),
    "min": (2, 20),
    "missing": (1, 1),
    "starts_with": (2, 2),
}
"""How many arguments each takes, at least and at most."""

_COMPARES: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip
_INSTEAD = {
    ast.Pow: "write the product", ast.Is: "write `==`, or `missing(…)`", ast.IsNot: "write `!=`, or `not missing(…)`",
    ast.BitAnd: "write `and`", ast.BitOr: "write `or`", ast.Invert: "write `not`",
}  # fmt: skip


def parse(text: str, *, where: str = "the rule", roots: Collection[str] | None = None) -> Expression:
    """The rule as a tree. `where` is named in errors; with `roots`, each name has to start with one of them."""
    if len(text) > LONGEST:
        raise Invalid(f"{where} has {len(text):,} characters; at most {LONGEST:,} are read", hint="make it two rules")
    if "\n" in text and "#" in text:
        raise Invalid(f"{where} has a line with `#`; comments cannot stand inside a rule")
    flat = re.sub(r"\s", " ", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(flat.lstrip(), mode="eval").body
    except SyntaxError as error:
        at = (error.offset or 1) - 1 + len(flat) - len(flat.lstrip())
        raise _fault(where, flat, at, f"cannot be read: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError):
        raise _fault(where, flat, 0, "cannot be read: a character that is none, or too many parentheses") from None
    root = _Reader(where, flat, roots).root(tree)
    names = {node.path: node for node in walk(root) if isinstance(node, Name)}
    return Expression(text, root, tuple(names.values()), _program(root))


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it, from left to right."""
    yield node
    for part in _below(node):
        yield from walk(part)


def value_of(node: Node, lookup: Lookup) -> object:
    """What a part of a rule comes to, for a message; None where it comes to nothing."""
    try:
        return _program(node)(lookup)
    except _Undecided:
        return None


def _below(node: Node) -> tuple[Node, ...]:
    match node:
        case Compare():
            return (node.first, *(part for _, part in node.others))
        case Arithmetic():
            return node.left, node.right
        case Minus() | Negated():
            return (node.part,)
        case Both() | Either():
            return node.parts
        case Call():
            return node.arguments
    return ()


def spelled(path: Path) -> str:
    """A path as it is written: `champion.metrics['val/accuracy']`."""
    rest = "".join(f".{part}" if part.isidentifier() else f"[{part!r}]" for part in path[1:])
    return bounded(path[0] + rest)


# ------------------------------------------------------------------------------------------------------------- reading


class _Reader:
    """From Python's tree to ours; what is not ours is refused with its place."""

    def __init__(self, where: str, text: str, roots: Collection[str] | None) -> None:
        self._where = where
        self._text = text
        self._shift = len(text) - len(text.lstrip())
        self._roots = roots
        self._parts = 0
        self._deep = 0

    def root(self, tree: ast.expr) -> Node:
        node = self.node(tree)
        decides = isinstance(node, Compare | Both | Either | Negated | Name) or (
            isinstance(node, Call) and node.function in ("missing", "starts_with", "ends_with")
        )
        if not decides:
            raise self._fault(tree, "is never yes or no", "compare it with something: `… >= 0.9`")
        return node

    def node(self, tree: ast.expr) -> Node:
        self._parts += 1
        self._deep += 1
        if self._parts > MOST_PARTS or self._deep > DEEPEST:
            raise self._fault(tree, f"more than {MOST_PARTS} parts, or {DEEPEST} levels", "make it several rules")
        try:
            return self._node(tree)
        finally:
            self._deep -= 1

    def _node(self, tree: ast.expr) -> Node:
        at = self._at(tree)
        match tree:
            case ast.Constant():
                return Literal(self._constant(tree), at)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self._name(tree)
            case ast.BoolOp():
                parts = tuple(self.node(part) for part in tree.values)
                return Both(parts, at) if isinstance(tree.op, ast.And) else Either(parts, at)
            case ast.UnaryOp(op=ast.Not()):
                return Negated(self.node(tree.operand), at)
            case ast.UnaryOp(op=ast.USub()):
                part = self.node(tree.operand)
                number = isinstance(part, Literal) and not isinstance(part.value, bool | str)
                return Literal(-part.value, at) if number else Minus(part, at)  # type: ignore[union-attr,operator]
            case ast.BinOp() if type(tree.op) in _ARITHMETIC:
                return Arithmetic(_ARITHMETIC[type(tree.op)], self.node(tree.left), self.node(tree.right), at)
            case ast.Compare():
                return self._compare(tree, at)
            case ast.Call():
                return self._call(tree, at)
        sign = getattr(tree, "op", None)
        raise self._fault(tree, "is not part of the language of rules", _INSTEAD.get(type(sign)))  # type: ignore[arg-type]

    def _constant(self, tree: ast.Constant) -> float | str | bool:
        value = tree.value
        if value is None:
            raise self._fault(tree, "compares with nothing", "write `missing(…)`")
        if not isinstance(value, bool | int | float | str):
            raise self._fault(tree, "is no number, text, True or False")
        if value == math.inf or (isinstance(value, int) and value > LARGEST):
            raise self._fault(tree, "is too large a number")
        return value

    def _name(self, tree: ast.expr) -> Name:
        path: list[str] = []
        inner = tree
        while not isinstance(inner, ast.Name):
            if isinstance(inner, ast.Attribute):
                path.append(inner.attr)
                inner = inner.value
            elif isinstance(inner, ast.Subscript):
                key = inner.slice
                if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                    raise self._fault(key, "is no name in quotes", "like metrics['val/accuracy']")
                path.append(key.value)
                inner = inner.value
            else:
                raise self._fault(inner, "has no parts", "names are written metrics['val/accuracy'] or latency.p99_ms")
        if self._roots is not None and inner.id not in self._roots:
            near = nearest(inner.id, self._roots)
            known = bounded(", ".join(sorted(self._roots)), 300)
            hint = f"did you mean `{bounded(near)}`?" if near else f"known: {known}"
            raise self._fault(inner, "is not known here", hint)
        return Name((inner.id, *reversed(path)), self._at(tree))

    def _compare(self, tree: ast.Compare, at: int) -> Compare:
        others = []
        for sign, right in zip(tree.ops, tree.comparators, strict=True):
            if type(sign) not in _COMPARES:
                raise self._fault(tree, "is not part of the language of rules", _INSTEAD.get(type(sign)))
            if isinstance(sign, ast.In | ast.NotIn):
                others.append((_COMPARES[type(sign)], self._several(right)))
            else:
                others.append((_COMPARES[type(sign)], self.node(right)))
        return Compare(self.node(tree.left), tuple(others), at)

    def _several(self, tree: ast.expr) -> Node:
        if not isinstance(tree, ast.Tuple | ast.List | ast.Set) or not tree.elts:
            raise self._fault(tree, "is no list of values", "like status in ('open', 'closed')")
        values = []
        for element in tree.elts:
            node = self.node(element)
            if not isinstance(node, Literal):
                raise self._fault(element, "is no value: a list holds numbers and texts")
            values.append(node.value)
        if len({_kind(value) for value in values}) > 1:
            raise self._fault(tree, "mixes numbers and texts")
        return Several(tuple(values), self._at(tree))

    def _call(self, tree: ast.Call, at: int) -> Call:
        name = tree.func.id if isinstance(tree.func, ast.Name) else ""
        if name not in FUNCTIONS:
            near = nearest(name, FUNCTIONS)
            known = ", ".join(sorted(FUNCTIONS))
            raise self._fault(
                tree.func, "is no function of rules", f"did you mean `{near}`?" if near else f"there are {known}"
            )
        least, most = FUNCTIONS[name]
        if tree.keywords or not least <= len(tree.args) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise self._fault(tree, f"{name} takes {wanted} {'value' if most == 1 else 'values'}")
        arguments = tuple(self.node(part) for part in tree.args)
        if name == "missing" and not isinstance(arguments[0], Name):
            raise self._fault(tree, "missing(…) asks about one name")
        return Call(name, arguments, at)

    def _at(self, tree: ast.expr) -> int:
        stripped = self._text.lstrip().encode()  # Python counts bytes
        return self._shift + len(stripped[: tree.col_offset].decode(errors="ignore"))

    def _fault(self, tree: ast.expr, what: str, hint: str | None = None) -> Invalid:
        source = ast.get_source_segment(self._text.lstrip(), tree)
        shown = f"`{bounded(source, 60)}` {what}" if source else what
        return _fault(self._where, self._text, self._at(tree), shown, hint)


def _fault(where: str, text: str, at: int, what: str, hint: str | None = None) -> Invalid:
    near = bounded(text[max(0, at - 20) : at + 40], 80)
    return Invalid(
        f"{where}, character {at + 1}: {what}",
        hint=hint or (f"near: {near}" if near else "like: metrics['val/accuracy'] >= 0.9"),
        detail={"position": at, "near": near},
    )


# --------------------------------------------------------------------------------------------------------- carrying out


class _Undecided(Exception):
    """Ends the carrying out of a rule; never leaves this module."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


_Program = Callable[[Lookup], Any]

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod,
}  # fmt: skip
_KINDS: dict[type, str] = {bool: "yes or no", int: "a number", float: "a number", str: "text", datetime: "a time"}


def plain(value: object) -> object:
    """A value as Python knows it: numpy's and Arrow's scalars unpacked, NaN as None, a date as a time in UTC."""
    if type(value) in (int, bool, str) or value is None:
        return value
    if isinstance(value, float):
        return None if value != value else float(value)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    for unpack in ("item", "as_py"):
        if hasattr(value, unpack):
            inner = getattr(value, unpack)()
            return inner if type(inner) is type(value) else plain(inner)
    return value


def _kind(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _said(value: object) -> str:
    return bounded(repr(value), 60) if _kind(value) != "a time" else str(value)


def _program(node: Node) -> _Program:
    """The node as one function, so that judging a row costs no walk over the tree."""
    match node:
        case Literal(value=value) | Several(values=value):
            return lambda lookup: value
        case Name(path=path):
            return lambda lookup: _known(lookup(path), node)
        case Minus(part=part):
            inner = _program(part)
            return lambda lookup: -_number(inner(lookup), part)
        case Negated(part=part):
            inner = _program(part)
            return lambda lookup: not _decided(inner(lookup), part)
        case Both(parts=parts):
            programs = [(_program(part), part) for part in parts]
            return lambda lookup: all(_decided(run(lookup), part) for run, part in programs)
        case Either(parts=parts):
            programs = [(_program(part), part) for part in parts]
            return lambda lookup: any(_decided(run(lookup), part) for run, part in programs)
        case Compare():
            return _comparison(node)
        case Arithmetic():
            return _arithmetic(node)
        case Call():
            return _call(node)


def _comparison(node: Compare) -> _Program:
    first = _program(node.first)
    others = [(sign, _program(part), part) for sign, part in node.others]

    def run(lookup: Lookup) -> bool:
        left = first(lookup)
        for sign, other, part in others:
            right = other(lookup)
            if not _holds(sign, left, right, part):
                return False
            left = right
        return True

    return run


def _holds(sign: str, left: Any, right: Any, part: Node) -> bool:
    if isinstance(right, tuple):
        _same_kind(left, right[0], part)
        return (left in right) is (sign == "in")
    left, right = _same_kind(left, right, part)
    return bool(_SIGNS[sign](left, right))


def _same_kind(left: Any, right: Any, part: Node) -> tuple[Any, Any]:
    kinds = _kind(left), _kind(right)
    if kinds == ("a time", "text"):
        return left, _moment(right, part)
    if kinds == ("text", "a time"):
        return _moment(left, part), right
    if kinds[0] != kinds[1]:
        raise _Undecided(f"{_said(left)} and {_said(right)} do not compare: {kinds[0]} with {kinds[1]}")
    return left, right


def _moment(text: str, part: Node) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _Undecided(f"{_said(text)} is compared with a time, and is none") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _arithmetic(node: Arithmetic) -> _Program:
    left, right, compute = _program(node.left), _program(node.right), _SIGNS[node.sign]

    def run(lookup: Lookup) -> float:
        try:
            value = compute(_number(left(lookup), node.left), _number(right(lookup), node.right))
        except (ZeroDivisionError, OverflowError) as error:
            raise _Undecided(f"{_source(node)}: {error}") from None
        if value != value:
            raise _Undecided(f"{_source(node)} is NaN")
        return value  # type: ignore[no-any-return]

    return run


def _call(node: Call) -> _Program:
    name, arguments = node.function, node.arguments
    if name == "missing":
        path = arguments[0].path  # type: ignore[union-attr]
        return lambda lookup: plain(lookup(path)) is None
    programs = [(_program(part), part) for part in arguments]
    if name in ("abs", "min", "max"):
        compute = {"abs": abs, "min": min, "max": max}[name]
        return lambda lookup: compute(*(_number(run(lookup), part) for run, part in programs))  # type: ignore[operator]
    if name == "len":
        return lambda lookup: len(_text(programs[0][0](lookup), programs[0][1]))
    test = str.startswith if name == "starts_with" else str.endswith
    (whole, whole_part), (piece, piece_part) = programs
    return lambda lookup: test(_text(whole(lookup), whole_part), _text(piece(lookup), piece_part))


def _known(value: object, node: Name) -> object:
    kept = plain(value)
    if kept is None:
        raise _Undecided(f"{node} is {'missing' if value is None else 'NaN'}")
    return kept


def _number(value: Any, part: Node) -> Any:
    if type(value) not in (int, float):
        raise _Undecided(f"{_source(part)} is {_said(value)}, not a number")
    return value


def _text(value: Any, part: Node) -> str:
    if type(value) is not str:
        raise _Undecided(f"{_source(part)} is {_said(value)}, not text")
    return value


def _decided(value: Any, part: Node) -> bool:
    if type(value) is not bool:
        raise _Undecided(f"{_source(part)} is {_said(value)}, not yes or no")
    return value


def _source(node: Node) -> str:
    """A node in words, for a message."""
    match node:
        case Name():
            return str(node)
        case Literal():
            return _said(node.value)
        case Call():
            return f"{node.function}({', '.join(map(_source, node.arguments))})"
        case Arithmetic():
            return bounded(f"{_source(node.left)} {node.sign} {_source(node.right)}")
        case Minus():
            return f"-{_source(node.part)}"
    return f"what stands at character {node.at + 1}"

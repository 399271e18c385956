"""A rule carried out on all rows of a batch at once, with polars; it answers as `Expression.judge` does row by row.

Each node becomes two expressions: its value, and where it could not be decided. What has no such form (a column of
texts against one of times, products of products) is judged row by row instead.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tarmac.core import expressions as ex
from tarmac.formats.contract import column_of

if TYPE_CHECKING:
    import polars as pl


class Vector:
    """A rule made for the columns of one table."""

    def __init__(self, rule: ex.Expression, failing: pl.Expr | None) -> None:
        self._rule = rule
        self._failing = failing

    def failing(self, frame: pl.DataFrame) -> pl.Series:
        """True where a row does not pass."""
        import polars as pl

        if self._failing is not None:
            found = frame.select(self._failing.alias("fails")).to_series()
            return found if len(found) == frame.height else pl.Series([bool(found[0])] * frame.height)
        columns = {column_of(name.path) for name in self._rule.names}
        rows = frame.select(columns).rows(named=True)
        return pl.Series(
            [not self._rule.judge(lambda path, row=row: row[column_of(path)]).passed for row in rows],  # type: ignore[misc]
            dtype=pl.Boolean,
        )


class _Term(NamedTuple):
    value: pl.Expr
    undecided: pl.Expr | None
    kind: str


class _RowByRow(Exception):
    """This rule has no form for whole columns; never leaves this module."""


def vector(rule: ex.Expression, schema: Any) -> Vector:
    import polars as pl

    try:
        term = _Maker(schema).term(rule.root)
        if term.kind != "boolean":
            return Vector(rule, pl.lit(value=True))
        failing = ~term.value.fill_null(value=False)
        return Vector(rule, failing if term.undecided is None else failing | term.undecided)
    except _RowByRow:
        return Vector(rule, None)


class _Maker:
    def __init__(self, schema: Any) -> None:
        self._schema = schema

    def term(self, node: ex.Node) -> _Term:
        import polars as pl

        match node:
            case ex.Literal(value=value):
                kind = "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
                return _Term(pl.lit(value), None, kind)
            case ex.Name():
                return self._name(column_of(node.path))
            case ex.Minus(part=part):
                inner = self._of(part, "number")
                return _Term(-inner.value, inner.undecided, "number")
            case ex.Negated(part=part):
                inner = self._of(part, "boolean")
                return _Term(~inner.value, inner.undecided, "boolean")
            case ex.Both(parts=parts) | ex.Either(parts=parts):
                return _joined([self._of(part, "boolean") for part in parts], both=isinstance(node, ex.Both))
            case ex.Compare():
                return self._comparison(node)
            case ex.Arithmetic():
                return self._arithmetic(node)
            case ex.Call():
                return self._call(node)
        raise _RowByRow

    def _of(self, node: ex.Node, kind: str) -> _Term:
        term = self.term(node)
        if term.kind != kind:
            raise _RowByRow
        return term

    def _name(self, name: str) -> _Term:
        import polars as pl

        column, dtype = pl.col(name), self._schema[name]
        if dtype.is_float():
            return _Term(column.cast(pl.Float64), column.is_null() | column.is_nan(), "number")
        if dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128):
            return _Term(column.cast(pl.Int64), column.is_null(), "number")
        if dtype == pl.Boolean:
            return _Term(column, column.is_null(), "boolean")
        if dtype == pl.String:
            return _Term(column, column.is_null(), "text")
        if dtype in (pl.Categorical, pl.Enum):
            return _Term(column.cast(pl.String), column.is_null(), "text")
        if dtype in (pl.Date, pl.Datetime):
            from tarmac.formats.table import as_time

            return _Term(as_time(column, dtype), column.is_null(), "time")
        raise _RowByRow

    def _comparison(self, node: ex.Compare) -> _Term:
        left, parts = self.term(node.first), []
        for sign, other in node.others:
            if isinstance(other, ex.Several):
                parts.append(_among(sign, left, other))
                continue
            right = self.term(other)
            left, right = _alike(left, right, node)
            parts.append(
                _Term(_SIGNS[sign](left.value, right.value), _either(left.undecided, right.undecided), "boolean")
            )
            left = right
        return parts[0] if len(parts) == 1 else _joined(parts, both=True)

    def _arithmetic(self, node: ex.Arithmetic) -> _Term:
        import polars as pl

        if any(isinstance(inner, ex.Arithmetic) for side in (node.left, node.right) for inner in ex.walk(side)):
            raise _RowByRow  # whole numbers of any length are Python's; here they would run over
        left, right = self._of(node.left, "number"), self._of(node.right, "number")
        undecided = _either(left.undecided, right.undecided)
        if node.sign in ("//", "%"):
            raise _RowByRow
        if node.sign == "/":
            divisor = right.value.cast(pl.Float64)
            value = left.value.cast(pl.Float64) / divisor
            undecided = _either(undecided, divisor == 0)
        else:
            value = _SIGNS[node.sign](self._wide(node.left, left), self._wide(node.right, right))
        return _Term(value, _either(undecided, value.cast(pl.Float64).is_nan()), "number")

    def _wide(self, node: ex.Node, term: _Term) -> pl.Expr:
        """Whole numbers with room for a product."""
        import polars as pl

        whole = isinstance(node, ex.Literal) and isinstance(node.value, int)
        if isinstance(node, ex.Name):
            whole = self._schema[column_of(node.path)].is_integer()
        return term.value.cast(pl.Int128) if whole else term.value.cast(pl.Float64)

    def _call(self, node: ex.Call) -> _Term:
        import polars as pl

        if node.function == "missing":
            name = node.arguments[0]
            assert isinstance(name, ex.Name)
            column, dtype = column_of(name.path), self._schema[column_of(name.path)]
            absent = (
                pl.col(column).is_null() | pl.col(column).is_nan() if dtype.is_float() else pl.col(column).is_null()
            )
            return _Term(absent, None, "boolean")
        if node.function in ("abs", "min", "max"):
            terms = [self._of(argument, "number") for argument in node.arguments]
            values = [term.value for term in terms]
            if node.function == "abs":
                value = values[0].abs()
            else:
                value = (pl.min_horizontal if node.function == "min" else pl.max_horizontal)(values)
            return _Term(value, _either(*(term.undecided for term in terms)), "number")
        terms = [self._of(argument, "text") for argument in node.arguments]
        undecided = _either(*(term.undecided for term in terms))
        text = terms[0].value
        if node.function == "len":
            return _Term(text.str.len_chars().cast(pl.Int64), undecided, "number")
        test = text.str.starts_with if node.function == "starts_with" else text.str.ends_with
        return _Term(test(terms[1].value), undecided, "boolean")


_SIGNS: dict[str, Any] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
}  # fmt: skip


def _either(*parts: pl.Expr | None) -> pl.Expr | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    found = known[0]
    for part in known[1:]:
        found = found | part
    return found


def _joined(terms: list[_Term], *, both: bool) -> _Term:
    """`and` or `or`, where what decides early is not looked at further."""
    value, undecided = terms[0].value.fill_null(value=False), terms[0].undecided
    for term in terms[1:]:
        reached = value if both else ~value
        if term.undecided is not None:
            undecided = _either(undecided, reached & term.undecided)
        following = term.value.fill_null(value=False)
        value = value & following if both else value | following
    return _Term(value, undecided, "boolean")


def _among(sign: str, left: _Term, several: ex.Several) -> _Term:
    import polars as pl

    first = several.values[0]
    kind = "boolean" if isinstance(first, bool) else "text" if isinstance(first, str) else "number"
    if left.kind != kind:
        raise _RowByRow
    values: list[Any] = list(several.values)
    inside = (
        left.value.cast(pl.Float64).is_in([float(value) for value in values])
        if kind == "number"
        else left.value.is_in(values)
    )
    return _Term(inside if sign == "in" else ~inside, left.undecided, "boolean")


def _alike(left: _Term, right: _Term, node: ex.Compare) -> tuple[_Term, _Term]:
    """Both sides of one kind; a text that is written out beside a time is read as one."""
    import polars as pl

    if {left.kind, right.kind} == {"time", "text"}:
        literals = [part for part in (node.first, *(part for _, part in node.others)) if isinstance(part, ex.Literal)]
        if len(literals) != 1 or len(node.others) != 1 or not isinstance(literals[0].value, str):
            raise _RowByRow
        try:
            found = datetime.fromisoformat(literals[0].value)
        except ValueError:
            raise _RowByRow from None
        moment = _Term(pl.lit(found if found.tzinfo else found.replace(tzinfo=UTC)), None, "time")
        return (moment, right) if left.kind == "text" else (left, moment)
    if left.kind != right.kind:
        raise _RowByRow
    return left, right

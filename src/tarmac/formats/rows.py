"""A contract carried out on rows at hand, as the serving runtime has them: no table library, microseconds for a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from tarmac.formats import patterns
from tarmac.formats.contract import Column, Contract, column_of, moment
from tarmac.formats.records import ContractReport
from tarmac.formats.verdict import Ask, Tally, Told, shown

Row = Mapping[str, Any]
Test = Callable[[Any], bool]

_WHOLE = 1 << 63


class RowJudge:
    """Made once for a contract, asked for each request."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._asks = Tally(contract).asks
        self._names = frozenset(contract.columns)
        self._columns = [self._plan(name, column) for name, column in contract.columns.items()]
        self._timed = {
            name: KINDS[column.type] for name, column in contract.columns.items() if column.type in ("date", "time")
        }
        self._rules = [
            (at, ask, tuple({column_of(name.path) for name in ask.rule.names}))
            for at, ask in enumerate(self._asks)
            if ask.rule is not None
        ]

    def passes(self, row: Row) -> bool:
        """Whether one row fails nothing: the quick question, asked before a verdict is worth its time."""
        get = row.get
        for name, optional, nulls_fail, kind, tests in self._columns:
            value = get(name, _ABSENT)
            if value is _ABSENT:
                if not optional:
                    return False
                continue
            if is_null(value):
                if nulls_fail:
                    return False
                continue
            if kind is not None:
                value = kind(value)
                if value is None:
                    return False
            for _, test in tests:
                if not test(value):
                    return False
        for _, ask, columns in self._rules:
            assert ask.rule is not None
            if all(column in row for column in columns) and not ask.rule.judge(self._lookup(row)).passed:
                return False
        return self._contract.others == "allow" or self._names.issuperset(row)

    def passes_columns(self, columns: Mapping[str, Any]) -> bool:
        """Whether no row of these arrays fails anything; numbers are compared all at once."""
        if self._contract.others == "refuse" and not self._names.issuperset(columns):
            return False
        for name, optional, nulls_fail, kind, tests in self._columns:
            if name not in columns:
                if not optional:
                    return False
            elif not self._passes_array(columns[name], self._contract.columns[name], nulls_fail, kind, tests):
                return False
        asked = [(ask.rule, used) for _, ask, used in self._rules if all(column in columns for column in used)]
        names = sorted({column for _, used in asked for column in used})
        rows = zip(*(columns[name].tolist() for name in names), strict=True) if asked else ()
        for row in (dict(zip(names, values, strict=True)) for values in rows):
            if not all(rule is not None and rule.judge(self._lookup(row)).passed for rule, _ in asked):
                return False
        return True

    def _passes_array(
        self, values: Any, column: Column, nulls_fail: bool, kind: Test | None, tests: Sequence[tuple[str, Test]]
    ) -> bool:
        simple = column.values is None and column.type in ("integer", "number") and values.dtype.kind in "iuf"
        if not simple or not len(values):
            flat = values.tolist() if values.dtype.kind in "biufSUO" else values
            return all(_passes_value(value, nulls_fail, kind, tests) for value in flat)
        if values.dtype.kind == "f":
            there = values[values == values]
            if len(there) < len(values) and nulls_fail:
                return False
            if column.type == "integer" and not ((abs(there) < _WHOLE) & (there.round() == there)).all():
                return False
            values = there
        within = not len(values) or (
            (column.min is None or values.min() >= column.min) and (column.max is None or values.max() <= column.max)
        )
        return bool(within)

    def judge(self, rows: Sequence[Row]) -> ContractReport:
        """What the contract says of each row. Checks that need the whole table are told as skipped."""
        tally = Tally(self._contract)
        numbers = {(ask.column, ask.what): at for at, ask in enumerate(tally.asks) if ask.rule is None}
        there = set[str]().union(*rows) if rows else set()
        for name, _, _, kind, tests in self._columns:
            self._judge_column(tally, numbers, name, rows, kind, tests, present=name in there)
        if (at := numbers.get((None, "others"))) is not None:
            strange = sorted(there - self._names)
            if strange:
                tally.fail(at, 1, why=f"also there: {', '.join(strange)}")
        for at, ask, columns in self._rules:
            self._judge_rule(tally, at, ask, columns, rows, there)
        tally.rows = len(rows)
        return tally.finish(whole=False)

    def _judge_column(
        self,
        tally: Tally,
        numbers: Mapping[tuple[str | None, str], int],
        name: str,
        rows: Sequence[Row],
        kind: Test | None,
        tests: Sequence[tuple[str, Test]],
        *,
        present: bool,
    ) -> None:
        if not present:
            if (at := numbers.get((name, "there"))) is not None:
                tally.fail(at, 1)
            for at, ask in enumerate(tally.asks):
                if ask.column == name and ask.what != "there" and ask.rule is None:
                    tally.skip(at, "the column is not there")
            return
        for index, row in enumerate(rows):
            value = row.get(name)
            if is_null(value):
                if (at := numbers.get((name, "nulls"))) is not None:
                    tally.fail(at, 1, [(index, value)])
                continue
            known = kind(value) if kind is not None else value
            if known is None:
                tally.fail(numbers[name, "type"], 1, [(index, value)])
                continue
            for what, test in tests:
                if not test(known):
                    tally.fail(numbers[name, what], 1, [(index, value)])

    def _judge_rule(
        self, tally: Tally, at: int, ask: Ask, columns: Sequence[str], rows: Sequence[Row], there: set[str]
    ) -> None:
        assert ask.rule is not None
        if absent := [column for column in columns if column not in there]:
            tally.skip(at, f"the column {absent[0]} is not there")
            return
        for index, row in enumerate(rows):
            answer = ask.rule.judge(self._lookup(row))
            if not answer.passed:
                tally.fail(at, 1, [(index, told(columns, row, answer.undecided))])

    def _lookup(self, row: Row) -> Callable[[tuple[str, ...]], object]:
        """The values of a row as its rules see them: what JSON has as texts are times if the contract says so."""
        timed = self._timed

        def look(path: tuple[str, ...]) -> object:
            name = path[0] if len(path) == 1 else column_of(path)
            value = row.get(name)
            return timed[name](value) if name in timed and isinstance(value, str) else value

        return look

    def _plan(self, name: str, column: Column) -> tuple[str, bool, bool, Any, list[tuple[str, Test]]]:
        return name, column.optional, column.nulls == 0, KINDS.get(column.type), limits(column)


_ABSENT = object()


def told(columns: Sequence[str], row: Row, undecided: str | None) -> str:
    """A row that failed a rule, for a message: why it could not be decided, or what was compared."""
    return Told(undecided or ", ".join(f"{column} = {shown(row.get(column))}" for column in sorted(columns)))


def is_null(value: object) -> bool:
    """Null, NaN, or what pandas has for them."""
    kind = type(value)
    if kind is float:
        return value != value
    if kind is str or kind is int or kind is bool:
        return False
    name = kind.__name__
    return value is None or name in ("NaTType", "NAType") or (name.startswith("float") and bool(value != value))


def _passes_value(value: Any, nulls_fail: bool, kind: Test | None, tests: Sequence[tuple[str, Test]]) -> bool:
    if is_null(value):
        return not nulls_fail
    known = kind(value) if kind is not None else value
    return known is not None and all(test(known) for _, test in tests)


def _integer(value: Any) -> Any:
    if type(value) is int:
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return value if value.is_integer() and abs(value) < _WHOLE else None
    inner = _unpacked(value)
    return _integer(inner) if inner is not None else None


def _number(value: Any) -> Any:
    if type(value) is float or type(value) is int:
        return value
    if isinstance(value, bool | str):
        return None
    if isinstance(value, int | float):
        return value
    inner = _unpacked(value)
    return _number(inner) if inner is not None else None


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    inner = _unpacked(value)
    return inner if isinstance(inner, bool) else None


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _time(value: Any) -> Any:
    """A time, a day, or either as ISO text, since JSON has no times."""
    if isinstance(value, str):
        try:
            return moment(datetime.fromisoformat(value))
        except ValueError:
            return None
    return moment(value) if isinstance(value, date) else None


def _day(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return moment(date.fromisoformat(value))
        except ValueError:
            return None
    return moment(value) if isinstance(value, date) and not isinstance(value, datetime) else None


def _bytes(value: Any) -> Any:
    return value if isinstance(value, bytes | bytearray | memoryview) else None


def _list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or hasattr(value, "tolist") else None


def _unpacked(value: Any) -> Any:
    """A scalar of numpy as Python's own; None for anything else."""
    if not hasattr(value, "item") or (hasattr(value, "shape") and value.shape):
        return None
    inner = value.item()
    return inner if type(inner) in (bool, int, float) else None


KINDS: dict[str, Test] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "text": _text,
    "time": _time,
    "date": _day,
    "bytes": _bytes,
    "list": _list,
}


def limits(column: Column) -> list[tuple[str, Test]]:
    """What each value that is there, and of the right type, has to be."""
    tests: list[tuple[str, Test]] = []
    low, high, values, pattern = column.min, column.max, column.values, column.pattern
    shortest, longest = column.shortest, column.longest
    if low is not None:
        tests.append(("min", lambda value: value >= low))
    if high is not None:
        tests.append(("max", lambda value: value <= high))
    if values is not None:
        allowed = frozenset(values)
        tests.append(("values", lambda value: value in allowed))
    if pattern is not None:
        match = patterns.compiled(pattern).fullmatch
        tests.append(("pattern", lambda value: len(value) <= patterns.LONGEST_TEXT and match(value) is not None))
    if shortest is not None:
        tests.append(("shortest", lambda value: len(value) >= shortest))
    if longest is not None:
        tests.append(("longest", lambda value: len(value) <= longest))
    return tests

"""A contract carried out on tables of any size, a batch of rows at a time, with polars. Answers as `rows.py` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tarmac.formats import patterns
from tarmac.formats.contract import Column, Contract, column_of
from tarmac.formats.records import ContractReport
from tarmac.formats.repeats import Repeats
from tarmac.formats.rows import told
from tarmac.formats.rules import Vector, vector
from tarmac.formats.verdict import Ask, Tally, Told

if TYPE_CHECKING:
    import polars as pl


class TableJudge:
    """Takes the batches of one table, all with the same columns, in their order."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._tally = Tally(contract)
        self._plan: list[tuple[int, pl.Expr]] | None = None
        self._rules: list[tuple[int, Ask, Vector]] = []
        self._repeats: dict[int, tuple[list[str], Repeats]] = {}

    def take(self, frame: pl.DataFrame) -> None:
        """Judge the next rows."""
        if self._plan is None:
            self._plan = self._made_for(frame.schema)
        if not frame.height:
            return
        self._judge_values(frame)
        for at, ask, rule in self._rules:
            self._judge_rule(frame, at, ask, rule)
        for columns, repeats in self._repeats.values():
            repeats.take(frame.select(columns))
        self._tally.rows += frame.height

    def finish(self) -> ContractReport:
        """The verdict on the whole table."""
        for at, (_, repeats) in self._repeats.items():
            count, pairs = repeats.finish()
            self._tally.rows, rows = 0, self._tally.rows  # pairs are counted over the whole table already
            self._tally.fail(at, count, [(row, Told(f"as in row {first:,}")) for row, first in pairs])
            self._tally.rows = rows
        return self._tally.finish(whole=True)

    # ------------------------------------------------------------------------------------------------------- values

    def _made_for(self, schema: Any) -> list[tuple[int, pl.Expr]]:
        """For each check of values the expression that is true where a row fails."""
        plan: list[tuple[int, pl.Expr]] = []
        self._judge_presence(set(schema))
        mistyped = set()
        for at, ask in enumerate(self._tally.asks):
            if ask.rule is not None:
                self._prepare_rule(at, ask, schema)
            elif ask.what == "key":
                self._prepare_repeats(at, list(self._contract.key), schema)
            elif ask.column is None or ask.column not in schema or ask.what == "there":
                continue
            elif ask.what == "type":
                strange = _mistyped(ask.column, self._contract.columns[ask.column].type, schema[ask.column])
                if strange is not None:
                    plan.append((at, strange))
                    mistyped.add(ask.column)
            elif ask.what == "nulls":
                plan.append((at, _null(ask.column, schema[ask.column])))
            elif ask.column in mistyped and not _fits(self._contract.columns[ask.column].type, schema[ask.column]):
                self._tally.skip(at, "not of the right type")
            elif ask.what == "unique":
                self._prepare_repeats(at, [ask.column], schema)
            else:
                plan.append((at, _beyond(ask.column, ask.what, self._contract.columns[ask.column], schema)))
        return plan

    def _judge_presence(self, there: set[str]) -> None:
        for at, ask in enumerate(self._tally.asks):
            if ask.what == "others" and ask.column is None and ask.rule is None:
                if strange := sorted(there - set(self._contract.columns)):
                    self._tally.fail(at, 1, why=f"also there: {', '.join(strange)}")
            elif ask.column is not None and ask.column not in there:
                if ask.what == "there":
                    self._tally.fail(at, 1)
                else:
                    self._tally.skip(at, "the column is not there")

    def _prepare_repeats(self, at: int, columns: list[str], schema: Any) -> None:
        if absent := [column for column in columns if column not in schema]:
            self._tally.skip(at, f"the column {absent[0]} is not there")
        else:
            self._repeats[at] = columns, Repeats()

    def _prepare_rule(self, at: int, ask: Ask, schema: Any) -> None:
        assert ask.rule is not None
        columns = [column_of(name.path) for name in ask.rule.names]
        if absent := [column for column in columns if column not in schema]:
            self._tally.skip(at, f"the column {absent[0]} is not there")
        else:
            self._rules.append((at, ask, vector(ask.rule, schema)))

    def _judge_values(self, frame: pl.DataFrame) -> None:
        import polars as pl

        assert self._plan is not None
        if not self._plan:
            return
        counts = frame.select(expression.sum().alias(str(at)) for at, expression in self._plan).row(0)
        for (at, expression), count in zip(self._plan, counts, strict=True):
            if count:
                column = self._tally.asks[at].column
                few = frame.select(pl.col(column), pl.int_range(pl.len()).alias("\0row"), expression.alias("\0fails"))
                few = few.filter(pl.col("\0fails").fill_null(value=False)).head(self._tally.wants(at))
                self._tally.fail(at, count, [(row[1], row[0]) for row in few.rows()])

    def _judge_rule(self, frame: pl.DataFrame, at: int, ask: Ask, rule: Vector) -> None:
        failing = rule.failing(frame)
        count = int(failing.sum() or 0)
        if not count:
            return
        assert ask.rule is not None
        columns = sorted({column_of(name.path) for name in ask.rule.names})
        rows = failing.arg_true().head(self._tally.wants(at)).to_list()
        examples = []
        for index in rows:
            row = dict(zip(columns, frame.select(columns).row(index), strict=True))
            answer = ask.rule.judge(lambda path, row=row: row.get(column_of(path)))  # type: ignore[misc]
            examples.append((index, told(columns, row, answer.undecided)))
        self._tally.fail(at, count, examples)


def judge(contract: Contract, frames: Sequence[pl.DataFrame]) -> ContractReport:
    """The verdict on a table that is at hand."""
    judge = TableJudge(contract)
    for frame in frames:
        judge.take(frame)
    return judge.finish()


def kind_of(dtype: Any) -> str:
    """What a contract calls this type of polars."""
    import polars as pl

    if dtype.is_integer():
        return "integer"
    if dtype.is_float() or dtype.is_decimal():
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    kinds = {pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "time", pl.Binary: "bytes", pl.List: "list"}
    return kinds.get(dtype.base_type(), "list" if dtype.is_nested() and dtype.base_type() == pl.Array else "other")


def _fits(wanted: str, dtype: Any) -> bool:
    import polars as pl

    found = kind_of(dtype)
    return found == wanted or (wanted, found) in (("number", "integer"), ("time", "date")) or dtype == pl.Null


def _mistyped(name: str, wanted: str, dtype: Any) -> pl.Expr | None:
    """True where a value is not of the type; None where the column's type says that all are."""
    import polars as pl

    if _fits(wanted, dtype):
        return None
    column = pl.col(name)
    there = column.is_not_null()
    if wanted == "integer" and kind_of(dtype) == "number":  # pandas makes numbers of integers beside nulls
        whole = (column == column.floor()) & (column.abs() < 2.0**63)
        return there & ~column.is_nan() & ~whole if dtype.is_float() else there
    if kind_of(dtype) != "text":
        return there
    parsed: dict[str, pl.Expr] = {
        "integer": column.cast(pl.String).cast(pl.Int64, strict=False),
        "number": column.cast(pl.String).cast(pl.Float64, strict=False),
        "date": column.cast(pl.String).str.to_date("%Y-%m-%d", strict=False),
    }
    if wanted not in parsed:
        return there
    # all of them fail, being text; those that are not even written as one are the better examples
    unreadable = there & parsed[wanted].is_null()
    return pl.when(unreadable.any()).then(unreadable).otherwise(there)


def _null(name: str, dtype: Any) -> pl.Expr:
    import polars as pl

    column = pl.col(name)
    return column.is_null() | column.is_nan() if dtype.is_float() else column.is_null()


def _beyond(name: str, what: str, column: Column, schema: Any) -> pl.Expr:
    """True where a value that is there breaks a limit."""
    import polars as pl

    value, dtype = pl.col(name), schema[name]
    if dtype == pl.Null:
        return pl.lit(value=False)
    if dtype in (pl.Categorical, pl.Enum):
        value = value.cast(pl.String)
    if column.type in ("date", "time"):
        value = as_time(value, dtype)
    if what in ("min", "max"):
        beyond = value < column.min if what == "min" else value > column.max
        return beyond & ~value.is_nan() if dtype.is_float() else beyond
    if what == "values":
        assert column.values is not None
        allowed = list(map(float, column.values)) if dtype.is_numeric() else list(column.values)
        beyond = ~(value.cast(pl.Float64) if dtype.is_numeric() else value).is_in(allowed)
        return beyond & ~value.is_nan() if dtype.is_float() else beyond
    if what == "pattern":
        assert column.pattern is not None
        matches = value.str.contains(rf"\A(?:{patterns.translated(column.pattern)})\z")
        return ~matches | (value.str.len_chars() > patterns.LONGEST_TEXT)
    length = value.str.len_chars()
    return length < column.shortest if what == "shortest" else length > column.longest


def as_time(value: pl.Expr, dtype: Any) -> pl.Expr:
    """A day or a time, with a zone or without, as a time in UTC."""
    import polars as pl

    zone = getattr(dtype, "time_zone", None)
    timed = value.cast(pl.Datetime("us")) if dtype == pl.Date else value
    return timed.dt.convert_time_zone("UTC") if zone else timed.dt.replace_time_zone("UTC")

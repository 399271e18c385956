"""Contracts: what their file may say, and that rows, tables and single questions are judged alike."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Invalid, NewerFormat, UnknownKey
from tarmac.formats import patterns
from tarmac.formats.contract import Check, Column, Contract, dumps, loads
from tarmac.formats.records import ContractReport
from tarmac.formats.repeats import Repeats
from tarmac.formats.rows import RowJudge
from tarmac.formats.table import judge

CONTRACT = """
format = 1
key = ["id"]
others = "refuse"

[rows]
min = 3

[columns.id]
type = "integer"
min = 0
unique = true

[columns.name]
type = "text"
nulls = 0.5
pattern = '[A-Z][a-z]+'
longest = 5

[columns.plan]
type = "text"
values = ["free", "paid"]

[columns.price]
type = "number"
nulls = 0.4
min = 0
max = 99.5

[columns.begun]
type = "date"
min = 2020-01-01

[columns."ended on"]
type = "time"
nulls = 1.0

[checks.dates]
rule = "missing(row['ended on']) or row['ended on'] >= begun"
"""


def table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [1, 2, 2, -4],
            "name": ["Ada", None, "bob", "Winifred"],
            "plan": ["free", "paid", "gold", None],
            "price": [1.0, math.nan, 100.0, 3.5],
            "begun": [date(2020, 1, 1), date(2019, 12, 31), date(2021, 5, 5), date(2022, 1, 1)],
            "ended on": [None, *map(datetime.fromisoformat, ("2021-01-01", "2021-05-04T23:00", "2022-01-01"))],
        }
    )


def failures(verdict: ContractReport) -> dict[str, tuple[int, list[tuple[int, str]]]]:
    return {f.check: (f.failed, [(e.row, e.value) for e in f.examples]) for f in verdict.failures()}


def test_each_failing_row_is_named_with_its_value() -> None:
    verdict = judge(loads(CONTRACT), [table()])
    assert failures(verdict) == {
        "key": (1, [(2, "as in row 1")]),
        "id.min": (1, [(3, "-4")]),
        "id.unique": (1, [(2, "as in row 1")]),
        "name.pattern": (1, [(2, "'bob'")]),
        "name.longest": (1, [(3, "'Winifred'")]),
        "plan.nulls": (1, [(3, "null")]),
        "plan.values": (1, [(2, "'gold'")]),
        "price.max": (1, [(2, "100.0")]),
        "begun.min": (1, [(1, "2019-12-31")]),
        "check dates": (
            1,
            [(2, "begun = 2021-05-05, ended on = 2021-05-04T23:00:00")],
        ),
    }
    assert verdict.told() == "failed: 10 of 29 checks"


def test_batches_are_one_table() -> None:
    whole, cut = judge(loads(CONTRACT), [table()]), judge(loads(CONTRACT), [table()[:1], table()[1:3], table()[3:]])
    assert cut == whole


def test_rows_are_judged_as_the_table_is_and_what_needs_the_whole_is_skipped() -> None:
    verdict = RowJudge(loads(CONTRACT)).judge(table().rows(named=True))
    of_table = failures(judge(loads(CONTRACT), [table()]))
    assert {name: what for name, what in of_table.items() if name not in ("key", "id.unique")} == failures(verdict)
    skipped = {f.check: f.why for f in verdict.findings if f.state == "skipped"}
    whole = "needs the whole table"
    assert skipped == {"rows": whole, "key": whole, "id.unique": whole, "name.nulls": whole, "price.nulls": whole}


def test_shares_of_nulls_are_of_the_whole_table() -> None:
    contract = Contract(columns={"a": Column(type="number", nulls=0.5)})
    parts = [pl.DataFrame({"a": [None, None]}, schema={"a": pl.Float64}), pl.DataFrame({"a": [1.0, 2.0]})]
    assert judge(contract, parts).state == "passed"
    found = judge(contract, parts[:1])
    assert failures(found) == {"a.nulls": (2, [(0, "null"), (1, "null")])}
    assert [f.why for f in found.failures()] == ["1 of the rows are null"]


def test_a_column_that_is_not_there_fails_once_and_what_needs_it_is_skipped() -> None:
    contract = loads(CONTRACT)
    for verdict in (
        judge(contract, [table().drop("begun", "id").with_columns(extra=1)]),
        RowJudge(contract).judge(table().drop("begun", "id").with_columns(extra=1).rows(named=True)),
    ):
        by_name = {f.check: f for f in verdict.findings}
        assert by_name["begun.there"].state == by_name["id.there"].state == "failed"
        assert by_name["others"].why == "also there: extra"
        for name in ("begun.type", "begun.min", "id.min", "check dates", "key", "id.unique"):
            assert by_name[name].state == "skipped", name
        assert by_name["check dates"].why == "the column begun is not there"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", [1, 2**62], ["1", "x"]),
        ("integer", [1.0, 2.0], [1.5, 2.0]),
        ("number", [1, 2], ["1", "2"]),
        ("number", [1.5, math.inf], [True, False]),
        ("text", ["", "é"], [b"", b"x"]),
        ("boolean", [True, False], [1, 0]),
        ("date", [date(2020, 1, 1)], [datetime.fromisoformat("2020-01-01")]),
        ("time", [datetime(2020, 1, 1, tzinfo=UTC)], [1.5]),
        ("time", [date(2020, 1, 1)], [20200101]),
        ("bytes", [b"x"], ["x"]),
        ("list", [[1, 2]], ["[1, 2]"]),
        ("any", [1], []),
    ],
)
def test_types(kind: Any, good: list[Any], bad: list[Any]) -> None:
    contract = Contract(columns={"a": Column(type=kind)})
    assert judge(contract, [pl.DataFrame({"a": good})]).state == "passed"
    assert all(RowJudge(contract).passes({"a": value}) for value in good)
    if bad:
        assert judge(contract, [pl.DataFrame({"a": bad})]).state == "failed"
        assert not all(RowJudge(contract).passes({"a": value}) for value in bad)


def test_of_a_column_of_texts_those_that_are_no_numbers_are_named() -> None:
    contract = Contract(columns={"a": Column(type="integer", min=0)})
    verdict = judge(contract, [pl.DataFrame({"a": ["1", "n/a", "3"]})])
    assert failures(verdict) == {"a.type": (1, [(1, "'n/a'")])}
    assert {f.check: f.why for f in verdict.findings if f.state == "skipped"} == {"a.min": "not of the right type"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("formt = 1", "has no key `formt`"),
        ("[columns.age]\ntpye = 'text'", "[columns.age] has no key `tpye`"),
        ("[checks.x]\nruel = 'a'", "[checks.x] has no key `ruel`"),
        ("[rows]\nmn = 3", "[rows] has no key `mn`"),
        ("key = ['ag']\n[columns.age]", "a column that [columns] has no key `ag`"),
        ("[columns.age]\n[checks.x]\nrule = 'agee > 3'", "`agee` is not known here"),
        ("[columns.age]\n[checks.x]\nrule = \"row['agee'] > 3\"", "the table has no key `agee`"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        loads(text, "contracts/x.toml")
    assert message in caught.value.message
    assert caught.value.hint
    assert "did you mean" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= 3", "is not valid TOML"),
        ("[columns]\nage = 3", "Expected `object`"),
        ("[columns.age]\ntype = 'int'", "Invalid enum value 'int'"),
        ("[columns.age]\nnulls = 3", "a share of the rows, 0 to 1"),
        ("[columns.age]\ntype = 'integer'\nmin = 'x'", "a number for integer and number"),
        ("[columns.age]\ntype = 'integer'\nmin = true", "a number for integer and number"),
        ("[columns.age]\ntype = 'text'\nmin = 1", "a number for integer and number"),
        ("[columns.age]\ntype = 'date'\nmin = 1", "a date for date and time"),
        ("[columns.age]\ntype = 'integer'\nmin = 3\nmax = 1", "min is above max"),
        ("[columns.age]\ntype = 'integer'\npattern = 'x'", "pattern is for text"),
        ("[columns.age]\ntype = 'text'\npattern = '(a+)+'", "can itself match in many ways"),
        ("[columns.age]\ntype = 'text'\nvalues = [1]", "the value 1 is not of type text"),
        ("[columns.age]\nvalues = [1]", "values are for text, boolean, integer, number"),
        ("[columns.age]\n[checks.x]\nrule = 'age +'", "check `x`, character"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        loads(text)
    assert message in caught.value.message


def test_a_newer_format_is_refused() -> None:
    with pytest.raises(NewerFormat, match="format 2"):
        loads("format = 2\nwhatever = 1")


def test_a_contract_is_written_as_it_was_read() -> None:
    contract = loads(CONTRACT)
    text = dumps(contract, "Inferred from x@v1.\n\nEdit it.")
    assert loads(text) == contract
    assert text.startswith("# Inferred from x@v1.\n#\n# Edit it.\nformat = 1\nkey = [")
    odd = Contract(columns={'a "quoted".\n\x7fé': Column(type="text", values=("\\", "\u2028", "'", '"')), "": Column()})
    assert loads(dumps(odd)) == odd


cells: dict[str, st.SearchStrategy[Any]] = {
    "i": st.one_of(st.none(), st.integers(-3, 3)),
    "f": st.one_of(st.none(), st.floats(-2, 2), st.sampled_from([math.nan, math.inf, -math.inf])),
    "t": st.one_of(st.none(), st.text(alphabet="ab1\n", max_size=3)),
    "b": st.one_of(st.none(), st.booleans()),
    "d": st.one_of(st.none(), st.dates(date(2020, 1, 1), date(2020, 1, 4))),
}
TYPES = {"i": pl.Int64, "f": pl.Float64, "t": pl.String, "b": pl.Boolean, "d": pl.Date}
RULES = [
    "i + 1 > f", "i * i <= 4 and not b",
    "b or f / i > 0.5", "missing(f) or -f < abs(i)", "t in ('a', 'b') or i in (1, 2)",
    "len(t) > 1 and starts_with(t, 'a')", "0 <= i < f <= 2", "d >= '2020-01-02'", "'2020-01-02' > d or b", "t == i",
    "d == t", "not (b and i // 2 > f % 2)", "max(i, f) - min(i, 0) == 2", "b == True",
    "not missing(t) and ends_with(t, '1')",
    "b", "i", "i - i - i > f", "f - f == 0", "t < 'b' and t != 'a'",
]  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=8), st.sampled_from(RULES))
def test_a_rule_answers_alike_for_rows_and_for_columns(rows: list[dict[str, Any]], rule: str) -> None:
    contract = Contract(columns={name: Column(nulls=1) for name in TYPES}, checks={"rule": Check(rule=rule)})
    found = judge(contract, [pl.DataFrame(rows, schema=TYPES)])
    by_rows = RowJudge(contract).judge(rows)
    assert failures(found) == failures(by_rows)
    assert [RowJudge(contract).passes(row) for row in rows].count(False) == sum(f.failed for f in found.failures())
    arrays = {name: np.array([row[name] for row in rows], dtype=object) for name in TYPES}
    assert RowJudge(contract).passes_columns(arrays) is (found.state == "passed")


columns_of = st.builds(
    Column,
    type=st.sampled_from(["number", "integer"]),
    nulls=st.sampled_from([0.0, 1.0]),
    min=st.one_of(st.none(), st.floats(-2, 0)),
    max=st.one_of(st.none(), st.floats(0, 2)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(cells["f"], min_size=1, max_size=8), columns_of)
def test_numbers_answer_alike_for_rows_and_for_columns(values: list[Any], column: Column) -> None:
    contract = Contract(columns={"a": column})
    found = judge(contract, [pl.DataFrame({"a": values}, schema={"a": pl.Float64})])
    rows = [{"a": value} for value in values]
    assert failures(found) == failures(RowJudge(contract).judge(rows))
    assert (found.state == "passed") is all(RowJudge(contract).passes(row) for row in rows)
    arrays = {"a": np.array([math.nan if value is None else value for value in values])}
    assert (found.state == "passed") is RowJudge(contract).passes_columns(arrays)


@settings(deadline=None, max_examples=150)
@given(
    st.text(alphabet="ab1.-[]^\\dw+*?{2,}|()", max_size=8),
    st.lists(st.text(alphabet="ab1.-\n^é٣", max_size=6), min_size=1, max_size=6),
)
def test_patterns_match_alike_in_both_engines(pattern: str, texts: list[str]) -> None:
    if patterns.fault(pattern) is not None:
        return
    contract = Contract(columns={"a": Column(type="text", pattern=pattern)})
    failing = [f.failed for f in judge(contract, [pl.DataFrame({"a": texts})]).findings][-1]
    assert failing == sum(not patterns.matches(pattern, text) for text in texts)


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*b", "(a?){50}a{50}", "a*a*a*a*b", "(a{1,9}){1,9}b", "(a|ab|b){40}"]
)
def test_a_pattern_that_a_text_could_keep_busy_is_refused(pattern: str) -> None:
    assert patterns.fault(pattern)


def test_rows_that_repeat_are_found_beyond_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tarmac.formats.repeats.MOST_IN_MEMORY", 1_000)
    repeats = Repeats()
    for start in range(0, 10_000, 700):
        repeats.take(pl.DataFrame({"a": range(start, start + 700), "b": ["x"] * 700}))
    repeats.take(pl.DataFrame({"a": [17, 9_000], "b": ["x", "y"]}))
    assert repeats.finish() == (1, [(10_500, 17)])


def test_times_that_json_has_as_texts_are_times_in_rules_too() -> None:
    judge = RowJudge(loads("[columns.a]\ntype = 'time'\n[columns.b]\ntype = 'date'\n[checks.x]\nrule = 'a >= b'"))
    assert judge.passes({"a": "2026-01-01T00:00:00+02:00", "b": "2025-12-31"})
    assert not judge.passes({"a": "2026-01-01T00:00:00+02:00", "b": "2026-01-01"})
    assert not judge.passes({"a": "yesterday", "b": "2026-01-01"})


def test_rows_are_judged_without_any_table_library() -> None:
    code = (
        "import sys; from tarmac.formats.contract import loads; from tarmac.formats.rows import RowJudge\n"
        "judge = RowJudge(loads('[columns.a]\\ntype = \"integer\"\\nmin = 3'))\n"
        "assert judge.passes({'a': 3}) and not judge.judge([{'a': 2}]).state == 'passed'\n"
        "print([name for name in ('numpy', 'polars', 'pyarrow', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_one_row_costs_microseconds() -> None:
    columns = {f"c{n}": Column(type="number", min=0, max=100) for n in range(20)}
    passes = RowJudge(Contract(columns=columns)).passes
    row = dict.fromkeys(columns, 5.0)
    started = time.process_time()
    for _ in range(2_000):
        assert passes(row)
    assert (time.process_time() - started) / 2_000 < 100e-6, "some 10 µs on a quiet machine"


def test_an_unknown_key_is_its_own_kind_of_error() -> None:
    with pytest.raises(UnknownKey):
        loads("formt = 1")

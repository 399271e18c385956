"""Rules that people write: what they may say, and that nothing passes which could not be judged."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Invalid
from tarmac.core.expressions import FUNCTIONS, Path, parse

FACTS: dict[Path, Any] = {
    ("metrics", "val/accuracy"): 0.96,
    ("champion", "metrics", "val/accuracy"): 0.95,
    ("latency", "p99_ms"): 12,
    ("reproducible",): True,
    ("signed",): False,
    ("metrics", "nan"): math.nan,
    ("name",): "mask detector",
    ("started",): datetime(2026, 11, 1, 12, tzinfo=UTC),
    ("day",): date(2026, 11, 2),
}


def judge(text: str) -> bool | str:
    passed, undecided = parse(text).judge(FACTS.get)
    assert not (passed and undecided)
    return passed if undecided is None else undecided


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("metrics['val/accuracy'] >= 0.95", True),
        ("metrics['val/accuracy'] >= champion.metrics['val/accuracy'] - 0.01", True),
        ("0 <= latency.p99_ms < 12", False),
        ("0 <= latency['p99_ms'] <= 12.0", True),
        ("reproducible", True),
        ("not signed", True),
        ("reproducible and signed", False),
        ("signed or reproducible", True),
        ("reproducible or metrics.absent > 1", True),  # as in Python: what is decided is not looked at further
        ("missing(metrics.absent) or metrics.absent > 1", True),
        ("missing(metrics.nan)", True),
        ("name in ('mask detector', 'other')", True),
        ("name not in ['mask detector']", False),
        ("starts_with(name, 'mask') and ends_with(name, 'tor') and len(name) == 13", True),
        ("abs(-3) + max(1, 2) * min(5, 4) - 7 // 2 == 8 and -7 % 3 == 2 and latency.p99_ms / 8 == 1.5", True),
        ("started < '2026-11-02' and started < day and day == '2026-11-02T00:00:00+00:00'", True),
        ("  reproducible\n  and\n  'ä#' == name  ", False),
    ],
)
def test_rules_say_what_python_would(text: str, answer: bool) -> None:
    if "#" in text:
        text = text.replace("#", "")
    assert judge(text) is answer


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("metrics.absent > 1", "metrics.absent is missing"),
        ("not metrics.absent > 1", "metrics.absent is missing"),
        ("metrics.nan > 1", "metrics.nan is NaN"),
        ("metrics.nan <= 1 or reproducible", "metrics.nan is NaN"),
        ("metrics['val/acc'] - 1 > 0", "metrics['val/acc'] is missing"),
        ("name > 3", "'mask detector' and 3 do not compare: text with a number"),
        ("name == 3", "'mask detector' and 3 do not compare: text with a number"),
        ("reproducible == 1", "True and 1 do not compare: yes or no with a number"),
        ("latency.p99_ms", "latency.p99_ms is 12, not yes or no"),
        ("latency.p99_ms or reproducible", "latency.p99_ms is 12, not yes or no"),
        ("1 / (latency.p99_ms - 12) > 1", "1 / latency.p99_ms - 12: division by zero"),
        ("1e308 * 10 - 1e308 * 10 > 0", "1e+308 * 10 - 1e+308 * 10 is NaN"),
        ("name + 'x' == 'x'", "name is 'mask detector', not a number"),
        ("name * 1000000000 == 'x'", "name is 'mask detector', not a number"),
        ("started > 'yesterday'", "'yesterday' is compared with a time, and is none"),
        ("len(latency.p99_ms) > 1", "latency.p99_ms is 12, not text"),
        ("name in (1, 2)", "'mask detector' and 1 do not compare: text with a number"),
    ],
)
def test_what_cannot_be_decided_is_not_passed_and_says_why(text: str, why: str) -> None:
    assert judge(text) == why


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: cannot be read"),
        ("a >", "cannot be read"),
        ("a) or (b", "character 2: cannot be read"),
        ("1 + 1", "character 1: `1 + 1` is never yes or no"),
        ("True", "never yes or no"),
        ("a ** 2 > 1", "character 1: `a ** 2` is not part of the language of rules"),
        ("b > 0 and a is None", "character 11: `a is None` is not part of"),
        ("a == None", "character 6: `None` compares with nothing"),
        ("ä > 0 and __import__('os').system('x') == 0", "character 11: `__import__('os').system` is no function"),
        ("a.b().c > 1", "character 1: `a.b()` has no parts"),
        ("a[0] > 1", "character 3: `0` is no name in quotes"),
        ("a['x':'y'] > 1", "is no name in quotes"),
        ("lenn(a) > 1", "`lenn` is no function of rules"),
        ("len(a, b) > 1", "len takes 1 value"),
        ("len(*a) > 1", "is not part of the language"),
        ("min(a) > 1", "min takes 2 to 20 values"),
        ("missing(a + 1)", "missing(…) asks about one name"),
        ("a in b", "`b` is no list of values"),
        ("a in ()", "is no list of values"),
        ("a in (1, 'x')", "mixes numbers and texts"),
        ("a in (1, b)", "is no value"),
        ("(lambda: 1)() > 0", "is no function"),
        ("[x for x in a] == 1", "is not part of the language"),
        ("(x := 3) > 1", "is not part of the language"),
        ("f'{a}' == 'x'", "is not part of the language"),
        ("a == b'x'", "is no number, text"),
        ("a == 1j", "is no number, text"),
        ("a > 1e999", "too large"),
        ("a > 99999999999999999999", "too large"),
        ("a > 1 # and\nb > 2", "comments cannot stand inside a rule"),
        ("a\x00 > 1", "cannot be read"),
        ("(" * 500 + "a" + ")" * 500, "cannot be read"),
        ("not " * 100 + "a", "levels"),
        (" and ".join(["a<1"] * 200), "more than 300 parts"),
        ("a > 1 and " * 300 + "b", "at most 2,000 are read"),
    ],
)
def test_what_is_not_of_the_language_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text, where="the rule")
    assert message in caught.value.message
    assert len(caught.value.message) < 400


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(Invalid, match="`metric` is not known here") as caught:
        parse("metric['x'] > 1", where="gate `production`", roots={"metrics", "champion", "signed"})
    assert caught.value.hint == "did you mean `metrics`?"
    assert "gate `production`, character 1" in caught.value.message


def test_names_are_told_in_order_and_once() -> None:
    rule = parse("b.c > 1 and a > 0 and b['c'] < 3 and missing(d)")
    assert [name.path for name in rule.names] == [("b", "c"), ("a",), ("d",)]


numbers = st.one_of(st.integers(-5, 5), st.floats(-3, 3), st.just(math.nan), st.none())


@st.composite
def rules(draw: st.DrawFn, deep: int = 3) -> str:
    if deep == 0 or draw(st.integers(0, 3)) == 0:
        left, right = (draw(st.sampled_from(["a", "b", "a + b", "-a", "abs(b)", "1", "max(a, 0)"])) for _ in range(2))
        return f"({left} {draw(st.sampled_from(['<', '<=', '==', '!=', '>', '>=']))} {right})"
    if draw(st.booleans()):
        return f"(not {draw(rules(deep - 1))})"
    return f"({draw(rules(deep - 1))} {draw(st.sampled_from(['and', 'or']))} {draw(rules(deep - 1))})"


@settings(deadline=None)
@given(rules(), numbers, numbers)
def test_a_rule_passes_only_if_python_says_so_too(text: str, a: float | None, b: float | None) -> None:
    values = {"a": a, "b": b}
    passed, undecided = parse(text).judge(lambda path: values[path[0]])
    if undecided is None:
        known = {name: value for name, value in (("a", a), ("b", b)) if value is not None}
        assert eval(text, {"abs": abs, "max": max}, known) is passed
    else:
        assert not passed
        assert any(value is None or value != value for value in (a, b))


@settings(deadline=None)
@given(st.text(alphabet="ab1.'\"[]()<>=!+-*/% ,notandrimsg\n\\#é", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text).judge(FACTS.get)
    except Invalid:
        pass


def test_the_functions_are_those_of_the_message() -> None:
    assert sorted(FUNCTIONS) == ["abs", "ends_with", "len", "max", "min", "missing", "starts_with"]

"""The filter language: what it reads, and what it says of what it cannot read."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Invalid
from tarmac.core.operation import Operation
from tarmac.track.filter import (
    DEEPEST,
    LONGEST,
    Both,
    Compare,
    Either,
    Field,
    Negated,
    parse,
    parse_field,
    parse_order,
)
from tarmac.track.operations import CountRuns, CreateRun, GroupRuns, ListRuns, LogRun
from tarmac.workspace import Workspace
from tests.track.oracle import like

PIECES = [
    "metrics", "params", "tags", "attributes", "datasets", "run", ".", ".acc", " acc", '"a b"', "`x`", "'it''s'",
    "'\\'", "name", "status", "started", "duration", "min(", "max(", "last", "(", ")", ",", "=", "!=", "<", ">=", "<>",
    "==", "LIKE", "ILIKE", "IN", "NOT", "AND", "OR", "IS", "NULL", "6", "-0.5", "1e5", "1e", ".5", "-7d", "+3w",
    "'2026-11-20'",
    "'", '"', "`", " ", "\t", "\n", "\\", "é", "日", "\x00", "'%_'", "- 7d", "ASC", "DESC", "'9999-99-99'",
    "99999999999d", "-99999999999999999999w", "'nan'", "'inf'",
]  # fmt: skip
texts = st.one_of(
    st.text(), st.lists(st.sampled_from(PIECES)).map(" ".join), st.lists(st.sampled_from(PIECES)).map("".join)
)


def check_tree(node: object) -> None:
    if isinstance(node, Compare):
        assert isinstance(node.field, Field)
    elif isinstance(node, Negated):
        check_tree(node.part)
    else:
        assert isinstance(node, (Both, Either))
        assert len(node.parts) > 1
        for part in node.parts:
            check_tree(part)


@settings(max_examples=1500, deadline=None)
@given(text=texts)
def test_any_text_is_a_tree_or_a_fault_with_its_place(text: str) -> None:
    try:
        node = parse(text)
    except Invalid as error:
        check_fault(error, text)
        return
    if node is not None:
        check_tree(node)
    else:
        assert not text.strip()


def check_fault(error: Invalid, text: str) -> None:
    assert error.hint
    assert 0 <= error.detail["position"] <= len(text)
    assert f"character {error.detail['position'] + 1}" in error.message
    assert len(error.message) < 400


@settings(max_examples=500, deadline=None)
@given(text=texts)
def test_any_order_and_any_field_is_one_or_a_fault(text: str) -> None:
    for read in (parse_order, parse_field):
        try:
            read(text)
        except Invalid as error:
            check_fault(error, text)


@given(key=st.text(min_size=1).filter(lambda key: "\x00" not in key), value=st.text())
def test_any_key_and_any_value_can_be_written(key: str, value: str) -> None:
    written = '"' + key.replace('"', '""') + '"'
    quoted = "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    wanted = Compare(Field("param", key), "=", value)
    if "\\\n" not in quoted:
        assert parse(f"params.{written} = {quoted}") == wanted
    assert parse("params.{} = {}".format(written, '"' + value.replace('"', '""') + '"')) == wanted
    assert parse_field(f"tags.{written}") == Field("tag", key)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("metrics.0 > 1", Field("metric", "0")),
        ("metrics.val.1 > 1", Field("metric", "val.1")),
        ("metrics.1.5.x > 1", Field("metric", "1.5.x")),
        ("metrics.top-5/a:b > 1", Field("metric", "top-5/a:b")),
        ("metrics.3d > 1", Field("metric", "3d")),
        ("metrics.loss.5s.mean > 1", Field("metric", "loss.5s.mean")),
        ("min(metrics.val.0) > .5", Field("metric", "val.0", "min")),
        ("attributes.start_time > 1", Field("attribute", "started")),
        ("\"run name\" = 'x'", Field("attribute", "name")),
        ("params.AND = 'x'", Field("param", "AND")),
    ],
)
def test_keys_as_people_write_them(text: str, field: Field) -> None:
    node = parse(text)
    assert isinstance(node, Compare)
    assert node.field == field


def test_tags_and_params_may_be_called_like_attributes() -> None:
    for name in ("started", "ended", "duration"):
        assert parse(f"tags.{name} = 'x'") == Compare(Field("tag", name), "=", "x")
        assert parse(f"params.{name} IN ('5')") == Compare(Field("param", name), "in", ("5",))
        assert parse(f"tags.{name} LIKE '5%'") == Compare(Field("tag", name), "like", "5%")


def test_and_binds_closer_than_or_and_not_closest() -> None:
    a, b, c = (Compare(Field("attribute", "name"), "=", name) for name in "abc")
    assert parse("name='a' OR name='b' AND NOT name='c'") == Either((a, Both((b, Negated(c)))))
    assert parse("(name='a' or name='b') and name='c'") == Both((Either((a, b)), c))


FAULTS = [
    # text, position, what is said, what is hinted
    ("metrics.acc >", 13, "found the end", None),
    ("metrics.acc > 'many'", 14, "number is expected", None),
    ("metrics.acc 0.5", 12, "expected a comparison", None),
    ("name = adam", 7, "quotes", "'adam'"),
    ("metric.acc = 1 metrics.b = 2", 15, "AND, OR or the end", None),
    ("metrcs.acc > 1", 0, "none of metrics", "did you mean `metrics`?"),
    ("statu = 'x'", 0, "no attribute `statu`", "did you mean `status`?"),
    ("acc > 1", 0, "no attribute `acc`", "params.NAME"),
    ("(name = 'a'", 11, "expected `)`", None),
    ("name = 'a", 7, "quote missing", None),
    ("name IN ()", 9, "a value in quotes", None),
    ("name IN 'a'", 8, "expected `(`", None),
    ("metrics.a IN ('1')", 13, "IN is for text", None),
    ("metrics.a LIKE '1%'", 15, "LIKE is for text", None),
    ("started NOT ILIKE '1%'", 18, "LIKE is for text", None),
    ("started > 'yesterday'", 10, "not a time", "-7d"),
    ("min(params.a) > 1", 0, "of a metric", None),
    ("min(max(metrics.a)) > 1", 4, "a metric like", None),
    ("datasets.colour = 'x'", 0, "a dataset has", None),
    (" AND name = 'a'", 1, "no attribute `AND`", None),
    ("NOT", 3, "found the end", None),
    (f"name LIKE '{'x' * 10_001}'", 10, "at most 10,000 characters", None),
]


@pytest.mark.parametrize(("text", "position", "says", "hint"), FAULTS)
def test_a_fault_says_where_and_what(text: str, position: int, says: str, hint: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert caught.value.detail["position"] == position
    assert f"character {position + 1}:" in caught.value.message
    assert says in caught.value.message
    assert caught.value.hint
    assert hint is None or hint in caught.value.hint


def test_a_fault_is_the_same_everywhere(anywhere: Workspace) -> None:
    asked: list[Operation[Any]] = [ListRuns(filter="metrcs.a > 1"), CountRuns(filter="metrcs.a > 1")]
    for request in asked:
        with pytest.raises(Invalid, match="character 1:") as caught:
            anywhere(request)
        assert caught.value.hint == "did you mean `metrics`?"
        assert caught.value.detail["position"] == 0
    bad: list[Operation[Any]] = [
        *(ListRuns(order=[order]) for order in ("metrics.a UP", "", "datasets.name")),
        ListRuns(columns=["metrics."]),
        *(GroupRuns(by=[by]) for by in ("metrics.a", "")),
    ]
    for request in bad:
        with pytest.raises(Invalid) as caught:
            anywhere(request)
        assert caught.value.hint


def test_too_long_and_too_deep() -> None:
    with pytest.raises(Invalid, match="20,001 characters") as caught:
        parse("x" * (LONGEST + 1))
    assert caught.value.hint
    for deep in ("(" * 5000, "NOT " * 4000, "(NOT " * 2000):
        with pytest.raises(Invalid, match=f"more than {DEEPEST} levels"):
            parse(deep)
    assert parse("(" * (DEEPEST - 1) + "name='a'" + ")" * (DEEPEST - 1)) == parse("name='a'")
    with pytest.raises(Invalid, match="a metric like"):
        parse("min(" * 4000)


@pytest.mark.parametrize(
    "text",
    ["metrics.a > " + "1" * 19_000 + "a", "name = '" + "''" * 9000, "name = '" + "\\'" * 9000, "name" + " " * 19_000,
     "name = \"" + '""' * 9000, "started > -" + "9" * 400 + "d", "started > -" + "9" * 5000 + "d",
     "metrics.a > " + "9" * 5000],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    start = time.perf_counter()
    try:
        parse(text)
    except Invalid:
        pass
    assert time.perf_counter() - start < 1


def test_very_many_conditions(workspace: Workspace) -> None:
    """SQLite takes expressions of 1,000 levels only."""
    runs = [workspace(CreateRun(name=f"n{number}", params={"p": str(number)})) for number in range(3)]
    names = " OR ".join(f"name='n{number}'" for number in range(1200))
    assert workspace(CountRuns(filter=names)).count == 3
    params = " OR ".join(f"params.p='{number}'" for number in range(1000))
    assert workspace(CountRuns(filter=params)).count == 3
    both = " AND ".join(f"name!='x{number}'" for number in range(1050))
    assert [run.id for run in workspace(ListRuns(filter=both)).runs] == [run.id for run in reversed(runs)]
    listed = ", ".join(f"'{number}'" for number in range(2000))
    assert workspace(CountRuns(filter=f"params.p IN ({listed})")).count == 3
    assert workspace(CountRuns(filter=f"params.p NOT IN ({listed})")).count == 0


def test_long_patterns(workspace: Workspace) -> None:
    """Characters that SQLite has to have written as three, up to the longest pattern."""
    workspace(CreateRun(name="x", note="*" * 9999 + "!"))
    assert workspace(CountRuns(filter=f"note LIKE '{'*' * 9999}_'")).count == 1
    assert workspace(CountRuns(filter=f"note LIKE '{'*' * 9999}?'")).count == 0
    assert workspace(CountRuns(filter=f"note ILIKE '{'𝒳' * 9999}%'")).count == 0


@pytest.mark.parametrize(
    "key",
    ["a b", 'q"q', "b`t", "it's", "a.b.c", ".", "%", "é日本", "select", "NOT", "x" * 250, "\\", "🙂", ":v1", "{x}"],
)
def test_keys_of_any_printable_characters(workspace: Workspace, key: str) -> None:
    run = workspace(CreateRun(params={key: key}, tags={key: key}))
    workspace(LogRun(id=run.id, metrics=[(key, 1.0, 0, 1)]))
    workspace(CreateRun())
    written = '"' + key.replace('"', '""') + '"'
    value = "'" + key.replace("\\", "\\\\").replace("'", "''") + "'"
    for text in (f"params.{written} = {value}", f"tags.{written} = {value}", f"metrics.{written} = 1"):
        (found,) = workspace(ListRuns(filter=text, order=[f"metrics.{written} DESC"], columns=[f"tags.{written}"])).runs
        assert (found.id, found.tags) == (run.id, {key: key})
    groups = workspace(GroupRuns(by=[f"params.{written}"], metrics=[key])).groups
    assert {group.by[f"params.{written}"]: group.metrics[key].n for group in groups} == {key: 1, None: 0}


def test_no_character_of_a_pattern_is_special_but_percent_and_underscore(workspace: Workspace) -> None:
    """Each database has others of its own: SQLite's GLOB has * ? [ and Postgres has the backslash."""
    values = [
        "a",
        "A",
        "ab",
        "a*b",
        "a?b",
        "a[b",
        "[a]",
        "[ab]",
        "[^a]",
        "]",
        "\\",
        "a\\b",
        "a\\%",
        "a%",
        "a_",
        "ä",
        "Ä",
        "a\nb",
        "",
    ]
    for value in values:
        workspace(CreateRun(name="n", note=value, params={"p": value}))
    patterns = [
        *values,
        "%",
        "_",
        "__",
        "a%b",
        "a_b",
        "[%",
        "%]",
        "%[%",
        "[a-z]",
        "*",
        "?",
        "%\\%",
        "\\_",
        "[!a]",
        "%*%",
        "ä%",
        "A%B",
    ]
    for pattern in patterns:
        for word in ("LIKE", "ILIKE"):
            right = sorted(value for value in values if like(value, pattern, minds_case=word == "LIKE"))
            quoted = "'" + pattern.replace("\\", "\\\\") + "'"
            for field in ("note", "params.p"):
                found = workspace(ListRuns(filter=f"{field} {word} {quoted}", columns=[])).runs
                assert sorted(run.note for run in found) == right, f"{field} {word} {pattern}"

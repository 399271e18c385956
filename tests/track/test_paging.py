"""Pages of a table that changes: no run twice, and none lost that was there and matched all the while.

What is promised: a page begins behind the last run of the page before, by the values that run had then. So, however the
table changes between two pages, a run whose place in the order does not change (always so for an order by start, id,
params or metrics of ended runs) and which passes the filter throughout is found once. A run that changes its place may
be missed or, if it moves behind, be found again; one that comes or goes between may or may not be seen.
"""

from __future__ import annotations

import base64
import random
from collections import Counter

import msgspec
import pytest

from tarmac.core.errors import Invalid
from tarmac.track.operations import (
    CreateRun,
    DeleteRuns,
    EditRun,
    EndRun,
    ListRuns,
    LogRun,
    MoveRuns,
    RestoreRuns,
    RunPage,
    TagRun,
)
from tarmac.track.queries import search
from tarmac.workspace import Workspace

ORDERS = [
    [],
    ["started"],
    ["id"],
    ["params.p DESC"],
    ["metrics.m DESC"],
    ["metrics.m", "params.p", "id DESC"],
    ["min(metrics.m) DESC"],
    ["params.sometimes", "metrics.never"],
    ["params.long DESC"],
    ["started", "started DESC"],
    ["started DESC", "started ASC"],
]


def make(workspace: Workspace, number: int) -> str:
    params = {"p": str(number % 5), "long": "x" * 7000 + str(number % 9)}
    if number % 3:
        params["sometimes"] = str(number % 4)
    run = workspace(CreateRun(experiment="e", name=f"n{number}", params=params))
    value = "NaN" if number % 7 == 0 else float(number % 6)
    workspace(LogRun(id=run.id, metrics=[("m", value, 0, 1)] if number % 5 else []))  # type: ignore[list-item]
    return run.id


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 5])
def test_nothing_twice_and_nothing_lost(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, window: int | None
) -> None:
    if window is not None:
        for name, value in (("FEW", 0), ("MANY", 0), ("WINDOW", window), ("WIDEST", 12)):
            monkeypatch.setattr(search, name, value)
    chance = random.Random(5)
    runs = [make(workspace, number) for number in range(50)]
    stay, change = runs[::2], runs[1::2]
    for text in ("", "name LIKE 'n%'", "params.p IN ('0', '1', '2', '3', '4')", "NOT name = 'gone'"):
        for order in ORDERS:
            seen, cursor, before = Counter[str](), "", sorted(stay)
            while True:
                page = workspace(ListRuns(filter=text, order=order, limit=7, cursor=cursor, experiment=["e"]))
                seen.update(run.id for run in page.runs)
                if page.next is None:
                    break
                cursor = page.next
                disturb(workspace, chance, change)
            assert [id for id in before if not seen[id]] == [], f"{text} {order}: lost"
            assert [id for id in before if seen[id] > 1] == [], f"{text} {order}: twice"
            if order in ([], ["started"], ["id"], ["params.p DESC"]):
                assert max(seen.values()) == 1, f"{order}: what it goes by never changes, so nothing is twice"


def disturb(workspace: Workspace, chance: random.Random, runs: list[str]) -> None:
    """Something happens to other runs, between two pages."""
    id = chance.choice(runs)
    what = chance.randrange(6)
    if what == 0:
        runs.append(make(workspace, chance.randrange(1000)))
    elif what == 1:
        workspace(DeleteRuns(ids=[id]))
    elif what == 2:
        workspace(RestoreRuns(ids=[id]))
    elif what == 3:
        workspace(EndRun(id=workspace(CreateRun(experiment="e")).id, status="failed"))
    elif what == 4:
        workspace(MoveRuns(ids=[id], to=chance.choice(["e", "f"])))
    else:
        workspace(RestoreRuns(ids=[id]))
        workspace(LogRun(id=id, metrics=[("m", chance.random() * 6, chance.randrange(9), 1)]))


def pages(workspace: Workspace, **asked: object) -> list[str]:
    ids, cursor = list[str](), ""
    while True:
        page: RunPage = workspace(ListRuns(cursor=cursor, **asked))  # type: ignore[arg-type]
        ids += [run.id for run in page.runs]
        if page.next is None:
            return ids
        assert len(page.next) <= 4000
        cursor = page.next


@pytest.mark.parametrize("order", ["params.long", "params.long DESC", "tags.long", "note DESC"])
def test_long_values_are_paged_through(anywhere: Workspace, order: str) -> None:
    """A cursor must fit into an address; values of thousands of characters that begin alike do not."""
    values = [f"{'é' * 6500}{letter}" for letter in "cabbage"]
    made = [anywhere(CreateRun(params={"long": v}, tags={"long": v}, note=v)).id for v in values]
    turn = order.endswith("DESC")
    wanted = sorted(range(7), key=lambda place: (values[place], place if turn else -place), reverse=turn)
    five = [order, "note", "params.long", "tags.long", "name"]
    for limit in (1, 2, 3):
        assert pages(anywhere, order=[order], limit=limit) == [made[place] for place in wanted]
        assert len(pages(anywhere, order=five, limit=limit)) == 7


def test_a_long_value_that_changed_under_the_cursor_is_said(workspace: Workspace) -> None:
    for letter in "abc":
        workspace(CreateRun(name=letter, note="x" * 5000 + letter))
    page = workspace(ListRuns(order=["note"], limit=1))
    workspace(EditRun(id=page.runs[0].id, note="other"))
    with pytest.raises(Invalid, match="has changed") as caught:
        workspace(ListRuns(order=["note"], limit=1, cursor=page.next or ""))
    assert caught.value.hint


def test_a_tag_that_changed_under_the_cursor(workspace: Workspace) -> None:
    """A short one stands in the cursor itself: the page goes on from where it was."""
    for letter in "abc":
        workspace(CreateRun(tags={"t": letter}))
    page = workspace(ListRuns(order=["tags.t"], limit=1))
    workspace(TagRun(id=page.runs[0].id, set={"t": "0"}))
    rest = workspace(ListRuns(order=["tags.t"], limit=9, cursor=page.next or "")).runs
    assert [run.tags["t"] for run in rest] == ["b", "c"]


def forged(*values: object) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(values)).decode().rstrip("=")


def test_cursors_that_are_none(anywhere: Workspace) -> None:
    for number in range(3):
        run = anywhere(CreateRun(params={"p": str(number)}))
        anywhere(LogRun(id=run.id, metrics=[("m", float(number), 0, 1)]))
    orders = [
        [],
        ["started"],
        ["metrics.m"],
        ["metrics.m DESC"],
        ["max(metrics.m)"],
        ["params.p"],
        ["params.p", "name"],
    ]
    nexts = [anywhere(ListRuns(order=order, limit=1)).next for order in orders]
    for place, cursor in enumerate(nexts):
        assert cursor is not None
        for other, order in enumerate(orders):
            if place == other:
                assert len(anywhere(ListRuns(order=order, cursor=cursor)).runs) == 2
                continue
            with pytest.raises(Invalid, match="cursor") as caught:
                anywhere(ListRuns(order=order, cursor=cursor))
            assert caught.value.hint
    real = msgspec.msgpack.decode(base64.urlsafe_b64decode((nexts[2] or "") + "=="))
    sign, _, started, key = real
    bad = [
        "x", "!!!!", "é", "A" * 3999, forged(), forged(None), forged(sign, "text", started, key),
        forged(sign, True, started, key), forged(sign, 1.0, started, "1"), forged(sign, 1.0, 2**63, key),
        forged(sign, 2**64 - 1, started, key), forged(sign, [1], started, key), forged(sign, {}, started, key),
        forged(sign, 1.0, started), forged(sign, 1.0, started, True), forged(sign, b"x", started, key),
        forged(sign, ["x"], started, key), forged(started, 1.0, started, key),
    ]  # fmt: skip
    for cursor in bad:
        with pytest.raises(Invalid, match="cursor"):
            anywhere(ListRuns(order=["metrics.m"], cursor=cursor))
    assert len(anywhere(ListRuns(order=["metrics.m"], cursor=forged(sign, float("nan"), started, key))).runs) <= 3

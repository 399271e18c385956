"""Filters, orders, counts and groups over 5,000 random runs are what plain Python says, on both databases."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tarmac.track.operations import CountRuns, CreateRun, GroupRuns, ListRuns, LogRun
from tarmac.track.queries import search
from tarmac.track.records import Spread
from tarmac.workspace import Workspace
from tests.track.conftest import Filled
from tests.track.oracle import EXPERIMENTS, HOUR, METRICS, Filters, Known, Predicate, sorted_by

PROVE = bool(os.environ.get("TARMAC_PROVE"))
HOW_MANY = 400 if PROVE else 100

pytestmark = pytest.mark.slow


def found(workspace: Workspace, filter: str, order: Sequence[str] = (), limit: int = 1000, **also: Any) -> list[str]:
    """The ids of all pages."""
    ids, cursor = list[str](), ""
    while True:
        page = workspace(ListRuns(filter=filter, order=list(order), limit=limit, cursor=cursor, columns=[], **also))
        ids += [run.id for run in page.runs]
        if page.next is None:
            return ids
        assert len(page.next) <= 4000
        cursor = page.next


def expected(filled: Filled, test: Predicate, orders: Sequence[tuple[str, str, str, bool]] = ()) -> list[str]:
    return [run.id for run in sorted_by((run for run in filled.runs if not run.deleted and test(run)), orders)]


def negated(test: Predicate) -> Predicate:
    return lambda run: not test(run)


def compare(filled: Filled, seed: int, count: int, limit: int = 1000) -> Counter[bool]:
    """So many filters with orders: set and order as the oracle says; how many matched nothing."""
    filters, empty = Filters(seed), Counter[bool]()
    for number in range(count):
        text, test = filters.filter()
        orders = filters.orders()
        wanted = expected(filled, test, orders)
        got = found(filled.workspace, text, [order[0] for order in orders], limit)
        which = f"{seed}/{number}: {text} ORDER BY {[order[0] for order in orders]}"
        assert sorted(got) == sorted(wanted), which
        assert got == wanted, which
        empty[not wanted] += 1
    return empty


@pytest.mark.parametrize("seed", range(3))
def test_filters_and_orders_are_those_of_the_oracle(filled: Filled, seed: int) -> None:
    empty = compare(filled, seed, HOW_MANY // 3)
    assert empty[True] < empty[False], "most filters match something"


def test_each_condition_alone_is_that_of_the_oracle(filled: Filled) -> None:
    """Counted, which shows more of them in the same time."""
    filters = Filters(10)
    for number in range(HOW_MANY * 2):
        text, test = filters.leaf()
        wanted = len(expected(filled, test))
        assert filled.workspace(CountRuns(filter=text)).count == wanted, f"{number}: {text}"
        assert filled.workspace(CountRuns(filter=f"NOT {text}")).count == len(expected(filled, negated(test))), (
            f"{number}: NOT {text}"
        )


def test_counts_are_those_of_the_oracle(filled: Filled) -> None:
    filters = Filters(11)
    for number in range(HOW_MANY):
        text, test = filters.filter()
        assert filled.workspace(CountRuns(filter=text)).count == len(expected(filled, test)), f"{number}: {text}"


# ---------------------------------------------------------------------------------------------------------------- plans

NO_INDEX = {"_walk_index": lambda *_: None}
PLANS: dict[str, tuple[dict[str, Any], str, int, int]] = {
    # what is set, which plan must have answered, the size of a page, one in so many filters
    "gather": ({"FEW": 10**9, "MANY": 10**9}, "_gather", 700, 4),
    "gather after a walk": ({"FEW": 0, "MANY": 10**9, "WINDOW": 3, "WIDEST": 0, **NO_INDEX}, "_gather", 700, 4),
    "sift": ({"FEW": 0, "MANY": 0, "WINDOW": 1, "WIDEST": 0, **NO_INDEX}, "_sift", 700, 4),
    "walk": ({"FEW": 0, "MANY": 0, "WINDOW": 10**6}, "_walk_time", 700, 4),
    "walk an index": ({"FEW": 0, "MANY": 0, "WINDOW": 1, "WIDEST": 0}, "_walk_index", 90, 10),
    "edges of windows": ({"FEW": 0, "MANY": 0, "WINDOW": 90, "WIDEST": 400}, "_walk_time", 89, 10),
    "a window of one": ({"FEW": 1, "MANY": 1, "WINDOW": 1, "WIDEST": 10**6}, "_walk_time", 100, 10),
}


class Spy:
    """Counts how often a plan answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: Counter[str] = Counter()
        for name in ("_gather", "_walk_time", "_walk_index"):
            monkeypatch.setattr(search, name, self.watched(name, getattr(search, name)))

    def watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def plan(*given: Any) -> Any:
            rows = real(*given)
            kind = name if name != "_gather" else "_gather" if given[-1] else "_sift"
            if rows is not None:
                self.answers[kind] += 1
            return rows

        return plan


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_gives_the_same_answer(filled: Filled, monkeypatch: pytest.MonkeyPatch, plan: str) -> None:
    values, answering, limit, fewer = PLANS[plan]
    for name, value in values.items():
        monkeypatch.setattr(search, name, value)
    spy = Spy(monkeypatch)
    compare(filled, 20 + len(plan), HOW_MANY // fewer, limit)
    assert spy.answers[answering], spy.answers
    if plan == "sift":
        assert not spy.answers["_gather"]


@pytest.mark.parametrize("limit", [1, 7, 8])
def test_small_pages_at_the_edges_of_windows(filled: Filled, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """A page may end just before, at, and just after the end of a window; ties go on from one page to the next."""
    monkeypatch.setattr(search, "FEW", 0)
    monkeypatch.setattr(search, "MANY", 0)
    monkeypatch.setattr(search, "WINDOW", 8)
    monkeypatch.setattr(search, "WIDEST", 30)
    spy = Spy(monkeypatch)
    since = max(run.started for run in filled.runs) - 8 * HOUR
    few = [run for run in filled.runs if run.started > since and run.name != "adam" and not run.deleted]
    assert 50 < len(few) < 500
    orders: list[tuple[list[str], list[tuple[str, str, str, bool]]]] = [
        ([], []),
        (["started"], [("", "attribute", "started", False)]),
        (["metrics.acc DESC"], [("", "last", "acc", True)]),
        (["params.long"], [("", "params", "long", False)]),
        (["params.depth DESC"], [("", "params", "depth", True)]),
    ]
    for written, order in orders:
        wanted = [run.id for run in sorted_by(few, order)]
        assert found(filled.workspace, f"started > {since} AND name != 'adam'", written, limit) == wanted, written
    assert spy.answers["_walk_time"]
    assert spy.answers["_walk_index"]
    assert spy.answers["_sift"]


# ---------------------------------------------------------------------------------------------- experiments and deleted


def test_experiments_and_the_trash(filled: Filled) -> None:
    filters = Filters(30)
    for number in range(12):
        text, test = filters.filter(2)
        orders = filters.orders()
        chosen = filters.chance.sample(EXPERIMENTS, number % 3 + 1)
        for deleted, wants in (("no", (False,)), ("only", (True,)), ("also", (True, False))):
            wanted = [
                run.id
                for run in sorted_by(
                    (r for r in filled.runs if r.deleted in wants and r.experiment in chosen and test(r)), orders
                )
            ]
            got = found(filled.workspace, text, [order[0] for order in orders], experiment=chosen, deleted=deleted)
            assert got == wanted, f"{number}: {text} {orders} {chosen} {deleted}"
            counted = filled.workspace(CountRuns(filter=text, experiment=chosen, deleted=deleted))  # type: ignore[arg-type]
            assert counted.count == len(wanted)


def test_a_status_beside_a_filter(filled: Filled) -> None:
    adams = [run for run in filled.runs if run.name == "adam" and not run.deleted]
    for status in ("running", "killed", "finished"):
        wanted = [run.id for run in sorted_by(adams, []) if run.status == status]
        assert found(filled.workspace, "name = 'adam'", status=status) == wanted
        shown = filled.workspace(ListRuns(status=status, limit=50)).runs
        assert {run.status for run in shown} == {status}


def test_what_a_page_shows_is_what_the_run_has(filled: Filled) -> None:
    known = {run.id: run for run in filled.runs}
    page = filled.workspace(ListRuns(limit=300, deleted="also", order=["metrics.acc DESC"]))
    for run in page.runs:
        right = known[run.id]
        assert (run.params, run.tags, run.status, run.note) == (right.params, right.tags, right.status, right.note)
        assert run.metrics.keys() == right.metrics.keys()
        assert {key: float(value) for key, value in run.metrics.items() if value != "NaN"} == {
            key: last for key, (last, _, _) in right.metrics.items() if last == last
        }
    (one,) = filled.workspace(ListRuns(limit=1, columns=["metrics.acc", "params.depth"])).runs
    assert one.metrics.keys() <= {"acc"}
    assert one.params.keys() <= {"depth"}
    assert one.tags == {}


# --------------------------------------------------------------------------------------------------------------- groups


def spread(values: list[float]) -> Spread:
    """Mean and spread as the textbook says, in two passes."""
    if not values:
        return Spread(n=0, mean=None, std=None, min=None, max=None)
    mean, std = sum(values) / len(values), math.nan
    if all(map(math.isfinite, values)):
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    shown = [points_text(value) for value in (mean, std, min(values), max(values))]
    return Spread(n=len(values), mean=shown[0], std=shown[1], min=shown[2], max=shown[3])  # type: ignore[arg-type]


def points_text(value: float) -> float | str:
    return "NaN" if value != value else value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def near(one: Any, other: Any) -> bool:
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


@pytest.mark.parametrize(
    ("by", "value"),
    [
        (["params.depth"], lambda run: (run.params.get("depth"),)),
        (["status", "experiment"], lambda run: (run.status, run.experiment)),
        (["tags.`日本 語`", 'params."it\'s"'], lambda run: (run.tags.get("日本 語"), run.params.get("it's"))),
        (["parent"], lambda run: (run.parent,)),
        (["duration"], lambda run: (None if run.ended is None else str(run.ended - run.started),)),
    ],
)
def test_groups_are_those_of_the_oracle(
    filled: Filled, by: list[str], value: Callable[[Known], tuple[str | None, ...]]
) -> None:
    filters = Filters(40)
    metrics = ["acc", "val/loss", METRICS[3]]
    for number in range(4):
        text, test = ("", lambda run: True) if number == 0 else filters.filter(1)
        groups: dict[tuple[str | None, ...], list[Known]] = {}
        for run in filled.runs:
            if not run.deleted and test(run):
                groups.setdefault(value(run), []).append(run)
        got = filled.workspace(GroupRuns(by=by, metrics=metrics, filter=text, limit=1000)).groups
        assert [group.runs for group in got] == sorted((len(runs) for runs in groups.values()), reverse=True)[:1000]
        if len(groups) <= 1000:
            assert {tuple(group.by[name] for name in by) for group in got} == groups.keys()
        for group in got:
            runs = groups[tuple(group.by[name] for name in by)]
            assert group.runs == len(runs)
            for metric in metrics:
                values = [run.metrics[metric][0] for run in runs if metric in run.metrics]
                right = spread([value for value in values if value == value])
                for part in ("n", "mean", "std", "min", "max"):
                    shown = getattr(group.metrics[metric], part)
                    assert near(shown, getattr(right, part)), f"{text} {group.by} {metric}.{part}"


def test_the_spread_of_numbers_far_from_the_others(workspace: Workspace) -> None:
    """One run that went wild must not blur the spread of the rest, and close large numbers have one too."""
    groups = {
        "wild": [1e12, 0.5],
        "close": [1e9, 1e9 + 1, 1e9 + 2],
        "small": [0.25, 0.5, 0.75],
        "equal": [0.1, 0.1, 0.1],
        "infinite": [math.inf, 1.0],
        "both": [math.inf, -math.inf, 2.0],
    }
    for name, values in groups.items():
        for value in values:
            run = workspace(CreateRun(params={"group": name}))
            workspace(LogRun(id=run.id, metrics=[("m", points_text(value), 0, 1)]))  # type: ignore[list-item]
    for name, values in groups.items():
        right = spread(values)
        (got,) = workspace(GroupRuns(by=["params.group"], metrics=["m"], filter=f"params.group = '{name}'")).groups
        every = workspace(GroupRuns(by=["params.group"], metrics=["m"])).groups
        (among,) = [group for group in every if group.by == {"params.group": name}]
        for shown in (got.metrics["m"], among.metrics["m"]):
            for part in ("n", "mean", "std", "min", "max"):
                assert near(getattr(shown, part), getattr(right, part)), f"{name} {part}"

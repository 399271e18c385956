"""Search, held against Python over runs with missing values, NaN, quoted keys and mixed case."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.server.mlflow.conftest import Caller

Made = dict[str, Any]
KEYS = ["acc", "val/loss", "a b", "Acc", "x.y"]


def _runs(mlflow: Caller, count: int) -> list[Made]:
    chance = random.Random(7)
    made: list[Made] = []
    for number in range(count):
        metrics: dict[str, Any] = {
            key: chance.choice([0.1, 0.5, 0.9, -1.0, "NaN", "Infinity"]) for key in KEYS if chance.random() < 0.6
        }
        params = {key: chance.choice(["6", "10", "Six", "six", "it's", ""]) for key in KEYS if chance.random() < 0.6}
        tags = {key: chance.choice(["draft", "Draft", "done", 'a "quote"']) for key in KEYS if chance.random() < 0.5}
        start = 1000 + number // 3
        asked = {"experiment_id": "0", "run_name": f"Run {number}", "start_time": start, "tags": _list(tags)}
        id = mlflow.ok("runs/create", asked)["run"]["info"]["run_id"]
        points = [{"key": key, "value": value, "timestamp": 1, "step": 0} for key, value in metrics.items()]
        mlflow.ok("runs/log-batch", {"run_id": id, "metrics": points, "params": _list(params)})
        numbers = {key: float(value) for key, value in metrics.items()}
        made.append(
            {"id": id, "metrics": numbers, "params": params, "tags": tags, "start": start, "name": f"Run {number}"}
        )
    return made


def _list(pairs: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in pairs.items()]


def _ids(mlflow: Caller, **fields: Any) -> list[str]:
    found, token = list[str](), None
    while True:
        page = mlflow.ok("runs/search", {"experiment_ids": ["0"], **fields, **({"page_token": token} if token else {})})
        found += [run["info"]["run_id"] for run in page.get("runs", [])]
        if (token := page.get("next_page_token")) is None:
            return found


def _has(kind: str, key: str, test: Callable[[Any], bool]) -> Callable[[Made], bool]:
    return lambda run: key in run[kind] and test(run[kind][key])


CASES: dict[str, Callable[[Made], bool]] = {
    "": lambda run: True,
    "metrics.acc > 0.4": _has("metrics", "acc", lambda v: v > 0.4),
    "metrics.acc != 0.5": _has("metrics", "acc", lambda v: v == v and v != 0.5),
    "metrics.`val/loss` <= 0.1": _has("metrics", "val/loss", lambda v: v <= 0.1),
    'metrics."a b" = 0.9': _has("metrics", "a b", lambda v: v == 0.9),
    "metric.Acc >= -1": _has("metrics", "Acc", lambda v: v >= -1),
    "params.acc = '6'": _has("params", "acc", lambda v: v == "6"),
    "params.acc != '6'": _has("params", "acc", lambda v: v != "6"),
    "param.`x.y` LIKE 's%'": _has("params", "x.y", lambda v: v.startswith("s")),
    "params.x.y ILIKE 's%'": _has("params", "x.y", lambda v: v.lower().startswith("s")),
    "parameters.acc IN ('6', 'Six')": _has("params", "acc", lambda v: v in ("6", "Six")),
    'params.acc = "it\'s"': _has("params", "acc", lambda v: v == "it's"),
    "tags.acc = 'draft' AND metrics.acc < 0.5": lambda run: (
        run["tags"].get("acc") == "draft" and run["metrics"].get("acc", 9) < 0.5
    ),
    "tag.Acc = 'Draft' and params.Acc != ''": lambda run: (
        run["tags"].get("Acc") == "Draft" and run["params"].get("Acc", "") != ""
    ),
    "tags.acc IS NULL": lambda run: "acc" not in run["tags"],
    "params.acc IS NOT NULL": lambda run: "acc" in run["params"],
    "attributes.run_name LIKE 'Run 1%'": lambda run: run["name"].startswith("Run 1"),
    "run_name = 'Run 3'": lambda run: run["name"] == "Run 3",
    "tags.mlflow.runName = 'Run 3'": lambda run: run["name"] == "Run 3",
    "tags.`mlflow.runName` ILIKE 'run 2%'": lambda run: run["name"].startswith("Run 2"),
    "attributes.status = 'RUNNING'": lambda run: True,
    "status != 'RUNNING'": lambda run: False,
    "start_time >= 1005": lambda run: run["start"] >= 1005,
    "attributes.start_time < 1003 AND status IN ('RUNNING', 'FAILED')": lambda run: run["start"] < 1003,
}


def test_filters_mean_what_they_say(mlflow: Caller) -> None:
    made = _runs(mlflow, 30)
    for text, passes in CASES.items():
        expected = {run["id"] for run in made if passes(run)}
        assert set(_ids(mlflow, filter=text)) == expected, text
    for run in made[:3]:
        assert _ids(mlflow, filter=f"run_id = '{run['id']}'") == [run["id"]]
        assert set(_ids(mlflow, filter=f"attributes.run_id IN ('{run['id']}', 'x')")) == {run["id"]}
        assert run["id"] not in _ids(mlflow, filter=f"run_id NOT IN ('{run['id']}')")


def test_orders_and_pages(mlflow: Caller) -> None:
    made = _runs(mlflow, 30)
    newest = sorted(made, key=lambda run: (-run["start"], run["id"]))
    for size in (4, 7, 30, 1000):
        assert _ids(mlflow, max_results=size) == [run["id"] for run in newest]
    for descending in (False, True):
        way = "DESC" if descending else "ASC"

        def place(run: Made) -> tuple[Any, ...]:
            value = run["metrics"].get("acc")
            there = value is not None and value == value
            return (not there, (-value if descending else value) if there else 0.0, -run["start"], run["id"])  # noqa: B023

        expected = [run["id"] for run in sorted(made, key=place)]
        assert _ids(mlflow, order_by=[f"metrics.acc {way}"], max_results=7) == expected, "NaN and nothing come last"
    oldest = sorted(made, key=lambda run: (run["start"], run["id"]))
    assert _ids(mlflow, order_by=["attributes.start_time ASC"], max_results=8) == [run["id"] for run in oldest]
    named = sorted(made, key=lambda run: run["name"])
    assert _ids(mlflow, order_by=["run_name"], max_results=11) == [run["id"] for run in named]


def test_deleted_runs_and_unknown_experiments(mlflow: Caller) -> None:
    made = _runs(mlflow, 3)
    mlflow.ok("runs/delete", {"run_id": made[0]["id"]})
    assert _ids(mlflow, run_view_type="DELETED_ONLY") == [made[0]["id"]]
    assert len(_ids(mlflow, run_view_type="ALL")) == 3
    assert len(_ids(mlflow)) == 2
    assert len(mlflow.ok("runs/search", {"experiment_ids": ["77", "0", "abc"]})["runs"]) == 2
    assert mlflow.ok("runs/search", {"experiment_ids": ["77"]}) == {}
    assert mlflow.ok("runs/search", {"experiment_ids": []}) == {}

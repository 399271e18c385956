"""MLflow's API, spoken by one client to tarmac, to MLflow's own server and to FastTrackML: what the servers pay for it.

The other two are installed and measured in the same run with `--peers`, and the factors are the targets; without, there
are tarmac's own figures only: what was measured on another day says nothing about a factor.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.store.measure import tarmac_server
from bench.table import Figure
from bench.tracking import filling, work
from bench.tracking import peers as others
from bench.tracking.work import POINTS, Against, Group

RUNS = 5000
ROUNDS = 3
EXPERIMENT = "e0"
PEERS = {"MLflow": "mlflow==3.17.2", "FastTrackML": "fasttrackml"}
TARGETS = {"points": 20.0, "small runs": 10.0}
SEARCHES = {
    "the first 100 runs": 100,
    "100 runs by a metric and a param": 100,
    "100 runs sorted by a metric": 100,
    "1,000 runs, as many as a client takes by itself": 1000,
    "all, 1,000 at a time": 1000,
}
FACTOR_IN_SEARCH = 20.0


@dataclass
class Cost:
    """Server CPU of each thing in microseconds, and the client's median wait in milliseconds."""

    cpu: dict[str, float] = field(default_factory=dict)
    wait: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, rounds: list[work.Got], per: float = 1.0) -> None:
        self.cpu[what] = median(got["cpu_us"]["server"] for got in rounds) / per
        self.wait[what] = median(got["p50_ms"] for got in rounds)


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    seconds, runs = (1.0, 500) if quick else (6.0, RUNS)
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        here = Path(place)
        os.environ["TARMAC_STATE"] = f"{place}/state"
        with _tarmac(here, runs) as against:
            ours = _cost(against, EXPERIMENT, seconds, runs)
        beside = {name: _peer(here, name, package, seconds, runs) for name, package in PEERS.items()} if peers else {}
    return [_figure(what, ours, beside, runs) for what in ours.cpu]


def _figure(what: str, ours: Cost, beside: dict[str, Cost], runs: int) -> Figure:
    factors = {name: cost.cpu[what] / ours.cpu[what] for name, cost in beside.items()}
    in_micros = what == "points"
    unit, scale = ("µs", 1.0) if in_micros else ("ms", 1e3)
    wanted = TARGETS.get(what, FACTOR_IN_SEARCH)
    named = {"points": "each point of a batch of 1,000", "small runs": "a small run of three requests"}.get(
        what, f"`runs/search` among {runs:,}: {what}"
    )
    shown = "; ".join(f"{name} {cost.cpu[what] / scale:,.1f} {unit}" for name, cost in beside.items())
    waits = "; ".join(
        f"{name} {cost.wait[what]:,.1f} ms" for name, cost in {"tarmac": ours, **beside}.items()
    )  # fmt: skip
    return Figure(
        f"server CPU of {named}",
        ours.cpu[what] / scale,
        unit,
        beside["MLflow"].cpu[what] / scale / wanted if beside else None,
        "less",
        shown,
        f"{', '.join(f'{factor:.0f} × less than {name}' for name, factor in factors.items())}; p50 seen: {waits}",
    )


@contextmanager
def _tarmac(here: Path, runs: int) -> Iterator[Against]:
    filling.small(here / "tarmac", runs, experiments=1)
    with tarmac_server(here / "tarmac") as running:
        yield Against(running.address, {"server": [running.process.pid]})


def _peer(here: Path, name: str, package: str, seconds: float, runs: int) -> Cost:
    place = here / name
    place.mkdir()
    with others.serving(name, others.install(place, package), place) as (running, database):
        others.until_quiet(running.process.pid)
        against = Against(running.address, {"server": [running.process.pid]})
        made: str = others.ask(against, "POST", "experiments/create", {"name": EXPERIMENT})["experiment_id"]
        first = work.small_runs("mlflow", made)
        work.send(against, first, 8, seconds, warm=seconds / 4)  # each of its workers imports at its first request
        others.fill(database, made, runs)
        return _cost(against, EXPERIMENT, seconds, runs)


def _cost(against: Against, name: str, seconds: float, runs: int) -> Cost:
    """Searches first, while there are as many runs as it says."""
    cost = Cost()
    found = others.ask(against, "GET", f"experiments/get-by-name?experiment_name={name}")["experiment"]
    searched: str = found["experiment_id"]
    for what, groups in _searches(against, searched, runs).items():
        work.send(against, groups, 1, 600, once=True)
        cost.add(what, [work.send(against, groups, 1, 600, once=True) for _ in range(ROUNDS)])
    logged: str = others.ask(against, "POST", "experiments/create", {"name": "logged"})["experiment_id"]
    bodies = work.batches("mlflow", 10)
    run = others.new_run(against, logged)
    cost.add("points", [_send(against, bodies, seconds, run)], POINTS)
    cost.add("small runs", [_send(against, work.small_runs("mlflow", logged), seconds) for _ in range(ROUNDS)])
    return cost


def _send(against: Against, groups: list[Group], seconds: float, *runs: str) -> work.Got:
    return work.send(against, groups, 1, seconds, warm=seconds / 4, runs=runs)


def _searches(against: Against, experiment: str, runs: int) -> dict[str, list[Group]]:
    """Each question with names and thresholds that vary; every answer is looked at once."""
    questions = others.questions(experiment, 48)
    asked: dict[str, Callable[[], list[Group]]] = {
        "the first 100 runs": lambda: questions[others.PAGE],
        "100 runs by a metric and a param": lambda: questions[others.FILTER],
        "100 runs sorted by a metric": lambda: questions[others.ORDER],
        "1,000 runs, as many as a client takes by itself": lambda: [[_search(experiment, 1000)]] * 6,
        "all, 1,000 at a time": lambda: [_all_pages(against, experiment, runs)] * 2,
    }
    for question, groups in questions.items():
        others.check_search(against, question, groups[0])
    return {what: asked[what]() for what in SEARCHES}


def _search(experiment: str, limit: int, token: str = "") -> list[str]:
    body: dict[str, Any] = {"experiment_ids": [experiment], "max_results": limit}
    return work.post("mlflow", "runs/search", {**body, "page_token": token} if token else body)


def _all_pages(against: Against, experiment: str, runs: int) -> Group:
    """The requests that lead through all runs: the tokens stay the same as long as no run is added."""
    pages: Group = []
    token, seen = "", 0
    while True:
        page = _search(experiment, 1000, token)
        pages.append(page)
        path, body = page[1].removeprefix(f"{work.MLFLOW}/"), page[2]
        answer = others.ask(against, "POST", path, body.encode())
        seen += len(answer.get("runs", []))
        token = answer.get("next_page_token", "")
        if not token:
            break
    assert seen >= runs, (seen, runs)
    return pages

"""The same work in MLflow and FastTrackML, each in an environment of its own, by the same client."""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import machine
from bench.tracking import work
from bench.tracking.work import MLFLOW, Against, Group

RUNS = 5000
CARRIED = ("params", "tags", "metrics", "latest_metrics")
QUIET_SECONDS = 60


@dataclass
class Peer:
    """What a peer reached: (per second, µs CPU each) and milliseconds; where it was measured."""

    name: str
    points: dict[int, tuple[float, float | None]] = field(default_factory=dict)
    small: dict[int, tuple[float, float | None]] = field(default_factory=dict)
    search: dict[str, float] = field(default_factory=dict)
    when: str = "measured earlier"


PAGE, FILTER, ORDER = "first page of 100 with all values", "filter on metric and param", "order by metric"
KNOWN = [
    Peer("MLflow", {1: (9.7e3, 88.0), 8: (9.1e3, None)}, {8: (30, 22e3)}, {PAGE: 146, FILTER: 91, ORDER: 613}),
    Peer("FastTrackML", {1: (106e3, 8.7), 8: (43e3, None)}, {8: (146, 3.6e3)}, {PAGE: 35, FILTER: 10, ORDER: 62}),
]


def points_of(peers: list[Peer], clients: int) -> str:
    return "; ".join(
        f"{peer.name} {rate / 1e3:.1f} k/s{f', {cpu:.1f} µs' if cpu else ''}"
        for peer in peers
        for rate, cpu in [peer.points[clients]]
    ) + f" ({peers[0].when})"  # fmt: skip


def small_of(peers: list[Peer], clients: int) -> str:
    return "; ".join(
        f"{peer.name} {rate:,.0f}/s{f', {cpu / 1e3:.1f} ms' if cpu else ''}"
        for peer in peers
        for rate, cpu in [peer.small.get(clients) or peer.small[8]]
    ) + f" ({peers[0].when})"  # fmt: skip


def search_of(peers: list[Peer], name: str) -> str:
    if name not in peers[0].search:
        return ""
    return (
        f"at {RUNS:,} runs: "
        + "; ".join(f"{peer.name} {peer.search[name]:.0f} ms" for peer in peers)
        + f" ({peers[0].when})"
    )


def measure(here: Path, seconds: float, *, quick: bool) -> list[Peer]:
    """Both peers, one after the other."""
    runs = 200 if quick else RUNS
    found = []
    for name, package in (("MLflow", "mlflow==3.17.2"), ("FastTrackML", "fasttrackml")):
        place = here / name
        place.mkdir()
        with serving(name, install(place, package), place) as (running, database):
            until_quiet(running.process.pid)
            against = Against(running.address, {"server": [running.process.pid]})
            found.append(_measure(name, against, database, seconds, runs))
    return found


def install(place: Path, package: str) -> Path:
    environment = place / "environment"
    subprocess.run([machine.python(), "-m", "uv", "venv", "-q", str(environment)], check=True)
    pip = [machine.python(), "-m", "uv", "pip", "install", "-q", "--python", f"{environment}/bin/python"]
    subprocess.run([*pip, package], check=True)
    return environment / "bin"


@contextlib.contextmanager
def serving(name: str, programs: Path, place: Path) -> Iterator[tuple[machine.Running, Path]]:
    from bench.store.measure import free_port

    port, database = free_port(), place / "peer.db"
    url, files = f"http://127.0.0.1:{port}", str(place / "artifacts")
    if name == "MLflow":
        command = [str(programs / "mlflow"), "server", "--backend-store-uri", f"sqlite:///{database}", "--host"]
        command += ["127.0.0.1", "--port", str(port), "--artifacts-destination", files]
    else:
        command = [str(programs / "fml"), "server", "-a", f"127.0.0.1:{port}", "-d", f"sqlite://{database}"]
        command += ["--default-artifact-root", files, "--log-level", "error"]
    with machine.server(command, url, "/health", MLFLOW_DISABLE_TELEMETRY="true") as running:
        yield running, database


def until_quiet(pid: int) -> None:
    """Some keep starting workers for 20 seconds after they answer."""
    until = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < until:
        before = _tree_seconds(pid)
        time.sleep(2.0)
        if _tree_seconds(pid) - before < 0.1:
            return


def _tree_seconds(pid: int) -> float:
    return sum(machine.cpu_seconds(member) for member in machine.tree(pid))


def _measure(name: str, against: Against, database: Path, seconds: float, runs: int) -> Peer:
    peer = Peer(name, when="measured now")
    experiment: str = ask(against, "POST", "experiments/create", {"name": "bench"})["experiment_id"]
    bodies = work.batches("mlflow", 10)
    # each of its workers imports and connects at its own first request
    work.send(against, bodies, 8, seconds, runs=[new_run(against, experiment) for _ in range(8)])
    for clients in (1, 8):
        logged = [new_run(against, experiment) for _ in range(clients)]
        got = work.send(against, bodies, clients, seconds, warm=seconds / 4, runs=logged)
        peer.points[clients] = (got["rate"] * work.POINTS, got["cpu_us"]["server"] / work.POINTS)
        _check_history(against, logged[0], work.steps_of("metric_0003", bodies, got["sent"][0]))
    searched: str = ask(against, "POST", "experiments/create", {"name": "searched"})["experiment_id"]
    made = work.small_runs("mlflow", searched)
    for clients in (1, 8):
        got = work.send(against, made, clients, seconds, warm=seconds / 4)
        peer.small[clients] = (got["rate"], got["cpu_us"]["server"])
    fill(database, searched, runs)
    for question, groups in questions(searched, 24).items():
        check_search(against, question, groups[0])
        peer.search[question] = work.send(against, groups, 1, 600, once=True)["p50_ms"]
    return peer


def new_run(against: Against, experiment: str) -> str:
    run: str = ask(against, "POST", "runs/create", {"experiment_id": experiment})["run"]["info"]["run_id"]
    return run


def _check_history(against: Against, run: str, expected: int) -> None:
    """All points are there."""
    found, token = 0, ""
    while True:
        page = f"&page_token={token}" if token else ""
        answer = ask(against, "GET", f"metrics/get-history?run_id={run}&metric_key=metric_0003&max_results=25000{page}")
        found += len(answer.get("metrics", []))
        token = answer.get("next_page_token", "")
        if not token:
            break
    assert found == expected, (found, expected)


def questions(experiment: str, many: int) -> dict[str, list[Group]]:
    chance = random.Random(10)

    def search(condition: str, order: list[str]) -> Group:
        body = {"experiment_ids": [experiment], "filter": condition, "max_results": 100, "order_by": order}
        return [work.post("mlflow", "runs/search", body)]

    def filtered() -> str:
        value = chance.choice(work.VALUES)
        return f"metrics.m{chance.randrange(10)} > {chance.random():.6f} and params.p{chance.randrange(10)} = '{value}'"

    return {
        PAGE: [search("", []) for _ in range(many)],
        FILTER: [search(filtered(), []) for _ in range(many)],
        ORDER: [search("", [f"metrics.m{chance.randrange(10)} DESC"]) for _ in range(many)],
    }


def check_search(against: Against, question: str, group: Group) -> None:
    (_, path, body), *_ = group
    runs = ask(against, "POST", path.removeprefix(f"{MLFLOW}/"), json.loads(body)).get("runs", [])
    if question == ORDER:
        key = json.loads(body)["order_by"][0].split(".")[1].split()[0]
        values = [metric["value"] for run in runs for metric in run["data"]["metrics"] if metric["key"] == key]
        assert len(values) == 100, len(values)
        assert values == sorted(values, reverse=True)
    if question == PAGE:
        assert len(runs) == 100
        assert all(len(run["data"]["metrics"]) == len(run["data"]["params"]) == 10 for run in runs)


def fill(database: Path, experiment: str, runs: int) -> None:
    """More runs like the first one, put into the peer's tables: through its door it would take minutes."""
    chance = random.Random(11)
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as raw, raw:
        of = "FROM runs WHERE experiment_id = ?"
        have, first = raw.execute(f"SELECT count(*), min(run_uuid) {of}", (int(experiment),)).fetchone()
        like = {table: _rows(raw, table, first) for table in ("runs", *CARRIED)}
        number = raw.execute("SELECT count(*) FROM runs").fetchone()[0] + 10
        for index in range(max(0, runs - have)):
            own = uuid.uuid4().hex
            for table, rows in like.items():
                for row in rows:
                    fresh = {**row, "run_uuid": own}
                    if table == "runs" and "row_num" in row:
                        fresh["row_num"] = number + index
                    if table == "params" and row["key"].startswith("p"):
                        fresh["value" if "value" in row else "value_str"] = chance.choice(work.VALUES)
                    if table == "latest_metrics":
                        fresh["value"] = chance.random()
                    marks = ", ".join("?" * len(fresh))
                    raw.execute(f"INSERT INTO {table} ({', '.join(fresh)}) VALUES ({marks})", tuple(fresh.values()))


def _rows(raw: sqlite3.Connection, table: str, run: str) -> list[dict[str, Any]]:
    cursor = raw.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run,))
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def ask(against: Against, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"{against.url}{MLFLOW}/{path}",
        method=method,
        data=body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)

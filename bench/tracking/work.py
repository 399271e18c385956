"""What is sent, to tarmac and in MLflow's REST API, and the process that sends it."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from bench import machine
from bench.tracking.client import FIRST

Dialect = Literal["tarmac", "mlflow"]
Group = list[list[str]]
POINTS = 1000
TEMPLATES = 16
API = "/api/v1/p/default"
MLFLOW = "/api/2.0/mlflow"
VALUES = ["1", "2", "4", "8", "16", "0.1", "0.01", "adam", "sgd"]


# --- who sends ---


@dataclass
class Against:
    """A server under test: where it answers and whose CPU time counts."""

    address: tuple[str, int]
    accounts: dict[str, list[int]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"


Got = dict[str, Any]


def send(
    against: Against, groups: Sequence[Group], clients: int, seconds: float, *, warm: float = 0.0,
    runs: Sequence[str] = (), once: bool = False,
) -> Got:  # fmt: skip
    """What a client in a process of its own saw."""
    with sending(against, groups, clients, seconds, warm=warm, runs=runs, once=once) as process:
        out, _ = process.communicate()
    return answer_of(out)


def answer_of(out: str) -> Got:
    got: Got = json.loads(out)
    assert not got["failed"], got["why"]
    return got


@contextlib.contextmanager
def sending(
    against: Against, groups: Sequence[Group], clients: int, seconds: float, *, warm: float = 0.0,
    runs: Sequence[str] = (), once: bool = False,
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    spec = {
        "address": against.address, "accounts": against.accounts, "clients": clients, "seconds": seconds,
        "warm": warm, "groups": groups, "runs": runs, "once": once,
    }  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(spec, file)
        file.flush()
        program = Path(__file__).with_name("client.py")
        process = subprocess.Popen([machine.python(), str(program), file.name], stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


# --- what is sent ---


def post(dialect: Dialect, operation: str, body: Any) -> list[str]:
    path = f"{API}/{operation}" if dialect == "tarmac" else f"{MLFLOW}/{operation}"
    return ["POST", path, body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))]


def get(operation: str, **fields: Any) -> Group:
    """One query of tarmac's."""
    written = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return [["GET", f"{API}/{operation}?{urlencode(written)}", ""]]


def batches(dialect: Dialect, keys: int) -> list[Group]:
    """Some batches of 1,000 points; with each number put in for `@@@@@@` all of their points are new."""
    chance = random.Random(7)
    found = []
    for _ in range(TEMPLATES):
        points = []
        for index in range(POINTS):
            key, step = f"metric_{index % keys:04d}", index // keys
            value = f"0.{chance.randrange(10_000):04d}@@@@@@{chance.randrange(1_000_000):06d}"
            number, moment = f"@@@@@@{step:02d}", f"17@@@@@@{step:02d}000"
            if dialect == "tarmac":
                points.append(f'["{key}",{value},{number},{moment}]')
            else:
                points.append(f'{{"key":"{key}","value":{value},"timestamp":{moment},"step":{number}}}')
        name = "id" if dialect == "tarmac" else "run_id"
        body = f'{{"{name}":"@RUN@","metrics":[{",".join(points)}]}}'
        found.append([post(dialect, "runs.log" if dialect == "tarmac" else "runs/log-batch", body)])
    return found


def steps_of(key: str, groups: Sequence[Group], sent: int) -> int:
    """How many points of a key a connection has sent that began with the first group."""
    return sum(groups[number % len(groups)][0][2].count(f'"{key}"') for number in range(sent))


def small_runs(dialect: Dialect, experiment: str) -> list[Group]:
    """A run of 10 params, 10 metrics of 5 steps and 5 tags: created, logged in one request, ended."""
    chance = random.Random(8)
    found = []
    for _ in range(TEMPLATES):
        params = {f"p{k}": chance.choice(VALUES) for k in range(10)}
        tags = {f"t{k}": chance.choice("abcdef") for k in range(5)}
        points = [(f"m{k}", chance.random(), step, 1_700_000_000_000 + step) for k in range(10) for step in range(5)]
        if dialect == "tarmac":
            found.append(
                [
                    post(dialect, "runs.create", {"experiment": experiment, "params": params, "tags": tags}),
                    post(dialect, "runs.log", {"id": "@ID@", "metrics": points}),
                    post(dialect, "runs.end", {"id": "@ID@"}),
                ]
            )
        else:
            named = [{"key": k, "value": v} for k, v in params.items()]
            metrics = [{"key": k, "value": v, "step": s, "timestamp": t} for k, v, s, t in points]
            marks = [{"key": k, "value": v} for k, v in tags.items()]
            started = {"experiment_id": experiment, "start_time": 1_700_000_000_000, "tags": marks}
            found.append(
                [
                    post(dialect, "runs/create", started),
                    post(dialect, "runs/log-batch", {"run_id": "@ID@", "metrics": metrics, "params": named}),
                    post(
                        dialect, "runs/update", {"run_id": "@ID@", "status": "FINISHED", "end_time": 1_700_000_001_000}
                    ),
                ]
            )
    return found


def queries(many: int) -> dict[str, list[Group]]:
    """The questions that are asked of a filled store, each with thresholds and names that vary."""
    chance = random.Random(9)

    def metric() -> str:
        return f"metrics.m{chance.randrange(10)}"

    def param() -> str:
        return f"params.p{chance.randrange(10)}"

    def edge() -> str:
        return f"{chance.choice([0.5, 0.8, 0.9, 0.99, 0.999]) + chance.random() / 1000:.6f}"

    def nothing() -> str:
        one, other = metric(), param()
        return chance.choice(
            [
                f"{other} = 'nothing is called {chance.randrange(10**9)}'",
                f"{other} = 'adam' AND {other} = 'sgd'",
                f"{one} > {edge()} AND {one} < {chance.random() / 3:.6f}",
                f"{one} > 0.5 AND {metric()} > 0.5 AND {one} < {chance.random() / 3:.6f}",
            ]
        )

    def way() -> str:
        return chance.choice(["DESC", "ASC"])

    experiments: list[list[str]] = [[], *([f"e{n}"] for n in range(20))]
    asked = {
        "first page of 100 with all values": lambda: get("runs.ls", experiment=chance.choice(experiments)),
        "filter on metric and param": lambda: get(
            "runs.ls", filter=f"{metric()} > {edge()} AND {param()} = '{chance.choice(VALUES)}'"
        ),
        "order by metric": lambda: get("runs.ls", order=[f"{metric()} {way()}"]),
        "order by metric, filter on param": lambda: get(
            "runs.ls", order=[f"{metric()} {way()}"], filter=f"{param()} = '{chance.choice(VALUES)}'"
        ),
        "page of 100 runs of 300 values": lambda: get("runs.ls", experiment=["wide"]),
        "a filter that matches nothing": lambda: get("runs.ls", filter=nothing()),
        "group-by aggregate": lambda: get(
            "runs.group", by=[f"params.p{chance.randrange(10)}"], metrics=[f"m{chance.randrange(10)}"]
        ),
        "count": lambda: get("runs.count", filter=f"{metric()} > {edge()} AND {param()} = '{chance.choice(VALUES)}'"),
    }
    return {name: [make() for _ in range(many)] for name, make in asked.items()}


__all__ = [
    "API", "FIRST", "MLFLOW", "POINTS", "VALUES", "Against", "Dialect", "Got", "Group", "answer_of", "batches", "get",
    "post", "queries", "send", "sending", "small_runs", "steps_of",
]  # fmt: skip

"""What logging costs training: a call, a step, memory, start; and how soon a million points are in the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench import machine
from bench.store.measure import TARMAC, tarmac_server
from bench.table import Figure, number
from bench.tracking.peers import install
from bench.training import scripts

ROUNDS = 3
KNOWN = {
    "MLflow": {"p50": 56_000, "p99": 157_000, "overhead": 51_200, "cpu": 3.63},
    "MLflow async": {"p50": 135, "p99": 18_000, "overhead": 387, "megabytes": 165, "cpu": 3.39},
    "W&B offline": {"p50": 297, "p99": 3_040, "overhead": 315, "megabytes": 48.1, "cpu": 1.23},
}
"""What the peers reached with `--peers`, on a busy machine; how much of what they were sent arrived was not judged."""


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    calls = 5_000 if quick else 200_000
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        here = Path(place)
        os.environ["TARMAC_STATE"] = f"{place}/state"
        beside = _peers(here, quick=quick) if peers else KNOWN
        figures = []
        for name, where in _places(here):
            figures += _figures(here, name, where, calls, quick=quick, beside=beside)
    return figures


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with tarmac_server(folder) as running:
        yield running.url


def _places(here: Path) -> Iterator[tuple[str, str]]:
    folder = here / "folder"
    subprocess.run([*TARMAC, "init", str(folder)], check=True, stdout=subprocess.DEVNULL)
    yield "a folder", str(folder)
    served = here / "served"
    subprocess.run([*TARMAC, "init", str(served)], check=True, stdout=subprocess.DEVNULL)
    with _server(served) as url:
        yield "a server", url


def _figures(
    here: Path, name: str, where: str, calls: int, *, quick: bool, beside: Mapping[str, Mapping[str, float]]
) -> list[Figure]:
    def run(script: str, *words: object) -> dict[str, float]:
        return _run(here, script, scripts.TARMAC, sys.executable, *words, TARMAC_WORKSPACE=where)

    latency = _middle([run(scripts.LATENCY, calls) for _ in range(ROUNDS)])
    steps = run(scripts.STEPS, 500 if quick else 10_000)
    memory = run(scripts.MEMORY)
    first = _middle([run(scripts.FIRST) for _ in range(ROUNDS)])
    million = run(scripts.LATENCY, calls if quick else 333_334)
    bare = _run(here, scripts.LATENCY, scripts.NOTHING, sys.executable, calls)

    def peers(key: str, unit: str) -> str:
        when = " (measured earlier)" if beside is KNOWN else ""
        return "; ".join(f"{peer} {number(found[key])} {unit}" for peer, found in beside.items() if key in found) + when

    return [
        Figure(
            f"`run.log` of 3 metrics while they are sent to {name}, median", latency["p50"], "µs", 5,
            limit=f"an empty loop {bare['p50']:.2f} µs; {peers('p50', 'µs')}",
        ),
        Figure("— p99", latency["p99"], "µs", 20, limit=peers("p99", "µs")),
        Figure("— added to steps of 100 µs", steps["overhead"], "%", 5, limit=peers("overhead", "%")),
        Figure(
            "— memory of the process beyond bare Python", memory["megabytes"], "MB", 20, limit=peers("megabytes", "MB")
        ),
        Figure(
            "— `import tarmac` and the first `tarmac.run(...)`, CPU with its children", first["cpu"], "s", 0.15,
            limit=peers("cpu", "s"),
        ),
        Figure(
            f"— {3 * (calls if quick else 333_334):,} points as fast as possible: in the store after the last call",
            million["after"], "s", 5,
        ),
    ]  # fmt: skip


def _peers(here: Path, *, quick: bool) -> dict[str, dict[str, float]]:
    """MLflow against its own server and Weights & Biases offline, each in an environment of its own."""
    found = {}
    calls = 200 if quick else 1_000
    for name in ("mlflow", "wandb"):
        (here / name).mkdir()
    programs = install(here / "mlflow", "mlflow")
    url = "http://127.0.0.1:5817"
    command = [str(programs / "mlflow"), "server", "--port", "5817", "--backend-store-uri", f"sqlite:///{here}/ml.db"]
    with machine.server(command, url, "/health"):
        for name, library in (("MLflow", scripts.MLFLOW), ("MLflow async", scripts.MLFLOW_LATER)):
            found[name] = _all(
                here, library, programs / "python", calls, MLFLOW_TRACKING_URI=url, GIT_PYTHON_REFRESH="quiet"
            )
    wandb = install(here / "wandb", "wandb") / "python"
    found["W&B offline"] = _all(here, scripts.WANDB, wandb, 2_000 if quick else 50_000, WANDB_DIR=str(here))
    return found


def _all(here: Path, library: dict[str, str], python: Path, calls: int, **environment: str) -> dict[str, float]:
    found = dict(_run(here, scripts.LATENCY, library, str(python), calls, **environment))
    found |= _run(
        here,
        scripts.STEPS,
        library,
        str(python),
        min(calls, 100) if library is scripts.MLFLOW else 1_000,
        **environment,
    )
    found |= _run(here, scripts.FIRST, library, str(python), **environment)
    if library is not scripts.MLFLOW:  # ten thousand calls of 10 ms
        found |= _run(here, scripts.MEMORY, library, str(python), **environment)
    return found


def _run(
    here: Path, script: str, library: dict[str, str], python: str, *words: object, **environment: str
) -> dict[str, float]:
    file = here / "loop.py"
    file.write_text(script.format(**library), encoding="utf-8")
    done = subprocess.run(
        [python, str(file), *map(str, words)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=here,
        env={**os.environ, **environment},
    )
    found: dict[str, float] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return found


def _middle(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: median(one[key] for one in found) for key in found[0]}

"""What a pipeline costs: whole processes, from the start of the interpreter to its end, with what they wait for."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import machine
from bench.pipelines import scripts
from bench.store.measure import TARMAC
from bench.table import Figure
from bench.tracking.peers import install

ROUNDS = 5
KNOWN = (
    "plain Python 0.11; Hamilton 1.0 / 0.47, Kedro 1.2 / 0.6, Flyte 1.6 / 1.0, DVC 5.0 / 2.4, Metaflow 12 / 5.9, "
    "Prefect 14 / 10.8, Dagster 18 / 2.5, ZenML 19 / 6.3 (wall / CPU s, measured earlier)"
)


class Cost(NamedTuple):
    wall: float
    cpu: float
    megabytes: float
    out: str


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    rounds = 2 if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        here = Path(place)
        os.environ["TARMAC_STATE"] = f"{place}/state"
        plain = _middle(here / "plain", scripts.PLAIN, rounds)
        bare = _middle(here / "bare", "import numpy", rounds)
        beside = _peers(here, rounds) if peers else KNOWN
        first, again, resumed = _fourteen(here, rounds)
        return [
            Figure("14 steps, first run: CPU of the whole process", first.cpu, "s", 0.6,
                   limit=f"plain Python {plain.wall:.2f} / {plain.cpu:.2f} (wall / CPU s); {beside}"),
            Figure("— wall", first.wall, "s"),
            Figure("— each step, beyond its own work and what a run without steps costs: CPU",
                   (first.cpu - again.cpu - (plain.cpu - bare.cpu)) / 14 * 1000, "ms", 10),
            Figure("14 steps, nothing changed: CPU", again.cpu, "s", 0.35),
            Figure("— wall", again.wall, "s"),
            Figure("14 steps, resumed after a failure in the join: CPU", resumed.cpu, "s", 0.4),
            *_each(here, 10_000 if quick else 100_000),
            *_plan(here),
        ]  # fmt: skip


def _fourteen(here: Path, rounds: int) -> tuple[Cost, Cost, Cost]:
    first, again, resumed = [], [], []
    whole = scripts.TARMAC.replace("    BROKEN\n", "")
    for number in range(rounds):
        folder = _workspace(here / f"fourteen-{number}")
        first.append(_cost(folder, whole))
        again.append(_cost(folder, whole))
        folder = _workspace(here / f"broken-{number}")
        _cost(folder, scripts.TARMAC.replace("BROKEN", "1 / 0"), code=1)
        resumed.append(_cost(folder, whole))
    return _typical(first), _typical(again), _typical(resumed)


def _each(here: Path, count: int) -> list[Figure]:
    folder = _workspace(here / "each")
    first = _cost(folder, scripts.EACH, "0", str(count))
    changed = _cost(folder, scripts.EACH, "10", str(count))
    return [
        Figure(f"`each` over {count:,} items, first run: CPU", first.cpu, "s"),
        Figure("— 10 changed: wall", changed.wall, "s", 5),
        Figure("— memory", changed.megabytes, "MB", 300),
    ]


def _plan(here: Path) -> list[Figure]:
    folder = _workspace(here / "wide")
    new = _cost(folder, scripts.WIDE, "plan")
    _cost(folder, scripts.WIDE, "run")
    known = _cost(folder, scripts.WIDE, "plan")
    return [
        Figure("plan of 1,000 steps that were never run: wall, whole process", new.wall, "s", 0.5),
        Figure("— that can all be reused", known.wall, "s", 0.5),
    ]


def _workspace(folder: Path) -> Path:
    subprocess.run([*TARMAC, "init", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def _peers(here: Path, rounds: int) -> str:
    found = []
    for name, package, script in (
        ("Hamilton", "sf-hamilton", scripts.HAMILTON),
        ("Prefect", "prefect", scripts.PREFECT),
    ):
        (here / name).mkdir()
        python = str(install(here / name, package) / "python")
        subprocess.run([machine.python(), "-m", "uv", "pip", "install", "-q", "--python", python, "numpy"], check=True)
        _cost(here / name, script, python=python)
        again = _typical([_cost(here / name, script, python=python) for _ in range(rounds)])
        found.append(f"{name} {again.wall:.2f} / {again.cpu:.2f} the second time")
    return "; ".join(found)


def _middle(folder: Path, script: str, rounds: int) -> Cost:
    folder.mkdir()
    return _typical([_cost(folder, script) for _ in range(rounds)])


def _typical(costs: list[Cost]) -> Cost:
    of: Callable[[str], float] = lambda name: median(getattr(cost, name) for cost in costs)  # noqa: E731
    return Cost(of("wall"), of("cpu"), of("megabytes"), costs[0].out)


def _cost(folder: Path, script: str, *words: str, python: str = "", code: int = 0) -> Cost:
    """Run it as a process of its own; its children count as far as it waits for them."""
    file = folder / "work.py"
    if not file.exists() or file.read_text(encoding="utf-8") != script:
        file.write_text(script, encoding="utf-8")
    began = time.perf_counter()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with (folder / "out.txt").open("w") as out:
        process = subprocess.Popen(
            [python or machine.python(), str(file), *words], cwd=folder, stdout=out, stderr=subprocess.STDOUT,
            env=environment,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    text = (folder / "out.txt").read_text(encoding="utf-8")
    assert process.returncode == code, re.sub(r"\s+", " ", text)[-500:]
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text)

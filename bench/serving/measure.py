"""Serving: CPU per request beside a bare ASGI function with the same model, and what the log and batches cost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import load, machine
from bench.serving import models
from bench.table import Figure

PEERS = "measured earlier: "
CALLERS = (1, 8, 64)


@dataclass
class Served:
    """A runtime that answers: its address, and the processes whose CPU counts."""

    address: tuple[str, int]
    pids: list[int]
    seconds_to_answer: float = 0.0

    def cpu(self) -> float:
        return sum(machine.cpu_seconds(pid) for pid in self.pids)


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    seconds = 0.5 if quick else 4.0
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        root = Path(place)
        models.make(root)
        figures += small_requests(root, seconds)
        figures += pictures(root, seconds)
        figures += log_cost(root, seconds)
        figures += starts(root)
    return figures


# --- the servers ---


@contextmanager
def tarmac(root: Path, *names: str, words: tuple[str, ...] = ()) -> Iterator[Served]:
    command = [machine.python(), "-m", "tarmac", "serve", *(str(root / name) for name in names), "--port", "0", *words]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://([^:/]+):(\d+)/", line)
    assert found, line
    address = (found[1], int(found[2]))
    urllib.request.urlopen(f"http://{address[0]}:{address[1]}/v2/health/ready").read()
    try:
        yield Served(address, machine.tree(process.pid), time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def floor(model: Path) -> Iterator[Served]:
    port = load_port()
    script = str(Path(__file__).parent / "floor.py")
    with machine.server(
        [sys.executable, script, str(model), str(port), "0"], f"http://127.0.0.1:{port}", "/", expect=False
    ) as running:
        yield Served(("127.0.0.1", port), [running.process.pid], running.seconds_to_answer)


def load_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


# --- the work ---


def rows_json(rows: int, seed: int = 0) -> str:
    """V2 with rows that vary from request to request: the same row again and again flatters trees."""
    data = np.random.default_rng(seed).standard_normal(rows * models.WIDTH).astype(np.float32)
    tensor = {
        "name": "X",
        "shape": [rows, models.WIDTH],
        "datatype": "FP32",
        "data": [round(float(x), 4) for x in data],
    }
    return json.dumps({"inputs": [tensor]}, separators=(",", ":"))


def asked(path: str, bodies: list[bytes], headers: str = "") -> list[bytes]:
    return [
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    ]


def hammer(served: Served, requests: list[bytes], callers: int, seconds: float) -> tuple[dict[str, float], float]:
    """Rates and latencies, and CPU milliseconds of each request."""
    load.run([served.address], requests, callers, min(0.5, seconds))
    before = served.cpu()
    got = load.run([served.address], requests, callers, seconds)
    assert not got["failed"], got
    return got, (served.cpu() - before) * 1e3 / got["count"]


def small_requests(root: Path, seconds: float) -> list[Figure]:
    figures = []
    one = [rows_json(1, seed).encode() for seed in range(200)]
    hundred = [rows_json(100, seed).encode() for seed in range(20)]
    known = {
        "linear": "MLServer 0.54 ms, 1,700/s; FastAPI by hand 0.43; BentoML 1.6; MLflow 5.0 ms, 150/s",
        "forest": "MLServer 3.6 ms; MLflow 10.7 ms",
    }
    targets = {("linear", 1): 0.11, ("linear", 8): 0.06, ("linear", 64): 0.06, ("forest", 8): 0.065}
    for name in ("linear", "forest"):
        path = f"/v2/models/{name}/infer"
        with floor(root / f"{name}.onnx") as bare:
            limits = {callers: hammer(bare, asked("/", one), callers, seconds) for callers in CALLERS}
            many_limit = hammer(bare, asked("/", hundred), 8, seconds) if name == "forest" else None
        with tarmac(root, name) as served:
            for callers in CALLERS:
                got, cpu = hammer(served, asked(path, one), callers, seconds)
                limit, limit_cpu = limits[callers]
                beside = f"bare ASGI {limit_cpu:.3f} ms, {limit['rate']:,.0f}/s; {PEERS}{known[name]}"
                figures.append(
                    Figure(
                        f"{name}, 1 row, V2 JSON, all on, {callers} callers: CPU", cpu, "ms",
                        targets.get((name, callers)), "less", beside, f"p99 {got['p99_ms']:.2f} ms",
                    )
                )  # fmt: skip
                if name == "linear":
                    goal = 15_000.0 if callers > 1 else None
                    figures.append(
                        Figure(f"{name}, 1 row, {callers} callers: rate", got["rate"], "/s", goal, "more",
                               f"bare ASGI {limit['rate']:,.0f}/s")
                    )  # fmt: skip
                    if callers == 1:
                        figures.append(Figure(f"{name}, 1 row, 1 caller: p99", got["p99_ms"], "ms", 0.4))
            if many_limit is not None:
                _, cpu = hammer(served, asked(path, hundred), 8, seconds)
                beside = f"bare ASGI {many_limit[1]:.2f} ms; {PEERS}MLServer 4.2 ms"
                figures.append(Figure(f"{name}, 100 rows, 8 callers: CPU", cpu, "ms", 0.85, "less", beside))
    return figures


def pictures(root: Path, seconds: float) -> list[Figure]:
    array = np.random.default_rng(1).random(models.IMAGE, np.float32)[np.newaxis]
    head = {"inputs": [{"name": "x", "shape": list(array.shape), "datatype": "FP32"}]}
    head["inputs"][0]["parameters"] = {"binary_data_size": array.nbytes}
    text = json.dumps(head).encode()
    binary = asked(
        "/v2/models/picture/infer", [text + array.tobytes()], f"Inference-Header-Content-Length: {len(text)}\r\n"
    )
    plain = json.dumps(
        {"inputs": [{"name": "x", "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}]}
    ).encode()
    seconds = max(seconds, 2.0)
    with floor(root / "picture.onnx") as bare:
        _, limit_binary = hammer(bare, asked("/binary", [array.tobytes()]), 4, seconds)
        _, limit_json = hammer(bare, asked("/", [plain]), 4, seconds)
    with tarmac(root, "picture") as served:
        _, cpu_binary = hammer(served, binary, 4, seconds)
        _, cpu_json = hammer(served, asked("/v2/models/picture/infer", [plain]), 4, seconds)
    return [
        Figure("picture 224×224×3, V2 binary: CPU", cpu_binary, "ms", 0.65, "less", f"bare ASGI {limit_binary:.2f} ms"),
        Figure("picture 224×224×3, V2 JSON: CPU", cpu_json, "ms", 5.0, "less",
               f"bare ASGI with json {limit_json:.1f} ms; {PEERS}MLServer 21 ms, FastAPI 161 ms"),
    ]  # fmt: skip


def log_cost(root: Path, seconds: float) -> list[Figure]:
    figures = []
    for rows, target in ((1, 5.0), (100, 15.0)):
        bodies = asked("/v2/models/linear/infer", [rows_json(rows, seed).encode() for seed in range(50)])
        ratios = []
        for _ in range(3):  # by turns, so that a busy moment hits both
            with tarmac(root, "linear", words=("--no-log",)) as without:
                _, off = hammer(without, bodies, 8, seconds / 2)
            with tarmac(root, "linear") as served:
                _, on = hammer(served, bodies, 8, seconds / 2)
            ratios.append((on / off - 1) * 100)
        cost = sorted(ratios)[1]
        figures.append(Figure(f"prediction log on against off, {rows} row{'s' * (rows > 1)}: CPU", cost, "%", target))
    return figures


def starts(root: Path) -> list[Figure]:
    with tarmac(root, "linear") as served:
        memory = sum(pss(pid) for pid in served.pids)
        took = served.seconds_to_answer
    return [
        Figure("start to first answer", took, "s", 1.0, "less", f"{PEERS}MLServer 3.7 s, MLflow 9–11 s, floor 0.4 s"),
        Figure("memory of supervisor and one worker (PSS)", memory, "MB", 130.0, "less",
               f"{PEERS}MLServer 230 MB, MLflow 400 MB, floor 97 MB"),
    ]  # fmt: skip


def pss(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0

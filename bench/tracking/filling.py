"""Stores that are full already: filled through the handlers, many runs in each transaction, to be quick."""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bench.tracking.work import VALUES
from tarmac import store as stores
from tarmac.core.actor import os_user
from tarmac.core.settings import Settings
from tarmac.store import Store
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.sql import Batch, Tx
from tarmac.track.handlers import runs as handlers
from tarmac.track.operations import CreateRun, EndRun, LogRun

AT_ONCE = 500
BEGIN = 1_700_000_000_000
YEAR = 365 * 86_400_000
TABLES = (
    "names", "experiments", "runs", "params", "tags", "metrics", "metric_segments", "metric_sheets", "metric_outlines",
)  # fmt: skip


@dataclass
class Filled:
    """What lies in a store: enough of it to check answers by."""

    runs: int = 0
    points: int = 0
    m1: list[float] = field(default_factory=list)
    p1: list[str] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)

    def count(self, above: float, value: str) -> int:
        """How many runs a filter on a metric and a param has to find."""
        return sum(m > above and p == value for m, p in zip(self.m1, self.p1, strict=True))


def make(folder: Path, address: str = "sqlite") -> Store:
    opened = stores.create(WorkspaceFolder(folder / ".tarmac"), Settings.from_environment(), address)
    opened.project_key("default", create=True)
    return opened


def small(folder: Path, runs: int, *, steps: int = 5, appends: int = 1, experiments: int = 20) -> Filled:
    """Runs of 10 params, 10 metrics and 5 tags, over a year, in some experiments; curves come in several requests."""
    filled = Filled(runs, runs * 10 * steps)
    chance = random.Random(1)
    with closing(make(folder)) as store:

        def one(tx: Tx) -> None:
            tx.now = BEGIN + chance.randrange(YEAR)
            params = {f"p{k}": chance.choice(VALUES) for k in range(10)}
            tags = {f"t{k}": chance.choice("abcdef") for k in range(5)}
            run = handlers.create_run(
                CreateRun(experiment=f"e{chance.randrange(experiments)}", params=params, tags=tags), tx
            )
            values: list[float] = []
            for part in range(appends):
                of_part = range(part * steps // appends, (part + 1) * steps // appends)
                points = [(f"m{k}", chance.random(), step, tx.now + step * 1000) for k in range(10) for step in of_part]
                values += [point[1] for point in points if point[0] == "m1"]
                request = LogRun(id=run.id, metrics=points)
                handlers.log_run(request, tx, handlers.shape_points(request))
            tx.now += 60_000
            handlers.end_run(EndRun(id=run.id), tx)
            filled.m1.append(values[-1])
            filled.p1.append(params["p1"])

        _repeat(store, runs, one)
    return filled


def add_wide(folder: Path, runs: int = 120) -> None:
    """Runs of 300 values each: 150 metrics, 130 params, 20 tags."""
    chance = random.Random(2)
    with closing(_open(folder)) as store:

        def one(tx: Tx) -> None:
            params = {f"wide_param_{k}": f"{chance.random():.6g}" for k in range(130)}
            tags = {f"wide_tag_{k}": chance.choice("abcdef") for k in range(20)}
            tx.now = BEGIN - chance.randrange(YEAR)
            run = handlers.create_run(CreateRun(experiment="wide", params=params, tags=tags), tx)
            request = LogRun(id=run.id, metrics=[(f"wide/metric_{k}", chance.random(), 1, tx.now) for k in range(150)])
            handlers.log_run(request, tx, handlers.shape_points(request))

        _repeat(store, runs, one)


def add_curves(folder: Path, filled: Filled, runs: int, long: int, short: int) -> None:
    """Runs with long curves, that came in batches of 1,000 points."""
    chance = random.Random(3)
    with closing(_open(folder)) as store:

        def one(tx: Tx) -> None:
            tx.now = BEGIN - chance.randrange(YEAR)
            run = handlers.create_run(CreateRun(experiment="curves"), tx)
            for key, points in (("long", long), ("short", short)):
                for start in range(0, points, 1000):
                    made = [
                        (key, math.exp(-step / points) + chance.gauss(0, 0.02), step, tx.now + step * 37)
                        for step in range(start, min(points, start + 1000))
                    ]
                    request = LogRun(id=run.id, metrics=made)
                    handlers.log_run(request, tx, handlers.shape_points(request))
            filled.curves.append(run.id)

        _repeat(store, runs, one, at_once=5)


def carry(folder: Path, address: str, target: Path) -> None:
    """The same rows in Postgres, copied: they need not be made twice."""
    import psycopg

    with closing(make(target, address)) as store, store.database.read() as connection:
        project = connection.value("SELECT key FROM projects WHERE name = 'default'")
    with closing(sqlite3.connect(folder / ".tarmac" / "store.db")) as source, psycopg.connect(address) as into:
        assert source.execute("SELECT key FROM projects WHERE name = 'default'").fetchone()[0] == project
        for table in TABLES:
            columns = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
            names = ", ".join(columns)
            with into.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in source.execute(f"SELECT {names} FROM {table}"):
                    copy.write_row(row)
            if table in ("names", "experiments", "runs"):
                into.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'key'), (SELECT max(key) FROM {table}))")
    with psycopg.connect(address, autocommit=True) as into:
        into.execute("VACUUM ANALYZE")
        into.execute("CHECKPOINT")


def _open(folder: Path) -> Store:
    return stores.open_store(WorkspaceFolder(folder / ".tarmac"), Settings.from_environment())


def _repeat(store: Store, times: int, one: Callable[[Tx], None], at_once: int = AT_ONCE) -> None:
    project, actor = store.project_key("default"), os_user()

    def some(batch: Batch, count: int) -> None:
        for _ in range(count):
            one(Tx(batch, project, "default", actor))

    for start in range(0, times, at_once):
        count = min(at_once, times - start)
        store.writer.call(lambda batch, count=count: some(batch, count))

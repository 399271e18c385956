"""Tables: profile and contract, reading, comparing, and what a changed table costs."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from bench import machine
from bench.table import Figure
from tarmac.data import chunks
from tarmac.data.tables import parquet, sources
from tarmac.formats.contract import Column, Contract
from tarmac.formats.rows import RowJudge

INSIDE = """
    import json, resource, sys, time
    from pathlib import Path
    from tarmac.data.tables import sources
    from tarmac.data.tables.comparing import compare
    from tarmac.data.tables.inspecting import frames, inspect, judge_table
    def nothing(rows): pass
    def opened(path): return sources.open_table([sources.on_disk(Path(path), "t.parquet")])
    contract = inspect(opened(sys.argv[2]), None, nothing).contract if sys.argv[1] in ("both", "contract") else None
    source, before, cpu = opened(sys.argv[2]), time.perf_counter(), time.process_time()
    if sys.argv[1] == "both": inspect(source, contract, nothing)
    elif sys.argv[1] == "contract": judge_table(source, contract, nothing)
    elif sys.argv[1] == "compare": compare(source, opened(sys.argv[3]), ["f0"], None)
    else:
        for frame in frames(source): pass
    print(json.dumps({"wall": time.perf_counter() - before, "cpu": time.process_time() - cpu,
                      "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    rows = 50_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="bench-tables") as place:
        path, changed = Path(place) / "wide.parquet", Path(place) / "changed.parquet"
        table = wide(rows)
        table.write_parquet(path)
        table.with_columns(
            pl.when(pl.int_range(pl.len()) % 100 == 0).then(0).otherwise("f1").alias("f1")
        ).write_parquet(changed)
        return [*looking(path, changed, rows), *one_row(), *changing(300_000 if quick else 6_000_000)]


def wide(rows: int) -> pl.DataFrame:
    """50 columns: 30 fractions, 8 whole numbers, 5 categories, 2 names, 3 flags, a time, a number with NaN."""
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {f"f{n}": rng.normal(size=rows) for n in range(30)}
    columns |= {f"i{n}": rng.integers(0, 10 ** (n // 2 + 1), rows) for n in range(8)}
    columns |= {f"c{n}": np.array(["alpha", "beta", "gamma", "delta"])[rng.integers(0, 4, rows)] for n in range(5)}
    columns |= {f"s{n}": [f"user-{number:08}" for number in rng.integers(0, 10**8, rows)] for n in range(2)}
    columns |= {f"b{n}": rng.random(rows) < 0.3 for n in range(3)}
    columns["t"] = np.datetime64("2024-01-01", "us") + rng.integers(0, 10**13, rows).astype("timedelta64[us]")
    columns["n"] = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows))
    return pl.DataFrame(columns)


def looking(path: Path, changed: Path, rows: int) -> list[Figure]:
    what = f"{rows:,} rows × 50 columns"
    both, alone, read = (inside(kind, path) for kind in ("both", "contract", "read"))
    compared = inside("compare", path, changed)
    return [
        Figure(
            f"profile + contract of {what}", both["wall"], "s", target=3.0, limit=f"reading alone {read['wall']:.2f} s"
        ),
        Figure("… CPU", both["cpu"], "s", limit=f"reading alone {read['cpu']:.2f} s"),
        Figure("… peak memory", both["peak"], "MB", target=1000.0),
        Figure(f"contract alone of {what}, CPU", alone["cpu"], "s"),
        Figure(
            f"diff by key of {what}, 1 % changed, CPU", compared["cpu"], "s", note=f"peak {compared['peak']:.0f} MB"
        ),
    ]


def inside(kind: str, *paths: Path) -> dict[str, float]:
    """A process of its own, for its memory."""
    words = [machine.python(), "-c", textwrap.dedent(INSIDE), kind, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one_row() -> list[Figure]:
    contract = Contract(columns={f"c{n}": Column(type="number", min=0, max=100) for n in range(20)})
    judge, row, count = RowJudge(contract), {f"c{n}": 5.0 for n in range(20)}, 50_000
    cpu = time.process_time()
    for _ in range(count):
        judge.passes(row)
    micro = (time.process_time() - cpu) / count * 1e6
    return [Figure("contract of one row of 20 columns, without polars, CPU", micro, "µs")]


def changing(rows: int) -> list[Figure]:
    """Bytes of new pieces, and of the pages that list them, when 1 % of the rows change."""
    rng = np.random.default_rng(0)
    base = narrow(rng, rows)
    extra, at = base.take(pa.array(rng.integers(0, rows, rows // 100))), rows // 3
    versions = {
        "appended": pa.concat_tables([base, extra]),
        "replaced": pa.concat_tables([base.slice(0, at), extra, base.slice(at + len(extra))]),
        "inserted": pa.concat_tables([base.slice(0, at), extra, base.slice(at)]),
    }
    first, cpu = written(base)
    before = pieces(first)
    figures = []
    for (name, version), target in zip(versions.items(), (1.8, 2.2, 2.8), strict=True):
        after = pieces(written(version)[0])
        new = sum(length for digest, length in after.items() if digest not in before)
        share = (new + 44 * len(after)) / len(first) * 100
        aim = target if rows >= 1_000_000 else None  # in a small table the edges of a change weigh more
        figures.append(Figure(f"bytes for 1 % of {rows:,} rows {name}, index counted", share, "%", target=aim))
    plain = io.BytesIO()
    pq.write_table(base, plain, compression="zstd")
    figures.append(
        Figure(
            f"Parquet of {rows:,} rows × 10 columns",
            len(first) / 1e6,
            "MB",
            limit=f"as pyarrow writes it {len(plain.getvalue()) / 1e6:.1f} MB",
            note=f"index {44 * len(before) / len(first):.2%}",
        )
    )
    figures.append(Figure("… CPU to write it", cpu, "s", limit=f"read again {reading(first):.2f} s"))
    figures.append(
        Figure("… CPU to read it", reading(first), "s", limit=f"pyarrow's own {reading(plain.getvalue()):.2f} s")
    )
    return figures


def narrow(rng: np.random.Generator, rows: int) -> pa.Table:
    notes = zip(rng.integers(0, 10**6, rows), rng.integers(0, 10**4, rows), strict=True)
    return pa.table(
        {
            "id": np.arange(rows),
            "x": rng.normal(size=rows),
            "y": rng.normal(size=rows).astype("f4"),
            "price": rng.gamma(2, 20, rows).round(2),
            "n": rng.integers(0, 1000, rows),
            "plan": np.array(["free", "basic", "pro"])[rng.integers(0, 3, rows)],
            "city": np.array([f"city-{n:03}" for n in range(300)])[rng.integers(0, 300, rows)],
            "at": np.datetime64("2024-01-01", "us") + np.arange(rows) * 60_000_000,
            "flag": rng.random(rows) < 0.1,
            "note": [f"order {one} of {other}" for one, other in notes],
        }
    )


def written(table: pa.Table) -> tuple[bytes, float]:
    cpu, file = time.process_time(), io.BytesIO()
    batches = (part for batch in table.to_batches() for part in sources.portions(batch))
    parquet.write(batches, table.schema, file)
    return file.getvalue(), time.process_time() - cpu


def pieces(data: bytes) -> dict[bytes, int]:
    return {blake3(piece).digest(): len(piece) for piece in chunks.cut(io.BytesIO(data))}


def reading(data: bytes) -> float:
    cpu = time.process_time()
    pq.read_table(io.BytesIO(data), use_threads=False)
    return time.process_time() - cpu


if __name__ == "__main__":
    import sys

    from bench import table

    print(machine.describe())
    print(table.markdown(measure(quick="--quick" in sys.argv, peers=False)))

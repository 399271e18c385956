"""The data that is measured: the same bytes each time."""

from __future__ import annotations

import random
from pathlib import Path

SHARED = 1 << 20


def folder(place: Path, files: int, average: int, seed: int = 1) -> int:
    """So many files in 50 folders, between a fifth and nine fifths of the average long; their bytes together."""
    source = random.Random(seed)
    noise = source.randbytes(SHARED * 2)
    total = 0
    for number in range(files):
        below = place / f"c{number % 50:02}"
        below.mkdir(parents=True, exist_ok=True)
        size, at = int(average * (0.2 + 1.6 * source.random())), source.randrange(SHARED)
        content = number.to_bytes(8, "big") + seed.to_bytes(4, "big") + noise[at : at + size]
        (below / f"f{number:07}.bin").write_bytes(content)
        total += len(content)
    return total


def change(place: Path, share: float, seed: int = 2) -> None:
    """Rewrite a share of the files, others of the same length."""
    source = random.Random(seed)
    files = sorted(place.rglob("*.bin"))
    for path in source.sample(files, int(len(files) * share)):
        path.write_bytes(source.randbytes(path.stat().st_size))


def many(place: Path, folders: int, each: int) -> None:
    """Very many files of a few bytes."""
    for number in range(folders):
        below = place / f"{number:04}"
        below.mkdir(parents=True)
        for index in range(each):
            (below / f"{index:04}.txt").write_bytes(b"%d/%d\n" % (number, index))


def tables(place: Path, rows: int) -> dict[str, Path]:
    """A table as Parquet of pyarrow's own settings, and with 1 % more rows, replaced and inserted; and as CSV."""
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    place.mkdir(parents=True, exist_ok=True)
    whole, more = _table(rows, 1), _table(rows // 100, 2)
    at = rows // 3
    variants = {
        "base": whole,
        "append": pa.concat_tables([whole, more]),
        "replace": pa.concat_tables([whole.slice(0, at), more, whole.slice(at + more.num_rows)]),
        "insert": pa.concat_tables([whole.slice(0, at), more, whole.slice(at)]),
    }
    found = {}
    for name, table in variants.items():
        found[name] = place / f"{name}.parquet"
        pq.write_table(table, found[name], row_group_size=100_000)
    for name in ("base", "insert"):
        found[f"{name}.csv"] = place / f"{name}.csv"
        csv.write_csv(variants[name].slice(at - rows // 8, rows // 4), found[f"{name}.csv"])
    return found


def _table(rows: int, seed: int):  # type: ignore[no-untyped-def]
    import numpy as np
    import pyarrow as pa

    source = np.random.default_rng(seed)
    columns = {f"float{n}": source.normal(size=rows) for n in range(8)}
    columns |= {f"int{n}": source.integers(0, 10**6, rows) for n in range(4)}
    columns["colour"] = np.array(["red", "green", "blue", "black"])[source.integers(0, 4, rows)]
    columns["user"] = np.char.add("user-", source.integers(0, 10**7, rows).astype(str))
    return pa.table(columns)

"""Readers of tables: all formats give the same rows in bounded batches; what is broken is named by file and line."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tarmac.core.errors import Invalid, Refused, UnknownKey
from tarmac.data.tables import lines
from tarmac.data.tables.parquet import write
from tarmac.data.tables.sources import on_disk, open_table
from tarmac.workspace.tables import as_batches

ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b\nc", None], "price": [1.5, 2.0, None]})


def table(*paths: Path, columns: list[str] | None = None) -> pl.DataFrame:
    source = open_table([on_disk(path, path.name) for path in paths])
    found = pl.from_arrow(pa.Table.from_batches(source.batches(columns), schema=None if columns else source.schema))
    assert isinstance(found, pl.DataFrame)
    return found


def write_stream(frame: pl.DataFrame, path: Path) -> None:
    with pa.ipc.new_stream(path, frame.to_arrow().schema) as stream:
        stream.write_table(frame.to_arrow())


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "t.parquet": lambda frame, path: frame.write_parquet(path),
    "t.csv": lambda frame, path: frame.write_csv(path),
    "t.tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "semicolons.csv": lambda frame, path: frame.write_csv(path, separator=";"),
    "bom.csv": lambda frame, path: frame.write_csv(path, include_bom=True),
    "windows.csv": lambda frame, path: frame.write_csv(path, line_terminator="\r\n"),
    "t.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
    "t.jsonl": lambda frame, path: frame.write_ndjson(path),
    "t.ndjson.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_ndjson().encode())),
    "t.arrow": lambda frame, path: frame.write_ipc(path),
    "t.feather": lambda frame, path: pyarrow.feather.write_feather(frame.to_arrow(), path),
    "stream.arrow": write_stream,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    WRITERS[name](ROWS, tmp_path / name)
    assert table(tmp_path / name).equals(ROWS)
    assert table(tmp_path / name, columns=["price", "id"]).equals(ROWS.select("price", "id"))
    with pytest.raises(UnknownKey, match="the table has no key `prize`") as caught:
        table(tmp_path / name, columns=["prize"])
    assert caught.value.hint == "did you mean `price`?"


def test_files_of_a_folder_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    pl.DataFrame({"a": [3], "b": [1.5]}).write_parquet(tmp_path / "2.parquet")
    pl.DataFrame({"a": [1, 2], "b": [1, 2]}).write_parquet(tmp_path / "1.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    assert table(*tmp_path.iterdir()).rows() == [(1, 1.0), (2, 2.0), (3, 1.5)]
    pl.DataFrame({"a": ["x"], "b": [1]}).write_parquet(tmp_path / "3.parquet")
    with pytest.raises(Refused, match=r"the column `a` is int64 in 1\.parquet and (large_)?string\w* in 3\.parquet"):
        table(*tmp_path.iterdir())


def test_types_are_found_from_all_of_a_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 1_000)
    rows = [f"{n},{n},{n},," for n in range(500)] + ["1.5,x,,2020-01-01,"]
    (tmp_path / "t.csv").write_text("a,b,c,d,e\n" + "\n".join(rows) + "\n")
    found = table(tmp_path / "t.csv")
    assert dict(found.schema) == {"a": pl.Float64, "b": pl.String, "c": pl.Int64, "d": pl.Date, "e": pl.String}
    assert found.row(-1)[:3] == (1.5, "x", None)
    assert found.height == 501


def test_quoted_line_ends_do_not_cut_a_row_between_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 64)
    rows = [{"a": n, "b": f'line\nof "{n}", and\n\nmore'} for n in range(200)]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    assert table(tmp_path / "t.csv").rows(named=True) == rows


@pytest.mark.parametrize("block", [16 << 20, 100])
def test_ragged_rows_are_named_by_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(lines, "BLOCK", block)
    rows = ["1,2"] * 20 + ['1,"two\nlines"', "1,2,3", "1,2", "7"] + ["1,2"] * 3
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    with pytest.raises(Invalid) as caught:
        table(tmp_path / "t.csv")
    assert "t.csv has 2 columns, but line 24 has 3" in caught.value.message
    if block > 100:
        assert caught.value.message.endswith("line 24 has 3, line 26 has 1")


def test_many_ragged_rows_are_counted_not_listed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2,3\n" * 5_000)
    with pytest.raises(Invalid, match=r"line 6 has 3, and 4,995 more$"):
        table(tmp_path / "t.csv")


def broken(tmp_path: Path, name: str, data: bytes) -> str:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Invalid) as caught:
        table(tmp_path / name)
    return caught.value.message


def test_what_is_broken_is_said(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(ROWS.to_arrow(), buffer)
    whole = buffer.getvalue()
    assert "t.parquet is cut short, or is no Parquet file" in broken(tmp_path, "t.parquet", whole[:-20])
    assert "t.parquet is empty" in broken(tmp_path, "t.parquet", b"")
    damaged = bytearray(whole)
    damaged[4:40] = b"\xff" * 36
    assert "t.parquet cannot be read" in broken(tmp_path, "t.parquet", bytes(damaged))
    assert "t.arrow cannot be read" in broken(tmp_path, "t.arrow", b"ARROW1nonsense")
    assert "t.csv, line 3: not UTF-8 (byte 0xe9)" in broken(
        tmp_path, "t.csv", "a,b\n1,2\ncaf\xe9,3\n".encode("latin-1")
    )
    assert "t.csv is UTF-16" in broken(tmp_path, "t.csv", "a,b\n1,2\n".encode("utf-16"))
    assert "no first line" in broken(tmp_path, "t.csv", b"")
    assert "the column `a` is there twice" in broken(tmp_path, "t.csv", b"a,a\n1,2\n")
    assert "t.jsonl, line 2: not JSON" in broken(tmp_path, "t.jsonl", b'{"a": 1}\n{"a": \n')
    assert "t.jsonl, line 2: not an object, but [1]" in broken(tmp_path, "t.jsonl", b'{"a": 1}\n[1]\n')
    assert "t.jsonl, from line 1" in broken(tmp_path, "t.jsonl", b'{"a": 1}\n{"a": "x"}\n')
    assert "t.csv.gz cannot be read" in broken(tmp_path, "t.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-4])
    assert "t.png cannot be read as a picture" in broken(tmp_path, "t.png", b"no picture")
    assert "a quote is opened and never closed" in broken(tmp_path, "t.csv", b'a,b\n1,"x\n2,3\n')
    assert "ends its lines with CR alone" in broken(tmp_path, "t.csv", b"a,b\r1,2\r3,4\r")
    assert "of a type that is not known here" in broken(tmp_path, "t.jsonl", b'{"a":' + b"[" * 99 + b"]" * 99 + b"}")
    assert "are no table" in broken(tmp_path, "t.txt", b"hello")


def test_pictures_are_rows(tmp_path: Path) -> None:
    for folder, shade in (("dark", 0), ("light", 255)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 30), (shade, shade, shade)).save(tmp_path / folder / "1.png")
    Image.new("L", (10, 10), 128).save(tmp_path / "dark" / "2.jpg")
    paths = sorted(path for path in tmp_path.rglob("*.*"))
    source = open_table([on_disk(path, path.relative_to(tmp_path).as_posix()) for path in paths])
    rows = [row for batch in source.batches() for row in batch.to_pylist()]
    assert [(row["path"], row["folder"], row["width"], row["format"]) for row in rows] == [
        ("dark/1.png", "dark", 40, "png"),
        ("dark/2.jpg", "dark", 10, "jpeg"),
        ("light/1.png", "light", 40, "png"),
    ]
    assert [row["brightness"] for row in rows] == pytest.approx([0, 0.5, 1], abs=0.01)


def test_batches_are_small(tmp_path: Path) -> None:
    pl.DataFrame({"a": ["x" * 10_000] * 10_000}).write_parquet(tmp_path / "t.parquet", row_group_size=10_000)
    batches = list(open_table([on_disk(tmp_path / "t.parquet", "t.parquet")]).batches())
    assert max(batch.nbytes for batch in batches) <= 40 << 20
    assert sum(batch.num_rows for batch in batches) == 10_000


def test_parquet_written_by_tarmac_is_read_by_all(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": range(5_000), "b": [f"x{n % 7}" for n in range(5_000)], "c": [None, True] * 2_500})
    with (tmp_path / "t.parquet").open("wb") as file:
        assert write(frame.to_arrow().to_batches(max_chunksize=700), frame.to_arrow().schema, file) == 5_000
    assert pl.read_parquet(tmp_path / "t.parquet").equals(frame)
    assert pd.read_parquet(tmp_path / "t.parquet").shape == (5_000, 3)
    assert table(tmp_path / "t.parquet").equals(frame)


@pytest.mark.parametrize(
    "table",
    [
        pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]),
        pa.table({"a": pa.array([None], pa.decimal256(70, 0))}),
        pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())}),
    ],
)
def test_what_would_end_the_process_is_refused(table: pa.Table) -> None:
    with pytest.raises(Invalid, match="the column `a`"):
        as_batches(table)


def test_nested_json(tmp_path: Path) -> None:
    rows = [{"a": [1, 2], "b": {"c": 1}}, {"a": [], "b": {"c": None}}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert table(tmp_path / "t.jsonl").rows(named=True) == rows

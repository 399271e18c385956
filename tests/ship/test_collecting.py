"""What the runtime logged, as tables: every row with its request, columns by their names, torn segments to the tear."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tarmac.formats import segments
from tarmac.formats.signature import Field, Signature
from tarmac.ship import collecting

pytest.importorskip("pyarrow")

SIGNATURE = Signature(layout="columns", inputs=[Field(name="age", type="float32"), Field(name="paid", type="float32")])


def entry(id: str, rows: int, start: int) -> tuple[object, ...]:
    matrix = np.arange(start, start + rows * 2, dtype=np.float32).reshape(rows, 2)
    outputs = {"prediction": np.arange(rows), "probabilities": np.full((rows, 3), 0.25, np.float32)}
    return ("churn", "7", id, 1000.5, 250, f"key-{id}", rows, {"input": matrix}, outputs)


def write(path: Path, *payloads: object, torn: int = 0) -> None:
    data = segments.header()
    for number, payload in enumerate(payloads, start=1):
        data += segments.frame(number, segments.encode(payload))
    path.write_bytes(data[: len(data) - torn])


def test_rows_know_their_request_and_columns_their_names(tmp_path: Path) -> None:
    kept = segments.columns("churn", "7", [entry("a", 2, 0), entry("b", 1, 4)], 1 << 16)
    write(tmp_path / "1.seg", kept, segments.Truths(["b"], [""], [2000.0], [[1]], [{"by": "ada"}]))
    parts = collecting.read(collecting.finished(tmp_path))
    table = collecting.predictions(parts, lambda endpoint, version: SIGNATURE)["churn"]
    assert table["id"].to_pylist() == ["a", "a", "b"]
    assert table["row"].to_pylist() == [0, 1, 0]
    assert table["key"].to_pylist() == ["key-a", "key-a", "key-b"]
    assert table["input.age"].to_pylist() == [0, 2, 4]
    assert table["input.paid"].to_pylist() == [1, 3, 5]
    assert table["prediction"].to_pylist() == [0, 1, 0]
    assert table["probabilities"].to_pylist()[0] == [0.25] * 3
    truths = collecting.truths(parts)
    assert truths is not None
    assert truths["id"].to_pylist() == ["b"]
    assert truths["truth"].to_pylist() == ["[1]"]


def test_a_torn_segment_gives_what_is_whole(tmp_path: Path) -> None:
    first = segments.columns("churn", "7", [entry("a", 1, 0)], 1 << 16)
    second = segments.columns("churn", "7", [entry("b", 1, 0)], 1 << 16)
    write(tmp_path / "1.seg.part", first, second, torn=5)
    assert collecting.finished(tmp_path) == []
    assert list(collecting.abandoned(tmp_path, before=time.time() - 60)) == []
    (found,) = collecting.abandoned(tmp_path, before=time.time() + 60)
    table = collecting.predictions(collecting.read([found]), lambda endpoint, version: None)["churn"]
    assert table["id"].to_pylist() == ["a"]


def test_large_tensors_are_digests_and_texts_are_texts(tmp_path: Path) -> None:
    picture = np.zeros((1, 100, 100), np.float32)
    texts = np.array(["x", None], object)
    entries = [("m", "1", "a", 1.0, 1, None, 1, {"image": picture}, {"label": texts[:1]})]
    write(tmp_path / "1.seg", segments.columns("m", "1", entries, 1 << 10))
    table = collecting.predictions(collecting.read(collecting.finished(tmp_path)), lambda e, v: None)["m"]
    assert len(table["input.image.digest"].to_pylist()[0]) == 64
    assert table["label"].to_pylist() == ["x"]

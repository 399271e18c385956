"""Packages: how many kinds of models keep their answers, what registering and loading cost, and pages of versions."""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from bench.registry import estimators, gates
from bench.table import Figure
from tarmac.core.clock import now
from tarmac.core.digest import digest_file
from tarmac.core.ids import time_ordered
from tarmac.formats import compiling, packing
from tarmac.formats.engines.onnx import Compiled
from tarmac.formats.package import Sealed
from tarmac.registry.operations import AddVersion, ListVersions, PromoteVersion, ShowHistory
from tarmac.workspace import Workspace, connect
from tarmac.workspace.registering import register

GIGABYTE = 1 << 30
PIECE = 1 << 22
ROUNDS = 200


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        os.environ["TARMAC_STATE"] = f"{place}/state"
        figures = [*_estimators(quick=quick), *_predicting()]
        with connect(Path(place), create=True) as workspace:
            figures += _large(workspace, Path(place), GIGABYTE // (64 if quick else 1))
            figures += _many(workspace, 200 if quick else 10_000)
    return [*figures, *gates.measure(quick=quick)]


def _estimators(*, quick: bool) -> list[Figure]:
    found = estimators.count(quick=quick)
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, why in {**found.lost, **found.others}.items():
        reasons[estimators.shortened(why)].append(name)
    listed = "; ".join(f"{why}: {', '.join(names)}" for why, names in sorted(reasons.items()))
    beside = f"{found.tried} that could be trained on a small table; left out: {', '.join(found.left_out) or 'none'}"
    return [
        Figure(
            "estimators of scikit-learn that are packaged and predict the same",
            100 * found.packaged / max(found.tried, 1), "%", 90, "more", limit=beside,
        ),
        Figure(
            "— that compile with proof", 100 * found.compiled / max(found.tried, 1), "%", 60, "more",
            note=f"the others: {listed}",
        ),
    ]  # fmt: skip


def _predicting() -> list[Figure]:
    """A logistic regression, one row, in both forms."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    with tempfile.TemporaryDirectory() as place:
        sealed = estimators.packed(Path(place), model, rows)
        report, data = compiling.compiled(sealed, [], estimators.TOLERANCE)
        assert data is not None
        compiled = Compiled(sealed, report, data)
        one = rows[:1].astype("float32")
        return [
            Figure(
                "one row of a logistic regression, compiled", _microseconds(lambda: compiled.predict_matrix(one)),
                "µs CPU", 10, limit=f"scikit-learn {_microseconds(lambda: model.predict(rows[:1])):.0f} µs",
            )
        ]  # fmt: skip


def _microseconds(work: object, count: int = 5000) -> float:
    assert callable(work)
    work()
    started = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - started) / count * 1e6


def _large(workspace: Workspace, place: Path, size: int) -> list[Figure]:
    file = place / "large.onnx"
    with file.open("wb") as out:
        for index in range(size // PIECE):
            out.write(np.random.default_rng(index).bytes(PIECE))
    hashing = _seconds(lambda: digest_file(file))
    folder = place / "package"
    folder.mkdir()

    def registering() -> None:
        draft = packing.of_path(file, folder, name="large")
        register(workspace, packing.seal(folder, draft), time_ordered(), name="large", document={})

    registered = _seconds(registering)
    sealed = Sealed(folder)
    sealed.read("large.onnx")
    reading = min(_seconds((folder / "large.onnx").read_bytes) for _ in range(3))
    loading = min(_seconds(lambda: Sealed(folder).read("large.onnx")) for _ in range(3))
    shown = f"{size / 1e9:.2g} GB"
    return [
        Figure(
            f"registering a package of {shown}, beside hashing it", registered - hashing, "s", 3,
            limit=f"hashing alone {hashing:.2f} s",
        ),
        Figure(
            f"a verified read of {shown}, of a read alone", loading / reading, "×", 1.2,
            limit=f"{loading:.2f} s, a read {reading:.2f} s",
        ),
    ]  # fmt: skip


def _seconds(work: object) -> float:
    assert callable(work)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _many(workspace: Workspace, versions: int) -> list[Figure]:
    for _ in range(versions):
        workspace(AddVersion(name="many", source="s3://bucket/model", create=True))
    middle = ""
    for number in range(1, versions + 1, max(versions // 1000, 1)):
        workspace(PromoteVersion(ref=f"many@v{number}", to="production"))
        if number <= versions // 2:
            middle = str(now())
    assert workspace(ShowHistory(name="many", at=middle)).moves
    page = _microseconds(lambda: workspace(ListVersions(model="many", limit=100)), ROUNDS) / 1000
    history = _microseconds(lambda: workspace(ShowHistory(name="many", at=middle)), ROUNDS) / 1000
    return [
        Figure(f"a page of 100 of {versions:,} versions", page, "ms CPU", 5),
        Figure("where the aliases pointed at a time, after 1,000 moves", history, "ms CPU", 5),
    ]

"""Gates: thirty rules on 100,000 rows as a job, and what answers of the server take meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.table import Figure
from tarmac.core.digest import digest_file
from tarmac.core.ids import time_ordered
from tarmac.core.settings import Settings
from tarmac.formats import packing, trust
from tarmac.formats.package import About, Entry
from tarmac.govern.operations import CheckGate, SetGate
from tarmac.people.operations import WhoAmI
from tarmac.registry.operations import CompileModel, PromoteVersion
from tarmac.store.operations import CommitManifest
from tarmac.store.records import File
from tarmac.track.operations import CreateRun, LogRun
from tarmac.workspace import Workspace, connect
from tarmac.workspace.registering import register

ROWS, FEATURES = 100_000, 20
RULES = [
    "metrics['acc'] >= 0.5", "metrics['acc'] >= champion.metrics['acc'] - 0.01", "package.size_mb <= 50",
    "measured.accuracy >= 0.5", "measured.balanced_accuracy >= 0.5", "measured.precision >= 0.5",
    "measured.recall >= 0.5", "measured.f1 >= 0.5", "measured.roc_auc >= 0.5", "measured.log_loss <= 2",
    "measured.brier <= 0.5", "measured.accuracy >= champion.measured.accuracy - 0.01",
    "slices['region'].accuracy >= 0.4", "slices['region'].recall >= 0.3", "slices['region']['r1'].accuracy >= 0.4",
    "slices['shop'].accuracy >= 0.3", "slices['sex'].f1 >= 0.3", "fairness['sex'].selection_rate_gap <= 0.2",
    "fairness['sex'].equal_opportunity_gap <= 0.2", "fairness['sex'].equalized_odds_gap <= 0.2",
    "fairness['sex'].calibration_gap <= 0.2", "fairness['region'].selection_rate_gap <= 0.3",
    "fairness['region'].calibration_gap <= 0.3", "robustness.noise <= 0.2", "robustness.shift <= 0.5",
    "robustness.missing <= 1 or metrics['acc'] > 0", "challenge.low > -0.1", "challenge.difference > -0.1",
    "not runs_code", "compiled.equal",
]  # fmt: skip
SECONDS = 5.0


def measure(*, quick: bool) -> list[Figure]:
    rows = ROWS // (20 if quick else 1)
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        folder = Path(place)
        os.environ["TARMAC_STATE"] = f"{place}/state"
        with connect(folder, create=True) as workspace:
            _prepare(workspace, folder, rows)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with connect(folder) as workspace:  # its end waits for the job's process, whose time is counted then
            begun = time.perf_counter()
            check = workspace.wait(workspace(CheckGate(ref="m@v2", to="production")))
            wall = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert len(check.outcomes) == len(RULES)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        failed = [said.rule for said in check.outcomes if said.verdict == "failed"]
        quiet, beside = _server(folder)
    said = f"{rows:,} rows, {FEATURES} columns, compiled logistic regression, and its champion"
    return [
        Figure(
            f"{len(RULES)} rules of a gate, as a job", wall, "s", 2, limit=said,
            note=f"{cpu:.2f} s CPU with the start of its process; refused: {', '.join(failed) or 'none'}",
        ),
        Figure(
            "— p99 of answers of the server meanwhile, beside a quiet one", beside / quiet, "times", 2,
            limit=f"{quiet:.2f} ms quiet, {beside:.2f} ms beside checks",
        ),
    ]  # fmt: skip


def _prepare(workspace: Workspace, folder: Path, rows: int) -> None:
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    values = random.normal(size=(rows, FEATURES))
    weights = random.normal(size=FEATURES)
    frame = pd.DataFrame(values, columns=[f"f{at}" for at in range(FEATURES)])
    label = np.where(values @ weights + random.normal(size=rows) > 0, "yes", "no")
    model = LogisticRegression().fit(frame.head(5000), label[:5000])
    for at in range(2):
        _version(workspace, folder / f"package{at}", model, frame.head(5), acc=0.9)
        workspace.wait(workspace(CompileModel(ref=f"m@v{at + 1}")))
    workspace(PromoteVersion(ref="m@v1", to="production"))
    frame = frame.assign(
        left=label, sex=random.choice(["f", "m"], rows), region=random.choice([f"r{n}" for n in range(12)], rows),
        shop=random.integers(0, 50, rows),
    )  # fmt: skip
    path = folder / "rows.parquet"
    frame.to_parquet(path)
    workspace.put(path)
    file = File(path="rows.parquet", digest=digest_file(path), size=path.stat().st_size)
    made = workspace(CommitManifest(kind="gate", files=[file])).manifest
    assert made is not None
    workspace(
        SetGate(model="m", alias="production", require=RULES, data="rows.parquet", manifest=made.id, label="left")
    )


def _version(workspace: Workspace, folder: Path, model: Any, example: Any, **metrics: float) -> None:
    import pickle

    from tarmac.formats.signature import infer
    from tarmac.logging.examples import describe

    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    described = describe(example)
    about = About(
        name="m", kind="sklearn", entry=Entry(loader="pickle", file="model.pkl"), files=[], signature=infer(described)
    )
    sealed = packing.seal(folder, packing.Draft(about=about, example=described))
    run = workspace(CreateRun()).id
    workspace(LogRun(id=run, metrics=[(key, value, 0, 0) for key, value in metrics.items()]))
    document = {trust.MARK: trust.mark(Settings.from_environment().state, sealed.digest)}
    register(workspace, sealed, time_ordered(), name="m", document=document, run=run)


def _server(folder: Path) -> tuple[float, float]:
    """p99 in milliseconds of a small question, asked again and again: on a quiet server, and while checks run."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "up", "-w", str(folder), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split("/?key=")[0].split()[-1]
        with connect(url) as workspace:
            _p99(workspace, None)  # warm
            quiet = _p99(workspace, None)
            beside = _p99(workspace, lambda: workspace(CheckGate(ref="m@v2", to="production")))
    finally:
        server.terminate()
        server.wait(30)
    return quiet, beside


def _p99(workspace: Workspace, start: Any) -> float:
    taken = []
    running = start() if start else None
    until = time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        begun = time.perf_counter()
        workspace(WhoAmI())
        taken.append((time.perf_counter() - begun) * 1000)
        if running is not None and len(taken) % 500 == 0:
            from tarmac.flow.operations import GetJob

            if workspace(GetJob(id=running.id)).state == "done":
                running = start()
    return float(np.percentile(taken, 99))

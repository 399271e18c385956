"""What came from MLflow and goes back is what it was; nothing of anybody else's is written over."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarmac import store
from tarmac.core.errors import Conflict, Invalid
from tarmac.core.locks import FileLock
from tarmac.core.settings import Settings
from tarmac.flow.operations import ResumeJob
from tarmac.registry import operations as registry
from tarmac.registry.records import PackageMetric
from tarmac.start.operations import Exported, ExportMlflow
from tarmac.store.folder import WorkspaceFolder
from tarmac.track import operations as track
from tarmac.track.records import Number
from tarmac.workspace import Workspace, connect
from tests.conftest import Server
from tests.flow.test_jobs import process_of, until
from tests.start.conftest import MODELS, SOURCES, carry, database_of
from tests.start.snapshot import snapshot
from tests.start.test_import_models import whole

SAID_ALWAYS = 3
PROVE = bool(os.environ.get("TARMAC_PROVE"))


def export(workspace: Workspace, target: Path | str, **more: Any) -> Exported:
    return workspace.wait(workspace(ExportMlflow(target=str(target), **more)))


def dump(target: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(target / "mlflow.db")) as connection:
        return sorted(connection.iterdump())


def files(target: Path) -> dict[str, bytes]:
    root = target / "artifacts"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def both(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A workspace with all that the sources have."""
    first = database_of(SOURCES / "mlflow.sql", tmp_path / "first.db")
    second = database_of(MODELS / "mlflow.sql", tmp_path / "second.db")
    carry(workspace, first, SOURCES / "artifacts")
    carry(workspace, second, MODELS / "artifacts")
    return workspace


def test_there_and_back_again(both: Workspace, folder: WorkspaceFolder, tmp_path: Path, serve: Callable[..., Server]):
    """From here into MLflow's files, from these into another workspace: over REST both tell the same."""
    out = export(both, tmp_path / "out")
    assert (out.experiments, out.runs, out.points) == (3, 9, 12)
    assert (out.packages, out.models, out.versions, out.aliases) == (4, 5, 6, 2)
    assert (out.files, out.bytes) == (6, 203)
    assert [skipped.what for skipped in out.skipped[SAID_ALWAYS:]] == ["artifact locations of experiments"]
    other = WorkspaceFolder(tmp_path / "other" / ".tarmac")
    store.create(other, Settings()).close()
    with connect(other.path.parent) as second:
        back = carry(second, tmp_path / "out" / "mlflow.db", tmp_path / "out" / "artifacts")
    assert (back.experiments, back.runs, back.points, back.files) == (3, 9, 12, 6)
    assert (back.packages, back.models, back.versions, back.aliases) == (4, 5, 6, 2)
    before, after = snapshot(serve(folder).url), snapshot(serve(other).url)
    for one in (before, after):  # what was registered from a folder of a run is a package, whose id is new each time
        copies = [id for id, model in one["logged models"].items() if model["name"] == "churn"]
        assert len(copies) == 2
        for id in copies:
            del one["logged models"][id]
        for run in one["runs"].values():
            run["made"] = [made for made in run["made"] if made[0] not in copies]
    assert before == after
    assert len(before["runs"]) == 9
    assert len(before["versions"]) == 6
    version = before["versions"]["churn 1"]
    of_run = before["runs"][version["run_id"]]["files"]
    assert {f"model/{path}": digest for path, digest in version["files"].items()} == of_run


@pytest.mark.slow
@pytest.mark.parametrize("source", ["models", "runs"])
def test_the_source_and_the_export_as_mlflows_own_server_tells_them(
    source: str,
    here: Workspace,
    tmp_path: Path,
    mlflow_server: Callable[[str, Path], str],
    serve: Callable[..., Server],
):
    dumped, artifacts = {"models": (MODELS / "mlflow.sql", MODELS), "runs": (SOURCES / "mlflow.sql", SOURCES)}[source]
    database = whole(tmp_path / "mlflow.db", dumped)
    root = Path(shutil.copytree(artifacts / "artifacts", tmp_path / "artifacts"))
    carry(here, database, root)
    export(here, tmp_path / "out")
    theirs = snapshot(mlflow_server(f"sqlite:///{database}", root))
    ours = snapshot(serve(WorkspaceFolder(tmp_path / "here" / ".tarmac")).url)
    back = snapshot(mlflow_server(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}", tmp_path / "out" / "artifacts"))
    assert back == theirs
    for id in set(ours["logged models"]) - set(theirs["logged models"]):  # made of a registered folder of a run
        del ours["logged models"][id]
        for run in ours["runs"].values():
            run["made"] = [made for made in run["made"] if made[0] != id]
    assert ours == theirs


LOOK = """
import sys
from mlflow.tracking import MlflowClient
uri = f"sqlite:///{sys.argv[1]}/mlflow.db"
client = MlflowClient(tracking_uri=uri, registry_uri=uri)
churn = client.get_experiment_by_name("churn").experiment_id
runs = {run.info.run_name: run for run in client.search_runs([churn])}
assert sorted(runs) == ["first", "second"]
assert runs["first"].data.metrics == {"acc": 0.5, "val": 0.75}
assert int(client.get_model_version_by_alias("churn", "champion").version) == 2
client.log_metric(client.create_run(churn).info.run_id, "acc", 1.0)
print(client.get_model_version_download_uri("churn", "2"))
print(*sorted(model.name for model in client.search_logged_models([churn])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("release", ["3", pytest.param("2", marks=pytest.mark.skipif(not PROVE, reason="make prove"))])
def test_mlflow_opens_it(release: str, here: Workspace, tmp_path: Path):
    """Its own store, as far as it comes with the client, brings the tables up to date by itself and reads them."""
    pytest.importorskip("sqlalchemy")
    database = database_of(MODELS / "mlflow.sql", tmp_path / "mlflow.db")
    carry(here, database, MODELS / "artifacts")
    out = export(here, tmp_path / "out", release=release)
    assert out.packages == (3 + 1 if release == "3" else 0)
    asked = subprocess.run(
        [sys.executable, "-c", LOOK, tmp_path / "out"],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    place, names = asked.stdout.split("\n")[:2]
    model = tmp_path / "out" / "artifacts" / place.removeprefix("mlflow-artifacts:/") / "MLmodel"
    assert model.read_text().startswith("model_id: m-")
    assert names == ("clf failed unfinished" if release == "3" else "")


def test_nothing_is_written_over(here: Workspace, tmp_path: Path):
    here(track.CreateRun(experiment="one"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "mlflow.db").write_text("mine")
    with pytest.raises(Conflict, match="is not empty, and not of an export"):
        export(here, mine)
    assert [path.name for path in mine.iterdir()] == ["mlflow.db"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Conflict, match="is no folder"):
        export(here, tmp_path / "file")
    (tmp_path / "link").symlink_to(mine)
    with pytest.raises(Conflict, match="is no folder"):
        export(here, tmp_path / "link")
    with pytest.raises(Invalid, match="cannot be written to"):
        export(here, "http://127.0.0.1:1")
    out = tmp_path / "out"
    export(here, out)
    before = dump(out)
    with pytest.raises(Conflict, match="has a whole export"):
        export(here, out)
    assert dump(out) == before
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    mark = (out / "tarmac-export.json").read_text().replace("true", "false")
    (unfinished / "tarmac-export.json").write_text(mark.replace('"default"', '"another"'))
    with pytest.raises(Conflict, match="an unfinished export of project `another`"):
        export(here, unfinished)
    (unfinished / "tarmac-export.json").write_text(mark)
    lock = FileLock(unfinished / "tarmac-export.lock")
    assert lock.acquire(wait=False)
    with pytest.raises(Conflict, match="another export is writing"):
        export(here, unfinished)
    lock.release()
    lock.close()
    (unfinished / "mlflow.db.part").write_bytes(b"of one that was killed")
    export(here, unfinished)
    assert dump(unfinished) == before


def test_a_killed_export_goes_on(here: Workspace, tmp_path: Path):
    database = database_of(MODELS / "mlflow.sql", tmp_path / "mlflow.db")
    carry(here, database, MODELS / "artifacts")
    for number in range(250):
        run = here(track.CreateRun(experiment="many", name=f"run {number}", started_at=1_700_000_000_000 + number))
        here(track.LogRun(id=run.id, metrics=[("acc", number / 10, 0, 1_700_000_000_000)]))
    out = tmp_path / "out"
    started = here(ExportMlflow(target=str(out)))
    until(here, started.id, lambda job: written(out) > 5)
    os.kill(process_of(started.id), signal.SIGKILL)
    until(here, started.id, lambda job: job.state == "interrupted")
    assert not (out / "mlflow.db").exists(), "a part has another name"
    assert written(out) < 252
    here(ResumeJob(id=started.id))
    answer = here.wait(started)
    assert (answer.runs, answer.points, answer.versions) == (252, 252, 6)
    other = tmp_path / "other"
    export(here, other)
    assert dump(out) == dump(other)
    assert files(out) == files(other)


def written(out: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{out / 'mlflow.db.part'}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_what_only_tarmac_has(here: Workspace, tmp_path: Path):
    """What MLflow has no place for is named; what it has another word for is there."""
    default = here(track.CreateRun(name="in the default experiment"))
    here(track.CreateExperiment(name="Default"))
    parent = here(track.CreateRun(experiment="Default", note="why", params={"long": "x" * 20_000}))
    child = here(track.CreateRun(experiment="Default", parent=parent.id))
    values: list[Number] = [1.0, "NaN", "Infinity", "-Infinity"]
    points = [("m", value, step, 0) for step, value in enumerate(values)]
    here(track.LogRun(id=child.id, metrics=points, dated=True))
    here(track.UseInput(id=child.id, name="faces", version="v3", about="from the archive", context="training"))
    here(track.DeleteRuns(ids=[default.id]))
    package = here(registry.CreatePackage(name="bare", run=child.id, document={"signature": [1]})).package
    assert package is not None
    here(registry.LogPackage(id=package.id, metrics=[PackageMetric(name="auc", value=0.5)]))
    out = export(here, tmp_path / "out")
    reasons = {skipped.what: skipped.why for skipped in out.skipped[SAID_ALWAYS:]}
    named = here(track.GetExperiment(name="Default")).id
    assert reasons == {
        "experiment Default": f"that name is taken by the default one; it is called Default ({named})",
        f"package {package.id}: document": "MLflow has no place for it",
        f"package {package.id}: metric auc": "MLflow wants a run that measured it, and there is none",
    }
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "mlflow.db")) as made:
        tags = dict(made.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (child.id,)))
        assert tags["mlflow.parentRunId"] == parent.id
        notes = dict(made.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (parent.id,)))
        assert notes["mlflow.note.content"] == "why"
        kept = made.execute("SELECT value, is_nan FROM metrics ORDER BY step").fetchall()
        assert kept == [(1.0, 0), (0.0, 1), (1.7976931348623157e308, 0), (-1.7976931348623157e308, 0)]
        assert made.execute("SELECT dataset_source FROM datasets").fetchall() == [("from the archive",)]
        assert made.execute("SELECT lifecycle_stage FROM runs WHERE experiment_id = 0").fetchall() == [("deleted",)]


def test_as_a_command(tarmac: Callable[..., Any]):
    tarmac("init")
    tarmac("runs", "create", "one")
    ran = tarmac("export", "mlflow", "out")
    assert ran.code == 0, ran.err
    assert "runs         1" in ran.out
    ran = tarmac("export", "mlflow", "out")
    assert ran.code == 1
    assert "has a whole export" in ran.err

"""What MLflow has written arrives whole, once, and nothing else does. The sources were written by MLflow itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarmac import store
from tarmac.core.errors import Invalid, TarmacError, Unreachable
from tarmac.core.settings import Settings
from tarmac.flow.operations import ResumeJob
from tarmac.start import flat_yaml
from tarmac.start.carrying import in_order
from tarmac.start.operations import Imported, ImportMlflow
from tarmac.start.source import Head
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import GetStatus, ShowLineage
from tarmac.track import operations as ops
from tarmac.workspace import Workspace, connect
from tests.conftest import Server
from tests.flow.test_jobs import process_of, until
from tests.start.conftest import SOURCES, carry, database_of


@pytest.fixture
def mlruns(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SOURCES / "mlruns", tmp_path / "mlruns"))


def check_all_is_there(workspace: Workspace) -> None:
    taxi = workspace(ops.GetExperiment(name="taxi fares"))
    assert (taxi.note, taxi.tags) == ("What a ride costs", {"team": "rides"})
    runs = {run.name: run for run in workspace(ops.ListRuns(deleted="also")).runs}
    assert {name: (run.status, run.deleted_at is not None) for name, run in runs.items()} == {
        "sweep": ("finished", False),
        "child: a 'quoted' \"name\" é": ("failed", False),
        "killed": ("killed", False),
        "running": ("running", False),
        "planned": ("running", False),
        "dropped": ("finished", True),
        "in the bin": ("running", True),
    }
    assert workspace(ops.GetExperiment(name="gone")).deleted_at is not None
    child, parent = runs["child: a 'quoted' \"name\" é"], runs["sweep"]
    assert (child.started_at, child.ended_at, child.parent) == (1_700_000_001_000, 1_700_000_009_000, parent.id)
    assert child.params == {"optim/lr": "0.1", "text": "two\nlines"}
    assert (child.note, child.tags) == ("The first child", {"mlflow.parentRunId": parent.id})
    assert child.metrics == {"loss": 0.2, "odd": "-Infinity", "val/loss": 0.25}
    edges = workspace(ShowLineage(thing=f"runs/{child.id}")).edges
    assert {edge.source for edge in edges} == {f"runs/{parent.id}", "data/rides@abc123"}
    odd = workspace(ops.GetHistory(run=child.id, key="odd"))
    assert odd.values == ["NaN", "Infinity", "-Infinity"]
    assert workspace(ops.GetHistory(run=child.id, key="val/loss")).steps == [-1, 0]
    (used,) = workspace(ops.GetDetails(id=child.id)).inputs
    assert (used.name, used.version, used.context) == ("rides", "abc123", "training")
    files = workspace(ops.ListArtifacts(id=child.id, all=True)).artifacts
    assert [(file.path, file.size) for file in files] == [("empty.txt", 0), ("model/model.txt", 18)]


def test_a_folder_arrives_whole_and_only_once(workspace: Workspace, mlruns: Path):
    assert carry(workspace, mlruns) == Imported(experiments=2, runs=7, points=10, files=2, bytes=18)
    check_all_is_there(workspace)
    events = workspace(GetStatus()).ledger.events
    assert carry(workspace, mlruns) == Imported(experiments=0, runs=0, points=0, files=0, bytes=0)
    assert workspace(GetStatus()).ledger.events == events + 1, "only that somebody asked"
    check_all_is_there(workspace)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return database_of(SOURCES / "mlflow.sql", tmp_path / "mlflow.db")


def test_a_database_arrives_whole_and_only_once(workspace: Workspace, database: Path):
    before = database.read_bytes()
    for _ in range(2):
        carry(workspace, database, SOURCES / "artifacts")
        check_all_is_there(workspace)
    again = carry(workspace, f"sqlite:///{database}", SOURCES / "artifacts")
    assert again == Imported(experiments=0, runs=0, points=0, files=0, bytes=0)
    assert database.read_bytes() == before


def test_files_of_a_database_are_taken_only_from_where_mlflow_puts_them(workspace: Workspace, database: Path):
    secret = database.parent / "secret"
    secret.mkdir()
    (secret / "key").write_text("not yours")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE runs SET artifact_uri = ? WHERE name = 'sweep'", (str(secret),))
        connection.execute("UPDATE runs SET artifact_uri = 's3://b/' || run_uuid || '/artifacts' WHERE name = 'killed'")
        connection.execute(
            "UPDATE runs SET artifact_uri = 'mlflow-artifacts:/../secret/' || run_uuid || '/artifacts' "
            "WHERE name = 'planned'"
        )
        (planned,) = connection.execute("SELECT run_uuid FROM runs WHERE name = 'planned'").fetchone()
        connection.commit()
    (secret / planned / "artifacts").mkdir(parents=True)
    (secret / planned / "artifacts" / "key").write_text("not yours")
    (database.parent / "root").mkdir()
    answer = carry(workspace, database, database.parent / "root")
    assert (answer.runs, answer.files) == (7, 0)
    reasons = sorted(skipped.why for skipped in answer.skipped)
    assert len(reasons) == 2
    assert "is not where MLflow puts files" in reasons[0]
    assert "they lie elsewhere: s3://" in reasons[1]
    answer = carry(workspace, database)
    assert "files of runs" in [skipped.what for skipped in answer.skipped]


def test_another_database_is_refused(workspace: Workspace, tmp_path: Path):
    file = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE runs (x)")
    with pytest.raises(Invalid, match="is no database of MLflow's"):
        carry(workspace, file)


def test_what_cannot_be_carried_is_named_and_the_rest_is_there(workspace: Workspace, mlruns: Path, tmp_path: Path):
    outside = tmp_path / "secret"
    outside.write_text("not yours")
    (model,) = mlruns.glob("*/*/artifacts/model")
    run = model.parents[1]
    (model / "link").symlink_to(outside)
    (run / "params" / "linked").symlink_to(outside)
    (run / "artifacts" / "folder").symlink_to(tmp_path)
    os.mkfifo(run / "artifacts" / "pipe")
    (run / "params" / ("p" * 251)).write_text("1")
    (run / "metrics" / "broken").write_text("1 two three\n1700000000000 1.5 3\n")
    (run / "metrics" / "early").write_text("-1 0.5 0\n")
    (mlruns / "models" / "m").mkdir(parents=True)
    (broken,) = [path for path in mlruns.glob("*/*/meta.yaml") if "run_name: killed" in path.read_text()]
    broken.write_text("run_name: !!python/object/apply:os.system ['true']\n")
    answer = carry(workspace, mlruns)
    assert (answer.runs, answer.points, answer.files) == (6, 11, 2)
    reasons = {skipped.what.removeprefix(f"run {run.name}: "): skipped.why for skipped in answer.skipped}
    assert reasons == {
        "model m": "meta.yaml cannot be read: [Errno 2] No such file or directory: "
        f"'{mlruns}/models/m/meta.yaml'",
        "files: folder": "a link; links are not followed",
        "files: pipe": "neither a file nor a folder",
        "files: model/: link": "a link; links are not followed",
        "params: linked": "a link; links are not followed",
        f"params: {'p' * 251}": "not 1 to 250 characters, no control characters",
        "metric broken": "1 lines are not `timestamp value step`",
        "metric early": "a point at time -1, step 0",
        f"run {broken.parent.name}": "meta.yaml: line 1: `!!python/object/apply:os.system ['true']` is more than plain "
        "text",
    }  # fmt: skip


def test_what_came_since_is_added(workspace: Workspace, mlruns: Path):
    carry(workspace, mlruns)
    (meta,) = [path for path in mlruns.glob("*/*/meta.yaml") if "run_name: running" in path.read_text()]
    meta.write_text(
        meta.read_text().replace("status: 1", "status: 3").replace("end_time: null", "end_time: 1700000099000")
    )
    (meta.parent / "metrics").mkdir(exist_ok=True)
    (meta.parent / "metrics" / "acc").write_text("1700000031000 0.5 0\n")
    assert carry(workspace, mlruns) == Imported(experiments=0, runs=0, points=1, files=0, bytes=0)
    run = workspace(ops.GetRun(id=meta.parent.name))
    assert (run.status, run.ended_at, run.metrics) == ("finished", 1_700_000_099_000, {"acc": 0.5})


def test_a_killed_import_goes_on(workspace: Workspace, mlruns: Path):
    (template,) = [path for path in mlruns.glob("*/*/meta.yaml") if "run_name: killed" in path.read_text()]
    for number in range(300):
        run = template.parent.with_name(f"{number:032x}")
        (run / "metrics").mkdir(parents=True)
        (run / "meta.yaml").write_text(template.read_text().replace(template.parent.name, run.name))
        (run / "metrics" / "acc").write_text("1700000000000 1 0\n")
    started = workspace(ImportMlflow(source=str(mlruns)))
    until(workspace, started.id, lambda job: workspace(ops.CountRuns()).count > 5)
    os.kill(process_of(started.id), signal.SIGKILL)
    until(workspace, started.id, lambda job: job.state == "interrupted")
    assert 5 < workspace(ops.CountRuns()).count < 300
    workspace(ResumeJob(id=started.id))
    answer = workspace.wait(started)
    assert answer.runs in (306, 307), "the one at work when it was killed may be here and not be counted"
    assert workspace(ops.CountRuns(filter="metrics.acc = 1")).count == 300
    assert workspace(ops.GetExperiment(name="gone")).deleted_at is not None
    assert carry(workspace, mlruns) == Imported(experiments=0, runs=0, points=0, files=0, bytes=0)


def test_a_server_is_read_through_its_api(
    workspace: Workspace, mlruns: Path, serve: Callable[..., Server], tmp_path: Path
):
    """Ours answers as MLflow's does; the next test asks MLflow's own."""
    other = WorkspaceFolder(tmp_path / "other" / ".tarmac")
    store.create(other, Settings()).close()
    with connect(other.path.parent) as first:
        carry(first, mlruns)
    server = serve(other)
    assert carry(workspace, server.url) == Imported(experiments=2, runs=7, points=10, files=2, bytes=18)
    check_all_is_there(workspace)
    assert carry(workspace, server.url) == Imported(experiments=0, runs=0, points=0, files=0, bytes=0)
    server.stop()
    with pytest.raises(Unreachable):
        carry(workspace, server.url)


@pytest.mark.slow
def test_mlflows_own_server(workspace: Workspace, mlruns: Path, mlflow_server: Callable[[str, Path], str]):
    for meta in mlruns.rglob("meta.yaml"):
        meta.write_text(meta.read_text().replace("file:///somewhere/mlruns", "mlflow-artifacts:"))
        if "run_id" in meta.read_text():  # empty folders are not kept with the test, and MLflow wants them
            for name in ("params", "metrics", "tags", "artifacts"):
                (meta.parent / name).mkdir(exist_ok=True)
    url = mlflow_server(str(mlruns), mlruns)
    assert carry(workspace, url) == Imported(experiments=2, runs=7, points=10, files=2, bytes=18)
    check_all_is_there(workspace)
    assert carry(workspace, url) == Imported(experiments=0, runs=0, points=0, files=0, bytes=0)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("http://user:secret@127.0.0.1:1", "must not carry a password"),
        ("http://", "no address"),
        ("s3://bucket", "cannot be imported from"),
        ("postgresql+psycopg2://mlflow:secret@127.0.0.1:1/x", "must not carry a password"),
        ("postgresql://127.0.0.1/x?password=secret", "must not carry a password"),
        ("postgresql://mlflow@127.0.0.1:1/x", "no answer from the database"),
        ("nowhere", "there is nothing at"),
    ],
)
def test_a_place_that_cannot_be_a_source(workspace: Workspace, place: str, said: str):
    with pytest.raises(TarmacError, match=said):
        carry(workspace, place)


def test_as_a_command(tarmac: Callable[..., Any], mlruns: Path, tmp_path: Path):
    tarmac("init")
    ran = tarmac("import", "mlflow", "mlruns")
    assert ran.code == 0, ran.err
    assert "runs         7" in ran.out
    ran = tarmac("import", "mlflow", "nowhere")
    assert ran.code != 0
    assert "there is nothing at" in ran.err


def test_parents_come_first_and_circles_end():
    heads = [Head("a", "1", "b"), Head("b", "1", "c"), Head("c", "1", ""), Head("x", "1", "y"), Head("y", "1", "x")]
    assert [head.id for head in in_order(heads)] == ["c", "b", "a", "y", "x"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: plain text\n", "plain text"),
        ("a: folded\n  here\n", "folded here"),
        ("a: from Windows\r\n", "from Windows"),
        ("a: 'it''s'\n", "it's"),
        ("a: 'two\n\n  lines'\n", "two\nlines"),
        ('a: "tab\\t\\xe9\\\n  \\ x"\n', "tab\té x"),
        ("a: null\n", None),
        ("a: {}\n", None),
        ("a: ''\n", ""),
    ],
)
def test_meta_yaml_is_read(text: str, value: str | None):
    assert flat_yaml.read(text) == ({"a": value}, {})


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\n", "a: *x\n", "a: !!int 1\n", "a: |\n  x\n", "a: [1]\n", "a: {b: 1}\n", "- a\n", "a: 'open\n",
        "a: 'x' y\n",        "a: 1\na: 2\n", "? a\n", "---\na: 1\n", 'a: "\\q"\n', "a:\n  b:\n    c: 1\n",
    ],
)  # fmt: skip
def test_other_yaml_is_refused(text: str):
    with pytest.raises(Invalid):
        flat_yaml.read(text)

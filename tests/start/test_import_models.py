"""Models come along from MLflow: what it calls logged and registered models, versions, aliases, stages and prompts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tarmac import store
from tarmac.core.errors import NotFound
from tarmac.core.settings import Settings
from tarmac.flow.operations import ResumeJob
from tarmac.registry import operations as ops
from tarmac.start.mlflow_schema import tables
from tarmac.start.operations import Imported, ImportMlflow, Skipped
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import GetStatus, ShowLineage
from tarmac.track import operations as track
from tarmac.workspace import Workspace, connect
from tests.conftest import Server
from tests.flow.test_jobs import process_of, until
from tests.start.conftest import MODELS, carry, database_of

ALL = Imported(
    experiments=1,
    runs=2,
    points=2,
    files=4,
    bytes=185,
    packages=4,
    models=5,
    versions=6,
    aliases=2,
    skipped=[
        Skipped(
            what="model outside: version 1",
            why="its files are not here, only where they are: s3://elsewhere/model",
        )
    ],
)
NOTHING = Imported(experiments=0, runs=0, points=0, files=0, bytes=0)


def check_models(workspace: Workspace) -> None:
    runs = {run.name: run.id for run in workspace(track.ListRuns()).runs}
    packages = {package.name: package for package in workspace(ops.ListPackages(deleted="also")).packages}
    clf = packages["clf"]
    assert {name: (package.state, package.deleted_at is not None) for name, package in packages.items()} == {
        "clf": ("ready", False),
        "unfinished": ("pending", False),
        "failed": ("failed", False),
        "in the bin": ("ready", True),
        "churn": ("ready", False),  # what was registered from a folder of a run
    }
    assert (clf.kind, clf.run, clf.params, clf.tags) == ("forest", runs["first"], {"depth": "3"}, {"kind": "tree"})
    (measured,) = clf.metrics
    assert (measured.name, measured.value, measured.step, measured.run) == ("val", 0.75, 4, runs["first"])
    assert (measured.at, measured.data, measured.data_digest) == (1_700_000_003_000, "rides", "abc123")
    files = workspace(ops.ListPackageFiles(id=clf.id)).files
    assert [(file.path, file.size) for file in files] == [("MLmodel", 45), ("data/model.bin", 64)]
    links = workspace(ops.ListPackageRuns(runs=sorted(runs.values()))).links
    linked = {(link.run, link.part, link.step) for link in links if link.package == clf.id}
    assert linked == {(runs["first"], "output", 3), (runs["second"], "input", 0)}

    churn = workspace(ops.GetModel(name="churn"))
    assert (churn.note, churn.tags) == ("Who leaves: ü\n'quoted'", {"team": "risk"})
    assert churn.aliases == {"champion": 2, "challenger": 4}
    assert {move.reason for move in workspace(ops.ShowHistory(name="churn")).moves} == {"imported"}
    versions = {version.number: version for version in workspace(ops.ListVersions(model="churn")).versions}
    assert sorted(versions) == [1, 2, 4], "numbers are kept, and that of a deleted version is not given again"
    first = versions[1]
    assert (first.stage, first.note, first.tags, first.run) == (
        "Production",
        "v one",
        {"checked": "yes"},
        runs["first"],
    )
    assert versions[2].package == clf.id == workspace(ops.GetVersion(ref="copied@v1")).package
    assert versions[4].link == "https://ci.example/7"
    assert first.package is not None
    of_run = workspace(ops.ListPackageFiles(id=first.package)).files
    assert [(file.path, file.size) for file in of_run] == [("MLmodel", 12), ("data/model.bin", 64)]
    assert workspace(ops.GetVersion(ref="outside@v1")).location == "s3://elsewhere/model"
    assert workspace(ops.GetModel(name="empty model")).latest is None
    prompt = workspace(ops.GetVersion(ref="greeting@v1"))
    assert prompt.tags["mlflow.prompt.text"] == "Say hello to {{name}}"
    edges = workspace(ShowLineage(thing=f"packages/{clf.id}")).edges
    assert {(edge.source, edge.how) for edge in edges} >= {(f"runs/{runs['first']}", "made")}


def check_times(workspace: Workspace, database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as source:
        ((created, updated),) = source.execute(
            "SELECT creation_time, last_update_time FROM experiments WHERE name = 'churn'"
        )
        churn = workspace(track.GetExperiment(name="churn"))
        assert (churn.created_at, churn.updated_at or churn.created_at) == (created, updated)
        for name, created, updated in source.execute(
            "SELECT name, creation_time, last_updated_time FROM registered_models"
        ):
            model = workspace(ops.GetModel(name=name))
            assert (model.created_at, model.updated_at) == (created, updated)
        for name, number, created, updated in source.execute(
            "SELECT name, version, creation_time, last_updated_time FROM model_versions "
            "WHERE current_stage <> 'Deleted_Internal'"
        ):
            version = workspace(ops.GetVersion(ref=f"{name}@v{number}"))
            assert (version.created_at, version.updated_at) == (created, updated)
        for id, created, updated in source.execute(
            "SELECT substr(model_id, 3), creation_timestamp_ms, last_updated_timestamp_ms FROM logged_models "
            "WHERE lifecycle_stage = 'active'"
        ):
            package = workspace(ops.GetPackage(id=id))
            assert (package.created_at, package.updated_at) == (created, updated)


def test_models_of_a_folder_arrive_whole_and_only_once(workspace: Workspace, models: Path):
    assert carry(workspace, models) == ALL
    check_models(workspace)
    events = workspace(GetStatus()).ledger.events
    assert carry(workspace, models) == NOTHING
    assert workspace(GetStatus()).ledger.events == events + 1, "only that somebody asked"


def test_models_of_a_database_arrive_whole_and_only_once(workspace: Workspace, models_database: Path):
    assert carry(workspace, models_database, MODELS / "artifacts") == ALL
    check_models(workspace)
    check_times(workspace, models_database)
    assert carry(workspace, models_database, MODELS / "artifacts") == NOTHING


@pytest.mark.postgres
def test_models_of_a_postgres_database(here: Workspace, models_database: Path, new_database: Callable[[], str]):
    """The tables are those of MLflow 3.0; a real server's own database was read by hand."""
    import psycopg

    url = new_database()
    with contextlib.closing(sqlite3.connect(models_database)) as source, psycopg.connect(url) as target:
        target.execute(tables("3").replace(", check (is_nan in (0, 1))", "").encode())
        target.execute("SET session_replication_role = replica")
        for (table,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [
                row[0]
                for row in target.execute(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = %s", (table,)
                ).fetchall()
            ]
            for row in source.execute(f"SELECT {', '.join(columns)} FROM {table}"):
                values = [bool(value) if name == "is_nan" else value for name, value in zip(columns, row, strict=True)]
                marks = ", ".join(["%s"] * len(values))
                target.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})".encode(), values)
    parts = url.removeprefix("postgresql://")
    for address in (url, f"postgresql+psycopg2://{parts}"):
        assert carry(here, address, MODELS / "artifacts") == (ALL if address == url else NOTHING)
    check_models(here)
    check_times(here, models_database)


def test_models_of_a_server(here: Workspace, models: Path, serve: Callable[..., Server], tmp_path: Path):
    other = WorkspaceFolder(tmp_path / "other" / ".tarmac")
    store.create(other, Settings()).close()
    with connect(other.path.parent) as first:
        carry(first, models)
    server = serve(other)
    got = carry(here, server.url)
    # the package that was made of the run's folder is a logged model there; what lies in the trash is not shown
    assert (got.packages, got.models, got.versions, got.aliases) == (5, 5, 6, 2)
    assert here(ops.GetModel(name="churn")).aliases == {"champion": 2, "challenger": 4}
    assert carry(here, server.url) == NOTHING


@pytest.mark.slow
def test_models_of_mlflows_own_server(
    here: Workspace, models_database: Path, mlflow_server: Callable[[str, Path], str], tmp_path: Path
):
    artifacts = Path(shutil.copytree(MODELS / "artifacts", tmp_path / "artifacts"))
    # MLflow's own tables beside those that are kept in the test
    models_database.unlink()
    url = mlflow_server(f"sqlite:///{whole(models_database)}", artifacts)
    got = carry(here, url)
    assert (got.packages, got.models, got.versions, got.aliases, got.skipped) == (3, 5, 6, 2, ALL.skipped)
    assert carry(here, url) == NOTHING


def whole(file: Path, dumped: Path = MODELS / "mlflow.sql") -> Path:
    """The dump, in the tables of MLflow 3.0, which any later one brings up to date by itself."""
    dump = database_of(dumped, file.with_name("dump.db"))
    with contextlib.closing(sqlite3.connect(file)) as target:
        target.executescript(tables("3"))
        target.execute("ATTACH ? AS dump", (str(dump),))
        for (table,) in target.execute("SELECT name FROM dump.sqlite_master WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in target.execute(f"PRAGMA main.table_info({table})"))
            target.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM dump.{table}")
        target.execute("UPDATE alembic_version SET version_num = '6953534de441'")
        target.commit()
    return file


def test_what_was_changed_here_since_stays(here: Workspace, models: Path):
    carry(here, models)
    here(ops.PromoteVersion(ref="churn@v1", to="champion", reason="better here"))
    here(ops.RetireAlias(ref="churn@challenger"))
    here(ops.DeleteModel(name="copied"))
    here(ops.DeleteVersion(ref="outside@v1"))
    here(track.DeleteExperiment(name="churn"))
    again = carry(here, models)
    assert {skipped.what: skipped.why for skipped in again.skipped} == {
        "experiment churn": "it lies in the trash here, and what the source has of it was left out: restore it, "
        "import again",
        "model churn: alias champion": "it was moved here since, and stays at v1; the source has v2",
        "model churn: alias challenger": "it was moved here since, and stays away; the source has v4",
        "model copied": "it was deleted here, and is not brought back",
        "model outside: version 1": "outside@v1 would be below numbers that were given already, and none is given "
        "twice",
    }
    assert (again.runs, again.models, again.versions, again.aliases) == (0, 0, 0, 0)
    assert here(ops.GetModel(name="churn")).aliases == {"champion": 1}
    here(track.RestoreExperiment(name="churn"))
    assert here(track.CountRuns()).count == 2


def test_what_came_to_the_source_since_is_added(here: Workspace, models: Path):
    carry(here, models)
    churn = models / "models" / "churn"
    shutil.copytree(churn / "version-4", churn / "version-5")
    for file, changes in (
        (churn / "version-5" / "meta.yaml", {"version: 4": "version: 5"}),
        (
            churn / "version-1" / "meta.yaml",
            {"stage: Production": "stage: Archived", "description: v one": "description: old"},
        ),
    ):
        text = file.read_text()
        for before, after in changes.items():
            assert before in text
            text = text.replace(before, after)
        file.write_text(text.replace("last_updated_timestamp: 1", "last_updated_timestamp: 2"))
    (churn / "aliases" / "champion").write_text("5")
    again = carry(here, models)
    assert (again.versions, again.aliases, again.skipped) == (1, 1, [])
    changed = here(ops.GetVersion(ref="churn@v1"))
    assert (changed.stage, changed.note) == ("Archived", "old")
    assert [move.after for move in here(ops.ShowHistory(name="churn", alias="champion")).moves] == [5, 2]
    assert carry(here, models) == NOTHING


def test_models_that_lie(here: Workspace, models: Path, tmp_path: Path):
    """Addresses that lead elsewhere are kept as text and never followed; what does not fit is named."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("not yours")
    churn = models / "models" / "churn"
    one = (churn / "version-1" / "meta.yaml").read_text()
    run = next(line.split("/")[1] for line in one.splitlines() if line.startswith("source: runs:/"))
    for number, source in (
        (11, secret.as_uri()),
        (12, f"runs:/{run}/../../../../secret"),
        (13, f"{secret.as_uri()}/{run}/artifacts"),
    ):
        (churn / f"version-{number}").mkdir()
        text = one.replace("version: 1", f"version: {number}").replace("stage: Production", "stage: None")
        text = text.replace(f"runs:/{run}/model", source)
        (churn / f"version-{number}" / "meta.yaml").write_text(text)
    (churn / "version-99").symlink_to(secret)
    (churn / "aliases" / "broken").write_text("../../secret")
    (churn / "aliases" / "nowhere").write_text("77")
    (churn / "aliases" / "v3").write_text("1")
    at = models / "models" / "a@b"
    shutil.copytree(models / "models" / "empty model", at)
    (at / "meta.yaml").write_text((at / "meta.yaml").read_text().replace("name: empty model", "name: a@b"))
    (experiment,) = models.glob("[1-9]*")
    (experiment / "models" / "m-zz").mkdir()
    (clf,) = [meta.parent for meta in experiment.glob("models/*/meta.yaml") if "name: clf" in meta.read_text()]
    (clf / "artifacts" / "data" / "link").symlink_to(secret / "key")
    got = carry(here, models)
    reasons = {skipped.what: skipped.why for skipped in got.skipped}
    reasons.pop("model outside: version 1")
    nowhere = "its files are not here, only where they are: "
    assert reasons == {
        "model churn: version-99": "a link; links are not followed",
        "model churn: version 11": f"{nowhere}{secret.as_uri()}",
        "model churn: version 12": f"{nowhere}runs:/{run}/../../../../secret",
        "model churn: alias broken": "what it points to is not the number of a version",
        "model churn: alias nowhere": "v77 is not here",
        "model churn: alias v3": "no alias can be called `v3`",
        "model a@b": "the name cannot be kept: not 1 to 256 characters, not all blank, without `/`, `:`, `@` and "
        "control characters",
        f"experiment {experiment.name}: models: m-zz": "the name is not the id of a logged model",
        f"logged model {clf.name}: files: data/: link": "a link; links are not followed",
    }
    assert here(ops.GetVersion(ref="churn@v11")).package is None
    whole = here(ops.GetVersion(ref="churn@v13")).package  # the address ends as one of that run, and it is read there
    assert whole is not None
    assert {file.path for file in here(ops.ListPackageFiles(id=whole)).files} == {
        "model/MLmodel",
        "model/data/model.bin",
    }
    with pytest.raises(NotFound):
        here(ops.GetModel(name="a@b"))


def test_a_database_of_models_that_lies(here: Workspace, models_database: Path):
    """SQLite keeps any value in any column."""
    with contextlib.closing(sqlite3.connect(models_database)) as source:
        source.execute("UPDATE registered_model_aliases SET version = 'x' WHERE alias = 'champion'")
        source.execute("UPDATE model_versions SET version = 'y' WHERE version = 4 AND name = 'churn'")
        source.execute("UPDATE logged_model_metrics SET metric_step = 'z'")
        source.execute("UPDATE logged_models SET status = 9, creation_timestamp_ms = 'w' WHERE name = 'unfinished'")
        source.execute("UPDATE registered_models SET description = x'ff' WHERE name = 'outside'")
        source.execute(
            "UPDATE model_versions SET source = ?, storage_location = NULL WHERE name = 'copied'", ("[" * 99,)
        )
        source.commit()
    got = carry(here, models_database, MODELS / "artifacts")
    (unfinished,) = [one.id for one in here(ops.ListPackages()).packages if one.name == "unfinished"]
    reasons = {skipped.what: skipped.why for skipped in got.skipped}
    reasons.pop("model outside: version 1")
    assert reasons == {
        f"logged model m-{unfinished}: state": "the source has another word for it; it is left open",
        "model churn: version y": "that is not the number of a version",
        "model churn: alias challenger": "v4 is not here",
        "model churn: alias champion": "v0 is not here",
        "model copied: version 1": f"its files are not here, only where they are: {'[' * 99}",
        "model outside: description": "not at most 20,000 characters",
    }
    assert (got.packages, got.models, got.versions, got.aliases) == (4, 5, 5, 0)


def test_a_killed_import_of_models_goes_on(here: Workspace, models: Path):
    (experiment,) = models.glob("[1-9]*")
    (clf,) = [meta.parent for meta in experiment.glob("models/*/meta.yaml") if "name: clf" in meta.read_text()]
    for number in range(60):
        copy = clf.with_name(f"m-{number:032x}")
        shutil.copytree(clf, copy)
        (copy / "meta.yaml").write_text((clf / "meta.yaml").read_text().replace(clf.name, copy.name))
        (copy / "artifacts" / "MLmodel").write_text(f"model_id: {number}\n")
    started = here(ImportMlflow(source=str(models)))
    until(here, started.id, lambda job: len(here(ops.ListPackages(limit=1000)).packages) > 5)
    os.kill(process_of(started.id), signal.SIGKILL)
    until(here, started.id, lambda job: job.state == "interrupted")
    assert len(here(ops.ListPackages(limit=1000)).packages) < 60
    here(ResumeJob(id=started.id))
    here.wait(started)
    check = here(ops.ListPackages(limit=1000, filter="name = 'clf'")).packages
    assert len(check) == 61
    assert {(package.state, package.files) for package in check} == {("ready", 2)}
    assert here(ops.GetModel(name="churn")).aliases == {"champion": 2, "challenger": 4}
    assert carry(here, models) == NOTHING

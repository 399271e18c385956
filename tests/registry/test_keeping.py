"""What must not get lost, and what must not get past the rules: backups, upgrades, kills, gates."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.errors import Refused
from tarmac.core.operation import Operation
from tarmac.registry import rules
from tarmac.registry.operations import (
    AddVersion,
    AttachPackageFiles,
    CreateModel,
    CreatePackage,
    DeleteModel,
    DeleteVersion,
    GetModel,
    GetVersion,
    ListVersions,
    LogPackage,
    PromoteVersion,
    RetireAlias,
    RollbackAlias,
    ShowHistory,
    StageVersion,
    TagModel,
    TagVersion,
)
from tarmac.registry.records import PackageMetric
from tarmac.store import migrations
from tarmac.store.backup import TABLES
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import BackupStore
from tarmac.workspace import Workspace, connect
from tests.registry.making import blob, package, promote, run_with_model, sound, versions
from tests.store.editing import database_of
from tests.store.processes import start


def filled(workspace: Workspace) -> None:
    """Something in every table of the registry."""
    run = run_with_model(workspace)
    workspace(CreateModel(name="churn", tags={"team": "risk"}))
    first = workspace(AddVersion(name="churn", run=run, folder="model", tags={"a": "b"}))
    assert first.package is not None
    metric = PackageMetric(name="acc", value=0.5)
    workspace(LogPackage(id=first.package, params={"depth": "6"}, metrics=[metric]))
    workspace(AddVersion(name="churn", package=package(workspace, b"other", tags={"c": "d"}).id))
    pending = workspace(CreatePackage(name="later", run=run)).package
    assert pending is not None
    workspace(AttachPackageFiles(id=pending.id, files=[blob(workspace, "a", b"still to be sealed")]))
    promote(workspace, "churn@v1", "production", "first")
    promote(workspace, "churn@v2", "production", "better")


def test_every_table_of_the_registry_has_a_row_and_is_backed_up(workspace: Workspace, folder: WorkspaceFolder) -> None:
    filled(workspace)
    text = next(one.text for one in migrations.known() if one.name == "registry")
    tables = [line.split()[2] for line in text.splitlines() if line.startswith("CREATE TABLE")]
    assert len(tables) == 12
    assert set(tables) <= set(TABLES)
    with database_of(folder) as run:
        assert [table for table in tables if not run(f"SELECT count(*) FROM {table}")[0][0]] == []


def test_a_backup_brings_everything_back(
    folder: WorkspaceFolder, tmp_path: Path, tarmac: Callable[..., Any], address: str, request: pytest.FixtureRequest
) -> None:
    def looks(workspace: Workspace) -> list[object]:
        return [
            workspace(GetModel(name="churn")),
            workspace(ListVersions()),
            workspace(ShowHistory(name="churn")),
            workspace(GetVersion(ref="churn@production")),
        ]

    with connect(folder.path.parent) as workspace:
        filled(workspace)
        before = looks(workspace)
        made = workspace.wait(workspace(BackupStore(to=str(tmp_path / "backup")))).path
    store = "sqlite" if address == "sqlite" else request.getfixturevalue("new_database")()
    done = tarmac("store", "restore", made, "--to", str(tmp_path / "restored"), "--store", store)
    assert done.code == 0, done.err
    with connect(tmp_path / "restored") as restored:
        assert looks(restored) == before
        assert restored(RollbackAlias(ref="churn@production")).after == 1
        assert restored(AddVersion(name="churn", source="x")).number == 3
        package(restored, b"new")
        sound(restored)


@pytest.mark.slow
def test_a_kill_leaves_whole_moves(folder: WorkspaceFolder) -> None:
    """Whoever moves aliases is killed in the middle: alias, history and numbers agree."""
    mover = """
        from tarmac.registry.operations import AddVersion, PromoteVersion
        while True:
            number = workspace(AddVersion(name="churn", source="x")).number
            workspace(PromoteVersion(ref=f"churn@v{number}", to="production"))
    """
    with connect(folder.path.parent) as workspace:
        versions(workspace, "churn", 1)
        for _ in range(4):
            before = workspace(GetModel(name="churn")).latest or 0
            child = start(folder, mover)
            until = time.monotonic() + 20
            while (workspace(GetModel(name="churn")).latest or 0) < before + 20 and time.monotonic() < until:
                time.sleep(0.01)
            child.kill()
            child.communicate()
            model = workspace(GetModel(name="churn"))
            moves = workspace(ShowHistory(name="churn", limit=1000)).moves
            assert model.latest is not None
            assert model.latest >= before + 20
            assert model.aliases == {"production": moves[0].after}
            assert model.latest - (moves[0].after or 0) <= 1
            for after, earlier in itertools.pairwise(moves):
                assert after.before == earlier.after
        sound(workspace)


# -------------------------------------------------------------------------------------------------------------- gates


MOVES: list[tuple[Operation[Any], tuple[str, str]]] = [
    (PromoteVersion(ref="churn@v1", to="production"), ("promote", "production")),
    (RollbackAlias(ref="churn@production"), ("rollback", "production")),
    (RetireAlias(ref="churn@production"), ("retire", "production")),
    (StageVersion(ref="churn@v1", stage="Production"), ("stage", "Production")),
    (DeleteVersion(ref="churn@v2", with_aliases=True), ("retire", "production")),
    (DeleteModel(name="churn", with_aliases=True), ("retire", "production")),
]


@pytest.mark.parametrize(("step", "expected"), MOVES, ids=[type(step).__name__ for step, _ in MOVES])
def test_every_move_asks_the_rules_and_a_refusal_moves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, step: Operation[Any], expected: tuple[str, str]
) -> None:
    """Whatever moves, deletes or stages: the one rule function hears of it before, and what it refuses is not done."""
    filled(workspace)
    asked: list[tuple[str, str]] = []
    refusing = True

    def ask(intent: rules.Intent) -> dict[str, Any]:
        asked.append((intent.how, intent.alias))
        if refusing:
            raise Refused("not today")
        return {"looked_at": 1}

    def state() -> list[object]:
        return [
            workspace(GetModel(name="churn")), workspace(ShowHistory(name="churn")), workspace(ListVersions()),
        ]  # fmt: skip

    monkeypatch.setattr(rules, "may_move", ask)
    before = state()
    with pytest.raises(Refused, match="not today"):
        workspace(step)
    assert state() == before
    refusing = False
    asked.clear()
    workspace(step)
    assert asked == [expected]
    if expected[0] != "stage":
        assert workspace(ShowHistory(name="churn")).moves[0].evidence == {"looked_at": 1}


def test_what_moves_nothing_asks_nobody(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(intent: rules.Intent) -> dict[str, Any]:
        raise AssertionError(f"asked about {intent.how}")

    filled(workspace)
    monkeypatch.setattr(rules, "may_move", ask)
    workspace(AddVersion(name="churn", source="x"))
    workspace(TagVersion(ref="churn@latest", set={"a": "b"}))
    workspace(TagModel(name="churn", set={"a": "b"}))
    workspace(DeleteVersion(ref="churn@latest"))
    workspace(PromoteVersion(ref="churn@v2", to="production"))

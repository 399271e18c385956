"""Versions between workspaces: pushed, pulled, resumed, healed, exported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tarmac import store
from tarmac.core.errors import Conflict, Damaged
from tarmac.core.settings import Settings
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import BackupStore, CheckStore
from tarmac.workspace import Workspace, connect
from tarmac.workspace.datasets import quiet, remember_other
from tarmac.workspace.transfer import transfer
from tests.conftest import Ran
from tests.data.making import data_set, fill, tree


@pytest.fixture
def elsewhere(tmp_path: Path) -> WorkspaceFolder:
    """A second workspace, in a folder of its own."""
    made = WorkspaceFolder(tmp_path / "elsewhere/.tarmac")
    store.create(made, Settings.from_environment()).close()
    return made


def test_a_version_keeps_its_number(anywhere: Workspace, elsewhere: WorkspaceFolder, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    faces.log(fill(tmp_path / "in", {"a": b"one"}))
    faces.log(fill(tmp_path / "in", {"a": b"two", "sub/b": os.urandom(9_000_000)}), message="second", tags={"x": "y"})
    with connect(elsewhere.path) as other:
        pushed = transfer(anywhere, other, "faces", quiet)
        assert (pushed.version.number, pushed.version.message, pushed.version.tags) == (2, "second", {"x": "y"})
        assert pushed.version.origin is not None
        assert pushed.version.origin.actor == faces.latest.facts.actor
        again = transfer(anywhere, other, "faces@v2", quiet)
        assert (again.made, again.packs) == (False, 0)
        data_set(other).at(2).checkout(tmp_path / "out")
        assert tree(tmp_path / "out") == tree(tmp_path / "in")
        assert transfer(anywhere, other, "faces@v1", quiet).version.number == 1
        assert data_set(other).log(fill(tmp_path / "in", {"a": b"three"})).number == 3
        data_set(anywhere).log(fill(tmp_path / "in", {"a": b"another three"}))
        with pytest.raises(Conflict, match="another version here"):
            transfer(other, anywhere, "faces@v3", quiet)
        assert other.wait(other(CheckStore())).faults == []


def damage(folder: WorkspaceFolder, at: int = 100) -> None:
    largest = max((path for path in folder.blobs.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[at] ^= 1
    largest.write_bytes(content)


def test_a_damaged_pack_is_named_and_fetched_again(
    workspace: Workspace, folder: WorkspaceFolder, elsewhere: WorkspaceFolder, tmp_path: Path
) -> None:
    faces = data_set(workspace)
    faces.log(fill(tmp_path / "in", {f"{n}.bin": os.urandom(500_000) for n in range(20)}))
    damage(folder)
    with pytest.raises(Damaged, match=r"pack .* is damaged.*0\.bin"):
        faces.at(1).checkout(tmp_path / "out")
    assert any("damaged" in fault for fault in workspace.wait(workspace(CheckStore())).faults)
    with connect(elsewhere.path) as other:
        data_set(other).log(tmp_path / "in")  # the same files, and so the same pack
        remember_other(workspace, other)
        faces.at(1).checkout(tmp_path / "out")
        assert tree(tmp_path / "out") == tree(tmp_path / "in")
        assert workspace.wait(workspace(CheckStore())).faults == []
        damage(folder)
        assert transfer(other, workspace, "faces@v1", quiet, repair=True).packs == 1
    assert workspace.wait(workspace(CheckStore())).faults == []


def test_a_log_relies_on_nothing_that_is_damaged(workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path) -> None:
    faces = data_set(workspace)
    faces.log(fill(tmp_path / "in", {f"{n}.bin": os.urandom(5000) for n in range(20)}))
    damage(folder)
    (tmp_path / "in/new").write_bytes(b"new")
    assert faces.log(tmp_path / "in").number == 2
    faces.at(2).checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")


def test_a_pull_that_was_cut_off_goes_on(
    workspace: Workspace, elsewhere: WorkspaceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarmac.data.packs.PACK", 1_000_000)  # many packs of few bytes
    data_set(workspace).log(fill(tmp_path / "in", {f"{n}.bin": os.urandom(300_000) for n in range(20)}))

    def cut(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with connect(elsewhere.path) as other:
        with pytest.raises(KeyboardInterrupt):
            transfer(workspace, other, "faces", cut)
        assert data_set(other).workspace(CheckStore()) is not None
        done = transfer(workspace, other, "faces", quiet)
        assert 0 < done.packs < 7
        data_set(other).latest.checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")


def test_files_are_exported_for_others(workspace: Workspace, tmp_path: Path) -> None:
    version = data_set(workspace).log(fill(tmp_path / "in", {"a": b"one", "sub/b": b"two", "e/": b""}))
    version.export(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")
    with pytest.raises(Conflict, match="exists already"):
        version.export(tmp_path / "out")


def test_versions_come_back_with_a_backup(
    tarmac: Callable[..., Ran], workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path
) -> None:
    if "postgres" in folder.describe().store:
        pytest.skip("restoring needs an empty database, and what is tested here is the same")
    faces = data_set(workspace)
    faces.log(fill(tmp_path / "in", {"a": b"one", "large": os.urandom(9_000_000)}), tags={"x": "y"})
    workspace.wait(workspace(BackupStore(to=str(tmp_path / "backup"))))
    assert tarmac("store", "restore", str(tmp_path / "backup"), "--to", str(tmp_path / "back")).code == 0
    with connect(tmp_path / "back") as restored:
        version = data_set(restored).latest
        assert version.facts == faces.latest.facts
        version.checkout(tmp_path / "out")
        assert restored.wait(restored(CheckStore())).faults == []
    assert tree(tmp_path / "out") == tree(tmp_path / "in")

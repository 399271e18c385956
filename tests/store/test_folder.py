"""What the folder itself can tell before it hurts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tarmac.cli.doctor import examine
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import connect


def test_a_network_file_system_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(tmp_path, create=True) as workspace:
        assert workspace.warnings == []
    monkeypatch.setattr(WorkspaceFolder, "file_system", lambda folder: "nfs4")
    with connect(tmp_path) as workspace:
        assert len(workspace.warnings) == 1
        assert "network file system (nfs4)" in workspace.warnings[0]
    found = [finding.what for finding in examine(tmp_path) if finding.level == "warning"]
    assert any("network file system" in what for what in found)


@pytest.mark.skipif(sys.platform != "linux", reason="not run: only Linux lists its mounts in /proc")
def test_the_kind_of_file_system_is_that_of_the_nearest_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = WorkspaceFolder(tmp_path / ".tarmac")
    assert folder.file_system() is not None
    mounts = f"rootfs / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\nother {tmp_path}-more cifs rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda path, **_: mounts)
    assert folder.file_system() == "nfs4"

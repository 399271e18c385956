"""Files that belong to no run: they come, change, go, and keep their bytes from being collected."""

from __future__ import annotations

import pytest

from tarmac.core.errors import Conflict, Invalid, NotFound
from tarmac.store.operations import CheckStore, CollectGarbage, GetStatus
from tarmac.store.records import File
from tarmac.track.operations import ListFiles, PutFiles, RemoveFiles
from tarmac.workspace import Workspace


def put(workspace: Workspace, path: str, data: bytes) -> str:
    digest = workspace.put(data)
    done = workspace(PutFiles(files=[File(path=path, digest=digest, size=len(data))]))
    assert (done.files, done.missing) == (1, [])
    return digest


def listed(workspace: Workspace, folder: str = "") -> list[tuple[str, int, bool]]:
    found = workspace(ListFiles(folder=folder)).artifacts
    return [(one.path, one.size, one.digest is not None) for one in found]


def test_they_come_change_and_go(anywhere: Workspace) -> None:
    put(anywhere, "a.txt", b"one")
    put(anywhere, "a.txt", b"other")
    put(anywhere, "a.txt", b"other")
    put(anywhere, "dir/sub/b.txt", b"two")
    put(anywhere, "dir2.txt", b"")
    assert listed(anywhere) == [("a.txt", 5, True), ("dir", 3, False), ("dir2.txt", 0, True)]
    assert listed(anywhere, "dir/sub") == [("dir/sub/b.txt", 3, True)]
    for path in ("a.txt/below", "dir", "dir/sub"):
        with pytest.raises(Conflict):
            put(anywhere, path, b"x")
    assert anywhere(RemoveFiles(path="dir")).files == 1
    with pytest.raises(NotFound):
        anywhere(RemoveFiles(path="dir"))
    assert listed(anywhere) == [("a.txt", 5, True), ("dir2.txt", 0, True)]


def test_what_is_wrong_is_said(anywhere: Workspace) -> None:
    digest = anywhere.put(b"x")
    with pytest.raises(Invalid, match="twice"):
        anywhere(PutFiles(files=[File(path="a", digest=digest, size=1)] * 2))
    with pytest.raises(Invalid, match="bytes"):
        anywhere(PutFiles(files=[File(path="a", digest=digest, size=2)]))
    assert anywhere(PutFiles(files=[File(path="a", digest="0" * 64, size=1)])).missing == ["0" * 64]
    assert listed(anywhere) == []


def test_their_bytes_stay_until_nothing_leads_to_them(workspace: Workspace) -> None:
    put(workspace, "a.txt", b"kept")
    put(workspace, "b.txt", b"kept")
    workspace(RemoveFiles(path="b.txt"))
    for _ in range(3):
        workspace.wait(workspace(CollectGarbage(grace_hours=0)))
    assert workspace.wait(workspace(CheckStore())).faults == []
    assert workspace(GetStatus()).blobs.count == 1
    workspace(RemoveFiles(path="a.txt"))
    for _ in range(3):
        workspace.wait(workspace(CollectGarbage(grace_hours=0)))
    assert workspace(GetStatus()).blobs.count == 0
    assert workspace.wait(workspace(CheckStore())).faults == []

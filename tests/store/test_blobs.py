"""Bytes: whole or not at all, once each, and never handed out damaged. On both databases, here and through a server."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tarmac.core.digest import BLOCK, digest
from tarmac.core.errors import Damaged, Invalid, NotFound
from tarmac.store.blobs.folder import FolderBlobs, Stored
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import (
    CommitManifest,
    Committed,
    DeleteManifest,
    FindMissing,
    GetManifest,
    GetStatus,
    ListFiles,
    ListManifests,
)
from tarmac.store.records import File
from tarmac.workspace import Workspace, connect
from tests.contracts.blobs import BIG, BlobContract
from tests.store.editing import database_of
from tests.store.processes import end, faults, start


class TestFolder(BlobContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> FolderBlobs:
        made = FolderBlobs(tmp_path / "blobs")
        (made.folder / "incoming").mkdir(parents=True)
        return made

    def damage(self, blobs: FolderBlobs, stored: Stored, at: int) -> None:
        flip(blobs.folder / stored.place, at)


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


def files_of(folder: WorkspaceFolder) -> list[Path]:
    return sorted(path for path in folder.blobs.rglob("*") if path.is_file())


def commit(workspace: Workspace, **files: bytes) -> Committed:
    listed = [File(path=path, digest=workspace.put(data), size=len(data)) for path, data in files.items()]
    return workspace(CommitManifest(kind="test", files=listed))


# --------------------------------------------------------------------------------------------------------------- bytes


@pytest.mark.parametrize("data", [b"", b"small", BIG], ids=["empty", "small", "three blocks"])
def test_bytes_come_back_whole_and_in_ranges(anywhere: Workspace, data: bytes) -> None:
    name = anywhere.put(data)
    assert name == digest(data)
    assert b"".join(anywhere.read(name)) == data
    if data:
        middle = len(data) // 2
        assert b"".join(anywhere.read(name, 1, middle)) == data[1:middle]
        assert b"".join(anywhere.read(name, middle)) == data[middle:]
        assert b"".join(anywhere.read(name, middle, middle)) == b""
    assert anywhere(FindMissing(digests=[name, "0" * 64, name])).missing == ["0" * 64]
    with pytest.raises(NotFound, match="blob"):
        list(anywhere.read("0" * 64))


def test_the_same_bytes_are_kept_once_however_often_they_come(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    def put(number: int) -> list[str]:
        with connect(anywhere.place) as own:
            return [own.put(b"the same" * 1000) for _ in range(3)]

    with ThreadPoolExecutor(8) as threads:
        names = [name for found in threads.map(put, range(8)) for name in found]
    assert len(set(names)) == 1
    assert [path.name.partition(".")[0] for path in files_of(folder)] == [names[0]]
    assert anywhere(GetStatus()).blobs.count == 1
    assert b"".join(anywhere.read(names[0])) == b"the same" * 1000


def test_two_processes_keep_the_same_bytes_once(folder: WorkspaceFolder) -> None:
    script = """
        for number in range(40):
            workspace.put(b"number %d" % number)
    """
    children = [start(folder, script) for _ in range(3)]
    assert [end(child).err for child in children] == ["", "", ""]
    with connect(folder.path.parent) as workspace:
        assert len(files_of(folder)) == workspace(GetStatus()).blobs.count == 40
        assert faults(workspace) == []


@pytest.mark.parametrize(("data", "at"), [(b"small", 2), (BIG, BLOCK + 5)], ids=["small", "second block"])
def test_one_flipped_bit_is_found_by_read_by_range_and_by_check(
    anywhere: Workspace, folder: WorkspaceFolder, data: bytes, at: int
) -> None:
    name = anywhere.put(data)
    other = anywhere.put(b"whole")
    (file,) = (path for path in files_of(folder) if path.name.startswith(name))
    flip(file, at)
    with pytest.raises(Damaged):
        list(anywhere.read(name))
    with pytest.raises(Damaged, match=f"{name[:16]}… is damaged in bytes"):
        list(anywhere.read(name, at, at + 2))
    if len(data) > BLOCK:
        assert b"".join(anywhere.read(name, 0, 100)) == data[:100]
    (fault,) = faults(anywhere)
    first = at // BLOCK * BLOCK
    assert fault == f"blob {name[:16]}… is damaged in bytes {first}–{min(first + BLOCK, len(data))}"
    assert b"".join(anywhere.read(other)) == b"whole"


@pytest.mark.parametrize(("data", "at"), [(b"small", 2), (BIG, BLOCK + 5)], ids=["small", "second block"])
def test_the_same_bytes_sent_again_heal_a_damaged_blob(
    anywhere: Workspace, folder: WorkspaceFolder, data: bytes, at: int
) -> None:
    name = anywhere.put(data)
    manifest = CommitManifest(kind="data", files=[File(path="a", digest=name, size=len(data))])
    assert anywhere(manifest).manifest
    (file,) = files_of(folder)
    for damage in (lambda path: flip(path, at), lambda path: path.unlink(), lambda path: path.write_bytes(b"")):
        damage(file)
        with pytest.raises(Damaged):
            list(anywhere.read(name))
        assert anywhere.put(data) == name
        assert b"".join(anywhere.read(name)) == data
        assert faults(anywhere) == []
        (file,) = files_of(folder)  # the damaged one is gone
    assert anywhere.put(data) == name
    assert files_of(folder) == [file], "what is whole stays where it is"


def test_a_blob_that_lost_its_file_or_its_length_is_named(workspace: Workspace, folder: WorkspaceFolder) -> None:
    gone, longer, shorter = (workspace.put(data) for data in (b"gone", b"longer", b"shorter"))
    for path in files_of(folder):
        if path.name.startswith(gone):
            path.unlink()
        elif path.name.startswith(longer):
            path.write_bytes(b"longer" + b"!")
        else:
            path.write_bytes(b"short")
    found = faults(workspace)
    assert len(found) == 3
    for name, says in ((gone, "is gone"), (longer, "has 7 bytes, not 6"), (shorter, "has 5 bytes, not 7")):
        assert any(name[:16] in fault and says in fault for fault in found)
        with pytest.raises(Damaged, match=says):
            list(workspace.read(name))


# ----------------------------------------------------------------------------------------------------------- manifests


def test_a_manifest_is_whole_or_says_what_is_missing(anywhere: Workspace) -> None:
    have = anywhere.put(b"have")
    files = [File(path="b", digest=have, size=4), File(path="a/c", digest=digest(b"later"), size=5)]
    assert anywhere(CommitManifest(kind="data", files=files)) == Committed(missing=[digest(b"later")])
    assert anywhere(ListManifests()).manifests == []
    anywhere.put(b"later")
    made = anywhere(CommitManifest(kind="data", files=files)).manifest
    assert made is not None
    assert (made.files, made.size, made.kind) == (2, 9, "data")
    assert anywhere(GetManifest(id=made.id)) == made
    assert anywhere(ListFiles(id=made.id)).files == [files[1], files[0]]
    page = anywhere(ListFiles(id=made.id, limit=1))
    assert page.next == "a/c"
    assert anywhere(ListFiles(id=made.id, after=page.next)).files == [files[0]]
    again = anywhere(CommitManifest(kind="data", files=files[::-1])).manifest
    assert again is not None
    assert again.digest == made.digest, "the same files have the same proof, in whatever order they were given"
    assert again.id != made.id
    anywhere(DeleteManifest(id=made.id))
    with pytest.raises(NotFound):
        anywhere(ListFiles(id=made.id))
    assert anywhere(ListFiles(id=again.id)).files == [files[1], files[0]]
    assert faults(anywhere) == []


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["a", "a"], "twice"),
        (["a", "a/b"], "`a` cannot be a file and a folder"),
        (["a", "a-b", "a.txt", "a/b"], "`a` cannot be a file and a folder"),
        (["a/b/c/d", "a b", "a/b"], "`a/b` cannot be a file and a folder"),
        (["../a"], "path"),
        (["/etc/passwd"], "path"),
        (["a/../../b"], "path"),
        (["a\\..\\b"], "path"),
        (["C:/a"], "path"),
        (["a//b"], "path"),
        (["a\n"], "path"),
        ([""], "path"),
    ],
)
def test_a_list_that_cannot_be_written_to_a_disk_is_refused(workspace: Workspace, paths: list[str], says: str) -> None:
    blob = workspace.put(b"x")
    with pytest.raises(Invalid, match=says):
        workspace(CommitManifest(kind="data", files=[File(path=path, digest=blob, size=1) for path in paths]))
    assert workspace(ListManifests()).manifests == []


@pytest.mark.parametrize(
    "file",
    [
        File(path="a", digest=digest(b"x"), size=2),
        File(path="a", digest=digest(b"x"), size=0),
        File(path="a", digest=digest(b"x"), size=-1),
        File(path="a", digest=digest(b"x"), size=1 << 70),
        File(path="a", digest="no digest", size=1),
    ],
)
def test_a_wrong_claim_is_refused(anywhere: Workspace, file: File) -> None:
    anywhere.put(b"x")
    with pytest.raises(Invalid):
        anywhere(CommitManifest(kind="data", files=[file]))
    assert faults(anywhere) == []


def test_an_edited_manifest_and_wrong_counts_are_named(workspace: Workspace, folder: WorkspaceFolder) -> None:
    first = commit(workspace, a=b"one", b=b"two").manifest
    second = commit(workspace, a=b"one").manifest
    third = commit(workspace, c=b"three").manifest
    assert first is not None and second is not None and third is not None  # noqa: PT018
    with database_of(folder) as run:
        run("UPDATE manifest_files SET path = 'z' WHERE path = 'b'")
        run("UPDATE blobs SET refs = 7 WHERE digest = ?", digest(b"one"))
        run("DELETE FROM blobs WHERE digest = ?", digest(b"three"))
    found = faults(workspace)
    assert f"manifest {first.id} was edited: its list of files is not the one that was committed" in found
    assert f"blob {digest(b'one')[:16]}… is needed by 2 manifests, and counted as needed by 7" in found
    assert f"blob {digest(b'three')[:16]}… is needed by 1 manifests and does not exist" in found
    assert len(found) == 3


def test_a_stream_that_cannot_seek_can_be_stored_here(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    assert b"".join(workspace.read(workspace.put(tmp_path / "file"))) == b"from a file"
    assert b"".join(workspace.read(workspace.put(io.BytesIO(b"from a stream")))) == b"from a stream"

"""Logging folders and checking them out again, in a folder and through a server, on both databases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tarmac.core.errors import Busy, Conflict, Invalid, NotFound
from tarmac.data.operations import (
    CommitData,
    DeleteData,
    GetData,
    ListData,
    ListDataVersions,
    PurgeData,
    RestoreData,
    TagData,
)
from tarmac.data.status import status
from tarmac.store.operations import CheckStore, CollectGarbage, GetStatus, ShowLineage
from tarmac.track.operations import CreateRun, GetDetails, UseInput
from tarmac.workspace import Workspace, connect
from tarmac.workspace.datasets import memory_of, sources_of
from tests.conftest import Server
from tests.data.making import data_set, fill, tree
from tests.server.calls import Line

LARGE = 9 * 1024 * 1024


def sample(folder: Path) -> Path:
    fill(
        folder,
        {
            "a.txt": b"one",
            "deep/er/b.bin": bytes(range(256)) * 40,
            "übung/日本.txt": "Grüße".encode(),
            "nothing": b"",
            "hollow/": b"",
            "large.bin": os.urandom(LARGE),
        },
    )
    (folder / "deep/link").symlink_to("../a.txt")
    (folder / "a.txt").chmod(0o755)
    return folder


def test_a_folder_comes_back_as_it_was(anywhere: Workspace, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    version = faces.log(sample(tmp_path / "in"), message="first", tags={"by": "ada"})
    assert (version.number, version.facts.files, version.facts.tags) == (1, 6, {"by": "ada"})
    version.checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")
    with version.open("large.bin") as file:
        file.seek(5_000_000)
        assert file.read(1000) == (tmp_path / "in/large.bin").read_bytes()[5_000_000:5_001_000]
    with version.open("deep/link") as file:
        assert file.read() == b"one"
    assert anywhere.wait(anywhere(CheckStore())).faults == []


def test_only_what_is_new_is_stored(anywhere: Workspace, tmp_path: Path) -> None:
    folder = sample(tmp_path / "in")
    faces = data_set(anywhere)
    first = faces.log(folder)
    again = faces.log(folder)
    assert again.number == first.number == 1
    content = bytearray((folder / "large.bin").read_bytes())
    content[4_000_000:4_000_000] = b"inserted"
    (folder / "large.bin").write_bytes(content)
    (folder / "deep/copy.bin").write_bytes((folder / "deep/er/b.bin").read_bytes())
    second = faces.log(folder, message="more")
    assert second.number == 2
    assert second.facts.added < 300_000
    second.checkout(tmp_path / "out")
    first.checkout(tmp_path / "out")
    faces.at("v2").checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(folder)


def test_versions_are_named_and_listed(anywhere: Workspace, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    for text in ("one", "two"):
        faces.log(fill(tmp_path / "in", {"a.txt": text.encode()}), message=text)
    assert [version.message for version in faces.versions()] == ["two", "one"]
    assert (faces.latest.number, faces.at(1).number, faces.at("v2").number) == (2, 1, 2)
    assert anywhere(GetData(ref="faces@2999-01-01")).number == 2
    with pytest.raises(NotFound, match="no version from then or before"):
        anywhere(GetData(ref="faces@2001-01-01"))
    with pytest.raises(NotFound, match="highest is v2"):
        faces.at(9)
    with pytest.raises(NotFound) as caught:
        data_set(anywhere, "facse").at(1)
    assert caught.value.hint == "did you mean `faces`?"
    with pytest.raises(Invalid, match="which version"):
        anywhere(GetData(ref="faces@nonsense"))
    [listed] = anywhere(ListData()).data
    assert (listed.name, listed.versions, listed.latest) == ("faces", 2, 2)
    assert anywhere(TagData(ref="faces@v1", set={"good": "yes"})).tags == {"good": "yes"}
    assert anywhere(TagData(ref="faces@v1", unset=["good"])).tags == {}


def test_a_number_is_never_given_again(anywhere: Workspace, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    faces.log(fill(tmp_path / "in", {"a.txt": b"one"}))
    faces.log(fill(tmp_path / "in", {"a.txt": b"two"}))
    with pytest.raises(Invalid, match="by its number"):
        anywhere(DeleteData(ref="faces@latest"))
    anywhere(DeleteData(ref="faces@v2"))
    assert faces.latest.number == 1
    with pytest.raises(NotFound, match="in the trash"):
        faces.at(2)
    assert [version.number for version in anywhere(ListDataVersions(name="faces", deleted=True)).versions] == [2]
    anywhere(RestoreData(ref="faces@v2"))
    assert faces.latest.number == 2
    anywhere(DeleteData(ref="faces@v2"))
    purged = anywhere.wait(anywhere(PurgeData(days=0)))
    assert purged.versions == ["faces@v2"]
    for _ in range(2):
        anywhere.wait(anywhere(CollectGarbage(grace_hours=0)))
    with pytest.raises(NotFound, match="was deleted"):
        faces.at(2)
    assert faces.log(fill(tmp_path / "in", {"a.txt": b"two"})).number == 3
    faces.at(1).checkout(tmp_path / "out")
    assert anywhere.wait(anywhere(CheckStore())).faults == []


def test_two_checkouts_at_once_do_not_meet(workspace: Workspace, tmp_path: Path) -> None:
    faces = data_set(workspace)
    faces.log(fill(tmp_path / "in", {"a": b"1"}))
    lock = memory_of(workspace).lock([("", tmp_path / "out")])
    try:
        with pytest.raises(Busy, match="somebody else checks out"):
            faces.at(1).checkout(tmp_path / "out")
    finally:
        lock.release()
        lock.close()
    faces.at(1).checkout(tmp_path / "out")


@pytest.mark.parametrize("name", ["faces@v1", "a/b", "", ".", "x" * 129, "two words"])
def test_a_name_is_refused_before_anything_is_read(workspace: Workspace, tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="cannot be the name of a data set"):
        data_set(workspace, name).log(tmp_path / "nothing")


def test_a_listing_that_names_packs_in_vain(anywhere: Workspace, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    with pytest.raises(Invalid, match="cannot be read"):
        anywhere(CommitData(name="faces", listing=b"\x00nonsense"))
    assert anywhere(ListData()).data == []
    version = faces.log(fill(tmp_path / "in", {"a.txt": b"one"}))
    with pytest.raises(Conflict, match="layout"):
        faces.log(fill(tmp_path / "in", {"a.txt": b"two"}), layout="whole")
    assert faces.latest.number == version.number


def test_status_tells_what_changed(anywhere: Workspace, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"a": b"1", "b": b"2", "sub/c": b"3", "sub/d": b"4", "gone/e": b"5", "same": b"6"})
    data_set(anywhere).log(folder)
    sources, memory = sources_of([folder]), memory_of(anywhere)
    assert status(anywhere, memory, sources).clean
    (folder / "a").write_bytes(b"x")
    (folder / "sub/c").unlink()
    (folder / "gone/e").unlink()
    (folder / "gone").rmdir()
    (folder / "sub/new").write_bytes(b"n")
    (folder / "b").chmod(0o755)
    os.utime(folder / "same", (1, 1))
    fill(folder, {"hollow/": b""})
    found = status(anywhere, memory, sources)
    assert (found.changed, found.added, found.removed) == (["a", "b"], ["hollow/", "sub/new"], ["gone/e", "sub/c"])
    with pytest.raises(NotFound, match="neither logged nor checked out"):
        status(anywhere, memory, sources_of([tmp_path]))


def test_a_checkout_overwrites_nothing_that_only_exists_there(anywhere: Workspace, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"a": b"1", "b": b"2", "c/d": b"3"})
    faces = data_set(anywhere)
    faces.log(folder)
    (folder / "a").write_bytes(b"mine")
    (folder / "untracked").write_bytes(b"u")
    with pytest.raises(Conflict, match="`a`; nothing was changed"):
        faces.at(1).checkout(folder)
    assert (folder / "a").read_bytes() == b"mine"
    faces.at(1).checkout(folder, force=True)
    assert tree(folder)["a"][1] == b"1"
    assert (folder / "untracked").read_bytes() == b"u"
    stranger = fill(tmp_path / "stranger", {"b": b"other", "c": b"a file where a folder has to be"})
    with pytest.raises(Conflict, match="`b`, `c`"):
        faces.at(1).checkout(stranger)
    faces.at(1).checkout(stranger, force=True)
    assert tree(stranger)["c/d"][1] == b"3"


def test_a_file_becomes_a_folder_and_back(anywhere: Workspace, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    faces.log(fill(tmp_path / "one", {"x": b"file", "y/z": b"in a folder", "e/": b""}))
    faces.log(fill(tmp_path / "two", {"x/a": b"in a folder", "y": b"file", "e": b"file"}))
    for number, folder in ((1, "one"), (2, "two"), (1, "one")):
        faces.at(number).checkout(tmp_path / "out")
        assert tree(tmp_path / "out") == tree(tmp_path / folder)


@pytest.mark.parametrize("layout", ["packed", "whole"])
def test_files_named_one_by_one(workspace: Workspace, tmp_path: Path, layout: str) -> None:
    folder = fill(tmp_path / "in", {"a.csv": b"x\n1", "b.csv": b"x\n2", "c.txt": b"3", "sub/d.csv": b"x\n4"})
    faces = data_set(workspace)
    version = faces.log(str(folder / "*.csv"), folder / "sub", layout=layout)  # type: ignore[arg-type]
    assert version.files() == ["a.csv", "b.csv", "sub/d.csv"]
    one = data_set(workspace, "one").log(folder / "a.csv")
    assert one.open().read() == b"x\n1"
    with pytest.raises(NotFound, match=r"like .*\*.json"):
        faces.log(str(folder / "*.json"))


def test_a_pack_of_which_little_is_needed_is_given_up(anywhere: Workspace, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {f"{n}.bin": os.urandom(100_000) for n in range(40)})
    fill(folder, {"large.bin": os.urandom(LARGE)})
    faces = data_set(anywhere)
    faces.log(folder)
    for n in range(38):
        (folder / f"{n}.bin").unlink()
    content = bytearray((folder / "large.bin").read_bytes())
    del content[2_000_000:8_900_000]
    (folder / "large.bin").write_bytes(content * 5)
    faces.log(folder)
    (folder / "more").write_bytes(b"more")
    faces.log(folder)
    before = anywhere(GetStatus()).blobs.bytes
    anywhere(DeleteData(ref="faces@v1"))
    purged = anywhere.wait(anywhere(PurgeData(days=0)))
    assert (purged.versions, purged.repacked) == (["faces@v1"], 1)
    digests = [faces.at(number).facts.digest for number in (2, 3)]
    for _ in range(2):
        anywhere.wait(anywhere(CollectGarbage(grace_hours=0)))
    assert anywhere(GetStatus()).blobs.bytes < before / 2
    assert [faces.at(number).facts.digest for number in (2, 3)] == digests
    assert anywhere.wait(anywhere(CheckStore())).faults == []
    faces.at(3).checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(folder)
    assert anywhere.wait(anywhere(PurgeData(days=0))).repacked == 0


def test_a_version_that_a_run_was_given_is_kept(anywhere: Workspace, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    faces.log(fill(tmp_path / "in", {"a": b"1"}))
    faces.log(fill(tmp_path / "in", {"a": b"2"}))
    run = anywhere(CreateRun(experiment="baseline"))
    anywhere(UseInput(id=run.id, name="faces", version="v1"))
    anywhere(DeleteData(ref="faces@v1"))
    purged = anywhere.wait(anywhere(PurgeData(days=0)))
    assert (purged.versions, purged.kept) == ([], [f"faces@v1: runs/{run.id}"])
    assert anywhere.wait(anywhere(PurgeData(days=0, used=True))).versions == ["faces@v1"]


def test_a_run_is_given_what_the_newest_version_is_now(anywhere: Workspace, tmp_path: Path) -> None:
    faces = data_set(anywhere)
    for text in (b"1", b"2"):
        faces.log(fill(tmp_path / "in", {"a": text}))
    run = anywhere(CreateRun(experiment="baseline"))
    anywhere(UseInput(id=run.id, name="faces"))
    anywhere(UseInput(id=run.id, name="faces", version="latest"))
    anywhere(UseInput(id=run.id, name="other", version="of somebody"))
    [used] = anywhere(ShowLineage(thing="data/faces@v2", direction="down")).edges
    assert used.target == f"runs/{run.id}"
    given = {item.name: item for item in anywhere(GetDetails(id=run.id)).inputs}
    assert (given["faces"].version, given["other"].version) == ("v2", "of somebody")
    assert faces.at(2).facts.digest in given["faces"].about


def test_files_of_versions_over_http(server: Server, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"sub/ü.txt": b"0123456789", "large": os.urandom(LARGE)})
    large = (folder / "large").read_bytes()
    with connect(server.url) as workspace:
        data_set(workspace).log(folder)
    line = Line(server.url)
    assert line.get("data/faces@v1/files/sub/%C3%BC.txt").body == b"0123456789"
    answer = line.get("data/faces/files/large", headers={"Range": "bytes=5000000-5000999"})
    assert (answer.status, answer.body) == (206, large[5_000_000:5_001_000])
    assert line.get("data/faces/files/large").body == large
    for path in ("data/faces/files/sub", "data/faces/files/none", "data/facse/files/large", "data/faces"):
        assert line.get(path).status == 404
    line.connection.close()

"""Files of runs: attached, replaced, taken away and listed; the store's counts are right after each of them."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, Invalid, NotFound
from tarmac.store.operations import CheckStore, CollectGarbage, GetStatus
from tarmac.store.records import File
from tarmac.track.operations import (
    ArtifactPage,
    AttachFiles,
    CreateRun,
    DeleteRuns,
    DetachFiles,
    EndRun,
    GetDetails,
    ListArtifacts,
)
from tarmac.workspace import Workspace


def file(path: str, data: bytes = b"x") -> File:
    return File(path=path, digest=digest(data), size=len(data))


def attach(workspace: Workspace, run: str, files: dict[str, bytes]) -> int:
    for data in sorted(set(files.values())):
        workspace.put(data)
    done = workspace(AttachFiles(id=run, files=[file(path, data) for path, data in files.items()]))
    assert done.missing == []
    return done.files


def sound(workspace: Workspace) -> None:
    report = workspace.wait(workspace(CheckStore()))
    assert report.faults == []


def listed(workspace: Workspace, run: str, folder: str = "", *, all: bool = False, limit: int = 1000) -> dict[str, int]:
    found: dict[str, int] = {}
    after = ""
    while True:
        page: ArtifactPage = workspace(ListArtifacts(id=run, folder=folder, all=all, after=after, limit=limit))
        for artifact in page.artifacts:
            assert artifact.path not in found, "no path is shown twice"
            assert (artifact.digest is None) == (artifact.at is None)
            found[artifact.path + ("" if artifact.digest else "/")] = artifact.size
        if page.next is None:
            return found
        after = page.next


def test_files_come_change_and_go(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    assert attach(anywhere, run, {"a": b"one", "b/c": b"two", "b/d/e": b"one"}) == 3
    assert listed(anywhere, run) == {"a": 3, "b/": 6}
    assert listed(anywhere, run, "b") == {"b/c": 3, "b/d/": 3}
    assert listed(anywhere, run, all=True) == {"a": 3, "b/c": 3, "b/d/e": 3}
    details = anywhere(GetDetails(id=run))
    assert (details.artifacts, details.artifact_bytes) == (3, 9)
    assert attach(anywhere, run, {"a": b"longer", "b/c": b"two"}) == 2
    assert listed(anywhere, run, all=True) == {"a": 6, "b/c": 3, "b/d/e": 3}
    assert anywhere(DetachFiles(id=run, path="b")).files == 2
    assert listed(anywhere, run, all=True) == {"a": 6}
    with pytest.raises(NotFound):
        anywhere(DetachFiles(id=run, path="b"))
    sound(anywhere)
    for _ in range(2):
        anywhere.wait(anywhere(CollectGarbage(grace_hours=0)))
    assert anywhere(GetStatus()).blobs.count == 1, "only what the run has is kept"
    assert b"".join(anywhere.read(digest(b"longer"))) == b"longer"
    with pytest.raises(NotFound, match="file") as caught:
        anywhere(DetachFiles(id=run, path="aa"))
    assert caught.value.hint


def test_random_changes_come_to_what_a_dict_comes_to(workspace: Workspace) -> None:
    chance = random.Random(8)
    runs = {workspace(CreateRun()).id: dict[str, bytes]() for _ in range(3)}
    paths = ["a", "b", "b/c", "b/c/d", "b c", "b.c", "b0", "B", "é/ü", "z"]
    contents = [b"%d" % number for number in range(5)]
    for data in contents:
        workspace.put(data)
    for _ in range(250):
        run = chance.choice(sorted(runs))
        model = runs[run]
        if chance.random() < 0.7:
            wanted = {path: chance.choice(contents) for path in chance.sample(paths, chance.randint(1, 4))}
            after = {**model, **wanted}
            if clashes(after):
                with pytest.raises(Conflict):
                    workspace(AttachFiles(id=run, files=[file(path, data) for path, data in wanted.items()]))
            else:
                workspace(AttachFiles(id=run, files=[file(path, data) for path, data in wanted.items()]))
                model.update(wanted)
        else:
            path = chance.choice(paths)
            gone = [known for known in model if known == path or known.startswith(f"{path}/")]
            if gone:
                assert workspace(DetachFiles(id=run, path=path)).files == len(gone)
            else:
                with pytest.raises(NotFound):
                    workspace(DetachFiles(id=run, path=path))
            for known in gone:
                del model[known]
        assert listed(workspace, run, all=True) == {path: len(data) for path, data in model.items()}
    sound(workspace)


def clashes(paths: Iterable[str]) -> bool:
    known = set(paths)
    return any(other.startswith(f"{path}/") for path in known for other in known)


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (["a"], ["a/b"]), (["a/b"], ["a"]), (["a/b/c"], ["a/b"]), (["a"], ["a/b/c/d"]), ([], ["a", "a/b"]),
        ([], ["a/b", "a"]), ([], ["x", "a/b/c", "a"]),
    ],
)  # fmt: skip
def test_a_path_is_a_file_or_a_folder(anywhere: Workspace, there: list[str], new: list[str]) -> None:
    run = anywhere(CreateRun()).id
    anywhere.put(b"x")
    if there:
        anywhere(AttachFiles(id=run, files=[file(path) for path in there]))
    with pytest.raises(Conflict, match=r"is a (file|folder)"):
        anywhere(AttachFiles(id=run, files=[file(path) for path in new]))
    assert listed(anywhere, run, all=True) == dict.fromkeys(there, 1), "all or nothing"


def test_neighbours_of_a_folder_are_not_in_it(workspace: Workspace) -> None:
    run = workspace(CreateRun()).id
    attach(workspace, run, dict.fromkeys(["b/x", "b.x", "b-x", "b0", "bb/x", "b!"], b"x"))
    assert listed(workspace, run, "b") == {"b/x": 1}
    assert workspace(DetachFiles(id=run, path="b")).files == 1
    assert listed(workspace, run, all=True) == dict.fromkeys(["b!", "b-x", "b.x", "b0", "bb/x"], 1)


def test_names_that_differ_in_case_only_are_kept_apart(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    attach(anywhere, run, {"Model.bin": b"one", "model.bin": b"two!", "DIR/a": b"x", "dir/a": b"y"})
    assert listed(anywhere, run, all=True) == {"DIR/a": 1, "Model.bin": 3, "dir/a": 1, "model.bin": 4}
    assert listed(anywhere, run) == {"DIR/": 1, "Model.bin": 3, "dir/": 1, "model.bin": 4}


def test_missing_blobs_are_answered(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    anywhere.put(b"here")
    asked = AttachFiles(id=run, files=[file("a", b"here"), file("b", b"not here"), file("c", b"not here")])
    answer = anywhere(asked)
    assert (answer.files, answer.missing) == (0, [digest(b"not here")])
    assert listed(anywhere, run, all=True) == {}, "all or nothing"
    anywhere.put(b"not here")
    assert anywhere(asked).files == 3
    assert anywhere(asked).files == 3, "again changes nothing"
    sound(anywhere)


def test_what_is_refused(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    attach(anywhere, run, {"there": b"x"})
    for path in ("there", "new"):
        with pytest.raises(Invalid, match="2 bytes; its blob has 1"):
            anywhere(AttachFiles(id=run, files=[File(path=path, digest=digest(b"x"), size=2)]))
    with pytest.raises(Invalid, match="twice"):
        anywhere(AttachFiles(id=run, files=[file("a"), file("a")]))
    for path in (
        "../a",
        "a/../b",
        "/a",
        "a//b",
        "a/",
        ".",
        "..",
        "a\nb",
        "a\x00",
        "C:/a",
        "a\\b",
        "",
        "x" * 4097,
        "a\x7f",
    ):
        with pytest.raises(Invalid):
            anywhere(AttachFiles(id=run, files=[file(path)]))
    with pytest.raises(Invalid):
        anywhere(AttachFiles(id=run, files=[]))
    with pytest.raises(NotFound):
        anywhere(AttachFiles(id="0" * 32, files=[file("a")]))
    anywhere(DeleteRuns(ids=[run]))
    for request in (AttachFiles(id=run, files=[file("a")]), DetachFiles(id=run, path="there")):
        with pytest.raises(Conflict, match="trash"):
            anywhere(request)
    assert listed(anywhere, run, all=True) == {"there": 1}, "what is in the trash can be looked at"


def test_pages_of_folders(workspace: Workspace) -> None:
    """Sorted by path, files and folders together; folders before which a page ends are not shown twice."""
    chance = random.Random(2)
    run = workspace(CreateRun()).id
    names = ["a", "a.b", "a0", "b", "ä", "日", "Z", "a b"]
    paths = {"/".join(chance.choice(names) for _ in range(chance.randint(1, 4))) for _ in range(120)}
    paths = {path for path in paths if not any(other.startswith(f"{path}/") for other in paths)}
    assert len(paths) > 40
    attach(workspace, run, dict.fromkeys(paths, b"xy"))
    folders = {"", *("/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1))}
    for folder in sorted(folders):
        head = f"{folder}/" if folder else ""
        wanted: dict[str, int] = {}
        for path in sorted(path for path in paths if path.startswith(head)):
            name, below, _ = path[len(head) :].partition("/")
            shown = head + name + below
            wanted[shown] = wanted.get(shown, 0) + 2
        for limit in (1, 3, 1000):
            assert listed(workspace, run, folder, limit=limit) == wanted, folder
    for limit in (1, 7, 1000):
        assert list(listed(workspace, run, all=True, limit=limit)) == sorted(paths)
    assert listed(workspace, run, "not there") == {}


def test_many_files_at_once(workspace: Workspace) -> None:
    run = workspace(CreateRun()).id
    workspace.put(b"x")
    files = [file(f"deep/{number % 7}/{number}") for number in range(3000)]
    assert workspace(AttachFiles(id=run, files=files)).files == 3000
    assert listed(workspace, run, "deep") == {f"deep/{part}/": len(range(part, 3000, 7)) for part in range(7)}
    assert workspace(DetachFiles(id=run, path="deep/3")).files == len(range(3, 3000, 7))
    sound(workspace)


def test_files_of_a_run_that_has_ended(anywhere: Workspace) -> None:
    """Models are often uploaded after the fact."""
    run = anywhere(CreateRun()).id
    anywhere(EndRun(id=run))
    assert attach(anywhere, run, {"late": b"x"}) == 1

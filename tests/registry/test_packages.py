"""Packages: sealed or not yet, what is said of them, what keeps them, how they go."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest

from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, Invalid, NotFound
from tarmac.registry.operations import (
    AddVersion,
    AttachPackageFiles,
    CreateModel,
    CreatePackage,
    DeletePackage,
    DeleteVersion,
    GetPackage,
    GetVersion,
    LinkPackage,
    ListPackageFiles,
    ListPackageRuns,
    ListPackages,
    LogPackage,
    PurgePackages,
    RestorePackage,
    SealPackage,
    TagPackage,
)
from tarmac.registry.records import PackageMetric, Purged
from tarmac.store.manifests import manifest_digest
from tarmac.store.operations import CollectGarbage, DeleteManifest, ShowLineage
from tarmac.store.records import File
from tarmac.track.operations import AttachFiles, CreateRun, DeleteRuns, DetachFiles, GetRun, PurgeRuns
from tarmac.workspace import Workspace
from tests.registry.making import blob, last_event, package, run_with_model, sound


def collect(workspace: Workspace) -> int:
    """How many blobs are gone after two rounds: one that condemns, one that deletes."""
    gone = 0
    for _ in range(2):
        time.sleep(0.002)
        gone += workspace.wait(workspace(CollectGarbage(grace_hours=0))).deleted
    return gone


def purge(workspace: Workspace, **given: Any) -> Purged:
    time.sleep(0.002)
    return workspace.wait(workspace(PurgePackages(days=0, **given)))


def test_a_package_of_blobs_is_sealed_at_once(anywhere: Workspace) -> None:
    made = package(anywhere, document={"signature": {"inputs": ["x"]}}, kind="sklearn", params={"depth": "6"})
    files = anywhere(ListPackageFiles(id=made.id)).files
    assert [file.path for file in files] == ["MLmodel", "data/model.bin"]
    assert made.state == "ready"
    assert made.digest == manifest_digest(files)
    assert (made.files, made.size) == (2, sum(file.size for file in files))
    assert anywhere(GetPackage(id=made.id)) == made
    assert made.document == {"signature": {"inputs": ["x"]}}
    with pytest.raises(Conflict, match="is sealed"):
        anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "more", b"more")]))
    with pytest.raises(Conflict, match="sealed already"):
        anywhere(SealPackage(id=made.id, state="failed"))
    with pytest.raises(Conflict, match="sealed already"):
        anywhere(SealPackage(id=made.id, document={"another": 1}))
    assert anywhere(SealPackage(id=made.id)) == made, "twice is once"
    sound(anywhere)


def test_a_sealed_package_is_changed_on_request_until_a_version_refers_to_it(anywhere: Workspace) -> None:
    made = package(anywhere)
    first = made.digest
    changed = anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "MLmodel", b"new")], reopen=True)).package
    assert changed is not None
    files = anywhere(ListPackageFiles(id=made.id)).files
    assert (changed.state, changed.files, changed.size) == ("ready", 2, sum(file.size for file in files))
    assert changed.digest == manifest_digest(files) != first
    assert last_event(anywhere, "packages.attach").payload["evidence"] == {
        "files": changed.digest, "document": digest(b"{}"), "before": first,
    }  # fmt: skip
    absent = File(path="more", digest="0" * 64, size=1)
    assert anywhere(AttachPackageFiles(id=made.id, files=[absent], reopen=True)).missing == ["0" * 64]
    with pytest.raises(Conflict, match="cannot lie below it"):
        anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "MLmodel/x", b"x")], reopen=True))
    assert anywhere(GetPackage(id=made.id)).digest == changed.digest, "what fails changes nothing"
    assert collect(anywhere) == 2, "the first MLmodel, and the one that could not come"
    sound(anywhere)

    assert anywhere(SealPackage(id=made.id, state="failed", reopen=True)).state == "failed"
    again = anywhere(SealPackage(id=made.id))
    assert (again.state, again.digest) == ("ready", changed.digest)
    anywhere(AddVersion(name="churn", package=made.id, create=True))
    with pytest.raises(Conflict, match="churn@v1 is made of it"):
        anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "MLmodel", b"other")], reopen=True))
    with pytest.raises(Conflict, match="churn@v1 is made of it"):
        anywhere(SealPackage(id=made.id, state="failed", reopen=True))
    assert anywhere(GetVersion(ref="churn@v1")).digest == changed.digest
    sound(anywhere)


def test_missing_blobs_are_named_and_nothing_is_made(anywhere: Workspace) -> None:
    absent = File(path="a", digest="0" * 64, size=1)
    assert anywhere(CreatePackage(name="churn", files=[absent])).missing == ["0" * 64]
    assert anywhere(ListPackages()).packages == []


def test_a_package_of_a_runs_folder_does_not_change_with_the_run(anywhere: Workspace) -> None:
    run = run_with_model(anywhere)
    made = anywhere(CreatePackage(name="churn", run=run, folder="model")).package
    assert made is not None
    assert made.experiment is not None
    before = anywhere(ListPackageFiles(id=made.id))
    assert [file.path for file in before.files] == ["MLmodel", "data/model.bin"]
    anywhere(AttachFiles(id=run, files=[blob(anywhere, "model/MLmodel", b"changed")]))
    anywhere(DetachFiles(id=run, path="model/data"))
    assert anywhere(ListPackageFiles(id=made.id)) == before
    collect(anywhere)
    assert b"".join(anywhere.read(before.files[1].digest)) == b"weights"
    assert [edge.source for edge in anywhere(ShowLineage(thing=f"packages/{made.id}")).edges] == [f"runs/{run}"]
    with pytest.raises(NotFound, match="no folder `modl`") as fault:
        anywhere(CreatePackage(name="churn", run=run, folder="modl"))
    assert fault.value.hint == "did you mean `model`?"
    with pytest.raises(Invalid, match="`run` is missing"):
        anywhere(CreatePackage(name="churn", folder="model"))
    sound(anywhere)


def test_a_pending_package_takes_files_until_it_is_sealed(anywhere: Workspace) -> None:
    made = anywhere(CreatePackage(name="churn", id="ab" * 16)).package
    assert made is not None
    assert anywhere(CreatePackage(name="churn", id="ab" * 16)).package == made, "sent again"
    assert (made.state, made.digest, made.files) == ("pending", None, 0)
    first, other = blob(anywhere, "a", b"one"), blob(anywhere, "a", b"other")
    assert anywhere(AttachPackageFiles(id=made.id, files=[File(path="a", digest="0" * 64, size=1)])).missing
    anywhere(AttachPackageFiles(id=made.id, files=[first, blob(anywhere, "b", b"two")]))
    after = anywhere(AttachPackageFiles(id=made.id, files=[other])).package
    assert after is not None
    assert (after.files, after.size) == (2, 8)
    assert collect(anywhere) == 1, "what was replaced goes, what waits to be sealed stays"
    sound(anywhere)
    assert anywhere(ListPackageFiles(id=made.id)).files[0].digest == other.digest
    sealed = anywhere(SealPackage(id=made.id, document={"flavour": "x"}))
    assert (sealed.state, sealed.files, sealed.document) == ("ready", 2, {"flavour": "x"})
    assert collect(anywhere) == 0
    sound(anywhere)
    assert last_event(anywhere, "packages.seal").subject == f"packages/{made.id}"


def test_a_package_whose_bytes_are_elsewhere(anywhere: Workspace) -> None:
    made = anywhere(CreatePackage(name="churn")).package
    assert made is not None
    ready = anywhere(SealPackage(id=made.id))
    assert (ready.state, ready.manifest, ready.digest) == ("ready", None, None)
    version = anywhere(AddVersion(name="churn", package=made.id, create=True))
    assert (version.state, version.digest) == ("ready", None)
    anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "a", b"one")]))
    assert anywhere(GetPackage(id=made.id)).state == "pending"
    sealed = anywhere(SealPackage(id=made.id))
    assert sealed.digest is not None
    assert anywhere(GetVersion(ref="churn@v1")).digest == sealed.digest
    with pytest.raises(Conflict, match="is sealed"):
        anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "b", b"two")]))
    sound(anywhere)


def test_a_path_is_a_file_or_a_folder(anywhere: Workspace) -> None:
    made = anywhere(CreatePackage(name="churn")).package
    assert made is not None
    anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "a/b", b"one")]))
    with pytest.raises(Conflict, match="`a` is a folder of this package: `a/b` lies in it"):
        anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "a", b"two")]))
    with pytest.raises(Conflict, match="`a/b` is a file of this package; `a/b/c/d` cannot lie below it"):
        anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "a/b/c/d", b"two")]))
    for files in ([("x", b"1"), ("x", b"2")], [("x", b"1"), ("x/y", b"2")]):
        with pytest.raises(Invalid):
            anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, *file) for file in files]))
    assert anywhere(SealPackage(id=made.id)).files == 1
    sound(anywhere)


def test_a_run_may_be_named_by_the_beginning_of_its_id(anywhere: Workspace) -> None:
    run = run_with_model(anywhere)
    made = anywhere(CreatePackage(name="churn", run=run[:14], folder="model")).package
    assert made is not None
    assert made.run == run
    assert anywhere(AddVersion(name="churn", source="x", run=run[:14], create=True)).run == run
    assert anywhere(AddVersion(name="churn", source="x", run="4711")).run == "4711"
    edges = anywhere(ShowLineage(thing=f"runs/{run}", direction="down")).edges
    assert {edge.target for edge in edges} == {f"packages/{made.id}", "models/churn@v1"}


def test_a_package_that_could_not_be_made(anywhere: Workspace) -> None:
    made = anywhere(CreatePackage(name="churn")).package
    assert made is not None
    assert anywhere(SealPackage(id=made.id, state="failed")).state == "failed"
    anywhere(CreateModel(name="churn"))
    with pytest.raises(Conflict, match="could not be made"):
        anywhere(AddVersion(name="churn", package=made.id))
    assert anywhere(SealPackage(id=made.id)).state == "ready", "a second try may do"


def test_what_is_said_of_a_package(anywhere: Workspace) -> None:
    made = package(anywhere, tags={"team": "risk"})
    tagged = anywhere(TagPackage(id=made.id, set={"a": "b"}, unset=["team", "nothing"]))
    assert tagged.tags == {"a": "b"}
    assert tagged.digest == made.digest
    metrics = [
        PackageMetric(name="acc", value=0.9, run="r1", data="test", data_digest="d", step=3, at=5),
        PackageMetric(name="acc", value=0.8, run="r2", at=4),
        PackageMetric(name="loss", value="NaN", at=4),
        PackageMetric(name="most", value="Infinity", at=4),
    ]
    logged = anywhere(LogPackage(id=made.id, params={"depth": "6"}, metrics=metrics))
    assert sorted(logged.metrics, key=lambda metric: (metric.name, -metric.at)) == metrics
    again = anywhere(LogPackage(id=made.id, params={"depth": "6"}, metrics=[metrics[0]]))
    assert len(again.metrics) == 4
    with pytest.raises(Conflict, match="cannot become `7`"):
        anywhere(LogPackage(id=made.id, params={"depth": "7"}))
    run = anywhere(CreateRun()).id
    anywhere(LinkPackage(id=made.id, run=run, part="input"))
    anywhere(LinkPackage(id=made.id, run="gone", step=2))
    found = anywhere(ListPackageRuns(runs=[run, "gone"])).links
    assert {(link.run, link.part, link.step) for link in found} == {(run, "input", 0), ("gone", "output", 2)}
    assert math.isclose(float(anywhere(GetPackage(id=made.id)).metrics[0].value), 0.8)


def test_search(anywhere: Workspace) -> None:
    ids = []
    for number in range(5):
        made = package(
            anywhere, b"%d" % number, kind="sklearn" if number % 2 else "onnx", params={"depth": str(number)}
        )
        anywhere(LogPackage(id=made.id, metrics=[PackageMetric(name="acc", value=number / 10)]))
        anywhere(TagPackage(id=made.id, set={"team": f"t{number}"}))
        ids.append(made.id)

    def found(filter: str, **given: Any) -> list[int]:
        return [ids.index(item.id) for item in anywhere(ListPackages(filter=filter, **given)).packages]

    assert found("") == [4, 3, 2, 1, 0]
    assert found("kind = 'sklearn'") == [3, 1]
    assert found("metrics.acc > 0.15 and model_type = 'onnx'") == [4, 2]
    assert found("params.depth IN ('0', '3') or tags.team = 't4'") == [4, 3, 0]
    assert found("NOT tags.team LIKE 't%'") == []
    assert found("status = 'ready'", order=["metrics.acc"]) == [0, 1, 2, 3, 4]
    page = anywhere(ListPackages(limit=2, order=["params.depth DESC"]))
    assert page.next is not None
    assert found("", limit=2, order=["params.depth DESC"], cursor=page.next) == [2, 1]
    for wrong in ("params.depth > 3", "min(metrics.acc) > 1", "dataset.name = 'x'", "colour = 'red'", "name ="):
        with pytest.raises(Invalid):
            found(wrong)
    for cursor in ("nonsense", page.next[:-3], "gaE"):
        with pytest.raises(Invalid):
            found("", cursor=cursor)
    with pytest.raises(Invalid, match="is not a page's `next`"):
        found("", cursor=page.next)


# --------------------------------------------------------------------------------------------------- what keeps what


def test_what_a_version_needs_stays(anywhere: Workspace) -> None:
    run = run_with_model(anywhere)
    anywhere(CreateModel(name="churn"))
    version = anywhere(AddVersion(name="churn", run=run, folder="model"))
    assert version.package is not None
    made = anywhere(GetPackage(id=version.package))
    assert made.versions == ["churn@v1"]
    with pytest.raises(Conflict, match="is what churn@v1 refers to"):
        anywhere(DeletePackage(id=made.id))
    assert made.manifest is not None
    with pytest.raises(Conflict, match=f"is what packages/{made.id} is made of"):
        anywhere(DeleteManifest(id=made.manifest))
    anywhere(DeleteRuns(ids=[run]))
    time.sleep(0.002)
    kept = anywhere.wait(anywhere(PurgeRuns(days=0))).kept
    assert kept == [f"{run}: packages/{made.id} was made from it"]
    assert anywhere(GetRun(id=run)).deleted_at is not None
    assert collect(anywhere) == 0

    anywhere(DeleteVersion(ref="churn@v1"))
    assert purge(anywhere).packages == 0, "only what is in the trash"
    assert anywhere(DeletePackage(id=made.id)).deleted_at is not None
    with pytest.raises(Conflict, match="in the trash"):
        anywhere(AddVersion(name="churn", package=made.id))
    assert anywhere(ListPackages()).packages == []
    assert [item.id for item in anywhere(ListPackages(deleted="only")).packages] == [made.id]
    assert anywhere(RestorePackage(id=made.id)).deleted_at is None
    anywhere(DeletePackage(id=made.id))
    assert purge(anywhere, dry_run=True) == Purged(packages=1, bytes=made.size)
    assert purge(anywhere) == Purged(packages=1, bytes=made.size)
    with pytest.raises(NotFound):
        anywhere(GetPackage(id=made.id))
    assert collect(anywhere) == 0, "the run still has them"
    assert anywhere.wait(anywhere(PurgeRuns(days=0))).kept == []
    assert collect(anywhere) == 3
    assert anywhere(ShowLineage(thing=f"runs/{run}", direction="down")).edges == []
    sound(anywhere)


def test_a_pending_package_is_purged_with_its_files(anywhere: Workspace) -> None:
    made = anywhere(CreatePackage(name="churn", tags={"a": "b"}, run="gone")).package
    assert made is not None
    anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "a", b"one"), blob(anywhere, "b", b"one")]))
    sound(anywhere)
    anywhere(DeletePackage(id=made.id))
    assert purge(anywhere).packages == 1
    assert collect(anywhere) == 1
    sound(anywhere)


def test_registering_seals_what_has_come(anywhere: Workspace) -> None:
    made = anywhere(CreatePackage(name="churn")).package
    assert made is not None
    anywhere(AttachPackageFiles(id=made.id, files=[blob(anywhere, "a", b"one")]))
    version = anywhere(AddVersion(name="churn", package=made.id, create=True))
    assert (version.state, version.package) == ("ready", made.id)
    assert version.digest == anywhere(GetPackage(id=made.id)).digest
    assert anywhere(GetVersion(ref="churn@latest")) == version

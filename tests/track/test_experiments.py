"""Experiments: their tags, how they are found, and that those of older stores go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarmac import store as stores
from tarmac.core.errors import Conflict, Invalid, NotFound
from tarmac.core.settings import Settings
from tarmac.store import migrations
from tarmac.store.folder import WorkspaceFolder
from tarmac.track.operations import (
    CreateExperiment,
    CreateRun,
    DeleteExperiment,
    GetExperiment,
    GetHistory,
    ListInputs,
    LogRun,
    PurgeRuns,
    ReadRuns,
    RenameExperiment,
    SearchExperiments,
    TagExperiment,
    UseInput,
)
from tarmac.workspace import Workspace, connect
from tests.store.editing import database_of


def names(workspace: Workspace, filter: str = "", **more: object) -> list[str]:
    asked = SearchExperiments(filter=filter, **more)  # type: ignore[arg-type]
    return [found.name for found in workspace(asked).experiments]


def test_tags_come_and_go(anywhere: Workspace) -> None:
    made = anywhere(CreateExperiment(name="e", tags={"team": "red"}, location="s3://bucket/x"))
    assert (made.tags, made.location) == ({"team": "red"}, "s3://bucket/x")
    assert anywhere(TagExperiment(name="e", set={"a": "1", "team": "blue"})).tags == {"a": "1", "team": "blue"}
    changed = anywhere(TagExperiment(name=made.id, unset=["a", "never"]))
    assert changed.tags == {"team": "blue"}
    assert changed.updated_at is not None
    assert anywhere(TagExperiment(name="e", unset=["a"])) == changed, "nothing was left to do"
    anywhere(DeleteExperiment(name="e"))
    with pytest.raises(Conflict, match="trash"):
        anywhere(TagExperiment(name="e", set={"a": "1"}))


def test_search(anywhere: Workspace) -> None:
    for name, team in (("base-1", "red"), ("base-2", "blue"), ("other", None)):
        anywhere(CreateExperiment(name=name, tags={"team": team} if team else {}))
    assert set(names(anywhere)) == {"base-1", "base-2", "other"}
    assert names(anywhere, "tags.team = 'red' OR name = 'other'", order=["name"]) == ["base-1", "other"]
    assert names(anywhere, "NOT tags.team = 'red'", order=["name DESC"]) == ["other", "base-2"]
    assert names(anywhere, "created > -1d AND updated > -1d AND note = ''", order=["id"], limit=2)
    first = anywhere(SearchExperiments(order=["name"], limit=2))
    rest = anywhere(SearchExperiments(order=["name"], limit=2, cursor=first.next or ""))
    assert [one.name for one in [*first.experiments, *rest.experiments]] == ["base-1", "base-2", "other"]
    assert rest.next is None
    for wrong in ("metrics.a > 1", "colour = 'red'", "name >", "created = 'soon'"):
        with pytest.raises(Invalid):
            names(anywhere, wrong)
    with pytest.raises(Invalid, match="cursor"):
        names(anywhere, "name = 'x'", cursor=first.next, order=["name"])
    anywhere(DeleteExperiment(name="other"))
    assert names(anywhere, deleted="only") == ["other"]
    assert len(names(anywhere, deleted="also")) == 3


def test_the_default_experiment_has_the_id_0(anywhere: Workspace) -> None:
    run = anywhere(CreateRun())
    assert anywhere(GetExperiment(name="0")).name == run.experiment == "default"
    assert names(anywhere, "name = 'Default'", default="Default") == ["default"]
    anywhere(RenameExperiment(name="default", to="mine"))
    assert anywhere(CreateRun()).experiment == "mine", "whatever it is called by now"
    with pytest.raises(NotFound):
        anywhere(CreateRun(experiment="123", exists=True))
    made = anywhere(CreateExperiment(name="12345"))
    assert anywhere(GetExperiment(name="12345")) == made, "digits that are no id are a name"


def test_purged_experiments_leave_no_tags(workspace: Workspace) -> None:
    workspace(CreateExperiment(name="e", tags={"a": "b"}))
    workspace(DeleteExperiment(name="e"))
    workspace.wait(workspace(PurgeRuns(days=0)))
    assert names(workspace, deleted="also") == []
    assert workspace(CreateExperiment(name="e")).tags == {}


def test_runs_are_read_whole(anywhere: Workspace) -> None:
    run = anywhere(CreateRun(experiment="e", params={"depth": "6"})).id
    anywhere(LogRun(id=run, metrics=[("m", 0.5, 3, 1000), ("n", "NaN", 0, 0)], dated=True))
    anywhere(UseInput(id=run, name="iris", version="3", context="training"))
    (whole,) = anywhere(ReadRuns(ids=["0" * 32, run])).runs
    assert whole.experiment_id == anywhere(GetExperiment(name="e")).id
    assert whole.moments == {"m": (3, 1000), "n": (0, 0)}
    assert (whole.metrics, whole.params) == ({"m": 0.5, "n": "NaN"}, {"depth": "6"})
    assert [(one.name, one.version, one.context) for one in whole.inputs] == [("iris", "3", "training")]
    (given,) = anywhere(ListInputs(experiments=["e"])).inputs
    assert (given.experiment, given.name, given.context) == (whole.experiment_id, "iris", "training")


def test_runs_are_found_and_read_whole(anywhere: Workspace) -> None:
    ids = [anywhere(CreateRun(experiment="e", params={"n": str(number)})).id for number in range(5)]
    for number, id in enumerate(ids):
        anywhere(LogRun(id=id, metrics=[("m", float(number % 2), number, 0)]))
    first = anywhere(ReadRuns(filter="params.n > 0", order=["metrics.m DESC", "params.n ASC"], limit=2))
    assert [run.params["n"] for run in first.runs] == ["1", "3"]
    rest = anywhere(
        ReadRuns(filter="params.n > 0", order=["metrics.m DESC", "params.n ASC"], limit=2, cursor=first.next or "")
    )
    assert [(run.id, run.moments["m"][0]) for run in rest.runs] == [(ids[2], 2), (ids[4], 4)]
    assert rest.next is None, "a page that is full is the last one if nothing follows"
    assert anywhere(ReadRuns(experiment=["e"], deleted="only")).runs == []
    assert [run.id for run in anywhere(ReadRuns(ids=[ids[3], ids[0]])).runs] == [ids[3], ids[0]]
    with pytest.raises(Invalid, match="not both"):
        anywhere(ReadRuns(ids=ids, filter="params.n > 0"))
    with pytest.raises(NotFound, match="no experiment"):
        anywhere(ReadRuns(experiment=["nowhere"]))


def test_portions_of_a_curve(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    anywhere(LogRun(id=run, metrics=[("m", float(step), step, 1 + step) for step in range(300)]))

    def steps(**asked: object) -> list[int]:
        curve = anywhere(GetHistory(run=run, key="m", **asked))  # type: ignore[arg-type]
        assert curve.total == 300
        return curve.steps

    assert steps() == list(range(300))
    assert steps(first=295, limit=10) == [295, 296, 297, 298, 299]
    assert steps(first=400) == []
    assert steps(steps=(10, 12)) == [10, 11, 12]
    assert steps(steps=(10, 20), first=2, limit=2) == [12, 13]
    assert steps(evenly=4) == [0, 75, 150, 299]
    assert steps(evenly=1) == [299]


@pytest.mark.slow
def test_a_store_of_format_4_is_upgraded(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = migrations.known()
    folder = WorkspaceFolder(tmp_path / "old" / ".tarmac")
    folder.path.parent.mkdir()
    monkeypatch.setattr(migrations, "known", lambda folder=None: every[:4])
    stores.create(folder, Settings(), address).close()
    connect(folder.path.parent).close()  # makes the project
    with database_of(folder) as ask:
        for number, name in ((1001, "default"), (1002, "other")):
            ask(
                "INSERT INTO experiments (key, project, id, name, note, created_at) "
                "SELECT ?, key, ?, ?, 'a note', 5 FROM projects",
                number, f"4{number}", name,
            )  # fmt: skip
    monkeypatch.undo()
    stores.upgrade(folder, Settings())
    with connect(folder.path.parent) as workspace:
        found = {one.name: one for one in workspace(SearchExperiments()).experiments}
        assert {name: one.id for name, one in found.items()} == {"default": "0", "other": "41002"}
        assert found["default"].note == "a note"
        assert workspace(CreateRun(experiment="0")).experiment == "default"
        assert workspace(TagExperiment(name="41002", set={"a": "b"})).tags == {"a": "b"}

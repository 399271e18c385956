"""Experiments and runs, through a folder and through a server, on both databases."""

from __future__ import annotations

import pytest

from tarmac.core.errors import Conflict, Invalid, NotFound
from tarmac.govern.operations import ListEvents
from tarmac.store.operations import ShowLineage
from tarmac.track.operations import (
    CreateExperiment,
    CreateRun,
    EndRun,
    GetExperiment,
    GetRun,
    ListExperiments,
    ListRuns,
)
from tarmac.workspace import Workspace


def test_a_run_lives_from_start_to_end(anywhere: Workspace) -> None:
    run = anywhere(CreateRun(experiment="baseline", name="first"))
    assert (run.status, run.experiment, run.name, run.ended_at) == ("running", "baseline", "first", None)
    ended = anywhere(EndRun(id=run.id, status="failed"))
    assert ended.status == "failed"
    assert ended.ended_at is not None
    assert anywhere(GetRun(id=run.id)) == ended
    assert anywhere(GetExperiment(name="baseline")).name == "baseline"


def test_ending_twice_is_once(anywhere: Workspace) -> None:
    run = anywhere(CreateRun())
    first = anywhere(EndRun(id=run.id))
    assert anywhere(EndRun(id=run.id)) == first
    with pytest.raises(Conflict, match="ended already"):
        anywhere(EndRun(id=run.id, status="failed"))


def test_pages_hold_every_run_once_newest_first(anywhere: Workspace) -> None:
    made = [anywhere(CreateRun(experiment="pages")).id for _ in range(7)]
    anywhere(CreateRun(experiment="other"))
    found, cursor = [], ""
    while True:
        page = anywhere(ListRuns(experiment=["pages"], limit=3, cursor=cursor))
        found += [run.id for run in page.runs]
        if page.next is None:
            break
        cursor = page.next
    assert found == made[::-1]


def test_a_child_run_has_its_parent_in_its_lineage(anywhere: Workspace) -> None:
    parent = anywhere(CreateRun())
    child = anywhere(CreateRun(parent=parent.id))
    (edge,) = anywhere(ShowLineage(thing=f"runs/{child.id}")).edges
    assert (edge.source, edge.target, edge.how) == (f"runs/{parent.id}", f"runs/{child.id}", "started")


def test_an_experiment_can_be_found_by_name_and_id(anywhere: Workspace) -> None:
    made = anywhere(CreateExperiment(name="tiefe Wälder", note="ein\nlanger Text"))
    assert anywhere(GetExperiment(name=made.id)) == made
    assert anywhere(ListExperiments()).experiments == [made]
    with pytest.raises(Conflict, match="exists already"):
        anywhere(CreateExperiment(name="tiefe Wälder"))


def test_a_failed_command_leaves_nothing(anywhere: Workspace) -> None:
    with pytest.raises(NotFound):
        anywhere(CreateRun(experiment="never", parent="ab" * 16))
    assert anywhere(ListExperiments()).experiments == []
    assert anywhere(ListEvents()).events == []


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (GetRun(id="0" * 32), NotFound, "there is no run"),
        (GetRun(id="not hex"), Invalid, "hex digits"),
        (CreateRun(experiment="a\nb"), Invalid, "control characters"),
        (CreateRun(experiment="x" * 501), Invalid, "experiment"),
        (CreateRun(experiment=""), Invalid, "experiment"),
        (ListRuns(limit=0), Invalid, "limit"),
        (ListRuns(cursor="nonsense"), Invalid, "cursor"),
        (ListRuns(experiment=["unknown"]), NotFound, "there is no experiment"),
    ],
)
def test_what_is_wrong_is_said(anywhere: Workspace, request_: GetRun, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        anywhere(request_)


def test_the_nearest_name_is_offered(anywhere: Workspace) -> None:
    anywhere(CreateExperiment(name="baseline"))
    with pytest.raises(NotFound) as caught:
        anywhere(GetExperiment(name="basline"))
    assert caught.value.hint == "did you mean `baseline`?"

"""Models, their versions, aliases and the history of these."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest

from tarmac.core.errors import Conflict, Invalid, NotFound, Refused
from tarmac.registry.operations import (
    AddVersion,
    CopyVersion,
    CreateModel,
    CreatePackage,
    DeleteModel,
    DeleteVersion,
    EditModel,
    EditVersion,
    GetModel,
    GetVersion,
    ListLatest,
    ListModels,
    ListVersions,
    PromoteVersion,
    RenameModel,
    RetireAlias,
    RollbackAlias,
    ShowHistory,
    StageVersion,
    TagModel,
    TagVersion,
)
from tarmac.registry.references import Reference, parse
from tarmac.store.operations import ShowLineage
from tarmac.workspace import Workspace, connect
from tests.registry.making import last_event, package, promote, run_with_model, sound, versions


def points_to(workspace: Workspace, name: str, alias: str) -> int | None:
    return workspace(GetModel(name=name)).aliases.get(alias)


def test_a_model_and_its_versions(anywhere: Workspace) -> None:
    model = anywhere(CreateModel(name="churn", note="who leaves", tags={"team": "risk"}))
    assert (model.latest, model.aliases, model.tags) == (None, {}, {"team": "risk"})
    with pytest.raises(Conflict, match="exists already"):
        anywhere(CreateModel(name="churn"))
    with pytest.raises(NotFound, match="has no version"):
        anywhere(GetVersion(ref="churn@latest"))
    first = anywhere(AddVersion(name="churn", source="s3://bucket/1", run="never was", note="n", tags={"a": "b"}))
    assert (first.number, first.run, first.source, first.tags) == (1, "never was", "s3://bucket/1", {"a": "b"})
    second = anywhere(AddVersion(name="churn", package=package(anywhere).id))
    assert second.number == anywhere(GetModel(name="churn")).latest == 2
    assert anywhere(GetVersion(ref="churn@v1")) == first
    assert anywhere(GetVersion(ref="churn@LATEST")) == second
    assert anywhere(EditVersion(ref="churn@v1", note="better")).note == "better"
    assert anywhere(TagVersion(ref="churn@v1", set={"c": "d"}, unset=["a"])).tags == {"c": "d"}
    assert anywhere(EditModel(name="churn", note="")).note == ""
    assert anywhere(TagModel(name="churn", set={"x": ""}, unset=["team"])).tags == {"x": ""}
    with pytest.raises(Invalid, match="a version is of something"):
        anywhere(AddVersion(name="churn"))
    with pytest.raises(NotFound, match="no model `chrun`") as fault:
        anywhere(AddVersion(name="chrun", source="x"))
    assert fault.value.hint == "did you mean `churn`?"
    assert anywhere(AddVersion(name="new", source="x", create=True)).number == 1


@pytest.mark.parametrize("name", ["a/b", "a:b", "a@b", ".", "..", "", " ", "a\nb", "x" * 257])
def test_names_that_would_be_read_as_something_else(workspace: Workspace, name: str) -> None:
    with pytest.raises(Invalid):
        workspace(CreateModel(name=name))


def test_references() -> None:
    assert parse("churn@v7") == Reference("churn", number=7)
    assert parse("churn@production") == Reference("churn", alias="production")
    assert parse("churn@latest") == parse("churn@Latest") == Reference("churn")
    assert [str(parse(text)) for text in ("a@V07", "a@x", "a@latest")] == ["a@v7", "a@x", "a@latest"]
    for wrong in ("churn", "churn@", "@v1", ""):
        with pytest.raises(Invalid, match="does not say which version"):
            parse(wrong)


def test_numbers_are_never_given_again(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 3)
    anywhere(DeleteVersion(ref="churn@v3"))
    assert anywhere(GetModel(name="churn")).latest == 2
    with pytest.raises(NotFound) as fault:
        anywhere(GetVersion(ref="churn@v3"))
    assert fault.value.hint == "it was deleted; its number is never given again"
    assert anywhere(AddVersion(name="churn", source="x")).number == 4
    anywhere(DeleteModel(name="churn"))
    with pytest.raises(NotFound):
        anywhere(GetModel(name="churn"))
    assert anywhere(ListVersions()).versions == []
    anywhere(CreateModel(name="churn"))
    assert anywhere(AddVersion(name="churn", source="x")).number == 5, "churn@v1 never means two things"


# ------------------------------------------------------------------------------------------------------------ aliases


def test_an_alias_moves_with_a_history(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 3)
    move = anywhere(PromoteVersion(ref="churn@v1", to="production", reason="first"))
    assert (move.before, move.after, move.reason, move.how) == (None, 1, "first", "promote")
    promote(anywhere, "churn@v2", "production", "better")
    promote(anywhere, "churn@production", "staging")
    assert anywhere(GetModel(name="churn")).aliases == {"production": 2, "staging": 2}
    assert anywhere(GetVersion(ref="churn@production")).aliases == ["production", "staging"]
    assert last_event(anywhere, "models.promote").subject == "models/churn"
    again = anywhere(PromoteVersion(ref="churn@v2", to="production", reason="nothing new"))
    assert again.reason == "better", "it points there already: no second line"
    history = anywhere(ShowHistory(name="churn", alias="production")).moves
    assert [(move.before, move.after) for move in history] == [(1, 2), (None, 1)]
    page = anywhere(ShowHistory(name="churn", limit=2))
    assert page.next is not None
    rest = anywhere(ShowHistory(name="churn", limit=2, before=page.next))
    assert len(page.moves) + len(rest.moves) == 3
    with pytest.raises(Invalid, match="`before`"):
        anywhere(ShowHistory(name="churn", before="0" * 32))


def test_rollback_goes_one_step_back_each_time(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 4)
    for number in (1, 2, 3):
        promote(anywhere, f"churn@v{number}", "production")
    back = RollbackAlias(ref="churn@production", reason="worse")
    assert (anywhere(back).before, points_to(anywhere, "churn", "production")) == (3, 2)
    promote(anywhere, "churn@v4", "production")
    assert anywhere(back).after == 2
    assert anywhere(back).after == 1
    with pytest.raises(Conflict, match="nothing that `churn@production` could go back to"):
        anywhere(back)
    anywhere(RetireAlias(ref="churn@production"))
    assert points_to(anywhere, "churn", "production") is None
    with pytest.raises(NotFound, match="no alias `churn@production`"):
        anywhere(GetVersion(ref="churn@production"))
    assert anywhere(back).after == 1, "a rollback brings it back"
    with pytest.raises(NotFound):
        anywhere(RollbackAlias(ref="churn@nothing"))
    with pytest.raises(Invalid, match="is a version and no alias"):
        anywhere(RollbackAlias(ref="churn@v1"))


def test_rollback_passes_over_what_was_deleted(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 3)
    for number in (1, 2, 3):
        promote(anywhere, f"churn@v{number}", "production")
    anywhere(DeleteVersion(ref="churn@v2"))
    assert anywhere(RollbackAlias(ref="churn@production")).after == 1
    promote(anywhere, "churn@v3", "production")
    anywhere(DeleteVersion(ref="churn@v1"))
    with pytest.raises(Conflict, match="v1 was deleted"):
        anywhere(RollbackAlias(ref="churn@production"))


def test_history_at_a_time(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 3)
    times = []
    for number, alias in ((1, "production"), (2, "staging"), (2, "production"), (3, "production")):
        promote(anywhere, f"churn@v{number}", alias)
        times.append(anywhere(ShowHistory(name="churn", limit=1)).moves[0].at)
        time.sleep(0.005)
    anywhere(RetireAlias(ref="churn@staging"))
    times.append(anywhere(ShowHistory(name="churn", limit=1)).moves[0].at)

    def at(when: str, alias: str = "") -> dict[str, int | None]:
        return {move.alias: move.after for move in anywhere(ShowHistory(name="churn", at=when, alias=alias)).moves}

    assert at(str(times[0] - 1)) == {}
    assert at(str(times[0])) == {"production": 1}
    assert at(str(times[1] + 1)) == {"production": 1, "staging": 2}
    assert at(str(times[2]), "production") == {"production": 2}
    assert at(str(times[3])) == {"production": 3, "staging": 2}
    assert at(str(times[4])) == {"production": 3}
    assert at("-1h") == {}
    with pytest.raises(Invalid, match="is not a time"):
        at("yesterday")


def test_a_reserved_alias_or_a_wrong_one(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 1)
    for alias in ("latest", "Latest", "v1", "V99"):
        with pytest.raises(Invalid, match="no alias can be called"):
            promote(anywhere, "churn@v1", alias)
    for alias in ("a b", "a@b", "", "x" * 256, "a/b"):
        with pytest.raises(Invalid):
            promote(anywhere, "churn@v1", alias)
    pending = anywhere(CreatePackage(name="churn")).package
    assert pending is not None
    anywhere(AddVersion(name="churn", package=pending.id))
    with pytest.raises(Refused, match="churn@v2 is pending"):
        promote(anywhere, "churn@v2", "production")
    with pytest.raises(Refused):
        anywhere(StageVersion(ref="churn@v2", stage="Production"))


def test_what_an_alias_points_to_does_not_go_silently(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 2)
    promote(anywhere, "churn@v1", "production")
    with pytest.raises(Conflict, match="churn@v1 is what `production` points to"):
        anywhere(DeleteVersion(ref="churn@v1"))
    with pytest.raises(Conflict, match="what `production` points to"):
        anywhere(DeleteModel(name="churn"))
    anywhere(DeleteVersion(ref="churn@v1", with_aliases=True))
    last = anywhere(ShowHistory(name="churn")).moves[0]
    assert (last.how, last.before, last.after, last.reason) == ("retire", 1, None, "v1 was deleted")
    promote(anywhere, "churn@v2", "production")
    gone = anywhere(DeleteModel(name="churn", with_aliases=True))
    assert gone.deleted_at is not None
    history = anywhere(ShowHistory(name="churn")).moves
    assert [move.how for move in history] == ["retire", "promote", "retire", "promote"], "history outlives its model"
    sound(anywhere)


def test_a_model_keeps_all_it_has_under_another_name(anywhere: Workspace) -> None:
    run = run_with_model(anywhere)
    anywhere(CreateModel(name="churn"))
    anywhere(AddVersion(name="churn", run=run, folder="model"))
    promote(anywhere, "churn@v1", "production", "first")
    before = anywhere(ShowHistory(name="churn"))
    versions(anywhere, "taken", 1)
    with pytest.raises(Conflict, match="`taken` exists already"):
        anywhere(RenameModel(name="churn", to="taken"))
    assert anywhere(RenameModel(name="churn", to="leavers")).aliases == {"production": 1}
    assert anywhere(ShowHistory(name="leavers")) == before
    assert [edge.how for edge in anywhere(ShowLineage(thing="models/leavers@v1")).edges] == ["registered", "made"]
    assert anywhere(ShowLineage(thing="models/churn@v1")).edges == []
    assert anywhere(GetVersion(ref="leavers@production")).model == "leavers"
    anywhere(CreateModel(name="churn"))
    assert anywhere(AddVersion(name="churn", source="x")).number == 1


def test_a_copy_refers_to_the_same_package(anywhere: Workspace) -> None:
    made = package(anywhere)
    anywhere(CreateModel(name="dev"))
    source = anywhere(AddVersion(name="dev", package=made.id, note="n", tags={"a": "b"}))
    with pytest.raises(NotFound):
        anywhere(CopyVersion(ref="dev@v1", to="prod"))
    copy = anywhere(CopyVersion(ref="dev@latest", to="prod", create=True))
    assert (copy.package, copy.digest, copy.tags, copy.note) == (made.id, source.digest, {"a": "b"}, "n")
    assert copy.source == "models:/dev/1"
    assert "models/dev@v1" in [edge.source for edge in anywhere(ShowLineage(thing="models/prod@v1")).edges]


def test_stages_of_older_clients(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 3)
    anywhere(StageVersion(ref="churn@v1", stage="Production"))
    anywhere(StageVersion(ref="churn@v2", stage="Production", archive=True))
    assert anywhere(GetVersion(ref="churn@v1")).stage == "Archived"
    latest = anywhere(ListLatest(models=["churn"])).versions
    assert {version.stage: version.number for version in latest} == {"Archived": 1, "Production": 2, "None": 3}
    assert [v.number for v in anywhere(ListLatest(models=["churn"], stages=["Production"])).versions] == [2]
    with pytest.raises(Invalid, match="`archive` is for"):
        anywhere(StageVersion(ref="churn@v3", stage="Archived", archive=True))


# ------------------------------------------------------------------------------------------------------------- search


def test_search_of_models_and_versions(anywhere: Workspace) -> None:
    for number in range(6):
        anywhere(CreateModel(name=f"m{number}", tags={"team": "a" if number % 2 else "b"}))
        for version in range(number):
            anywhere(AddVersion(name=f"m{number}", source=f"s{version}", run=f"r{version}", tags={"n": str(version)}))

    def models(filter: str = "", order: list[str] | None = None, limit: int = 2) -> list[str]:
        names, cursor = [], ""
        while True:
            page = anywhere(ListModels(filter=filter, order=order or [], limit=limit, cursor=cursor))
            names += [model.name for model in page.models]
            if page.next is None:
                return names
            cursor = page.next

    assert models() == [f"m{number}" for number in range(6)]
    assert models("tags.team = 'a' and name LIKE 'm%'") == ["m1", "m3", "m5"]
    assert models("name ILIKE 'M1' or attribute.name = 'm2'") == ["m1", "m2"]
    assert models(order=["name DESC"]) == [f"m{number}" for number in reversed(range(6))]
    assert models(order=["last_updated_timestamp DESC"])[0] == "m5"
    assert models(order=["tags.team", "name DESC"]) == ["m5", "m3", "m1", "m4", "m2", "m0"]

    def found(filter: str, order: list[str] | None = None) -> list[str]:
        names, cursor = [], ""
        while True:
            page = anywhere(ListVersions(filter=filter, order=order or [], limit=3, cursor=cursor))
            names += [f"{version.model}@v{version.number}" for version in page.versions]
            if page.next is None:
                return names
            cursor = page.next

    assert found("name = 'm3'", ["version_number ASC"]) == ["m3@v1", "m3@v2", "m3@v3"]
    assert found("version_number > 3 and tags.n = '3'", ["name"]) == ["m4@v4", "m5@v4"]
    assert found("run_id IN ('r4') or source_path = 's4'") == ["m5@v5"]
    assert len(found("")) == len(set(found(""))) == 15
    assert [v.number for v in anywhere(ListVersions(model="m2", order=["number"])).versions] == [1, 2]
    for wrong in ("metrics.a > 1", "params.x = '1'", "number = 'x'", "nme = 'x'"):
        with pytest.raises(Invalid):
            found(wrong)


# ------------------------------------------------------------------------------------------------------ many at once


def test_two_promotions_at_once_come_one_after_the_other(workspace: Workspace, folder: object) -> None:
    """Two programs move one alias as fast as they can: each move starts where the one before ended."""
    versions(workspace, "churn", 2)
    place = Path(workspace.place).parent
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with connect(place) as own:
                for _ in range(20):
                    promote(own, f"churn@v{number}", "production")
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    moves = workspace(ShowHistory(name="churn", limit=1000)).moves[::-1]
    assert moves[0].before is None
    for before, after in itertools.pairwise(moves):
        assert after.before == before.after
        assert after.before != after.after
        assert after.at >= before.at
    assert points_to(workspace, "churn", "production") == moves[-1].after


def test_versions_added_at_once_have_numbers_of_their_own(workspace: Workspace) -> None:
    workspace(CreateModel(name="churn"))
    place, numbers, lock = Path(workspace.place).parent, list[int](), threading.Lock()

    def work() -> None:
        with connect(place) as own:
            for _ in range(10):
                made = own(AddVersion(name="churn", source="x"))
                with lock:
                    numbers.append(made.number)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 31))


def test_who_was_faster_is_told(anywhere: Workspace) -> None:
    versions(anywhere, "churn", 3)
    anywhere(PromoteVersion(ref="churn@v1", to="production", expected=0))
    with pytest.raises(Conflict, match="churn@production points to v1, not nowhere") as fault:
        anywhere(PromoteVersion(ref="churn@v2", to="production", expected=0))
    assert fault.value.detail == {"points_to": 1}
    assert anywhere(PromoteVersion(ref="churn@v2", to="production", expected=1)).after == 2

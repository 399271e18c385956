"""Gates: what has to hold before an alias moves, whoever moves it and by whatever name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tarmac.core.errors import Conflict, Invalid, NotFound, Refused, TarmacError
from tarmac.govern.operations import CheckGate, JudgeVersion, ListChecks, ListGates, RemoveGate, SetGate
from tarmac.registry.operations import (
    CopyVersion,
    DeleteModel,
    DeletePackage,
    DeleteVersion,
    PromoteVersion,
    RenameModel,
    RetireAlias,
    RollbackAlias,
    ShowHistory,
    StageVersion,
    TagVersion,
)
from tarmac.store.operations import DeleteManifest
from tarmac.track.operations import LogRun, UseInput
from tarmac.workspace import Workspace, connect
from tests.conftest import Ran
from tests.govern.gated import BETTER, gate, live, trained
from tests.registry.making import last_event, versions


def promote(workspace: Workspace, ref: str, to: str = "production", **more: object) -> None:
    workspace(PromoteVersion(ref=ref, to=to, **more))  # type: ignore[arg-type]


def test_a_gate_lets_the_better_one_through(anywhere: Workspace) -> None:
    made = gate(anywhere, "metrics['acc'] >= 0.8", BETTER)
    assert anywhere(ListGates()).gates == [made]
    for acc in (0.9, 0.85, 0.95):
        trained(anywhere, acc)
    promote(anywhere, "churn@v1", reason="the first")
    with pytest.raises(Refused, match="churn@v2 may not become `production`: 1 of 2 rules does not hold") as fault:
        promote(anywhere, "churn@v2")
    assert "`metrics['acc'] >= champion.metrics['acc'] - 0.01`: is 0.85, and has to be at least 0.89" in str(
        fault.value
    )
    assert [said["verdict"] for said in fault.value.detail["rules"]] == ["held", "failed"]
    assert live(anywhere) == 1
    promote(anywhere, "churn@v3")
    newest, first = anywhere(ShowHistory(name="churn")).moves
    assert (newest.before, newest.after) == (1, 3)
    assert newest.evidence["gate"] == made.digest
    assert newest.evidence["champion"] == 1
    assert newest.evidence["rules"][1]["values"] == {"metrics.acc": 0.95, "champion.metrics.acc": 0.9}
    assert [said["verdict"] for said in first.evidence["rules"]] == ["held", "not applicable"]
    assert last_event(anywhere, "models.promote").payload["evidence"]["gate"] == made.digest
    # an alias without a gate is as free as it was, and one whose gate was taken away too
    promote(anywhere, "churn@v2", "shadow")
    anywhere(RemoveGate(model="churn", alias="production"))
    promote(anywhere, "churn@v2")
    assert live(anywhere) == 2


def test_one_step_back_needs_no_rule(anywhere: Workspace) -> None:
    gate(anywhere, "metrics['acc'] >= 0.8")
    trained(anywhere, 0.9)
    trained(anywhere, 0.95)
    promote(anywhere, "churn@v1")
    promote(anywhere, "churn@v2")
    gate(anywhere, "metrics['acc'] >= 0.99")
    with pytest.raises(Refused):
        promote(anywhere, "churn@v1")
    back = anywhere(RollbackAlias(ref="churn@production", reason="it refuses half of the customers"))
    assert (back.after, back.evidence["returned"]) == (1, True)
    assert live(anywhere) == 1


def test_no_champion_yet(here: Workspace) -> None:
    trained(here, 0.9)
    gate(here, BETTER, first="refuse")
    with pytest.raises(Refused, match='there is no champion yet; `first = "allow"`'):
        promote(here, "churn@v1")
    gate(here, BETTER)
    verdict = here(JudgeVersion(ref="churn@v1", to="production"))
    assert (verdict.passed, verdict.champion, verdict.outcomes[0].verdict) == (True, None, "not applicable")
    promote(here, "churn@v1")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("1 / (metrics['acc'] - metrics['acc']) > 0", "zero"),
        ("metrics['auc'] >= 0.5", "metrics.auc is missing"),
        ("metrics['nan'] >= 0.5", "is NaN"),
        ("metrics['nan'] < 0.5 or metrics['acc'] > 2", "is NaN"),
        ("metrics['acc'] >= 'high'", "do not compare"),
        ("params['depth'] < 5", "is 6, and has to be less than 5"),
        ("params['width'] < 5", "params.width is missing"),
        ("params['kind'] == 'forest'", "has to be exactly forest"),
        ("tags['reviewed']", "tags.reviewed is missing"),
        ("tags['answer'] == 'yes'", "has to be exactly yes"),
        ("package.kind in ('onnx', 'lightgbm')", "package.kind is"),
        ("package.size_mb < 0.000001", "has to be less than 1e-06"),
        ("compiled.equal", "compiled.equal is missing"),
        ("reproducible", "reproducible is missing"),
        ("data.age_days <= 90", "data.age_days is missing"),
        ("not pickle", "was not measured yet"),
        ("latency.p99_ms + metrics['acc'] < 20", "was not measured yet"),
        ("max(metrics['acc'], 0.5) < 0.1", "does not hold"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_refused(here: Workspace, rule: str, why: str) -> None:
    rows = {"data": "rows.csv", "manifest": manifest(here)} if "latency" in rule else {}
    gate(here, rule, **rows)
    made = trained(here, 0.9, depth="6", kind="tree")

    assert made.run is not None
    here(LogRun(id=made.run, metrics=[("nan", "NaN", 0, 0)]))
    here(TagVersion(ref="churn@v1", set={"answer": "no"}))
    outcome = here(JudgeVersion(ref="churn@v1", to="production")).outcomes[0]
    assert outcome.verdict == "failed"
    assert why in outcome.why
    with pytest.raises(Refused):
        promote(here, "churn@v1")
    assert live(here) is None


def manifest(workspace: Workspace, data: bytes = b"a,label\n1,0\n") -> str:
    from tarmac.store.operations import CommitManifest
    from tests.registry.making import blob

    made = workspace(CommitManifest(kind="gate", files=[blob(workspace, "rows.csv", data)])).manifest
    assert made is not None
    return made.id


@pytest.mark.parametrize(
    ("rule", "said", "hint"),
    [
        ("metrcs['acc'] > 1", "is not known here", "did you mean `metrics`?"),
        ("latency.p9_ms < 5", "there is no `latency.p9_ms`", "did you mean `latency.p99_ms`?"),
        ("champion.metrcs['a'] > 1", "there is no", "did you mean `champion.metrics`?"),
        ("champion.challenge.low > 1", "there is no", "known of a champion"),
        ("metrics > 1", "there is no `metrics`", "there is metrics"),
        ("fairness['sex'].selection_gap < 1", "there is no", "did you mean"),
        ("9 ** 9 ** 9 > 1", "not part of the language", None),
        ("[x for x in metrics]", "not part of the language", None),
        ("__import__('os').system('true') == 0", "", None),
        ("metrics['acc'] >=", "cannot be read", None),
        ("(" * 300 + "1" + ")" * 300 + " > 0", "", None),
        ("metrics['acc']" + " + 1" * 400 + " > 0", "", None),
        ("0.95", "never yes or no", None),
    ],
)  # fmt: skip
def test_rules_that_nobody_could_keep_are_refused_when_they_are_set(
    here: Workspace, rule: str, said: str, hint: str | None
) -> None:
    with pytest.raises(Invalid) as fault:
        gate(here, rule)
    assert said in fault.value.message
    if hint:
        assert hint in (fault.value.hint or "")
    assert here(ListGates()).gates == []


def test_gates_that_contradict_themselves_are_refused(here: Workspace) -> None:
    with pytest.raises(Invalid, match="asks for nothing"):
        gate(here)
    with pytest.raises(Invalid, match="by whom"):
        gate(here, "signed")
    with pytest.raises(Invalid, match="names none"):
        gate(here, "measured.accuracy > 0.9")
    with pytest.raises(Invalid, match="needs the column"):
        gate(here, "measured.accuracy > 0.9", manifest=manifest(here))
    with pytest.raises(NotFound, match="no manifest"):
        gate(here, "latency.p99_ms < 9", manifest="0" * 32)
    with pytest.raises(Invalid, match="no public key"):
        gate(here, "signed", signed_by=["nothing"])
    with pytest.raises(Invalid, match="no alias can be called `latest`"):
        gate(here, "not pickle", alias="latest")
    with pytest.raises(NotFound, match="no gate `churn@prod`"):
        here(RemoveGate(model="churn", alias="prod"))
    made = gate(here, "not pickle")
    with pytest.raises(NotFound) as fault:
        here(RemoveGate(model="churn", alias="produktion"))
    assert fault.value.hint == "did you mean `churn@production`?"
    assert gate(here, "not pickle") == made  # said again, it is the same


def test_no_way_around(anywhere: Workspace) -> None:
    gate(anywhere, "metrics['acc'] >= 0.8")
    trained(anywhere, 0.9)
    trained(anywhere, 0.1)
    promote(anywhere, "churn@v1")
    bad = trained(anywhere, 0.1, name="other")
    promote(anywhere, "other@v1")
    ways: list[Callable[[], object]] = [
        lambda: promote(anywhere, "churn@v2"),
        lambda: anywhere(StageVersion(ref="churn@v2", stage="Production")),
        lambda: anywhere(StageVersion(ref="churn@v2", stage="Production", archive=True)),
        lambda: anywhere(RetireAlias(ref="churn@production")),
        lambda: anywhere(RetireAlias(ref="churn@production", reason="  ")),
        lambda: anywhere(DeleteVersion(ref="churn@v1", with_aliases=True)),
        lambda: anywhere(DeleteModel(name="churn", with_aliases=True)),
        lambda: anywhere(RenameModel(name="churn", to="gone")),
        lambda: promote(anywhere, "churn@v2", "Production"),
    ]
    for way in ways:
        with pytest.raises(Refused):
            way()
        assert live(anywhere) == 1
    # a model under another name does not bring its alias under the rules of this one
    anywhere(RetireAlias(ref="churn@production", reason="for the test"))
    anywhere(RenameModel(name="churn", to="was-churn"))
    with pytest.raises(Refused, match="rules that it was not judged by"):
        anywhere(RenameModel(name="other", to="churn"))
    anywhere(RetireAlias(ref="other@production"))
    anywhere(RenameModel(name="other", to="churn"))
    with pytest.raises(Refused):
        promote(anywhere, "churn@v1")
    with pytest.raises(Conflict, match="is what churn@v1 refers to"):
        anywhere(DeletePackage(id=bad.package or ""))


def test_the_same_rules_under_both_names_let_a_model_be_renamed(here: Workspace) -> None:
    trained(here, 0.9)
    gate(here, "metrics['acc'] >= 0.8")
    promote(here, "churn@v1")
    gate(here, "metrics['acc'] >= 0.8", model="leavers")
    here(RenameModel(name="churn", to="leavers"))
    assert live(here, model="leavers") == 1


def test_stages_stand_under_the_gate_of_their_name(workspace: Workspace) -> None:
    gate(workspace, BETTER, first="allow")
    for acc in (0.9, 0.5, 0.95):
        trained(workspace, acc)
    workspace(StageVersion(ref="churn@v1", stage="Production"))
    with pytest.raises(Refused, match=r"has to be at least 0\.89"):
        workspace(StageVersion(ref="churn@v2", stage="Production"))
    workspace(StageVersion(ref="churn@v2", stage="Staging"))  # no gate there
    workspace(StageVersion(ref="churn@v3", stage="Production", archive=True))
    with pytest.raises(Refused, match="without a reason"):
        workspace(StageVersion(ref="churn@v3", stage="None"))
    with pytest.raises(Refused, match="under a gate"):
        workspace(DeleteVersion(ref="churn@v3"))
    assert workspace(StageVersion(ref="churn@v3", stage="None", reason="over")).stage == "None"


def test_an_override_leaves_a_mark(workspace: Workspace) -> None:
    gate(workspace, "metrics['acc'] >= 0.8")
    trained(workspace, 0.1)
    with pytest.raises(Invalid, match="without a reason"):
        promote(workspace, "churn@v1", override=True)
    promote(workspace, "churn@v1", override=True, reason="the old one is on fire")
    move = workspace(ShowHistory(name="churn")).moves[0]
    assert move.evidence["overridden"] == ["metrics['acc'] >= 0.8"]
    assert move.reason == "the old one is on fire"


def test_two_promotions_at_once(folder_of_both: tuple[Workspace, Workspace]) -> None:
    """Whichever is first, the second one is judged against what the first one made the champion."""
    one, two = folder_of_both
    gate(one, "metrics['acc'] > champion.metrics['acc']")
    for acc in (0.5, 0.7, 0.9):
        trained(one, acc)
    promote(one, "churn@v1")
    told: dict[str, object] = {}

    def move(workspace: Workspace, ref: str) -> None:
        try:
            told[ref] = workspace(PromoteVersion(ref=ref, to="production"))
        except TarmacError as error:
            told[ref] = error

    threads = [threading.Thread(target=move, args=args) for args in ((one, "churn@v2"), (two, "churn@v3"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert live(one) == 3
    history = [(move.before, move.after) for move in one(ShowHistory(name="churn")).moves]
    if isinstance(told["churn@v2"], Refused):
        assert history == [(1, 3), (None, 1)]
    else:
        assert history == [(2, 3), (1, 2), (None, 1)]


@pytest.fixture
def folder_of_both(workspace: Workspace) -> object:
    with connect(Path(workspace.place).parent) as second:
        yield workspace, second


def test_names_that_are_not_there(here: Workspace) -> None:
    gate(here, "metrics['acc'] >= 0.8")
    with pytest.raises(NotFound, match="no model `chrun`"):
        here(JudgeVersion(ref="chrun@v1", to="production"))
    trained(here, 0.9)
    with pytest.raises(NotFound) as fault:
        here(JudgeVersion(ref="chrun@v1", to="production"))
    assert fault.value.hint == "did you mean `churn`?"
    with pytest.raises(NotFound, match="no version `churn@v9`"):
        here(JudgeVersion(ref="churn@v9", to="production"))
    with pytest.raises(Invalid, match="no alias can be called"):
        here(JudgeVersion(ref="churn@v1", to="v7"))
    assert here(JudgeVersion(ref="churn@v1", to="anywhere")).gate is None
    with pytest.raises(NotFound, match="no gate `churn@anywhere`"):
        here.wait(here(CheckGate(ref="churn@v1", to="anywhere")))


def test_rows_of_a_gate_cannot_be_deleted(workspace: Workspace) -> None:
    made = gate(workspace, "latency.p99_ms < 20", data="rows.csv", manifest=manifest(workspace))
    with pytest.raises(Conflict, match="the gate of churn@production"):
        workspace(DeleteManifest(id=made.manifest or ""))


def test_a_version_of_a_place_outside_has_nothing_to_measure(here: Workspace) -> None:
    versions(here, "outside", 1)
    gate(here, "not pickle", model="outside")
    check = here.wait(here(CheckGate(ref="outside@v1", to="production")))
    assert (check.passed, check.unknown) == (False, {"pickle": "has no bytes here"})
    with pytest.raises(Refused, match="has no bytes here"):
        promote(here, "outside@v1")


def test_copies_are_judged_under_their_new_name(here: Workspace) -> None:
    trained(here, 0.5)
    here(CopyVersion(ref="churn@v1", to="served", create=True))
    gate(here, "metrics['acc'] >= 0.8", model="served")
    with pytest.raises(Refused, match=r"is 0\.5"):
        promote(here, "served@v1")


# --- from a project file, on the command line ---

FILE = """
[models.churn.gates.production]
require = ["metrics['acc'] >= 0.8", "not pickle"]
"""


def test_in_a_folder_the_project_file_is_the_gate(tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    with connect(tmp_path, create=True) as workspace:
        trained(workspace, 0.9)
        trained(workspace, 0.5)
        (tmp_path / "tarmac.toml").write_text(FILE)
        with pytest.raises(Refused, match="was not measured yet"):
            promote(workspace, "churn@v1")
    would = tarmac("promote", "churn@v1", "--to", "production", "--dry-run")
    assert (would.code, would.out.splitlines()[-1]) == (0, "churn@v1 may become `production`; nothing was moved")
    done = tarmac("promote", "churn@v1", "--to", "production", "--reason", "first")
    assert done.code == 0
    assert done.out.splitlines() == [
        "held    metrics['acc'] >= 0.8  metrics.acc is 0.9",
        "held    not pickle             pickle is False",
        "churn@production pointed to nothing, and points to v1 now",
    ]
    refused = tarmac("promote", "churn@v2", "--to", "production")
    assert refused.code == 1
    assert "FAILED  metrics['acc'] >= 0.8  is 0.5, and has to be at least 0.8" in refused.out
    assert "1 of 2 rules does not hold" in refused.err
    again = tarmac("promote", "churn@v1", "--to", "production")
    assert again.out.endswith("churn@production points to v1 already\n")
    forced = tarmac("promote", "churn@v2", "--to", "production", "--override", "--reason", "in need", "--json")
    assert '"overridden"' in forced.out
    assert tarmac("rollback", "churn@production").out == "churn@production pointed to v2, and points to v1 again\n"
    with connect(tmp_path) as workspace:
        kept = workspace(ListChecks(ref="churn@v2")).checks[0]
        assert (kept.passed, kept.facts) == (False, {"pickle": False})
        (tmp_path / "tarmac.toml").write_text(FILE.replace("0.8", "0.4"))
        with pytest.raises(Refused, match="measured under other rules"):
            promote(workspace, "churn@v2")
        (tmp_path / "tarmac.toml").write_text("")
        promote(workspace, "churn@v2")  # no file, no gate
        gate(workspace, "metrics['acc'] >= 0.8", alias="canary")
        (tmp_path / "tarmac.toml").write_text('[project]\nname = "another"\n' + FILE)
        promote(workspace, "churn@v1")
        assert [found.alias for found in workspace(ListGates()).gates] == ["canary"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[models.churn.gates.production]\nrequire = ["metrcs[\'a\'] > 1"]', "is not known here"),
        ("[models.churn.gates.production]\nrequires = []", "no key `requires`"),
        ("[models.churn.gate.production]\n", "no key `gate`"),
        ('[models.churn.gates.production]\nrequire = ["not pickle"]\nvalid_for = "soon"', "not a length of time"),
        ('[models.churn.gates.production]\nrequire = ["signed"]\nsigned_by = ["no.pub"]', "no.pub cannot be read"),
        ('[models.churn.gates.production]\nrequire = ["not pickle"]\ndata = "../out.csv"', "below the project"),
        ('[models.churn.gates.production]\nrequire = ["not pickle"]\ndata = "no.csv"', "cannot be read"),
        ('[models.churn.gates.latest]\nrequire = ["not pickle"]', "no alias can be called"),
        ('[models."a/b".gates.production]\nrequire = ["not pickle"]', "without `/`"),
        ("[models.churn\n", "not valid TOML"),
        ('[models.churn.gates.production]\nrequire = "not pickle"', "Expected `array`"),
    ],
)  # fmt: skip
def test_a_wrong_project_file_never_opens_the_gate(tmp_path: Path, text: str, said: str) -> None:
    with connect(tmp_path, create=True) as workspace:
        trained(workspace, 0.9)
        (tmp_path / "tarmac.toml").write_text(text)
        with pytest.raises(Invalid) as fault:
            promote(workspace, "churn@v1")
        assert said in f"{fault.value.message} {fault.value.hint}"
        assert live(workspace) is None


def test_a_server_keeps_the_gates_itself(
    tmp_path: Path, tarmac: Callable[..., Ran], serve: Callable[..., object], address: str
) -> None:
    if address != "sqlite":
        pytest.skip("the same on each database")
    from tarmac.store.folder import WorkspaceFolder

    place = tmp_path / "server"
    place.mkdir()
    with connect(place, create=True) as workspace:
        trained(workspace, 0.5)
    server = serve(WorkspaceFolder(place / ".tarmac"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "tarmac.toml").write_text(FILE)
    url = server.url  # type: ignore[attr-defined]
    synced = tarmac("gates", "sync", "-w", url, cwd=mine)
    assert (synced.code, synced.out) == (0, "churn@production: set\n")
    assert tarmac("gates", "sync", "-w", url, cwd=mine).out == "nothing to change\n"
    (mine / "tarmac.toml").unlink()  # what the author does to their file does not reach the server
    refused = tarmac("promote", "churn@v1", "--to", "production", "-w", url, cwd=mine)
    assert refused.code == 1
    assert "is 0.5, and has to be at least 0.8" in refused.out
    missing = tarmac("gates", "sync", "-w", url, cwd=mine)
    assert (missing.code, "no tarmac.toml" in missing.err) == (2, True)


def test_gates_by_hand_are_declared(workspace: Workspace) -> None:
    made = workspace(SetGate(model="m", alias="Production", require=["metrics['a'] > 0"], approvals=2, hours=1))
    assert (made.approvals, made.hours, made.origin) == (2, 1, "hand")
    assert last_event(workspace, "gates.set").subject == "gates/m@Production"


def test_data_has_an_age_only_if_all_of_it_is_kept(here: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    gate(here, "data.age_days <= 90")
    version = trained(here, 0.9)
    assert version.run is not None
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("a\n1\n")
    assert tarmac("data", "log", "rows", "rows").code == 0
    here(UseInput(id=version.run, name="rows", version="v1"))
    outcome = here(JudgeVersion(ref="churn@v1", to="production")).outcomes[0]
    assert outcome.verdict == "held"
    assert outcome.values["data.age_days"] == pytest.approx(0, abs=0.1)
    here(UseInput(id=version.run, name="from somewhere", version="3"))
    assert here(JudgeVersion(ref="churn@v1", to="production")).outcomes[0].why == "data.age_days is missing"


def test_rows_may_be_a_version_of_data(here: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("a,left\n1,yes\n")
    assert tarmac("data", "log", "holdout", "rows").code == 0
    file = '[models.churn.gates.production]\nrequire = ["measured.accuracy > 0"]\nlabel = "left"\ndata = "{}"\n'
    (tmp_path / "tarmac.toml").write_text(file.format("holdout@v1"))
    trained(here, 0.9)
    with pytest.raises(Refused, match="was not measured yet"):
        promote(here, "churn@v1")
    first = here(ListGates()).gates[0]
    (tmp_path / "tarmac.toml").write_text(file.format("holdout@v1/a.csv"))
    here(JudgeVersion(ref="churn@v1", to="production"))
    again = here(ListGates()).gates[0]
    assert (again.manifest, again.digest) == (first.manifest, first.digest)  # the same bytes, the same gate
    for named, said in (("holdout@v1/b.csv", "no file `b.csv`"), ("holdout@v9", "v9"), ("nothing@v1", "nothing")):
        (tmp_path / "tarmac.toml").write_text(file.format(named))
        with pytest.raises((NotFound, Invalid), match=said):
            promote(here, "churn@v1")


def test_the_contract_of_the_data_is_asked(here: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    gate(here, "contract.passed", "contract.failures == 0")
    version = trained(here, 0.9)
    assert version.run is not None
    (tmp_path / "rules.toml").write_text('format = 1\n[columns.a]\ntype = "integer"\nmax = 5\n')
    (tmp_path / "tarmac.toml").write_text('[data.rows]\npath = "rows.csv"\ncontract = "rules.toml"\n')
    (tmp_path / "rows.csv").write_text("a\n1\n9\n")
    logged = tarmac("data", "log", "rows", "--accept")
    assert logged.code == 0, logged.err
    here(UseInput(id=version.run, name="rows", version="v1"))
    said = here(JudgeVersion(ref="churn@v1", to="production")).outcomes
    assert [outcome.values for outcome in said] == [{"contract.passed": False}, {"contract.failures": 1}]
    better = trained(here, 0.9)
    assert better.run is not None
    (tmp_path / "rows.csv").write_text("a\n1\n3\n")
    assert tarmac("data", "log", "rows").code == 0
    here(UseInput(id=better.run, name="rows", version="v2"))
    assert here(JudgeVersion(ref="churn@v2", to="production")).passed

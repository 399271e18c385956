"""What is measured for a gate: of real models on real rows, against the champion, and only what was asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fair
from sklearn import metrics as theirs

from tarmac.core.errors import Refused
from tarmac.govern.operations import CheckGate, JudgeVersion, ListChecks, SetGate
from tarmac.registry.operations import AddVersion, CompileModel, CreatePackage, PromoteVersion
from tarmac.registry.records import Check
from tarmac.workspace import Workspace, connect
from tests.conftest import Ran
from tests.formats.packed import pack
from tests.govern.churn import FEATURES, Rule, fitted, made, people, rows_file
from tests.govern.gated import gate, trained
from tests.govern.test_gates import manifest
from tests.registry.making import blob

RULES = [
    "measured.accuracy >= 0.8",
    "measured.roc_auc >= 0.85 and measured.f1 > 0.7",
    "slices['region'].accuracy >= 0.7",
    "slices['region']['north'].recall >= 0.6",
    "fairness['sex'].selection_rate_gap <= 0.2",
    "fairness['sex'].equal_opportunity_gap <= 0.2",
    "fairness['sex'].calibration_gap <= 0.2",
    "robustness.noise <= 0.1 and robustness.shift <= 0.3",
    "latency.p99_ms <= 5000",
    "challenge.low > -0.05",
    "measured.accuracy >= champion.measured.accuracy - 0.02",
    "licences.packages >= 1",
]


def gate_on_rows(workspace: Workspace, folder: Path, *rules: str, rows: bytes | None = None, **more: Any) -> None:
    data = rows if rows is not None else rows_file(folder).read_bytes()
    wanted = {"label": "left", "positive": "yes", **more}
    workspace(
        SetGate(
            model="churn", alias="production", require=list(rules), data="holdout.csv",
            manifest=manifest(workspace, data), **wanted,
        )
    )  # fmt: skip


def checked(workspace: Workspace, ref: str = "churn@latest") -> Check:
    return workspace.wait(workspace(CheckGate(ref=ref, to="production")))


def test_a_challenger_is_measured_against_the_champion(here: Workspace, tmp_path: Path) -> None:
    model = fitted()
    made(here, tmp_path, model)
    gate_on_rows(here, tmp_path, *RULES)
    first = checked(here)
    assert first.passed, [said for said in first.outcomes if said.verdict == "failed"]
    assert [said.rule for said in first.outcomes if said.verdict == "not applicable"] == RULES[9:11]
    frame = pd.read_csv(tmp_path / "holdout.csv")
    said, truth = model.predict(frame[FEATURES]), frame["left"]
    chance = model.predict_proba(frame[FEATURES])[:, 1]
    facts = first.facts
    assert facts["measured.accuracy"] == pytest.approx(theirs.accuracy_score(truth, said), abs=1e-9)
    assert facts["measured.roc_auc"] == pytest.approx(theirs.roc_auc_score(truth == "yes", chance), abs=1e-9)
    of = {"y_true": truth == "yes", "y_pred": said == "yes", "sensitive_features": frame["sex"]}
    gap = fair.demographic_parity_difference(**of)
    assert facts["fairness.sex.selection_rate_gap"] == pytest.approx(gap, abs=1e-9)
    north = frame["region"] == "north"
    recall = theirs.recall_score(truth[north], said[north], pos_label="yes")
    assert facts["slices.region.north.recall"] == pytest.approx(recall, abs=1e-9)
    assert first.pictures["rows"] == {"name": "holdout.csv", "label": "left", "rows": 1000}
    here(PromoteVersion(ref="churn@v1", to="production"))

    made(here, tmp_path, Rule(good=False))
    second = checked(here)
    failed = {said.rule: said.why for said in second.outcomes if said.verdict == "failed"}
    assert "measured.accuracy >= 0.8" in failed
    assert "challenge.low > -0.05" in failed
    assert (second.champion, second.facts["champion.measured.accuracy"]) == (1, facts["measured.accuracy"])
    with pytest.raises(Refused, match=r"measured\.accuracy >= champion\.measured\.accuracy"):
        here(PromoteVersion(ref="churn@v2", to="production"))
    assert [check.id for check in here(ListChecks(ref="churn@v2")).checks] == [second.id]


def test_evidence_is_of_exactly_this(here: Workspace) -> None:
    for _ in range(3):
        trained(here, 0.9)
    gate(here, "not pickle")
    with pytest.raises(Refused, match="was not measured yet") as fault:
        here(PromoteVersion(ref="churn@v1", to="production"))
    assert fault.value.hint == "measure it: `tarmac gates check churn@v1 --to production`"
    checked(here, "churn@v1")
    checked(here, "churn@v2")
    here(PromoteVersion(ref="churn@v1", to="production"))
    with pytest.raises(Refused, match="measured against another champion"):
        here(PromoteVersion(ref="churn@v2", to="production"))
    with pytest.raises(Refused, match="was not measured yet"):
        here(PromoteVersion(ref="churn@v3", to="production"))
    checked(here, "churn@v2")
    gate(here, "not pickle", "metrics['acc'] > 0")
    with pytest.raises(Refused, match="measured under other rules"):
        here(PromoteVersion(ref="churn@v2", to="production"))
    gate(here, "not pickle", hours=0.0001)
    checked(here, "churn@v2")
    time.sleep(0.5)
    with pytest.raises(Refused, match=r"measured more than 0\.0001 hours ago"):
        here(PromoteVersion(ref="churn@v2", to="production"))


@pytest.mark.slow
def test_a_compiled_form_runs_no_code(here: Workspace, tmp_path: Path) -> None:
    made(here, tmp_path, fitted())
    rules = ["not runs_code", "compiled.equal and compiled.agreement == 1", "measured.accuracy > 0.8"]
    gate_on_rows(here, tmp_path, *rules)
    before = checked(here)
    assert [said.verdict for said in before.outcomes] == ["failed", "failed", "held"]
    here.wait(here(CompileModel(ref="churn@v1")))
    with pytest.raises(Refused, match="measured with other bytes"):
        here(PromoteVersion(ref="churn@v1", to="production"))
    assert checked(here).passed
    gate_on_rows(here, tmp_path, "not pickle")
    assert checked(here).facts == {"pickle": True}


def test_code_of_somebody_else_is_not_run(here: Workspace, tmp_path: Path) -> None:
    sealed = pack(tmp_path, Rule(), people(5)[FEATURES])
    files = [blob(here, path.relative_to(sealed.folder).as_posix(), path.read_bytes())
             for path in sorted(sealed.folder.rglob("*")) if path.is_file()]  # fmt: skip
    from tests.registry.making import package as _  # noqa: F401

    package = here(CreatePackage(name="churn", files=files)).package
    assert package is not None
    here(AddVersion(name="churn", package=package.id, create=True))
    gate_on_rows(here, tmp_path, "measured.accuracy > 0.5")
    check = checked(here)
    assert "brings code" in check.unknown["measured.accuracy"]
    assert "sign it with a key" in check.unknown["measured.accuracy"]


class Varies:
    """A model that answers with another shape each time."""

    def predict(self, rows: Any) -> Any:
        return np.ones((len(rows), 3))


class Raises:
    def predict(self, rows: Any) -> Any:
        raise RuntimeError("no such luck")


@pytest.mark.parametrize(
    ("model", "said"),
    [(Varies(), "shape"), (Raises(), "RuntimeError: no such luck")],
    ids=["varies", "raises"],
)
def test_a_model_that_misbehaves_is_refused(here: Workspace, tmp_path: Path, model: Any, said: str) -> None:
    made(here, tmp_path, model)
    gate_on_rows(here, tmp_path, "measured.accuracy >= 0.5", "latency.p99_ms < 1000")
    check = checked(here)
    assert not check.passed
    assert said in check.unknown["measured.accuracy"]


def test_rows_that_do_not_fit_are_said_so(here: Workspace, tmp_path: Path) -> None:
    made(here, tmp_path, Rule())
    frame = people(50)
    without = frame.drop(columns=["visits"]).to_csv(index=False).encode()
    unlabelled = frame.assign(left=[None] * 50).to_csv(index=False).encode()
    cases: list[tuple[bytes, dict[str, str]]] = [
        (without, {"measured.accuracy > 0": "visits"}),
        (unlabelled, {"measured.accuracy > 0": "without an answer"}),
        (b"", {"measured.accuracy > 0": "cannot be read as a table"}),
        (
            frame.to_csv(index=False).encode(),
            {
                "slices['regoin'].accuracy > 0": "no column `regoin`",
                "slices['region']['east'].accuracy > 0": "no row has `east`",
                "measured.rmse < 1": "there is no rmse",
                "fairness['age'].equal_opportunity_gap < 1": "has no rows whose answer",
                "fairness['left'].groups / (measured.rows - 50) > 1": "division by zero",
            },
        ),
    ]
    for rows, expected in cases:
        gate_on_rows(here, tmp_path, *expected, rows=rows)
        outcomes = checked(here).outcomes
        assert [said.verdict for said in outcomes] == ["failed"] * len(expected)
        for said in outcomes:
            assert expected[said.rule] in said.why


def test_data_that_is_gone_refuses(here: Workspace, tmp_path: Path) -> None:
    made(here, tmp_path, Rule())
    gate_on_rows(here, tmp_path, "measured.accuracy >= 0.5")
    for file in sorted((tmp_path / ".tarmac/blobs").glob("??/*")):
        data = file.read_bytes()
        if data.startswith(b"age,income"):
            file.unlink()
    check = checked(here)
    assert not check.passed
    assert "holdout" in check.unknown["measured.accuracy"] or "rows.csv" in check.unknown["measured.accuracy"]


@pytest.mark.slow
def test_from_a_project_file_on_the_command_line(tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    with connect(tmp_path, create=True) as workspace:
        made(workspace, tmp_path, Rule(), acc=0.9)
        made(workspace, tmp_path, Rule(good=False), acc=0.9)
    rows_file(tmp_path)
    (tmp_path / "tarmac.toml").write_text(
        '[models.churn.gates.production]\nrequire = ["measured.accuracy >= 0.8", "latency.p99_ms <= 5000"]\n'
        'data = "holdout.csv"\nlabel = "left"\n'
    )
    done = tarmac("promote", "churn@v1", "--to", "production")
    assert done.code == 0, done.err
    refused = tarmac("promote", "churn@v2", "--to", "production")
    assert refused.code == 1
    assert "FAILED  measured.accuracy >= 0.8" in refused.out
    with connect(tmp_path) as workspace:
        assert workspace(JudgeVersion(ref="churn@v2", to="production")).check is not None

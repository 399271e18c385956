"""Cards and comparisons: what is known of versions, as pages, pictures and tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tarmac.core.errors import NotFound
from tarmac.govern.operations import CompareVersions
from tarmac.registry import cards, drawing
from tarmac.registry.cards import Card
from tarmac.registry.operations import AddVersion, PromoteVersion
from tarmac.workspace import Workspace
from tests.conftest import Ran
from tests.govern.churn import Rule, made
from tests.govern.gated import trained
from tests.govern.test_checks import checked, gate_on_rows

EVIL = "</svg><script>alert(1)</script> | `x` [a](javascript:b) \x1b[2J\n# no heading"


@pytest.fixture
def two(here: Workspace, tmp_path: Path) -> Workspace:
    """A good version in production, and a worse one, both measured."""
    made(here, tmp_path, Rule(), acc=0.9)
    made(here, tmp_path, Rule(good=False), acc=0.7)
    gate_on_rows(here, tmp_path, "measured.accuracy >= 0.8", "measured.roc_auc > 0.5")
    checked(here, "churn@v1")
    here(PromoteVersion(ref="churn@v1", to="production", reason="better than the rule of thumb"))
    return here


def test_a_card_is_made_of_facts(two: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    (tmp_path / "tarmac.toml").write_text('[project]\ngoal = "Who will leave"\n')
    shown = tarmac("models", "card", "churn@production", "--format", "json")
    facts = json.loads(shown.out)
    assert (facts["version"], facts["goal"], facts["metrics"]) == (1, "Who will leave", {"acc": 0.9})
    assert [field["name"] for field in facts["inputs"]] == ["age", "income", "visits"]
    assert set(facts["measured"]) == {"measured.accuracy", "measured.roc_auc"}
    assert set(facts["pictures"]) >= {"roc", "confusion", "calibration", "importances"}
    done = tarmac("models", "card", "churn@v1", "--to", "card.md")
    assert done.code == 0, done.err
    text = (tmp_path / "card.md").read_text()
    front = text.split("---")[1]
    assert 'metrics: ["acc"]' in front
    assert "# churn v1" in text
    assert "*owner needed*" in text
    assert "better than the rule of thumb" in text
    assert "held: measured.accuracy" in text.replace("\\", "")
    for name in ("roc", "confusion", "calibration", "importances"):
        assert f"![{name}](card-{name}.svg)" in text
        drawn = ET.fromstring((tmp_path / f"card-{name}.svg").read_text())
        assert drawn.tag.endswith("svg")
    page = tarmac("models", "card", "churn@v1", "--to", "card.html")
    assert page.code == 0
    html = (tmp_path / "card.html").read_text()
    assert html.count("<svg") == 4
    assert "<em>owner needed</em>" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    again = tarmac("models", "card", "churn@v1", "--to", "card.html")
    assert (again.code, "exists already" in again.err) == (1, True)
    bare = tarmac("models", "card", "churn@v2")
    assert "nothing: no gate of the model has been checked" in bare.out
    assert tarmac("models", "card", "chrun@v2").code == 1


def test_a_version_of_nothing_has_a_card_too(here: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    here(AddVersion(name="outside", source="s3://somewhere", run="no run of ours", create=True))
    shown = tarmac("models", "card", "outside@v1")
    assert shown.code == 0, shown.err
    assert "*owner needed*" in shown.out


def test_what_others_wrote_is_no_markup() -> None:
    card = Card(
        model="churn", version=1, digest="", kind=EVIL, bytes=0, made_at=0, made_by=EVIL, note=EVIL, goal=EVIL,
        params={EVIL: EVIL}, requirements=[EVIL],
        pictures={
            "confusion": {"classes": [EVIL, "b"], "counts": [[1, 0], [0, 0]]}, "importances": {EVIL: 0.0},
            "residuals": {"x": [0.0, 1.0], "y": [0]}, "roc": {"x": [0, 1], "y": [0, 1], "auc": 0.5},
        },
    )  # fmt: skip
    page = cards.page(card)
    assert "<script" not in page
    text = cards.markdown(card).split("---", 2)[2]  # the metadata before it is JSON
    assert "\n# no heading" not in text
    assert text.count("](javascript") == text.count("\\](javascript")
    assert "\x1b" not in text
    for svg in drawing.pictures(card.pictures).values():
        ET.fromstring(svg)


def test_versions_side_by_side(two: Workspace, tmp_path: Path, tarmac: Callable[..., Ran]) -> None:
    found = two.wait(two(CompareVersions(a="churn@v1", b="churn@v2")))
    said = {difference.what: difference.values for difference in found.differences}
    assert (found.versions, found.why) == (["churn@v1", "churn@v2"], "")
    assert said["metrics.acc"] == ["0.9", "0.7"]
    assert said["rows"] == ["1000", "1000"]
    good, bad = (float(value or 0) for value in said["rows.accuracy"])
    assert good > bad
    assert float(said["rows.better.low"][0] or 0) > 0
    assert set(said) >= {"package.digest", "latency.p99_ms", "rows.same answer"}
    shown = tarmac("models", "compare", "churn@v1", "churn@v2")
    assert "rows.accuracy" in shown.out
    trained(two, 0.5, name="other", depth="3")
    alone = two.wait(two(CompareVersions(a="other@v1", b="churn@v1", same=True)))
    assert "no gate of the model names rows" in alone.why
    with pytest.raises(NotFound, match="no gate `churn@canary`"):
        two.wait(two(CompareVersions(a="churn@v1", b="churn@v2", alias="canary")))

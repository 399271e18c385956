"""Lineage: up, down and both ways, by name, as a tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tarmac.cli import root
from tarmac.cli.trees import tree
from tarmac.core.errors import Invalid, NotFound
from tarmac.store.operations import ShowLineage
from tarmac.track.operations import CreateRun, UseInput
from tarmac.workspace import Workspace, connect


def life(workspace: Workspace) -> tuple[str, str]:
    parent = workspace(CreateRun(experiment="e")).id
    child = workspace(CreateRun(experiment="e", parent=parent)).id
    workspace(UseInput(id=parent, name="churn", version="v1"))
    workspace(UseInput(id=child, name="churn", version="v1"))
    return parent, child


def test_a_thing_is_asked_about_both_ways(anywhere: Workspace) -> None:
    parent, child = life(anywhere)
    both = anywhere(ShowLineage(thing=f"runs/{parent}", direction="both"))
    assert [(edge.source, edge.how, edge.target) for edge in both.edges] == [
        ("data/churn@v1", "used", f"runs/{parent}"),
        (f"runs/{parent}", "started", f"runs/{child}"),
    ]


def test_the_kind_may_be_left_out_where_it_is_clear(anywhere: Workspace) -> None:
    parent, child = life(anywhere)
    found = anywhere(ShowLineage(thing="churn@v1", direction="down"))
    assert found.thing == "data/churn@v1"
    assert {edge.target for edge in found.edges} == {f"runs/{parent}", f"runs/{child}"}
    assert anywhere(ShowLineage(thing=child)).thing == f"runs/{child}"
    with pytest.raises(NotFound, match="nothing called `nobody` has a lineage"):
        anywhere(ShowLineage(thing="nobody"))
    anywhere(UseInput(id=child, name=parent))
    with pytest.raises(Invalid, match="can be several things: data/"):
        anywhere(ShowLineage(thing=parent))


def test_the_command_line_shows_a_tree(tmp_path: Path) -> None:
    with connect(tmp_path, create=True) as workspace:
        parent, child = life(workspace)
    ran = CliRunner().invoke(root, ["lineage", f"runs/{child}", "-w", str(tmp_path)])
    assert ran.output.splitlines() == [
        f"runs/{child}",
        "├─ used ← data/churn@v1",
        f"└─ started ← runs/{parent}",
        "   └─ used ← data/churn@v1",
    ]
    assert (
        CliRunner().invoke(root, ["lineage", "runs/none", "-w", str(tmp_path)]).output == "runs/none has no lineage\n"
    )


def test_a_wide_tree_is_bounded_and_a_thing_is_gone_into_once() -> None:
    wide = [{"source": "a/1", "target": f"b/{n}", "how": "made"} for n in range(2_000)]
    assert tree("a/1", wide).splitlines()[-1] == "… and 1,501 more; --json has all"
    diamond = [
        {"source": "a", "target": "b", "how": "x"},
        {"source": "a", "target": "c", "how": "x"},
        {"source": "b", "target": "d", "how": "x"},
        {"source": "c", "target": "d", "how": "x"},
        {"source": "d", "target": "e", "how": "x"},
    ]
    assert tree("a", diamond).splitlines() == [
        "a",
        "├─ x → b",
        "│  └─ x → d",
        "│     └─ x → e",
        "└─ x → c",
        "   └─ x → d (above)",
    ]

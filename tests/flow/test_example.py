"""examples/churn: it runs, reuses, explains and goes on after a failure, as its page says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.conftest import Project

EXAMPLE = Path(__file__).parents[2] / "examples" / "churn"


@pytest.mark.slow
def test_the_example(project: Project) -> None:
    shutil.copytree(EXAMPLE, project.folder, dirs_exist_ok=True)
    subprocess.run([sys.executable, "generate.py"], cwd=project.folder, check=True, stdout=subprocess.DEVNULL)
    first = project.run("train")
    assert set(first["steps"].values()) == {"ran"}
    scores, people = first["result"]
    assert scores["auc"] > 0.7
    assert len(people) == 10
    assert set(project.marks("train").values()) == {"reuse"}
    assert project.run("train")["result"] == first["result"]

    project.edit("features.py", "LONG_STAY = 24", "LONG_STAY = 36")
    planned = project.plan("train")
    assert planned["fit"]["why"] == ["`LONG_STAY` has changed: features.py:7: `LONG_STAY = 36`, was `LONG_STAY = 24`"]
    assert (planned["split"]["mark"], planned["evaluate"]["depends"]) == ("reuse", "fit")
    project.edit("features.py", "LONG_STAY = 36", "LONG_STAY = 24")

    project.edit("churn.py", "    found = {", "    1 / 0\n    found = {")
    error = project.run("train", "-p", "depth=2", code=1)["error"]
    assert error["detail"]["step"] == "evaluate"
    project.edit("churn.py", "    1 / 0\n", "")
    done = project.run("train", "--resume")["steps"]
    assert [name for name, how in done.items() if how == "ran"][:2] == ["evaluate", "good_enough"]
    assert project.plan("train", "-p", "depth=2")["fit"]["mark"] == "reuse"

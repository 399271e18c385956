"""A gate that wants runs to be reproducible asks the verdict that `tarmac reproduce` has kept, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = """
import random, sys, tarmac
from rule import Rule
random.seed(7)
with tarmac.run("rules") as run:
    value = random.random() if sys.argv[1] == "seeded" else random.SystemRandom().random()
    run.log({"value": value})
    run.model(Rule(value), name="door", example=[[0.2], [0.9]])
"""
RULE = """
class Rule:
    def __init__(self, least): self.least = least
    def predict(self, rows): return [row[0] > self.least for row in rows]
"""
GATE = '[models.door.gates.production]\nrequire = ["reproducible"]\n'


def tarmac(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tarmac", *words], cwd=place, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_a_gate_asks_whether_the_run_was_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARMAC_STATE", str(tmp_path / "state"))
    tarmac(tmp_path, "init")
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "rule.py").write_text(RULE)
    for how in ("seeded", "open"):
        done = tarmac(tmp_path, "run", "train.py", how)
        assert done.returncode == 0, done.stderr
    (tmp_path / "tarmac.toml").write_text(GATE)
    refused = tarmac(tmp_path, "promote", "door@v1", "--to", "production")
    assert refused.returncode == 1
    assert "reproducible is missing" in refused.stdout + refused.stderr
    for number, verdict, code in ((1, "same", 0), (2, "different", 1)):
        run = json.loads(tarmac(tmp_path, "versions", "show", f"door@v{number}", "--json").stdout)["run"]
        again = tarmac(tmp_path, "reproduce", run)
        assert verdict in again.stdout, again.stdout + again.stderr
        moved = tarmac(tmp_path, "promote", f"door@v{number}", "--to", "production")
        assert moved.returncode == code, moved.stdout + moved.stderr
    history = json.loads(tarmac(tmp_path, "models", "history", "door", "--json").stdout)["moves"]
    assert [move["after"] for move in history] == [1]

"""For random graphs and random edits: what comes of a cached run is what a fresh one gives."""

from __future__ import annotations

import importlib
import random
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarmac.workspace import connect

EDITS = ("helper", "constant", "default", "code", "comment", "data", "parameter", "wiring", "inner", "undo")


class Code:
    """A project made up at random: steps that compute with helpers, constants, defaults, parameters and a file."""

    def __init__(self, seed: int, size: int) -> None:
        self.dice = random.Random(seed)
        self.helpers = [self.dice.randrange(100) for _ in range(3)]
        self.inner = [self.dice.randrange(100) for _ in range(3)]
        self.constants = [self.dice.randrange(100) for _ in range(3)]
        self.steps = [
            {"code": self.dice.randrange(100), "default": self.dice.randrange(100), "wires": self._wires(number)}
            for number in range(size)
        ]
        self.comment, self.data, self.parameter = 0, 1, 1

    def _wires(self, number: int) -> list[int]:
        return [self.dice.randrange(number) for _ in range(self.dice.randrange(1, 3))] if number else []

    def edit(self, what: str) -> None:
        which = self.dice.randrange(3)
        step = self.dice.randrange(len(self.steps))
        value = self.dice.randrange(100)
        if what in ("helper", "inner", "constant"):
            {"helper": self.helpers, "inner": self.inner, "constant": self.constants}[what][which] = value
        elif what in ("default", "code"):
            self.steps[step][what] = value
        elif what == "wiring":
            self.steps[step]["wires"] = self._wires(step)
        elif what == "undo":
            self.parameter, self.data = 1, 1
        else:
            setattr(self, what, getattr(self, what) + 1)

    def write(self, folder: Path, name: str) -> None:
        helpers = [f"def inner{i}(x):\n    return x + {value}\n" for i, value in enumerate(self.inner)]
        helpers += [
            f"def helper{i}(x):\n    # comment {self.comment}\n    return inner{i}(x) * 3 + {value}\n"
            for i, value in enumerate(self.helpers)
        ]
        (folder / f"{name}_helpers.py").write_text("\n".join(helpers))
        lines = ["import tarmac", f"from {name}_helpers import helper0", f"import {name}_helpers as h", ""]
        lines += [f"C{i} = {value}" for i, value in enumerate(self.constants)]
        lines += ["", "@tarmac.step", "def load(path: tarmac.File) -> int:", "    return int(path.read_text())", ""]
        for number, step in enumerate(self.steps):
            helper = ("helper0", "h.helper1", "h.helper2")[number % 3]
            lines += [
                "@tarmac.step",
                f"def s{number}(parts: list, depth: int, extra: int = {step['default']}) -> int:",
                f"    total = sum(parts) + {helper}(depth) + C{number % 3} + extra  # {self.comment}",
                f"    return (total * 7 + {step['code']}) % 1_000_003",
                "",
            ]
        lines += ["@tarmac.pipeline", "def main(path: tarmac.File, depth: int = 1):", "    first = load(path)"]
        for number, step in enumerate(self.steps):
            wires = ", ".join(f"v{wire}" for wire in step["wires"]) or "first"  # type: ignore[attr-defined]
            lines.append(f"    v{number} = s{number}([{wires}], depth)")
        lines.append(f"    return [{', '.join(f'v{n}' for n in range(len(self.steps)))}]")
        (folder / f"{name}.py").write_text("\n".join(lines) + "\n")
        (folder / "data.txt").write_text(str(self.data))


def imported(name: str) -> ModuleType:
    for module in (f"{name}_helpers", name):
        sys.modules.pop(module, None)
    importlib.invalidate_caches()
    return importlib.import_module(name)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 8),
    edits=st.lists(st.lists(st.sampled_from(EDITS), max_size=3), min_size=1, max_size=5),
)
def test_a_cached_run_equals_a_fresh_one(place: None, seed: int, size: int, edits: list[list[str]]) -> None:
    name = f"made_up_{seed}"
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        folder = Path(temporary)
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        code = Code(seed, size)
        with connect(folder, create=True) as workspace:
            for number, some in enumerate([[], *edits]):
                for what in some:
                    code.edit(what)
                code.write(folder, name)
                main = imported(name).main
                fresh = main(folder / "data.txt", depth=code.parameter)
                planned = main.plan(workspace=workspace, path="data.txt", depth=code.parameter)
                assert main.run(workspace=workspace, path="data.txt", depth=code.parameter) == fresh
                marks = {one.mark for one in planned.steps}
                if number == 0:
                    assert "reuse" not in marks
                elif set(some) <= {"comment"}:
                    assert marks == {"reuse"}
                assert {
                    one.mark for one in main.plan(workspace=workspace, path="data.txt", depth=code.parameter).steps
                } == {"reuse"}

"""`tarmac.run(...)` as a script uses it, from the call to what the workspace knows."""

from __future__ import annotations

import json

import pytest

from tarmac.track.operations import GetDetails, ListRuns, ReadLog
from tarmac.workspace import Workspace
from tests.logging.conftest import Training, history, only_run, until

EVERYTHING = """
import tarmac, sys
with tarmac.run("baseline", name="first", params={"depth": 6, "net": {"width": [1, 2]}, "api_key": "hunter2"}) as run:
    for step in range(1000):
        run.log({"train/loss": 1 / (step + 1)}, step=step)
    run.log(accuracy=0.5)
    run.log(accuracy=0.75)
    run.params(seed=7, long="x" * 5000)
    run.tag(stage="dev")
    run.tag({"stage": "test", "größe": "L"})
    run.note("it went well")
    run.use("faces@v3")
    assert tarmac.current_run() is run
assert tarmac.current_run() is None
print(run.id)
"""


def test_what_a_script_logs_is_in_the_workspace_when_its_with_is_left(training: Training, anywhere: Workspace) -> None:
    done = training.run(EVERYTHING)
    assert done.code == 0, done.err
    assert "run first (baseline) → " in done.err
    assert "warning" not in done.err
    run = only_run(anywhere)
    assert (run.id, run.name, run.experiment, run.status, run.note) == (
        done.out.strip(), "first", "baseline", "finished", "it went well",
    )  # fmt: skip
    assert run.params == {
        "depth": "6", "net.width": "[1, 2]", "api_key": "***", "seed": "7", "long": "x" * 5000,
    }  # fmt: skip
    assert run.tags == {"stage": "test", "größe": "L"}
    assert history(anywhere, run.id, "train/loss") == [(step, 1 / (step + 1)) for step in range(1000)]
    assert history(anywhere, run.id, "accuracy") == [(1000, 0.5), (1001, 0.75)], "without a step it is the next one"
    details = anywhere(GetDetails(id=run.id))
    assert [(one.name, one.version) for one in details.inputs] == [("faces", "v3")]
    assert run.ended_at is not None
    assert run.started_at <= run.ended_at
    assert training.spools() == [], "nothing is left on this machine"


def test_how_it_was_started_is_kept(training: Training, anywhere: Workspace) -> None:
    (training.folder / "lib.py").write_text("x = 1\n")
    (training.folder / ".env").write_text("PASSWORD=hunter2")
    done = training.run(
        "import random, tarmac\nwith tarmac.run('a') as run: run.log(x=1)\n", "--token", "sesame", PYTHONHASHSEED="3"
    )
    assert done.code == 0, done.err
    details = anywhere(GetDetails(id=only_run(anywhere).id))
    assert details.facts["command"].endswith("train.py --token ***")
    assert details.facts["folder"] == str(training.folder)
    assert details.facts["seeds"] == {"PYTHONHASHSEED": "3"}
    assert "msgspec" in details.facts["packages"]
    assert details.facts["machine"]["cores"]
    assert details.source is not None
    assert "hunter2" not in json.dumps(details.facts)


def test_how_runs_end(training: Training, anywhere: Workspace) -> None:
    count = 0

    def status(text: str, code: int) -> str:
        nonlocal count
        done = training.run("import tarmac, sys, os, signal\n" + text)
        assert done.code == code, done.err
        count += 1
        ended = until(lambda: [run for run in anywhere(ListRuns()).runs if run.status != "running"][count - 1 :])
        assert ended[0] is not None
        run = anywhere(ListRuns(limit=1)).runs[0]
        assert run.metrics == {"x": 1}
        return run.status

    assert status("with tarmac.run(): tarmac.current_run().log(x=1)", 0) == "finished"
    assert status("tarmac.run().log(x=1)", 0) == "finished", "a script that ends, ends its run"
    assert status("with tarmac.run() as r: r.log(x=1); 1 / 0", 1) == "failed"
    assert status("r = tarmac.run(); r.log(x=1); 1 / 0", 1) == "failed"
    assert status("with tarmac.run() as r: r.log(x=1); sys.exit(3)", 3) == "failed"
    assert status("with tarmac.run() as r: r.log(x=1); raise KeyboardInterrupt", -2) == "killed"
    assert status("r = tarmac.run(); r.log(x=1); r.end('failed')", 0) == "failed"
    assert status("r = tarmac.run(); r.log(x=1); os.kill(os.getpid(), signal.SIGKILL)", -9) == "killed"
    assert status("r = tarmac.run(); r.log(x=1); os.kill(os.getpid(), signal.SIGTERM)", -15) == "killed"


def test_runs_within_runs(training: Training, anywhere: Workspace) -> None:
    done = training.run(
        """
import tarmac, threading
with tarmac.run("search") as above:
    for depth in range(3):
        with tarmac.run(params={"depth": depth}) as below:
            assert tarmac.current_run() is below
            below.log(loss=depth)
    assert tarmac.current_run() is above
    seen = []
    thread = threading.Thread(target=lambda: seen.append(tarmac.current_run()))
    thread.start(); thread.join()
    assert seen == [above], "a thread is in the run of its process"
print(above.id)
"""
    )
    assert done.code == 0, done.err
    runs = {run.id: run for run in anywhere(ListRuns()).runs}
    above = done.out.strip()
    assert runs[above].parent is None
    assert sorted(run.params["depth"] for run in runs.values() if run.parent == above) == ["0", "1", "2"]
    assert {run.status for run in runs.values()} == {"finished"}


def test_asyncio_tasks_have_runs_of_their_own(local: Training, workspace: Workspace) -> None:
    done = local.run(
        """
import asyncio, tarmac
async def trial(n):
    with tarmac.run(f"trial-{n}") as run:
        for step in range(5):
            await asyncio.sleep(0)
            assert tarmac.current_run() is run
            tarmac.current_run().log(n=n, step=step)
async def main():
    await asyncio.gather(*(trial(n) for n in range(4)))
asyncio.run(main())
"""
    )
    assert done.code == 0, done.err
    for run in workspace(ListRuns()).runs:
        number = int(run.experiment.removeprefix("trial-"))
        assert history(workspace, run.id, "n") == [(step, number) for step in range(5)]


def test_a_script_under_tarmac_run_is_that_run(tarmac, training: Training, anywhere: Workspace) -> None:
    (training.folder / "train.py").write_text(
        "import sys, tarmac\n"
        "print('hello')\n"
        "with tarmac.run(params={'lr': 0.1}, name='mine') as run:\n"
        "    run.log(loss=0.5)\n"
        "with tarmac.run('second') as other: other.log(loss=1)\n"
    )
    done = tarmac("run", "-w", training.where, "train.py", "-p", "depth=6", cwd=training.folder)
    assert done.code == 0, done.err
    runs = {run.experiment: run for run in anywhere(ListRuns()).runs}
    assert set(runs) == {"train", "second"}
    assert runs["train"].params == {"depth": "6", "lr": "0.1"}
    assert runs["train"].metrics["loss"] == 0.5
    assert (runs["train"].name, runs["train"].status) == ("mine", "finished")
    assert anywhere(ReadLog(id=runs["train"].id)).text.startswith("hello\n")
    assert training.spools() == []


def test_a_run_that_goes_on(training: Training, anywhere: Workspace) -> None:
    first = training.run(
        "import tarmac\nwith tarmac.run('a', params={'lr': 1}) as r: r.log(x=1, step=0); print(r.id)\n"
    )
    again = training.run(
        f"import tarmac\nwith tarmac.run(resume={first.out.strip()!r}) as r:\n    r.log(x=2)\n    r.params(lr=2)\n"
    )
    assert again.code == 0, again.err
    run = only_run(anywhere)
    assert history(anywhere, run.id, "x") == [(0, 1), (0, 2)], "a process counts its own steps"
    assert (run.status, run.experiment) == ("finished", "a")
    assert run.params == {"lr": "1"}, "a param says how a run was started"
    assert "cannot become `2`" in run.tags["tarmac.warning.refused"]


VALUES = """
import math, decimal, fractions, tarmac
class Tensor:
    def __init__(self, value): self.value = value
    def item(self): return self.value
class Broken:
    def __float__(self): raise RuntimeError("device lost")
    def __str__(self): raise RuntimeError("no text either")
odd = {"broken": Broken(), "ok": "\\x00nul\\ud800", "n" * 300: 1, "": 2, "new\\nline": 3}
run = tarmac.run("values", params=odd)
run.log({"nan": math.nan, "inf": math.inf, "minus": -math.inf, "true": True, "huge": 10**30, "beyond": 10**400,
         "below": -10**400, "decimal": decimal.Decimal("0.5"), "fraction": fractions.Fraction(1, 4),
         "tensor": Tensor(3.5), "step": 7, "größe/µ 🚀": 1.5, 5: 2.5,
         "text": "0.5", "none": None, "list": [1], "broken": Broken(),
         "nested": {"loss": 1.25, "bad": "x"}, "control\\x07": 1, "": 1, "n" * 251: 1})
run.log({"late": 1}, step=2.0)
run.log({"late": 2}, step="three")
run.log({"late": 3}, step=10**30)
run.log(None)
run.log({})
run.log([("not", 1)])
run.params(7)
run.params(lr=1)
run.params(lr=2)
run.tag(x=Broken())
run.end()
run.log(after=1)
run.tag(after=1)
run.end()
print("done")
"""


def test_values_of_every_kind(training: Training, anywhere: Workspace) -> None:
    done = training.run(VALUES)
    assert (done.code, done.out) == (0, "done\n"), done.err
    run = only_run(anywhere)
    assert run.metrics == {
        "nan": "NaN", "inf": "Infinity", "minus": "-Infinity", "true": 1, "huge": 1e30, "beyond": "Infinity",
        "below": "-Infinity", "decimal": 0.5, "fraction": 0.25, "tensor": 3.5, "step": 7, "größe/µ 🚀": 1.5, "5": 2.5,
        "nested/loss": 1.25, "late": run.metrics["late"],
    }  # fmt: skip
    assert history(anywhere, run.id, "late") == [(2, 1), (3, 2), (2**63 - 1, 3)]
    assert run.params == {"ok": "nul?", "lr": "1"}
    for kind in ("value", "text", "step", "params", "param", "log"):
        assert f"tarmac.warning.{kind}" in run.tags, run.tags
    assert int(run.tags["tarmac.warnings.value"]) > 5, "said once, counted"
    warned = [line for line in done.err.splitlines() if "warning" in line]
    assert len(warned) == len({line.split(":")[3] for line in warned}), "each kind is said once"
    assert "Traceback" not in done.err


def test_a_strict_run_raises(local: Training) -> None:
    for wrong in ("r.log(x='text')", "r.log({'': 1})", "r.params(7)", "r.params(a=1); r.params(a=2)"):
        done = local.run(f"import tarmac\nr = tarmac.run(strict=True)\n{wrong}\n")
        assert done.code == 1, wrong
        assert "was left out" in done.err or "stays so" in done.err or "were left out" in done.err


def test_wrong_arguments_of_the_start_are_said_at_once(local: Training) -> None:
    def said(call: str, **environment: str) -> str:
        done = local.run(f"import tarmac\n{call}\n", **environment)
        assert done.code == 1, call
        return done.err.splitlines()[-1]

    assert "cannot be the name of an experiment" in said("tarmac.run('')")
    assert "cannot be the name of a run" in said("tarmac.run(name='a\\nb')")
    assert "cannot be the id of a run" in said("tarmac.run(resume='latest')")
    assert "params are a mapping" in said("tarmac.run(params=7)")
    assert "cannot be the name of a project" in said("tarmac.run(project='No Spaces')")
    assert "is not a server's address" in said("tarmac.run(workspace='http://')")
    assert "/nowhere" in said("tarmac.run(workspace='/nowhere')")
    assert "names nothing that could be used" in said("tarmac.run().use('@v1')")
    assert "TARMAC_RUN" in said("tarmac.run()", TARMAC_RUN="nonsense")


def test_scalars_of_numpy(local: Training, workspace: Workspace) -> None:
    pytest.importorskip("numpy")
    done = local.run(
        """
import numpy as np, tarmac
with tarmac.run(strict=True) as run:
    run.log({"half": np.float16(0.5), "single": np.float32(0.25), "double": np.float64(0.125), "nan": np.float32("nan"),
             "integer": np.int64(2**40), "unsigned": np.uint8(255), "bool": np.bool_(True), "zero-d": np.array(1.5),
             "one": np.array([2.5]), "one-by-one": np.array([[3.5]])}, step=np.int32(7))
run = tarmac.run("wrong")
run.log({"many": np.array([1, 2]), "complex": np.complex64(1j), "text": np.str_("1"), "kept": 1})
"""
    )
    assert done.code == 0, done.err
    runs = {run.experiment: run for run in workspace(ListRuns()).runs}
    assert runs["default"].metrics == {
        "half": 0.5, "single": 0.25, "double": 0.125, "nan": "NaN", "integer": 2**40, "unsigned": 255, "bool": 1,
        "zero-d": 1.5, "one": 2.5, "one-by-one": 3.5,
    }  # fmt: skip
    assert history(workspace, runs["default"].id, "half") == [(7, 0.5)]
    assert runs["wrong"].metrics == {"kept": 1}


def test_tensors_of_torch(local: Training, workspace: Workspace) -> None:
    pytest.importorskip("torch")
    done = local.run(
        """
import torch, tarmac
with tarmac.run(strict=True) as run:
    run.log({"scalar": torch.tensor(0.5), "bfloat16": torch.tensor(0.25, dtype=torch.bfloat16),
             "half": torch.tensor(2.0, dtype=torch.float16), "grad": torch.tensor(3.0, requires_grad=True),
             "integer": torch.tensor(7), "one": torch.tensor([1.5]), "bool": torch.tensor(True)})
"""
    )
    assert done.code == 0, done.err
    assert only_run(workspace).metrics == {
        "scalar": 0.5, "bfloat16": 0.25, "half": 2, "grad": 3, "integer": 7, "one": 1.5, "bool": 1,
    }  # fmt: skip

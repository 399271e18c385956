"""What people and machines do to a run that nobody planned for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tarmac.formats import frames
from tarmac.formats.spool import Begin, End, Points, SavedFile, Used, encode
from tarmac.track.operations import ListArtifacts, ListRuns
from tarmac.workspace import Workspace
from tests.conftest import Ran
from tests.logging.conftest import Training, history, only_run, until

SIGNALS = """
import itertools, signal, time, tarmac
run = tarmac.run("a", capture=False)
handled = itertools.count()  # a signal may come while the last one is handled
def handler(*_):
    number = next(handled)
    run.log({"handled": number}, step=number)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
step, end = 0, time.monotonic() + 1.5
while time.monotonic() < end:
    run.log({"main": step}, step=step)
    step += 1
signal.setitimer(signal.ITIMER_REAL, 0)
run.end()
print(step, next(handled))
"""


def test_a_signal_handler_that_logs(local: Training, workspace: Workspace) -> None:
    done = local.run(SIGNALS)
    assert done.code == 0, done.err
    steps, handled = map(int, done.out.split())
    assert handled > 100
    run = only_run(workspace)
    assert (run.status, run.tags) == ("finished", {})
    assert history(workspace, run.id, "main") == [(step, step) for step in range(steps)]
    assert history(workspace, run.id, "handled") == [(step, step) for step in range(handled)]


INTERRUPTED = """
import os, time, tarmac
run = tarmac.run("a", capture=False)
real, fail = os.write, False
def write(file, data):
    written = real(file, data)
    if fail:
        raise KeyboardInterrupt  # right after the kernel has it, before Python knows
    return written
for step in range(100):
    run.log({"x": step}, step=step)
os.write, fail = write, True
try:
    run.log({"x": 100}, step=100)
except KeyboardInterrupt:
    pass
fail = False
time.sleep(1)  # it is carried meanwhile
for step in range(101, 110):
    run.log({"x": step}, step=step)
run.end()
"""


def test_ctrl_c_in_the_middle_of_a_record(local: Training, workspace: Workspace) -> None:
    done = local.run(INTERRUPTED)
    assert done.code == 0, done.err
    run = only_run(workspace)
    assert (run.status, run.tags) == ("finished", {})
    assert history(workspace, run.id, "x") == [(step, step) for step in range(110)]


def test_files_that_a_copy_lacks_are_not_forgotten(
    tarmac: Callable[..., Ran], local: Training, workspace: Workspace
) -> None:
    script = "import tarmac\nwith tarmac.run('a', capture=False) as r: r.save('m.txt', 'text')\n"
    assert local.run(script, TARMAC_OFFLINE="1").code == 0
    spools = local.spools()[0].parent
    copy = local.folder / "copy"
    shutil.copytree(spools, copy, ignore=shutil.ignore_patterns("wake", "files"))
    half = tarmac("sync", str(copy), "-w", local.where)
    assert half.code == 1
    assert "the bytes of `m.txt` are not in" in half.err
    assert tarmac("sync", "-w", local.where).code == 0
    assert [file.path for file in workspace(ListArtifacts(id=only_run(workspace).id)).artifacts] == ["m.txt"]


def foreign(local: Training, *records: object) -> Path:
    path = local.folder / "foreign" / "0f0f0f0f0f0f0f0f"
    path.mkdir(parents=True)
    begin = Begin(
        run="0" * 31 + "1", at=1_700_000_000_000, project="default", owner=True, place="/gone/0f0f0f0f0f0f0f0f"
    )
    data = b"".join(frames.encode(number, encode(record)) for number, record in enumerate((begin, *records)))
    (path / "log").write_bytes(frames.header() + data)
    return path.parent


def test_a_foreign_spool_reads_nothing_but_itself(
    tarmac: Callable[..., Ran], local: Training, workspace: Workspace
) -> None:
    secret = local.folder / "secret.txt"
    secret.write_text("hunter2")
    spools = foreign(local, SavedFile("a.txt", "../../../secret.txt", 7))
    done = tarmac("sync", str(spools), "-w", local.where)
    assert done.code == 1
    assert "a file outside of itself" in done.err
    assert workspace(ListArtifacts(id=only_run(workspace).id)).artifacts == []
    assert secret.read_text() == "hunter2"


def test_what_the_workspace_refuses_costs_nothing_else(
    tarmac: Callable[..., Ran], local: Training, workspace: Workspace
) -> None:
    point = Points(0, 1_700_000_000_000, {"x": 1.0})
    spools = foreign(local, Used("d", "v" * 5000, ""), point, End("success", 1_700_000_001_000))
    done = tarmac("sync", str(spools), "-w", local.where)
    assert done.code == 0, done.err
    run = only_run(workspace)
    assert run.metrics == {"x": 1}
    assert run.status == "killed", "no end that we know"
    assert "version" in run.tags["tarmac.warning.refused"]


def test_a_broken_package_beside_the_script(tarmac: Callable[..., Ran], local: Training, workspace: Workspace) -> None:
    broken = local.folder / "lib" / "bad-1.0.dist-info"
    broken.mkdir(parents=True)
    (broken / "METADATA").write_bytes(b"Metadata-Version: 2.1\nName: b\xffd\nVersion: 1\n")
    environment = {"PYTHONPATH": str(broken.parent)}
    done = local.run("import tarmac\nwith tarmac.run('a') as r: r.log(x=1)\n", **environment)
    assert done.code == 0, done.err
    assert only_run(workspace).metrics == {"x": 1}
    (local.folder / "plain.py").write_text("print('ran')\n")
    ran = tarmac("run", "-w", local.where, "plain.py", **environment)
    assert (ran.code, ran.out) == (0, "ran\n"), ran.err


def test_names_that_are_no_unicode(local: Training, workspace: Workspace) -> None:
    odd = local.folder / os.fsdecode(b"odd\xff")
    odd.mkdir()
    (odd / os.fsdecode(b"b\xff.py")).write_text("x = 1\n")
    (odd / "train.py").write_text("import tarmac\nwith tarmac.run('a') as r: r.log(x=1)\n")
    done = subprocess.run(
        [sys.executable, "train.py", b"\xfe"],
        cwd=odd,
        env={**os.environ, "TARMAC_WORKSPACE": local.where},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert only_run(workspace).status == "finished"


@pytest.mark.slow
def test_a_carrier_that_dies_is_replaced(local: Training, workspace: Workspace) -> None:
    process = local.start(
        "import tarmac, time\nwith tarmac.run('a', capture=False) as r:\n"
        "    for n in range(280):\n        r.log({'x': n}, step=n)\n        time.sleep(0.05)\n"
    )
    until(lambda: workspace(ListRuns()).runs)
    found = subprocess.run(["pgrep", "-f", f"tarmac.workspace.carrier {local.folder}/"], capture_output=True, text=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    time.sleep(0.5)
    known = len(history(workspace, only_run(workspace).id, "x"))
    until(lambda: len(history(workspace, only_run(workspace).id, "x")) > known + 20)
    assert process.poll() is None, "while training goes on"
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "not whole" not in err
    assert history(workspace, only_run(workspace).id, "x") == [(n, n) for n in range(280)]


def test_what_a_script_starts_is_below_it(tarmac: Callable[..., Ran], local: Training, workspace: Workspace) -> None:
    (local.folder / "inner.py").write_text("import tarmac\nwith tarmac.run('i', name='inner', params={'a': 1}): pass\n")
    (local.folder / "outer.py").write_text(
        "import subprocess, sys, tarmac\nwith tarmac.run('o', name='outer') as r:\n"
        "    subprocess.run([sys.executable, 'inner.py'], check=True)\n"
    )
    done = tarmac("run", "-w", local.where, "outer.py")
    assert done.code == 0, done.err
    runs = {run.name: run for run in workspace(ListRuns()).runs}
    assert set(runs) == {"inner", "outer"}
    assert runs["inner"].parent == runs["outer"].id
    assert runs["outer"].params == {}


def test_a_run_that_is_not_there_does_not_go_on(local: Training, workspace: Workspace) -> None:
    done = local.run("import tarmac\nwith tarmac.run(resume='0' * 32, patience=3) as r: r.log(x=1)\n")
    assert done.code == 0, "training goes on"
    assert "not whole" in done.err
    assert workspace(ListRuns()).runs == []


def test_secrets_are_masked_wherever_they_stand(local: Training, workspace: Workspace) -> None:
    done = local.run(
        """
import tarmac
secret = {"dbPassword": "x", "url": "postgresql://u:hunter2@h/db", "pwd": "x", "ok": "max_tokens"}
with tarmac.run("a", params=secret) as r:
    r.tag(passphrase="x", header="Authorization: Bearer abcdefgh12345")
    r.note("the key is ghp_" + "a" * 30)
"""
    )
    assert done.code == 0, done.err
    run = only_run(workspace)
    assert run.params == {"dbPassword": "***", "url": "postgresql://u:***@h/db", "pwd": "***", "ok": "max_tokens"}
    assert run.tags == {"passphrase": "***", "header": "Authorization: Bearer ***"}
    assert run.note == "the key is ***"


def test_arguments_that_are_nonsense(local: Training, workspace: Workspace) -> None:
    done = local.run(
        """
import tarmac
from tarmac import TarmacError
class Odd:
    def __str__(self): raise RuntimeError
    __repr__ = __str__
run = tarmac.run("a", capture=False)
for wrong in (lambda: run.end("success"), lambda: run.use(None), lambda: run.use("d", about=None),
              lambda: tarmac.run(tags=5), lambda: tarmac.run(patience="x")):
    try:
        wrong()
    except TarmacError as error:
        print(error.message)
    else:
        raise SystemExit("passed")
assert tarmac.current_run() is run
run.tag("x"); run.tag(5); run.note(Odd()); run.log({Odd(): 1, "ok": 1}); run.params(Odd); run.params({Odd(): 1})
run.end()
"""
    )
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 5
    assert only_run(workspace).metrics == {"ok": 1}

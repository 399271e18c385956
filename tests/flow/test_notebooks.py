"""`tarmac run notebook.ipynb`: parameters, the executed copy, failures by their cell, and what is no notebook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.errors import Invalid
from tarmac.flow.notebook import Failure, inject, parameters, read, values
from tarmac.flow.reproduce.operations import Reproduce
from tarmac.store.folder import WorkspaceFolder
from tarmac.track.operations import GetDetails, ListArtifacts, ListRuns, ReadLog
from tarmac.workspace import Workspace
from tests.conftest import Ran, tarmac_environment

TRAIN = """import sys, tarmac
print("depth", depth)
print("careful", file=sys.stderr)
with tarmac.run() as run:
    run.log(loss=rate / depth)"""


def code(source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source))}"[:20],
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source.splitlines(keepends=True),  # as Jupyter writes it
        "outputs": [],
        "execution_count": None,
    }


def text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "words", "metadata": {}, "source": source}


def notebook(path: Path, *cells: dict[str, Any], **more: Any) -> Path:
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **more}
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def home(folder: WorkspaceFolder) -> Path:
    return folder.path.parent


ONE_DATABASE = pytest.mark.parametrize("address", ["sqlite"], indirect=True)


@ONE_DATABASE
def test_a_notebook_is_run_with_its_params_and_the_copy_is_kept(
    workspace: Workspace, home: Path, tarmac: Callable[..., Ran]
) -> None:
    cells = [text("# Train"), code("depth = 3\nrate = 0.5"), code(TRAIN), code("depth * 2")]
    before = notebook(home / "train.ipynb", *cells).read_bytes()
    done = tarmac("run", "train.ipynb", "-p", "depth=8", cwd=home)
    assert done.code == 0, done.err
    assert "depth 8\n" in done.out
    assert "16\n" in done.out
    assert "careful" in done.err
    assert (home / "train.ipynb").read_bytes() == before
    run = workspace(ListRuns(limit=1)).runs[0]
    assert (run.experiment, run.params, run.metrics) == ("train", {"depth": "8"}, {"loss": 0.5 / 8})
    assert "depth 8" in workspace(ReadLog(id=run.id)).text
    (kept,) = workspace(ListArtifacts(id=run.id)).artifacts
    copy = json.loads(b"".join(workspace.read(str(kept.digest))))
    assert kept.path == "train.ipynb"
    assert ["".join(cell["source"]) for cell in copy["cells"][1:3]] == ["depth = 3\nrate = 0.5", "depth = 8"]
    assert copy["cells"][-1]["outputs"][0]["data"]["text/plain"] == ["16"]
    # what started it is known, so that it can be done again
    details = workspace(GetDetails(id=run.id))
    assert details.facts["argv"][1:] == ["-m", "tarmac.cli.notebook", "train.ipynb", "-p", "depth=8"]
    assert details.source is not None


@ONE_DATABASE
@pytest.mark.slow
def test_a_notebook_is_done_again(workspace: Workspace, home: Path, tarmac: Callable[..., Ran]) -> None:
    notebook(home / "train.ipynb", code("depth = 3\nrate = 0.5"), code(TRAIN))
    assert tarmac("run", "train.ipynb", "-p", "depth=8", cwd=home).code == 0
    run = workspace(ListRuns(limit=1)).runs[0]
    found = workspace.wait(workspace(Reproduce(id=run.id)))
    assert (found.verdict, found.metrics, found.files) == ("same", 1, 1), found


@ONE_DATABASE
def test_a_cell_that_fails_is_shown(workspace: Workspace, home: Path, tarmac: Callable[..., Ran]) -> None:
    notebook(home / "a.ipynb", text("words"), code("x = 1"), code("print('so far')\ny = x / 0"), code("never = 1"))
    done = tarmac("run", "a.ipynb", "-p", "x=2", cwd=home)
    assert done.code == 1
    assert "cell 3 failed: ZeroDivisionError: division by zero" in done.err
    assert "  2  y = x / 0" in done.err
    assert "Traceback" not in done.err
    run = workspace(ListRuns(limit=1)).runs[0]
    assert run.status == "failed"
    assert "cell 3 failed" in workspace(ReadLog(id=run.id)).text
    assert [file.path for file in workspace(ListArtifacts(id=run.id)).artifacts] == ["a.ipynb"]


@ONE_DATABASE
def test_what_cannot_be_run_starts_no_run(workspace: Workspace, home: Path, tarmac: Callable[..., Ran]) -> None:
    notebook(home / "a.ipynb", code("depth = 3"))
    (home / "b.ipynb").write_text("{")
    for words, says in {
        ("a.ipynb", "-p", "dept=4"): "did you mean `depth`?",
        ("a.ipynb", "-p", "depth=deep"): "`depth` is 3 in the notebook",
        ("a.ipynb", "--", "--depth"): "takes params and no words",
        ("b.ipynb",): "it is not JSON",
        ("c.ipynb",): "did you mean",
    }.items():
        done = tarmac("run", *words, cwd=home)
        assert done.code != 0
        assert says in done.err
    assert workspace(ListRuns()).runs == []


def alive(mark: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@ONE_DATABASE
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_kernel_goes_with_the_command(home: Path, number: signal.Signals) -> None:
    notebook(home / "a.ipynb", code("import time, pathlib\npathlib.Path('up').touch()\ntime.sleep(300)"))
    mark = f"OURS={home}-{number}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "run", "a.ipynb"],
        cwd=home,
        env=tarmac_environment(OURS=mark.partition("=")[2]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not (home / "up").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(alive(mark)) >= 4  # the command, its leash, what drives the kernel, the kernel
    os.kill(process.pid, number)
    process.wait(30)
    end = time.monotonic() + 30
    while alive(mark):
        assert time.monotonic() < end, alive(mark)
        time.sleep(0.05)


def test_parameters_are_found_where_they_are_by_convention(tmp_path: Path) -> None:
    def found(*cells: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        known = parameters(read(notebook(tmp_path / "a.ipynb", *cells)))
        return known.after, known.defaults

    assert found(code("import os"), code("a = 1\nb = f()", "parameters")) == (1, {"a": 1, "b": ...})
    assert found(text("x"), code("'''what it does'''\na: int = 1\nb = [1, 'x']")) == (1, {"a": 1, "b": [1, "x"]})
    assert found(code("import os\na = 1")) == (-1, {})
    assert found(code("a = f()")) == (-1, {})
    assert found(code("%matplotlib inline\na = 1")) == (-1, {})
    assert found() == (-1, {})


def test_values_take_the_kind_of_what_they_replace(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", code("n = 1\nr = 0.1\ns = 'x'\nb = True\nl = [1]\no = None"))
    known = parameters(read(path))
    given = {"n": "2", "r": "1", "s": "5", "b": "false", "l": "[1, 2]", "o": "anything"}
    taken = values(path, known, given)
    assert taken == {"n": 2, "r": 1.0, "s": "5", "b": False, "l": [1, 2], "o": "anything"}
    document = read(path)
    inject(document, known, taken)
    inject(document, known, {"n": 3})  # a copy that was executed before is told anew
    assert [cell["source"] for cell in document["cells"][1:]] == ["n = 3"]
    for name, wrong in {"n": "1.5", "b": "1", "r": "x", "l": "(1,)"}.items():
        with pytest.raises(Invalid, match="in the notebook"):
            values(path, known, {name: wrong})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"cells": {}}',
        b'{"cells": [1]}',
        b"[" * 100_000,
        b'{"worksheets": []}',
        b'{"cells": [], "metadata": {"kernelspec": {"language": "R"}}}',
        b'{"cells": [], "metadata": []}',
    ],
)
def test_hostile_files_are_refused_in_words(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.ipynb"
    path.write_bytes(data)
    with pytest.raises(Invalid):
        read(path)


def test_a_failure_is_bounded() -> None:
    assert len(str(Failure(1, "x = 1\n" * 10_000, "E", "v" * 100_000))) < 20_000

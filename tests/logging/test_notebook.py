"""In notebooks: a real kernel runs cells, and their outputs hold a line of the run that is kept up to date."""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tarmac.logging import notebook
from tarmac.logging.place import Place
from tests.conftest import tarmac_environment
from tests.logging.conftest import Training
from tests.logging.spooled import spooled

CELLS = [
    "import time, tarmac\nrun = tarmac.run('<b>faces</b>', name='first & <i>best</i>')",
    "for step in range(20):\n    run.log({'loss': step, 'accuracy': 1}, step=step)\n    time.sleep(0.1)",
    "run",
    "run.end()",
]


def executed(cells: list[str], folder: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of each cell, as a browser would show them in the end."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    for name, value in tarmac_environment(TARMAC_WORKSPACE=where).items():
        monkeypatch.setenv(name, value)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata.kernelspec = {"name": "python3", "display_name": "python3"}
    nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [cell.outputs for cell in book.cells]


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own parts
def test_the_line_below_the_cell(local: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[str] = []
    client = pytest.importorskip("nbclient")
    original = client.NotebookClient.process_message

    def watch(self: Any, msg: Any, *more: Any, **named: Any) -> Any:
        if msg["msg_type"] in ("display_data", "update_display_data"):
            updates.append(msg["content"]["data"]["text/html"])
        return original(self, msg, *more, **named)

    monkeypatch.setattr(client.NotebookClient, "process_message", watch)
    first, second, shown, last = executed(CELLS, tmp_path, local.where, monkeypatch)
    assert [output.output_type for output in first] == ["display_data"], "and nothing on stderr"
    line = first[0].data["text/html"]
    assert "run <b>first &amp; &lt;i&gt;best&lt;/i&gt;</b> of &lt;b&gt;faces&lt;/b&gt;" in line
    assert "finished · 40 points" in line, "the cell that started it holds the end"
    assert second == last == []
    assert "running · 40 points" in shown[0].data["text/html"]
    states = [part for text in updates if (part := text.split(" · ")[1:3])]
    assert states[0][0] == "running"
    assert 1 <= sum(state[0] == "running" and "points" in state[1] for state in states) <= 4, states


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_sent_is_said(local: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "import tarmac\nwith tarmac.run('a', patience=1) as run: run.log(x=1)"
    (outputs,) = executed([cell], tmp_path, "http://127.0.0.1:9", monkeypatch)
    line = next(output.data["text/html"] for output in outputs if output.output_type == "display_data")
    assert "finished, not yet sent: " in line
    assert '<a href="http://127.0.0.1:9/p/default/runs/' in line


def test_in_a_terminal_it_is_one_line_on_stderr(local: Training) -> None:
    done = local.run("import tarmac\nwith tarmac.run('a') as run: run.log(x=1)")
    assert done.err.count("\n") == 1
    assert done.err.startswith("run ")
    assert done.out == ""


def test_ipython_in_a_terminal_is_no_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    try:
        run = spooled(tmp_path)
        run.show()
        assert capsys.readouterr().err.startswith("run first (baseline) → ")
        assert run._line is None
    finally:
        type(shell).clear_instance()


class Screen:
    """As IPython is in a kernel."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.breaks = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Screen:
        get = lambda: SimpleNamespace(kernel=object())  # noqa: E731
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=get))
        display = SimpleNamespace(HTML=str, display=self.display)
        monkeypatch.setitem(sys.modules, "IPython.display", display)
        return self

    def display(self, thing: str, display_id: bool) -> Screen:
        assert display_id
        self.update(thing)
        return self

    def update(self, thing: str) -> None:
        if self.breaks:
            raise RuntimeError("the browser is gone")
        self.shown.append(thing)


def test_it_is_updated_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, clock = Screen().install(monkeypatch), [100.0]
    monkeypatch.setattr(notebook, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    run = spooled(tmp_path)
    run.show()
    for _ in range(1000):
        run.log(x=1)
        clock[0] += 0.01
    assert 9 <= len(screen.shown) - 1 <= 10
    run.end("failed")
    assert "failed, not yet sent: offline" in screen.shown[-1]
    assert "1,000 points" in screen.shown[-1]


def test_a_screen_that_breaks_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen().install(monkeypatch)
    monkeypatch.setattr(notebook, "UPDATE_SECONDS", 0)
    run = spooled(tmp_path, strict=True)
    run.show()
    screen.breaks = True
    run.log(x=1)
    screen.breaks = False
    run.log(x=1)
    run.end()
    assert len(screen.shown) == 1
    again = spooled(tmp_path)
    screen.breaks = True
    again.show()
    assert "run first (baseline) → " in capsys.readouterr().err, "then it is said as in a terminal"


def test_a_child_leaves_the_notebook_to_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen().install(monkeypatch)
    run = spooled(tmp_path)
    run.show()
    run.forked()
    run.log(x=1)
    run.end()
    assert len(screen.shown) == 1


def test_a_run_as_html(tmp_path: Path) -> None:
    run = spooled(tmp_path)
    assert "running" in run._repr_html_()
    assert escape(str(tmp_path)) in run._repr_html_()
    run.end()
    assert "ended" in run._repr_html_()
    odd = spooled(tmp_path)
    odd.place = Place('http://x/?a="><script>', "default", tmp_path)
    odd.experiment = odd.name = '"><script>'
    assert "<script>" not in odd._repr_html_()

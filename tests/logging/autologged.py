"""What autolog has left in the spools of a workspace, read back without anybody who carries it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tarmac.formats.spool import LOG, Begin, End, Params, Points, Tags, Used, read
from tarmac.logging.auto import autolog
from tarmac.logging.run import Run
from tarmac.workspace import connect


@dataclass
class Spooled:
    """One run."""

    begin: Begin
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    used: list[Used] = field(default_factory=list)
    status: str | None = None

    @property
    def about(self) -> Any:
        assert len(self.used) == 1
        return msgspec.json.decode(self.used[0].about)

    def last(self, key: str) -> float:
        return self.points[key][-1][1]

    def warnings(self) -> dict[str, str]:
        return {key: text for key, text in self.tags.items() if key.startswith("tarmac.warning")}


@dataclass
class Logged:
    """A workspace whose runs stay in their spools, and what was handed to `run.save` and `run.model`."""

    folder: Path
    saved: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    err: Callable[[], str] = str

    def runs(self) -> list[Spooled]:
        """In the order in which they began."""
        found = [_read(log) for log in (self.folder / ".tarmac" / "spool").glob(f"*/{LOG}")]
        return sorted(found, key=lambda run: run.begin.at)

    def only(self) -> Spooled:
        runs = self.runs()
        assert len(runs) == 1, [run.begin.name for run in runs]
        return runs[0]


def _read(log: Path) -> Spooled:
    run: Spooled | None = None
    for record, _ in read(log, most=1 << 30):
        if isinstance(record, Begin):
            run = Spooled(record)
            continue
        assert run is not None
        if isinstance(record, Params):
            run.params |= record.values
        elif isinstance(record, Tags):
            run.tags |= record.values
        elif isinstance(record, Points):
            for key, value in record.values.items():
                run.points.setdefault(key, []).append((record.step, value))
        elif isinstance(record, Used):
            run.used.append(record)
        elif isinstance(record, End):
            run.status = record.status
    assert run is not None
    return run


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Logged]:
    """Autolog in this process. When the test is over it is off, and nothing of it is left anywhere."""
    connect(tmp_path, create=True).close()
    monkeypatch.setenv("TARMAC_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("TARMAC_OFFLINE", "1")
    monkeypatch.setattr("tarmac.logging.carrier.ensure", lambda place: True)
    made = Logged(tmp_path, err=lambda: capsys.readouterr().err)
    monkeypatch.setattr(Run, "save", lambda run, name, thing: made.saved.update({name: thing}), raising=False)

    def keep(run: Run, model: Any, name: str, register: bool) -> None:
        assert not register, "a name is given by people only"
        made.models[name] = model

    monkeypatch.setattr(Run, "model", keep)
    monkeypatch.setattr("tarmac.logging.auto.sklearn.PROBE_SECONDS", 60)  # a busy machine must not cost a score here
    yield made
    autolog(False)
    assert [finder for finder in sys.meta_path if type(finder).__module__.startswith("tarmac")] == []

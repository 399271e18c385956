"""What is needed to run steps elsewhere and needs no cluster: the source that goes along, and the address."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tarmac.core.errors import Conflict, NotFound
from tarmac.flow.executors import carried, sending
from tarmac.flow.steps import File
from tests.flow.conftest import Project


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sources are laid down."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def test_source_goes_along_as_a_run_captures_it(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "tarmac.toml").write_text('[project]\nname = "p"\n')
    (root / "pipe.py").write_text("X = 1\n")
    (root / "run.sh").write_text("true\n")
    (root / "run.sh").chmod(0o755)
    (root / ".env").write_text("KEY=secret\n")
    (root / "ignored.py").write_text("x = 1\n")
    (root / ".gitignore").write_text("ignored.py\ndata/\n")
    (root / "data" / "a.bin").write_bytes(b"abc")
    (root / "data" / "b.bin").write_bytes(b"abc")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    source = carried.pack(root / "data", ("a.*",))
    assert source.digest == carried.pack(root / "data", ("a.*",)).digest
    place = carried.lay_down(source.digest, source.archive)
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert found == {"tarmac.toml", "pipe.py", "run.sh", ".gitignore", "data/a.bin"}
    assert os.access(place / "run.sh", os.X_OK)
    assert source.place(str(root / "data")) == "data"
    assert source.place(str(root / ".env")) is None
    with pytest.raises(Conflict, match="damaged"):
        carried.lay_down("0" * 64, source.archive)


def test_code_that_was_changed_since_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "pipe.py"
    file.write_text("X = 1\n")
    source = carried.pack(tmp_path)
    stamp = source.stamps[str(file)]
    source.check({str(file): stamp})
    with pytest.raises(Conflict, match="was changed while the pipeline runs"):
        source.check({str(file): (stamp[0] + 1, stamp[1])})


def test_a_place_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tmp" / f"tarmac-steps-{os.getuid()}").mkdir(mode=0o777)
    os.chmod(tmp_path / "tmp" / f"tarmac-steps-{os.getuid()}", 0o777)  # noqa: PTH101
    with pytest.raises(Conflict, match="open to others"):
        carried.here()


def test_files_are_named_by_their_path_only_where_they_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "big.bin"
    file.write_bytes(b"x" * 100)
    message = sending.dump([File(file), Path("not-there")], None, None)
    given: list[str] = []
    assert sending.load(message, tmp_path, None, given.append) == [File(file), Path("not-there")]
    assert str(file) in given
    file.write_bytes(b"y" * 101)
    with pytest.raises(Conflict, match="is another file than the one that was given"):
        sending.load(message, tmp_path, None, given.append)
    file.unlink()
    with pytest.raises(NotFound, match="is not on "):
        sending.load(message, tmp_path, None, given.append)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("cluster", "`cluster` is no place where a pipeline can run"),
        ("ray://host", "`ray://host` is no place where a pipeline can run"),
        ("ray://host:99999999", "is no place where a pipeline can run"),
        ("http://host:8265", "`http://host:8265` is no place where a pipeline can run"),
    ],
)
def test_what_is_no_cluster_is_said_before_anything_runs(project: Project, address: str, said: str) -> None:
    project.write("pipe.py", "import tarmac\n@tarmac.step\ndef a(): return 1\n@tarmac.pipeline\ndef main(): return a()")
    assert said in project.tarmac("run", "pipe:main", "--on", address, code=2)
    assert project.tarmac("runs", "ls", "--json").count('"id"') == 0


def test_a_script_runs_here(project: Project) -> None:
    project.write("script.py", "print(1)")
    assert "are for pipelines" in project.tarmac("run", "script.py", "--on", "ray", code=2)

"""From training to prediction through the front door: packages of runs and of files, compiled, loaded, trusted."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tarmac
from tarmac.core.errors import Conflict, Damaged, Invalid, NotFound, Refused
from tarmac.formats.package import ABOUT
from tarmac.registry.operations import (
    AddVersion,
    CompileModel,
    CompileReport,
    GetModel,
    GetPackage,
    GetVersion,
    ListPackageFiles,
    ListVersions,
)
from tarmac.registry.records import Version
from tarmac.store.operations import CheckStore
from tarmac.track.operations import ListRuns
from tarmac.workspace import Workspace, connect, packages
from tests.conftest import Ran, tarmac_environment
from tests.logging.spooled import spooled, spools

ROWS = np.array([[0.1, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.5], [1.0, 0.0, 1.0]])
LABELS = np.array([0, 1, 1, 0])
TRAIN = """
import tarmac
from sklearn.linear_model import LogisticRegression
X = [[0.1, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.5], [1.0, 0.0, 1.0]]
class Half:
    def __call__(self, rows):
        return rows / 2
with tarmac.run("churn") as run:
    model = LogisticRegression().fit(X, [0, 1, 1, 0])
    import numpy as np
    run.model(model, name="churn", example=np.array(X))
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """On SQLite: what is kept in tables is tried on both databases by the first test."""
    with connect(tmp_path, create=True) as opened:
        yield opened


def classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(ROWS, LABELS)


def made_by_run(workspace: Workspace, model: Any, example: Any = None, **more: Any) -> Version:
    """As training does it, in this process; its end waits for the carrier."""
    with tarmac.run("tests", workspace=workspace.place, project=workspace.project, meter=False, patience=300) as run:
        run.model(model, name="churn", example=example, **more)
    return workspace(GetVersion(ref="churn@latest"))


def compiled(workspace: Workspace, **more: Any) -> CompileReport:
    return workspace.wait(workspace(CompileModel(ref="churn@latest", **more)))


def test_a_run_leaves_a_version_that_predicts_and_compiles(anywhere: Workspace) -> None:
    model = classifier()
    version = made_by_run(anywhere, model, ROWS)
    assert (version.number, version.state) == (1, "ready")
    assert version.run is not None
    package = anywhere(GetPackage(id=version.package or ""))
    assert package.run == version.run
    paths = {file.path for file in anywhere(ListPackageFiles(id=package.id)).files}
    assert paths >= {"MLmodel", ABOUT, "requirements.txt", "input_example.json", "output_example.json", "model.pkl"}
    native = tarmac.load_model("churn@v1", workspace=anywhere)
    assert native.form == "native"
    assert native.predict(ROWS).tolist() == model.predict(ROWS).tolist()
    report = compiled(anywhere, rows=ROWS.tolist())
    assert report.equal, report
    assert (report.proof["from_data"], report.proof["agreement"]) == (4, 1.0)
    ready = tarmac.load_model("churn@latest", workspace=anywhere)
    assert ready.form == "compiled", "which runs no code, and needs nobody's trust"
    assert ready.predict(ROWS).tolist() == model.predict(ROWS).tolist()
    assert np.allclose(ready.predict_proba(ROWS), model.predict_proba(ROWS), atol=1e-5)
    assert anywhere(GetModel(name="churn")).forms["v1"].startswith("compiled: equal on 208 rows")
    assert compiled(anywhere).equal, "again, in place of the first"
    assert anywhere.wait(anywhere(CheckStore())).faults == []
    with pytest.raises(Invalid, match="shape"):
        ready.predict(ROWS[:, :2])
    with pytest.raises(Invalid, match="the model takes"):
        compiled(anywhere, rows=[[1, 2]])
    with pytest.raises(NotFound):
        tarmac.load_model("chrun@v1", workspace=anywhere)


def test_only_who_made_it_is_who_made_it(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same folder, opened by somebody else, or on another machine."""
    version = made_by_run(workspace, classifier(), ROWS)
    monkeypatch.setenv("TARMAC_STATE", str(tmp_path / "elsewhere"))
    with pytest.raises(Refused, match="brings code") as caught:
        tarmac.load_model("churn@v1", workspace=workspace)
    assert f'tarmac.load_model("churn@v1", trust="{version.digest}")' in str(caught.value.hint)
    with pytest.raises(Refused, match="brings code"):
        compiled(workspace)
    found = tarmac.load_model("churn@v1", workspace=workspace, trust=version.digest or "")
    assert found.predict(ROWS).tolist() == LABELS.tolist()


def test_a_spool_from_elsewhere_is_packaged_without_being_run(
    tarmac: Callable[..., Ran], workspace: Workspace, tmp_path: Path
) -> None:
    Foreign.mark = str(tmp_path / "it-ran")
    away = tmp_path / "away"
    away.mkdir()
    run = spooled(away)
    run.model(Foreign(), name="churn", example=ROWS)
    run.end()
    (tmp_path / "copied").mkdir()
    spools(run)[0].rename(tmp_path / "copied" / "spool")
    done = tarmac("sync", "copied", "-w", str(workspace.place))
    assert done.code == 0, done.err
    assert workspace(GetVersion(ref="churn@v1")).state == "ready"
    assert not Path(Foreign.mark).exists()


class Foreign:
    """Its pickle leaves a mark wherever it is loaded."""

    mark = ""

    def __reduce__(self) -> Any:
        return (os.makedirs, (self.mark,))


def test_foreign_code_is_never_run_unless_it_is_trusted(workspace: Workspace, tmp_path: Path) -> None:
    Foreign.mark = str(tmp_path / "it-ran")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Foreign()))
    version = packages.add(workspace, "churn", tmp_path / "evil.pkl")
    with pytest.raises(Refused, match=r"brings code \(`evil.pkl`\)"):
        tarmac.load_model("churn@v1", workspace=workspace)
    with pytest.raises(Refused, match="brings code") as caught:
        compiled(workspace)
    assert f"tarmac models compile churn@v1 --trust {version.digest}" in str(caught.value.hint)
    assert not Path(Foreign.mark).exists()
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: evil, code: code}}")
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "MLmodel").rename(folder / "MLmodel")
    (folder / "code").mkdir()
    (folder / "code/evil.py").write_text(f"import os; os.makedirs({Foreign.mark!r})")
    packages.add(workspace, "churn", folder)
    for form in ("best", "native"):
        with pytest.raises(Refused):
            tarmac.load_model("churn@v2", workspace=workspace, form=form)
    assert not Path(Foreign.mark).exists()


def test_the_project_file_vouches(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(classifier()))
    version = packages.add(workspace, "churn", tmp_path / "model.pkl")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tarmac.toml").write_text(f'[trust]\ndigests = ["{version.digest}"]\n')
    assert tarmac.load_model("churn@v1", workspace=workspace).predict(ROWS).tolist() == LABELS.tolist()


def test_what_was_tampered_with_is_found(workspace: Workspace, tmp_path: Path) -> None:
    version = made_by_run(workspace, classifier(), ROWS)
    model = tarmac.load_model("churn@v1", workspace=workspace)
    file = model.folder / "model.pkl"
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    with pytest.raises(Damaged, match=r"`model.pkl` has other bytes"):
        tarmac.load_model(model.folder, trust=model.digest)
    assert tarmac.load_model("churn@v1", workspace=workspace).predict(ROWS).tolist() == LABELS.tolist(), "fetched anew"
    compiled(workspace)
    ready = tarmac.load_model("churn@v1", workspace=workspace)
    form = ready.folder / ".compiled/model.onnx"
    form.write_bytes(form.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match=r".compiled/model.onnx` has other bytes"):
        tarmac.load_model(ready.folder)
    assert tarmac.load_model("churn@v1", workspace=workspace).form == "compiled"
    assert version.digest == ready.digest


class Odd:
    def predict(self, rows: Any) -> Any:
        return np.random.default_rng().random(len(rows))


def test_why_a_model_is_not_compiled(workspace: Workspace) -> None:
    made_by_run(workspace, Odd(), ROWS)
    assert "differ from call to call" in compiled(workspace).why
    from sklearn.dummy import DummyClassifier
    from sklearn.preprocessing import FunctionTransformer

    made_by_run(workspace, FunctionTransformer(np.cumsum), ROWS)
    report = compiled(workspace)
    assert not report.equal
    assert report.proof["tried"]
    assert tarmac.load_model("churn@v2", workspace=workspace).form == "native"
    with pytest.raises(Invalid, match="no compiled form"):
        tarmac.load_model("churn@v2", workspace=workspace, form="compiled")
    made_by_run(workspace, DummyClassifier().fit(ROWS, LABELS))
    assert "no example" in compiled(workspace).why
    workspace(AddVersion(name="churn", source="s3://elsewhere"))
    with pytest.raises(Conflict, match="only names"):
        compiled(workspace)


class Failing:
    """On more rows than its example has."""

    def __init__(self, how: str) -> None:
        self.how = how

    def predict(self, rows: Any) -> Any:
        if len(rows) > len(ROWS):
            os.kill(os.getpid(), signal.SIGSEGV) if self.how == "crash" else time.sleep(60)
        return rows[:, 0]


def test_a_converter_that_crashes_or_hangs(workspace: Workspace) -> None:
    made_by_run(workspace, Failing("crash"), ROWS)
    assert "died of SIGSEGV" in compiled(workspace).why
    made_by_run(workspace, Failing("hang"), ROWS)
    assert "not done after 1 s" in compiled(workspace, seconds=1).why
    assert workspace.wait(workspace(CheckStore())).faults == []


KILLED_AFTER = (0.3, 1.0, 2.0)
"""Seconds: while it starts, while it looks at a prediction, while it registers; on a busy machine earlier in each."""


@pytest.mark.slow
def test_killed_while_it_registers(workspace: Workspace, tmp_path: Path) -> None:
    """The carrier dies at any moment: the next one goes on, and there is one version, whole, or none yet."""
    for wait in KILLED_AFTER:
        script = tmp_path / "train.py"
        script.write_text(TRAIN)
        environment = tarmac_environment(TARMAC_WORKSPACE=str(tmp_path), TARMAC_OFFLINE="1")
        subprocess.run([sys.executable, str(script)], env=environment, check=True, capture_output=True, cwd=tmp_path)
        sending = subprocess.Popen(
            [sys.executable, "-m", "tarmac", "sync", "-w", str(tmp_path)], env=tarmac_environment(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(wait)
        sending.kill()
        sending.wait()
        subprocess.run(
            [sys.executable, "-m", "tarmac", "sync", "-w", str(tmp_path)], env=tarmac_environment(),
            check=True, capture_output=True,
        )  # fmt: skip
    versions = workspace(ListVersions(model="churn")).versions
    assert sorted(version.number for version in versions) == list(range(1, len(KILLED_AFTER) + 1))
    assert len({version.package for version in versions}) == len(KILLED_AFTER)
    assert {version.run for version in versions} == {run.id for run in workspace(ListRuns()).runs}
    assert tarmac.load_model("churn@latest", workspace=workspace).predict(ROWS).tolist() == LABELS.tolist()
    assert workspace.wait(workspace(CheckStore())).faults == []


def test_a_name_is_what_registers(workspace: Workspace) -> None:
    with tarmac.run("tests", workspace=workspace.place, meter=False) as run:
        run.model(classifier())
        run.model(classifier(), name="kept", register=False)
        for wrong in ("a@b", "a:b", " "):
            with pytest.raises(Invalid, match="cannot be the name of a model"):
                run.model(classifier(), name=wrong)
    assert workspace(ListVersions()).versions == []


def test_functions_travel_with_the_model(workspace: Workspace) -> None:
    made_by_run(workspace, classifier(), ROWS, before=lambda rows: rows * 2, after=lambda answer: answer + 10)
    expected = (classifier().predict(ROWS * 2) + 10).tolist()
    assert tarmac.load_model("churn@v1", workspace=workspace).predict(ROWS).tolist() == expected
    assert compiled(workspace).equal
    ready = tarmac.load_model("churn@v1", workspace=workspace)
    assert ready.form == "compiled"
    assert ready.predict(ROWS).tolist() == expected


def test_the_command_line(tarmac: Callable[..., Ran], workspace: Workspace, tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    model = to_onnx(classifier(), ROWS[:1].astype("float32"))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "rows.csv").write_text("a,b,c\n0.1,1,2\n")
    (tmp_path / "narrow.csv").write_text("a,b\n0.1,1\n")
    np.save(tmp_path / "rows.npy", ROWS.astype("float32"))
    place = str(workspace.place)
    done = tarmac("models", "add", "churn", "model.onnx", "--example", "rows.npy", "--note", "first", "-w", place)
    assert done.code == 0, done.err
    assert workspace(GetVersion(ref="churn@v1")).note == "first"
    assert tarmac("models", "verify", "churn@v1", "-w", place).code == 0
    done = tarmac("models", "verify", "churn@v1", "--fresh", "-w", place)
    assert (done.code, "`requirements.txt`" in done.err) == (1, True), "to install is to run"
    assert tarmac("models", "get", "churn@v1", "got", "-w", place).code == 0
    assert "exists already" in tarmac("models", "get", "churn@v1", "got", "-w", place).err
    with (tmp_path / "got/model.onnx").open("ab") as file:
        file.write(b"x")
    done = tarmac("models", "verify", "got")
    assert done.code == 1
    assert "`model.onnx` has" in done.err
    for words, says in (
        (["add", "churn", "rows.csv"], "nobody knows what kind of model"),
        (["add", "churn", "model.onnx", "--example", "narrow.csv"], "the example cannot be predicted"),
        (["add", "churn", "."], "is no model folder"),
        (["add", "churn", "--example", "rows.csv"], "for a file or folder"),
        (["add", "churn", "model.onnx", "--source", "s3://x"], "not of two of them"),
        (["verify", "churn@v9"], "there is no version"),
        (["compile", "churn@v1", "--sample", "model.onnx"], "an example is not read from"),
    ):
        done = tarmac("models", *words, "-w", place)
        assert done.code in (1, 2), words
        assert says in done.err, done.err

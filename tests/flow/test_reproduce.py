"""A run done again from nothing: the verdict, its causes, and that nothing else is touched. As a person does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import uv

from tarmac.core.errors import Conflict, NotFound
from tarmac.flow.operations import CancelJob, GetJob, ResumeJob
from tarmac.flow.reproduce import queries
from tarmac.flow.reproduce.compare import between
from tarmac.flow.reproduce.operations import GetReproduction, ListReproductions, Reproduce
from tarmac.flow.reproduce.records import Reproduction
from tarmac.govern.operations import ListEvents, VerifyLedger
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import ShowLineage
from tarmac.track.operations import CreateRun, DescribeRun, EndRun, GetDetails, GetRun, ListArtifacts, ListRuns, ReadLog
from tarmac.workspace import LocalWorkspace, Workspace, connect
from tests.conftest import tarmac_environment

CORE = ("blake3", "click", "httptools", "msgspec", "rich", "uvicorn")
ONE_DATABASE = pytest.mark.parametrize("address", ["sqlite"], indirect=True)
ROOT = Path(__file__).resolve().parents[2]
STEADY = """
import argparse, random, tarmac
parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, default=3)
depth = parser.parse_args().depth
random.seed(7)
with tarmac.run("baseline", params={"depth": depth}) as run:
    for step in range(5):
        run.log({"loss": random.random() / depth, "time/seconds": 1.0}, step=step)
    run.save("result.json", {"score": random.random()})
"""


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own with tarmac and little else, as somebody trains with it."""
    folder = tmp_path_factory.mktemp("trainer")
    binary = uv.find_uv_bin()
    subprocess.run([binary, "venv", "-q", "--python", sys.executable, str(folder / "v")], check=True)
    python = folder / "v" / "bin" / "python"
    wanted = [f"{name}=={version(name)}" for name in (*CORE, "psycopg", "psycopg-binary")]
    subprocess.run([binary, "pip", "install", "-q", "--python", str(python), *wanted], check=True)
    library = next((folder / "v" / "lib").glob("python*/site-packages"))
    (library / "tarmac.pth").write_text(f"{ROOT / 'src'}\n")
    return python


Train = Callable[..., str]


@pytest.fixture
def train(trainer: Path, folder: WorkspaceFolder) -> Train:
    """Runs a script as somebody does, and gives the id of its run."""

    def run(text: str, *words: str, tracked: bool = True, name: str = "train.py", **environment: str) -> str:
        home = folder.path.parent
        (home / name).write_text(text)
        before = ["-m", "tarmac", "run"] if tracked else []
        done = subprocess.run(
            [str(trainer), *before, name, *words],
            cwd=home,
            capture_output=True,
            text=True,
            env=tarmac_environment(**environment),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with connect(home) as workspace:
            return workspace(ListRuns(limit=1)).runs[0].id

    return run


def again(workspace: Workspace, run: str, **settings: Any) -> Reproduction:
    found: Reproduction = workspace.wait(workspace(Reproduce(id=run, **settings)))
    return found


def names(found: Reproduction) -> list[str]:
    return [one.name for one in found.differences]


def files_of(folder: Path) -> dict[str, bytes]:
    """What lies in the user's folder, but for the workspace."""
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".tarmac" not in path.parts
    }


def test_the_same_comes_out_and_is_kept_as_evidence(
    workspace: Workspace, folder: WorkspaceFolder, train: Train, tarmac: Callable[..., Any]
) -> None:
    home = folder.path.parent
    (home / "helper.py").write_text("")
    run = train(STEADY, "-p", "depth=4")
    before, files = workspace(GetDetails(id=run)), files_of(home)
    (home / "train.py").write_text("raise SystemExit('this is not what ran')")
    done = tarmac("reproduce", run[:14], cwd=home)
    assert done.code == 0, done.err
    assert "same" in done.out
    found = workspace(GetReproduction(run=run))
    assert (found.verdict, found.causes, found.differences, found.tries) == ("same", [], [], 1)
    assert (found.metrics, found.files) == (2, 1)
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    # the evidence: on the run, in the ledger, in the lineage, and as a run that can be looked at
    after = workspace(GetDetails(id=run))
    assert after.run.tags == {**before.run.tags, "tarmac.reproduced": "same"}
    assert (after.run.metrics, after.facts, after.artifacts) == (before.run.metrics, before.facts, before.artifacts)
    assert found.made is not None
    made = workspace(GetRun(id=found.made))
    assert (made.experiment, made.metrics["loss"]) == ("reproductions", before.run.metrics["loss"])
    edges = workspace(ShowLineage(thing=f"runs/{made.id}")).edges
    assert ("reproduced", f"runs/{run}") in [(edge.how, edge.source) for edge in edges]
    assert [event.subject for event in workspace(ListEvents(operation="reproduce")).events].count(f"runs/{run}") == 1
    assert workspace.wait(workspace(VerifyLedger())).faults == []
    assert isinstance(workspace, LocalWorkspace)
    store = workspace.door.store
    with store.database.read() as connection:  # as a gate asks
        from tarmac.store.sql import Reader

        read = Reader(connection, store.names, store.project_key("default"), "default", workspace.actor)
        assert queries.latest(read, run) == found
    # nothing of the user's was touched, and nothing is left over
    (home / "train.py").write_text(STEADY)
    assert files_of(home) == files
    assert list((folder.path / "reproducing").iterdir()) == []


@ONE_DATABASE
def test_what_is_random_is_found_by_running_twice(workspace: Workspace, train: Train) -> None:
    text = STEADY.replace("random.seed(7)", "noise = random.Random()").replace(
        '{"score": random.random()}', '{"score": noise.random()}'
    )
    text = text.replace("random.random() / depth", "1 / depth")
    run = train(text, tracked=False)
    found = again(workspace, run)
    assert (found.verdict, found.tries, names(found)) == ("different", 2, ["result.json"])
    assert [cause.kind for cause in found.causes] == ["randomness"]
    assert "result.json" in found.causes[0].what
    assert found.made is not None
    assert [file.path for file in workspace(ListArtifacts(id=found.made)).artifacts] == ["result.json"]
    # what is known to differ may be left out, and the verdict says so
    found = again(workspace, run, ignore=["*.json"])
    assert (found.verdict, found.ignored, found.files) == ("same", ["*.json"], 0)
    assert [one.verdict for one in workspace(ListReproductions(run=run)).reproductions] == ["same", "different"]
    assert len(workspace(ListReproductions(verdict="different")).reproductions) == 1


@ONE_DATABASE
def test_close_is_within_the_tolerance_that_is_stated(workspace: Workspace, train: Train, tmp_path: Path) -> None:
    (tmp_path / "nudge").write_text("0.0000001")
    text = STEADY.replace("random.seed(7)", f"random.seed(7); nudge = float(open({str(tmp_path / 'nudge')!r}).read())")
    text = text.replace("random.random() / depth", "1 + nudge * step").replace("random.random()", "1 + nudge")
    run = train(text)
    (tmp_path / "nudge").write_text("0.0000002")
    found = again(workspace, run)
    assert (found.verdict, [one.verdict for one in found.differences]) == ("close", ["close", "close"])
    assert [cause.kind for cause in found.causes] == ["outside"]  # read from beyond the project: nobody kept it
    assert again(workspace, run, tolerance=1e-9).verdict == "different"


@ONE_DATABASE
def test_secrets_and_the_home_folder_stay_here(workspace: Workspace, folder: WorkspaceFolder, train: Train) -> None:
    text = (
        "import os, tarmac\n"
        "with tarmac.run('look') as run:\n"
        "    run.save('seen.json', {**dict(os.environ), 'place': tarmac.connect().place, 'HASH': hash('a')})\n"
    )
    (folder.path.parent / ".env").write_text("PASSWORD=hunter2")
    run = train(text, API_TOKEN="sesame", AWS_SECRET_ACCESS_KEY="hidden", PYTHONHASHSEED="5")
    os.environ["API_TOKEN"] = "sesame"
    try:
        found = again(workspace, run)
    finally:
        del os.environ["API_TOKEN"]
    assert found.made is not None
    file = workspace(ListArtifacts(id=found.made)).artifacts[0]
    seen = json.loads(b"".join(workspace.read(str(file.digest))))
    assert "sesame" not in seen.values()
    assert not [name for name in seen if "SECRET" in name or name in ("TARMAC_TOKEN", "TARMAC_LEDGER_KEY")]
    assert str(folder.path / "reproducing") in seen["HOME"]
    assert Path(seen["place"]) != folder.path
    assert seen["PYTHONHASHSEED"] == "5"
    original = workspace(ListArtifacts(id=run)).artifacts[0]
    assert seen["HASH"] == json.loads(b"".join(workspace.read(str(original.digest))))["HASH"]


@ONE_DATABASE
def test_what_cannot_be_rebuilt_is_said_before_anything_runs(
    workspace: Workspace, folder: WorkspaceFolder, train: Train, tarmac: Callable[..., Any]
) -> None:
    home = folder.path.parent
    with pytest.raises(NotFound):
        again(workspace, "f" * 32)
    bare = workspace(CreateRun(experiment="by hand")).id
    with pytest.raises(Conflict, match="running"):
        again(workspace, bare)
    workspace(EndRun(id=bare))
    done = tarmac("reproduce", bare, cwd=home)
    assert (done.code, "cannot be rebuilt" in done.out, "no source" in done.out) == (1, True, True)
    ran = home / "ran"
    run = train(f"open({str(ran)!r}, 'w')\nimport tarmac\ntarmac.run('x')\n", "--", "--token", "sesame")
    ran.unlink()
    found = again(workspace, run)
    assert (found.verdict, found.tries) == ("cannot be rebuilt", 0)
    assert "secret" in found.causes[0].what
    facts = workspace(GetDetails(id=run)).facts
    argv = [word for word in facts["argv"] if word not in ("--token", "***")]
    wrong: dict[str, dict[str, Any]] = {
        "package": {"packages": {**facts["packages"], "no-such-package-of-ours": "1.2.3"}},
        "python": {"python": "CPython 2.6.6"},
    }
    for kind, change in wrong.items():
        workspace(DescribeRun(id=run, facts={**facts, "argv": argv, **change}))
        found = again(workspace, run)
        assert (found.verdict, found.tries, [cause.kind for cause in found.causes]) == ("cannot be rebuilt", 0, [kind])
    elsewhere = {"url": "file:///elsewhere/lib", "dir_info": {"editable": True}}
    changed = {"packages": {**facts["packages"], "lib": "1"}, "direct": {"lib": elsewhere}, "argv": argv}
    workspace(DescribeRun(id=run, facts={**facts, **changed}))
    assert "installed from file:///elsewhere/lib" in again(workspace, run).causes[0].what
    workspace(DescribeRun(id=run, facts={**facts, "argv": ["python", "-m", "ipykernel_launcher"]}))
    assert "session" in again(workspace, run).causes[0].what
    assert not ran.exists()


@ONE_DATABASE
def test_facts_from_a_hostile_hand_lead_nowhere(workspace: Workspace, folder: WorkspaceFolder, train: Train) -> None:
    """Whoever may write can say anything of how a run was started."""
    run = train("import tarmac\ntarmac.run('x')\n")
    facts = workspace(GetDetails(id=run)).facts
    before = files_of(folder.path.parent)
    wrong: list[dict[str, Any]] = [
        {"paths": ["../../.."]},
        {"paths": ["/etc"]},
        {"packages": {"--index-url=http://evil.example": "1"}},
        {"packages": {"x": "1\n-r /etc/passwd"}},
        {"direct": {"click": {"url": "http://evil.example/x\n-r /etc/passwd"}}},
        {"python": "CPython --help"},
        {"argv": "train.py"},
        {"argv": ["python", "train.py\0"]},
        {"argv": ["/bin/sh", "-c", "touch ran"]},
        {"root": "relative"},
        {"root": None},
        {"packages": []},
    ]
    for change in wrong:
        workspace(DescribeRun(id=run, facts={**facts, **change}))
        found = again(workspace, run)
        assert (found.verdict, found.tries) == ("cannot be rebuilt", 0), change
    # what points out of the folder stays in it, and variables that change programs are not taken
    climbing = {"root": f"{facts['root']}/../../x/..", "folder": "/../..", "settings": {"LD_PRELOAD": "x", "PATH": "/"}}
    workspace(DescribeRun(id=run, facts={**facts, **climbing}))
    assert again(workspace, run).verdict in ("cannot be rebuilt", "same")
    assert files_of(folder.path.parent) == before


@ONE_DATABASE
def test_data_that_was_not_kept_is_named(workspace: Workspace, folder: WorkspaceFolder, train: Train) -> None:
    (folder.path.parent / "rows.bin").write_bytes(b"1")
    run = train("import tarmac\nwith tarmac.run('x') as run:\n    run.use('faces@v3')\n    open('rows.bin').read()\n")
    found = again(workspace, run)
    assert (found.verdict, found.tries, found.causes[0].kind) == ("cannot be rebuilt", 1, "data")
    assert "rows.bin" in found.causes[0].what
    assert "faces@v3" in found.causes[1].what


@ONE_DATABASE
def test_source_that_is_damaged_is_named(workspace: Workspace, folder: WorkspaceFolder, train: Train) -> None:
    text = STEADY + "# unlike any other\n"
    run = train(text)
    for path in folder.blobs.rglob("*"):
        if path.is_file() and path.read_bytes() == text.encode():
            path.write_bytes(b"x" * len(text))
    found = again(workspace, run)
    assert (found.verdict, found.causes[0].kind) == ("cannot be rebuilt", "source")
    assert "train.py" in found.causes[0].what


@ONE_DATABASE
def test_a_project_in_a_repository_with_modules_of_its_own(
    workspace: Workspace, folder: WorkspaceFolder, train: Train
) -> None:
    home = folder.path.parent
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)
    for name, text in {"src/ours/__init__.py": "RATE = 3\n", "data/rows.csv": "1\n2\n", "jobs/.keep": ""}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    text = (
        "import sys; sys.path.insert(0, 'src')\nimport ours, tarmac\n"
        "with tarmac.run('x') as run:\n    run.log(rows=len(open('data/rows.csv').read()) * ours.RATE)\n"
    )
    assert again(workspace, train(text, name="jobs/train.py")).verdict == "same"


PIPELINE = """
import random
import tarmac

@tarmac.step
def load(path: tarmac.File) -> list[float]:
    return [float(line) for line in open(path)]

@tarmac.step
def fit(rows: list[float], depth: int) -> float:
    random.seed(depth)
    value = sum(rows) * NOISE
    return value

@tarmac.pipeline
def train(path: tarmac.File = "rows.csv", depth: int = 3):
    return fit(load(path), depth)
"""


@ONE_DATABASE
@pytest.mark.parametrize(
    ("noise", "verdict"), [("random.random()", "same"), ("random.SystemRandom().random()", "different")]
)
def test_a_pipeline_is_done_again_step_by_step(
    workspace: Workspace, folder: WorkspaceFolder, trainer: Path, noise: str, verdict: str
) -> None:
    home = folder.path.parent
    (home / "ours.py").write_text(PIPELINE.replace("NOISE", noise))
    (home / "rows.csv").write_text("1\n2\n")
    (home / "tarmac.toml").write_text('[pipelines.train]\nentry = "ours:train"\n')
    words = [str(trainer), "-m", "tarmac", "run", "train", "-p", "depth=4"]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, env=tarmac_environment(), check=False)
    assert done.returncode == 0, done.stderr
    run = workspace(ListRuns(filter="tags.`tarmac.pipeline` = 'train'")).runs[0].id
    (home / "ours.py").write_text("raise SystemExit('gone')")
    (home / "rows.csv").unlink()
    found = again(workspace, run)
    assert (found.verdict, found.steps) == (verdict, 2), found
    if verdict == "different":
        assert found.causes[0].kind == "randomness"
        assert "fit" in names(found)


SLOW = """
import os, subprocess, sys, time, tarmac
with tarmac.run("slow") as run:
    if os.environ.get("HOME", "").count("reproducing") and not os.path.exists({gate!r}):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        open({pids!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(300)
    run.log(loss=1.0)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], Any], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "kill"])
def test_stopped_halfway_there_is_no_verdict_and_it_can_be_taken_up(
    workspace: Workspace, folder: WorkspaceFolder, train: Train, tmp_path: Path, how: str
) -> None:
    from tests.flow.test_jobs import process_of

    gate, pids = tmp_path / "gate", tmp_path / "pids"
    run = train(SLOW.format(gate=str(gate), pids=str(pids)))
    started = workspace(Reproduce(id=run))
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    works = [int(pid) for pid in pids.read_text().split()]
    if how == "cancel":
        workspace(CancelJob(id=started.id))
    else:
        os.kill(process_of(started.id), signal.SIGKILL)
    until(lambda: workspace(GetJob(id=started.id)).state in ("cancelled", "interrupted"))
    until(lambda: not any(is_alive(pid) for pid in works))
    assert workspace(ListReproductions()).reproductions == []
    assert "tarmac.reproduced" not in workspace(GetRun(id=run)).tags
    gate.touch()
    workspace(ResumeJob(id=started.id))
    until(lambda: workspace(GetJob(id=started.id)).state == "done")
    assert [one.verdict for one in workspace(ListReproductions()).reproductions] == ["same"]
    assert workspace(ListRuns(experiment=["reproductions"])).runs[0].status == "finished"
    assert list((folder.path / "reproducing").iterdir()) == []


@ONE_DATABASE
def test_a_loud_run_is_kept_in_bounds(workspace: Workspace, train: Train) -> None:
    run = train(
        "import os, tarmac\nwith tarmac.run('x'):\n    [os.write(1, b'loud ' * 20000 + b'\\n') for _ in range(60)]\n"
    )
    found = again(workspace, run)
    assert (found.verdict, found.made is not None) == ("same", True)
    assert len(workspace(ReadLog(id=str(found.made))).text) < 2_000_000


@pytest.mark.parametrize(
    ("path", "one", "other", "distance"),
    [
        ("a.json", b'{"a": [1, 2.0], "b": "x"}', b'{"a": [1, 2.5], "b": "x"}', 0.2),
        ("a.json", b'{"a": 1}', b'{"b": 1}', None),
        ("a.json", b"[" * 5000, b"[1]", None),
        ("a.csv", b"x,y\n1,2\n", b"x,y\n1,nan\n", float("inf")),
        ("a.csv", b"\xff\xfe", b"1", None),
        ("a.npy", b"not one", b"[1]", None),
        ("models/m/about.json", b'{"made": 1, "k": 2}', b'{"made": 2, "k": 2}', 0.0),
        ("a.bin", b"1", b"2", None),
    ],
)
def test_files_are_compared_by_their_numbers(path: str, one: bytes, other: bytes, distance: float | None) -> None:
    assert between(path, one, other) == distance


def test_pickles_are_the_same_but_for_what_cloudpickle_makes_up() -> None:
    """Never by running them; and texts that happen to look alike are still told apart."""
    import pickle

    cloudpickle = pytest.importorskip("cloudpickle")

    def made(value: float, where: str) -> bytes:
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(compile("class Rule:\n    def predict(self, rows): return rows\n", f"{where}/train.py", "exec"), space)
        rule = space["Rule"]()
        rule.value = value
        return bytes(cloudpickle.dumps(rule))

    one, other = made(0.5, "/a"), made(0.5, "/a/longer/place")
    assert one != other
    assert between("model.pkl", one, other) == 0
    assert between("model.pkl", one, made(0.75, "/a")) == pytest.approx(1 / 3)
    names = [pickle.dumps({"label": f"{place}/cat"}) for place in ("x", "y")]
    assert between("model.pkl", *names) is None
    hashes = [pickle.dumps([f"{number:032x}", None]) for number in (1, 2)]
    assert between("model.pkl", *hashes) is None

"""Whatever happens to the server, the disk, the clock or the process: training ends as it would have, and after
`tarmac sync` the store holds what it would hold had nothing happened."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tarmac.formats import frames
from tarmac.formats.spool import AnyRecord, Begin, End, Points, encode
from tarmac.store.folder import WorkspaceFolder
from tarmac.track.operations import BeatRun, CreateRun, GetDetails, ListRuns, SweepRuns
from tarmac.workspace import Workspace, connect
from tests.conftest import Ran, Server, tarmac_environment
from tests.logging.conftest import Training, history, only_run, stop_carriers, until
from tests.logging.flaky import Flaky, Mode

# every round is said on the standard output once it is logged: what was said is acknowledged
TRAIN = """
import sys, time, tarmac
rounds, pause = int(sys.argv[1]), float(sys.argv[2])
with tarmac.run("training", params={"rounds": rounds}, capture=False, patience=2) as run:
    print(run.id, flush=True)
    for step in range(rounds):
        run.log({"loss": 1 / (step + 1), "lr": step % 7}, step=step)
        print(step, flush=True)
        time.sleep(pause)
    run.tag(done="yes")
"""


def expected(rounds: int) -> list[tuple[int, float]]:
    return [(step, 1 / (step + 1)) for step in range(rounds)]


def whole(workspace: Workspace, rounds: int) -> bool:
    """Whether the store equals that of an undisturbed run."""
    run = only_run(workspace)
    assert history(workspace, run.id, "loss") == expected(rounds)
    assert [value for _, value in history(workspace, run.id, "lr")] == [step % 7 for step in range(rounds)]
    assert run.params == {"rounds": str(rounds)}
    assert run.tags == {"done": "yes"}
    assert run.status == "finished"
    return True


@pytest.fixture
def flaky(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    made = Flaky(urlsplit(server.url).port)
    yield made
    made.close()


@pytest.fixture
def through(flaky: Flaky, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Training]:
    """Training that logs through a door that fails."""
    token = (Path(tarmac_environment()["TARMAC_STATE"]) / "servers" / f"{flaky.behind}.token").read_text().strip()
    monkeypatch.setenv("TARMAC_STATE", str(tmp_path / "state"))
    yield Training(tmp_path, flaky.url, {"TARMAC_TOKEN": token})
    flaky.become("refuse")
    stop_carriers(tmp_path)


def sync(tarmac: Callable[..., Ran], training: Training, *words: str) -> Ran:
    return tarmac("sync", "-w", training.where, *words, cwd=training.folder, **training.environment)


def test_the_server_is_away_from_the_start(
    tarmac: Callable[..., Ran], flaky: Flaky, through: Training, server: Server, folder: WorkspaceFolder
) -> None:
    flaky.become("refuse")
    done = through.run(TRAIN, "500", "0")
    assert done.code == 0, done.err
    assert "`tarmac sync` sends it" in done.err
    refused = sync(tarmac, through)
    assert refused.code == 1
    assert "not sent" in refused.err
    flaky.become("pass")
    assert until(lambda: sync(tarmac, through).code == 0)
    with connect(folder.path.parent) as workspace:
        assert whole(workspace, 500)
    assert through.spools() == []
    assert sync(tarmac, through).out == "nothing waits to be sent\n"


@pytest.mark.slow
def test_the_server_is_killed_and_started_ten_times(
    tarmac: Callable[..., Ran], flaky: Flaky, through: Training, server: Server, folder: WorkspaceFolder,
    serve: Callable[..., Server],
) -> None:  # fmt: skip
    process = through.start(TRAIN, "2000", "0.005")
    for _ in range(10):
        time.sleep(0.3)
        server.process.kill()
        server.process.wait()
        flaky.become("pass")
        server = serve(folder)
        flaky.behind = urlsplit(server.url).port
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    token = (Path(tarmac_environment()["TARMAC_STATE"]) / "servers" / f"{flaky.behind}.token").read_text().strip()
    through.environment["TARMAC_TOKEN"] = token
    until(lambda: sync(tarmac, through).code == 0)
    with connect(folder.path.parent) as workspace:
        assert whole(workspace, 2000)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["500", "503", "garbage", "cut", "drip"])
def test_the_server_answers_nonsense(
    tarmac: Callable[..., Ran], mode: Mode, flaky: Flaky, through: Training, server: Server, folder: WorkspaceFolder
) -> None:
    process = through.start(TRAIN, "600", "0.01")
    time.sleep(1.0)
    flaky.become(mode)
    asked = flaky.asked
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert flaky.asked > asked, "it was asked"
    flaky.become("pass")
    until(lambda: sync(tarmac, through).code == 0, 60)
    with connect(folder.path.parent) as workspace:
        assert whole(workspace, 600)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_random_moment(seed: int, local: Training, workspace: Workspace) -> None:
    process = local.start(TRAIN, "100000", "0")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0, 0.8))
    process.kill()
    said = process.communicate()[0].splitlines()
    last = max((int(line) for line in said[:-1] if line), default=-1)  # the last line may be half a line
    run = until(lambda: (found := workspace(ListRuns()).runs) and found[0].status != "running" and found[0])
    assert run.status == "killed"
    found = history(workspace, run.id, "loss")
    assert found == expected(len(found))
    assert len(found) > last, "every acknowledged point is there"
    assert local.spools() == []


FULL = """
import os, sys, threading, time, builtins
real, files = os.write, set()
opened = os.open
def note(path, *rest, **more):
    file = opened(path, *rest, **more)
    if str(path).endswith("/log"):
        files.add(file)
    return file
def write(file, data):
    if file in files and os.path.exists("full"):
        if os.environ.get("PARTLY") and len(data) > 20:
            os.environ["PARTLY"] = ""
            return real(file, data[:11])
        raise OSError(28, "No space left on device")
    return real(file, data)
os.open, os.write = note, write
import tarmac
run = tarmac.run("training", params={"rounds": 3000}, capture=False, patience=5)
from tarmac.logging import spool
if "bound" in sys.argv:
    spool.WAITING_BYTES = 20_000
open("full", "w").close() if "late" not in sys.argv else None
for step in range(3000):
    if step == 1000:
        open("full", "w").close()
    if step == 2000 and "to-the-end" not in sys.argv:
        os.unlink("full")
    run.log({"loss": 1 / (step + 1), "lr": step % 7}, step=step)
    time.sleep(0.0002)
run.tag(done="yes")
run.end()
"""


@pytest.mark.parametrize("partly", ["", "1"])
def test_the_disk_is_full_for_a_while(partly: str, local: Training, workspace: Workspace) -> None:
    done = local.run(FULL, "late", PARTLY=partly)
    assert done.code == 0, done.err
    assert whole(workspace, 3000)


def test_what_does_not_fit_into_memory_is_counted(local: Training, workspace: Workspace) -> None:
    done = local.run(FULL, "late", "bound")
    assert done.code == 0, done.err
    run = only_run(workspace)
    kept = history(workspace, run.id, "loss")
    lost = 2 * (3000 - len(kept))
    assert lost > 0
    assert run.tags["tarmac.incomplete"] == f"{lost} points were dropped: the disk was full"
    assert run.status == "finished"
    assert set(kept) <= set(expected(3000))


@pytest.mark.parametrize("partly", ["", "1"])
def test_the_disk_is_full_to_the_end(partly: str, local: Training, workspace: Workspace) -> None:
    done = local.run(FULL, "late", "to-the-end", PARTLY=partly)
    assert done.code == 0, done.err
    run = until(lambda: (found := only_run(workspace)).status != "running" and found)
    kept = history(workspace, run.id, "loss")
    assert kept == expected(1000)
    assert run.tags["tarmac.incomplete"] == "4000 points were dropped: the disk was full to the end"
    assert run.status == "finished"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, where we may make one."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"not run: no file system can be mounted here ({made.stderr.strip()})")
    yield path
    stop_carriers(tmp_path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


REALLY_FULL = """
import os, sys, time, tarmac
ballast = os.path.join(os.environ["TARMAC_SPOOL"], "ballast")
def fill():
    with open(ballast, "wb", buffering=0) as file:
        try:
            while file.write(bytes(512)):
                pass
        except OSError:
            pass
run = tarmac.run("training", params={"rounds": 3000}, capture=False, patience=10)
time.sleep(1)  # the carrier has what it needs
for step in range(3000):
    if step == 1000:
        fill()
    if step == 2000 and "to-the-end" not in sys.argv:
        os.unlink(ballast)
    run.log({"loss": 1 / (step + 1), "lr": step % 7}, step=step)
run.tag(done="yes")
run.end()
print(run._complain.counts)
"""


@pytest.mark.parametrize("until_when", ["for-a-while", "to-the-end"])
def test_a_disk_that_really_is_full(
    until_when: str, tarmac: Callable[..., Ran], small_disk: Path, local: Training, workspace: Workspace
) -> None:
    done = local.run(REALLY_FULL, until_when, TARMAC_SPOOL=str(small_disk))
    assert (done.code, done.out) == (0, "{}\n"), done.err
    run = until(lambda: (found := only_run(workspace)).status != "running" and found)
    if until_when == "for-a-while":
        assert whole(workspace, 3000)
        return
    kept = history(workspace, run.id, "loss")
    assert kept == expected(len(kept))
    assert run.status == "finished"
    lost = 2 * (3000 - len(kept))
    assert run.tags["tarmac.incomplete"] == f"{lost} points were dropped: the disk was full to the end"


def test_the_clock_is_set_back(local: Training, workspace: Workspace) -> None:
    back = "import time\nreal = time.time_ns\nbegan = real()\n"
    back += "time.time_ns = lambda: real() - (3600 * 10**9 if real() - began > 10**9 else 0)\n"
    done = local.run(back + TRAIN, "300", "0.01")
    assert done.code == 0, done.err
    assert whole(workspace, 300)
    run = only_run(workspace)
    assert run.ended_at is not None
    assert run.ended_at >= run.started_at
    assert run.metrics["loss"] == 1 / 300, "the last value is the one of the last step"


FORKS = """
import os, sys, threading, time, tarmac
run = tarmac.run("training", capture=False)
stop = threading.Event()
def busy():
    step = 0
    while not stop.is_set():
        run.log({"thread": step}, step=step)
        step += 1
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
children = []
for worker in range(64):
    child = os.fork()
    if child == 0:
        for step in range(20):
            run.log({f"worker/{worker}": step * worker}, step=step)
        os._exit(0) if worker % 2 else sys.exit(0)
    children.append(child)
codes = {os.waitpid(child, 0)[1] for child in children}
stop.set()
for thread in threads: thread.join()
for step in range(20):
    run.log({"parent": step}, step=step)
run.end()
print(codes)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_64_workers_forked_in_the_middle(local: Training, workspace: Workspace) -> None:
    done = local.run(FORKS)
    assert done.code == 0, done.err
    assert done.out == "{0}\n"
    run = until(lambda: (found := only_run(workspace)).status != "running" and found)
    assert run.status == "finished"
    until(lambda: not local.spools())
    for worker in range(64):
        assert history(workspace, run.id, f"worker/{worker}") == [(step, step * worker) for step in range(20)]
    assert history(workspace, run.id, "parent") == [(step, step) for step in range(20)]
    steps = [step for step, _ in history(workspace, run.id, "thread")]
    assert sorted(set(steps)) == list(range(max(steps) + 1)), "nothing of the threads is lost"


SPAWNED = """
import multiprocessing, tarmac
from concurrent.futures import ProcessPoolExecutor
def work(run, worker):
    for step in range(10):
        run.log({f"worker/{worker}": step}, step=step)
if __name__ == "__main__":
    with tarmac.run("training", capture=False) as run:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            list(pool.map(work, [run] * 4, range(4)))
        run.log(parent=1)
"""


def test_spawned_workers_write_to_the_same_run(training: Training, anywhere: Workspace) -> None:
    done = training.run(SPAWNED)
    assert done.code == 0, done.err
    run = only_run(anywhere)
    assert run.status == "finished"
    for worker in range(4):
        assert history(anywhere, run.id, f"worker/{worker}") == [(step, step) for step in range(10)]


RANKS = """
import sys, tarmac
with tarmac.run("training", capture=False, all_ranks="all" in sys.argv) as run:
    import os
    run.params(world=os.environ["WORLD_SIZE"])
    run.log({f"rank/{os.environ['RANK']}": 1}, step=0)
"""


@pytest.mark.parametrize("mode", ["first", "all"])
def test_processes_that_train_together(mode: str, local: Training, workspace: Workspace) -> None:
    shape = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}
    ranks = [local.start(RANKS, mode, RANK=str(rank), **shape) for rank in range(4)]
    for one in ranks:
        _, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
    until(lambda: not local.spools())
    run = only_run(workspace)
    assert run.params == {"world": "4"}
    assert set(run.metrics) == ({"rank/0"} if mode == "first" else {f"rank/{rank}" for rank in range(4)})
    until(lambda: only_run(workspace).status == "finished")


def test_the_interpreter_ends_while_it_is_sent(local: Training, workspace: Workspace) -> None:
    done = local.run(
        """
import tarmac
run = tarmac.run("training", params={"rounds": 60000}, capture=False, patience=0)
for step in range(60000):
    run.log({"loss": 1 / (step + 1), "lr": step % 7}, step=step)
run.tag(done="yes")
"""
    )
    assert done.code == 0, done.err
    until(lambda: not local.spools(), 60)
    assert whole(workspace, 60000)


def leave(local: Training, name: str, records: Sequence[AnyRecord], tail: bytes = b"") -> Path:
    """A spool as a process left it."""
    path = local.folder / ".tarmac" / "spool" / name
    path.mkdir(parents=True)
    data = frames.header() + b"".join(frames.encode(number, encode(record)) for number, record in enumerate(records))
    (path / "log").write_bytes(data + tail)
    (path / "alive").touch()
    return path


def begin(path: str, run: str = "0" * 31 + "1") -> Begin:
    return Begin(
        run=run, at=1_700_000_000_000, project="default", owner=True, experiment="old", place=path, capture=False
    )


def test_a_torn_tail_is_cut(tarmac: Callable[..., Ran], local: Training, workspace: Workspace) -> None:
    for cut in (1, 7, 15, 16, 30):
        run = f"{cut:032x}"
        name = f"{cut:016x}"
        torn = frames.encode(9, encode(Points(2, 1_700_000_000_002, {"x": 3.0})))[:cut]
        place = str(local.folder / ".tarmac" / "spool" / name)
        records: list[AnyRecord] = [
            begin(place, run),
            *(Points(step, 1_700_000_000_000, {"x": 1.0}) for step in range(2)),
        ]
        leave(local, name, records, torn)
    done = sync(tarmac, local)
    assert (done.code, done.out) == (0, "5 spools sent\n"), done.err
    for found in workspace(ListRuns()).runs:
        assert history(workspace, found.id, "x") == [(0, 1.0), (1, 1.0)]
        assert (found.status, found.tags) == ("killed", {}), "nothing that was acknowledged is missing"


def test_damage_in_the_middle_is_told(tarmac: Callable[..., Ran], local: Training, workspace: Workspace) -> None:
    place = str(local.folder / ".tarmac" / "spool" / "bad0")
    path = leave(local, "bad0", [begin(place), *(Points(step, 1_700_000_000_000, {"x": 1.0}) for step in range(20))])
    data = bytearray((path / "log").read_bytes())
    data[-100] ^= 0xFF
    (path / "log").write_bytes(data)
    assert sync(tarmac, local).code == 0
    run = only_run(workspace)
    assert 10 < len(history(workspace, run.id, "x")) < 20
    assert "bytes of what was logged cannot be read" in run.tags["tarmac.incomplete"]


def test_a_newer_spool_is_left_alone(tarmac: Callable[..., Ran], local: Training, workspace: Workspace) -> None:
    path = leave(local, "newer", [])
    (path / "log").write_bytes(b"TMF" + bytes([frames.FORMAT + 1]) + b"whatever")
    done = sync(tarmac, local)
    assert done.code == 1
    assert "has format 2" in done.err
    assert path.is_dir()


OLD = Path(__file__).parent / "spools"


def test_spools_of_every_version_are_read(tarmac: Callable[..., Ran], local: Training, workspace: Workspace) -> None:
    """Each release adds a spool that it wrote; none is ever removed."""
    versions = sorted(path.name for path in OLD.iterdir())
    assert "0.1.0" in versions
    for version in versions:
        done = sync(tarmac, local, str(shutil.copytree(OLD / version, local.folder / version)))
        assert (done.code, done.out) == (0, "1 spool sent\n"), done.err
        run = workspace(ListRuns(filter=f"attributes.name = 'written by {version}'")).runs[0]
        assert run.status == "finished"
        assert run.params == {"depth": "6"}
        assert run.tags == {"stage": "old"}
        assert run.note == "kept for good"
        assert run.metrics == {"loss": 0.25, "nan": "NaN"}
        assert history(workspace, run.id, "loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]


def test_two_at_once_send_it_once(
    tarmac: Callable[..., Ran], flaky: Flaky, through: Training, folder: WorkspaceFolder
) -> None:
    flaky.become("refuse")
    through.run(TRAIN, "3000", "0")
    stop_carriers(through.folder)
    spools = through.spools()[0].parent
    copy = through.folder / "elsewhere"
    shutil.copytree(spools, copy, ignore=lambda _, names: [name for name in names if name == "wake"])
    flaky.become("pass")
    words = [sys.executable, "-m", "tarmac", "sync", "-w", through.where]
    environment = tarmac_environment(**through.environment)
    many = [
        subprocess.Popen([*words, *more], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for more in ([], [str(copy)], [])
    ]
    for one in many:
        _, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
    with connect(folder.path.parent) as workspace:
        assert whole(workspace, 3000)


def test_a_copied_folder_is_sent_from_another_machine(
    tarmac: Callable[..., Ran], flaky: Flaky, through: Training, folder: WorkspaceFolder
) -> None:
    flaky.become("refuse")
    process = through.start(TRAIN, "400", "0.01")
    assert process.stdout is not None
    for _ in range(100):
        process.stdout.readline()
    copy = through.folder / "usb-stick"
    spools = through.spools()[0].parent
    ignore = shutil.ignore_patterns("wake", ".*")
    shutil.copytree(spools, copy, ignore=ignore)
    flaky.become("pass")
    environment = {**through.environment, "TARMAC_STATE": str(through.folder / "other-machine")}
    half = tarmac("sync", str(copy), cwd=through.folder, **environment)
    assert half.code == 0, half.err
    with connect(folder.path.parent) as workspace:
        assert only_run(workspace).status == "running", "its process is alive, elsewhere"
        assert len(history(workspace, only_run(workspace).id, "loss")) >= 99
    process.communicate(timeout=60)
    shutil.rmtree(copy)
    if through.spools():
        shutil.copytree(spools, copy, ignore=ignore)
        assert tarmac("sync", str(copy), cwd=through.folder, **environment).code == 0
        assert tarmac("sync", str(copy), cwd=through.folder, **environment).code == 0
    until(lambda: sync(tarmac, through).code == 0)
    with connect(folder.path.parent) as workspace:
        assert whole(workspace, 400)


def test_offline_nothing_is_sent(
    tarmac: Callable[..., Ran], flaky: Flaky, through: Training, folder: WorkspaceFolder
) -> None:
    done = through.run(TRAIN.replace("capture=False, ", ""), "50", "0", TARMAC_OFFLINE="1")
    assert done.code == 0, done.err
    until((through.spools()[0] / "side").exists)
    assert flaky.asked == 0
    stop_carriers(through.folder)
    assert sync(tarmac, through).code == 0
    with connect(folder.path.parent) as workspace:
        assert whole(workspace, 50)
        details = workspace(GetDetails(id=only_run(workspace).id))
        assert details.source is not None, "what it was at the time of the run"


def test_a_run_that_fell_silent_takes_the_end_it_had(
    tarmac: Callable[..., Ran], local: Training, workspace: Workspace
) -> None:
    place = str(local.folder / ".tarmac" / "spool" / "1a7e")
    records: list[AnyRecord] = [
        begin(place),
        Points(0, 1_700_000_000_000, {"x": 1.0}),
        End("finished", 1_700_000_005_000),
    ]
    path = leave(local, "1a7e", records)
    workspace(CreateRun(id="0" * 31 + "1", experiment="old", started_at=1_700_000_000_000, beats=True))
    workspace(BeatRun(id="0" * 31 + "1"))
    _age_heartbeat(local)
    assert workspace(SweepRuns()).runs == 1
    assert only_run(workspace).status == "killed"
    assert sync(tarmac, local).code == 0
    run = only_run(workspace)
    assert (run.status, run.ended_at) == ("finished", 1_700_000_005_000)
    assert not path.exists()


def _age_heartbeat(local: Training) -> None:
    database = local.folder / ".tarmac" / "store.db"
    if database.exists():
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE runs SET heartbeat_at = heartbeat_at - 600000")
        connection.close()
    else:
        import psycopg

        with psycopg.connect(WorkspaceFolder(local.folder / ".tarmac").describe().store) as other:
            other.execute("UPDATE runs SET heartbeat_at = heartbeat_at - 600000")

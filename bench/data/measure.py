"""What versions of data cost: whole processes, fsync on, the peers and the limits of the machine in the same run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from bench import machine
from bench.data import making
from bench.data import peers as beside
from bench.data import tables as inside_tables
from bench.table import Figure
from tarmac.data import chunks

TARMAC = [machine.python(), "-m", "tarmac"]
PIECE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """One process: wall and CPU seconds, and the most memory it held, in megabytes."""

    wall: float
    cpu: float
    memory: float

    def told(self) -> str:
        return f"{self.cpu:.2f} s CPU, {self.memory:.0f} MB"


def cost(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure(*, quick: bool, peers: bool) -> list[Figure]:
    files, rows = (2000, 200_000) if quick else (20_000, 7_600_000)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bench") as place:
        here = Path(place)
        os.environ["TARMAC_STATE"] = f"{place}/state"
        figures += folders(here / "folders", files, peers=peers)
        figures += tables(here / "tables", rows)
        figures += inside_tables.measure(quick=quick, peers=peers)
        if not quick and os.environ.get("TARMAC_PROVE"):
            figures += million(here / "million")
    return figures


def workspace(here: Path) -> Path:
    here.mkdir(parents=True, exist_ok=True)
    subprocess.run([*TARMAC, "init"], cwd=here, check=True, stdout=subprocess.DEVNULL)
    return here


def folders(here: Path, files: int, *, peers: bool) -> list[Figure]:
    workspace(here)
    size = making.folder(here / "in", files, 27_500)
    name = f"{files:,} files, {size / 1e6:,.0f} MB"
    limit, looked = hashed_into_packs(here), looking(here / "in")
    theirs = measure_peers(here, peers=peers)
    first = cost([*TARMAC, "data", "log", "faces", "in"], here)
    again = [cost([*TARMAC, "data", "log", "faces", "in"], here) for _ in range(3)]
    still = [cost([*TARMAC, "data", "status", "in"], here) for _ in range(3)]
    making.change(here / "in", 0.02)
    cost([*TARMAC, "data", "log", "faces", "in"], here)
    before = cost([*TARMAC, "data", "checkout", "faces@v1", "in"], here)
    other = workspace(here / "other")
    pulled = cost([*TARMAC, "data", "pull", "faces@v2", str(here)], other)
    written = cost([*TARMAC, "data", "checkout", "faces@v2", "out"], other)
    same = subprocess.run(["diff", "-rq", "in", "other/out"], cwd=here, check=False, capture_output=True, text=True)
    changed = same.stdout.count("differ")
    if changed != int(files * 0.02):
        raise SystemExit(f"{changed} files differ between the versions, not {int(files * 0.02)}")
    full = files == 20_000
    again_limit, status_limit = f"{looked}; {theirs['again']}", f"{looked}; {theirs['status']}"
    moved = f"{pulled.cpu + written.cpu:.2f} s CPU"
    return [
        Figure(
            f"log {name}, first time", first.wall, "s", 3 if full else None, limit=f"{limit}; {theirs['add']}",
            note=first.told(),
        ),
        Figure("log again, nothing changed, whole process", _middle(again), "s", 0.4, limit=again_limit),
        Figure("status, nothing changed, whole process", _middle(still), "s", 0.4, limit=status_limit),
        Figure(
            "the version before checked out, 2 % changed", before.wall, "s", 1.0, limit=theirs["checkout"],
            note=before.told(),
        ),
        Figure(
            "pulled into a new workspace and checked out", pulled.wall + written.wall, "s", 6 if full else None,
            note=moved,
        ),
    ]  # fmt: skip


def _middle(costs: list[Cost]) -> float:
    return sorted(one.wall for one in costs)[len(costs) // 2]


def hashed_into_packs(here: Path) -> str:
    """The limit: every file read and hashed, the bytes written to packs and synced."""
    start = time.perf_counter()
    held, size, number = [], 0, 0

    def flush() -> None:
        nonlocal held, size, number
        path = here / f"limit-{number}"
        with path.open("wb") as file:
            file.write(b"".join(held))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        held, size, number = [], 0, number + 1

    for path in (here / "in").rglob("*.bin"):
        content = path.read_bytes()
        blake3(content).digest()
        held.append(content)
        size += len(content)
        if size > PIECE:
            flush()
    flush()
    return f"hashing into packs alone {time.perf_counter() - start:.2f} s"


def looking(folder: Path) -> str:
    """The limit of status: the looks of every file."""
    start = time.perf_counter()
    for below in os.scandir(folder):
        for entry in os.scandir(below.path):
            entry.stat(follow_symlinks=False)
    return f"looking alone {time.perf_counter() - start:.3f} s"


def measure_peers(here: Path, *, peers: bool) -> dict[str, str]:
    found = {"add": "", "again": "", "status": "", "checkout": ""}
    for name, told in (("DVC", dvc(here) if peers else None), ("restic", restic(here))):
        for key, seconds in (told or {}).items():
            found[key] = f"{found[key]}; {name} {seconds:.2f} s".strip("; ")
    return found


def dvc(here: Path) -> dict[str, float] | None:
    command = beside.dvc(here)
    if command is None:
        return None
    place = here / "dvc-project"
    beside.dvc_project(place)
    shutil.copytree(here / "in", place / "in")
    cost([*command, "init", "-q"], place)
    found = {"add": cost([*command, "add", "-q", "in"], place).wall}
    found["again"] = cost([*command, "add", "-q", "in"], place).wall
    found["status"] = cost([*command, "status", "-q"], place).wall
    before = (place / "in.dvc").read_text()
    making.change(place / "in", 0.02)
    cost([*command, "add", "-q", "in"], place)
    (place / "in.dvc").write_text(before)
    found["checkout"] = cost([*command, "checkout", "-q", "--force"], place).wall
    shutil.rmtree(place)
    return found


def restic(here: Path) -> dict[str, float] | None:
    command = beside.restic()
    if command is None:
        return None
    environment = beside.restic_environment(here)
    cost([*command, "init", "-q"], here, environment)
    found = {key: cost([*command, "backup", "-q", "in"], here, environment).wall for key in ("add", "again")}
    shutil.rmtree(here / "restic")
    return found


def tables(here: Path, rows: int) -> list[Figure]:
    workspace(here)
    made = made_elsewhere(here / "made", rows)
    size = made["base"].stat().st_size
    limit = cut_and_hashed(made["base"])
    shutil.copy(made["base"], here / "table.parquet")
    first = cost([*TARMAC, "data", "log", "table", "table.parquet", "--plain"], here)
    figures = [
        Figure(
            f"log one Parquet file of {size / 1e6:,.0f} MB, first time, without looking into it",
            first.wall,
            "s",
            2.5 if rows > 1_000_000 else None,
            limit=limit,
            note=first.told(),
        )
    ]
    for change, target in (("append", 2.5), ("replace", 6.0), ("insert", None)):
        figures.append(_added(here, made["base"], made[change], f"Parquet, 1 % {change}", target))
    figures.append(_added(here, made["base.csv"], made["insert.csv"], "CSV, 1 % insert", 6.0))
    return figures


def made_elsewhere(place: Path, rows: int) -> dict[str, Path]:
    """In a process of its own: a child's memory is counted from its fork on, and this one has to stay small."""
    program = (
        "import sys; from pathlib import Path; from bench.data import making; "
        "making.tables(Path(sys.argv[1]), int(sys.argv[2]))"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([machine.python(), "-c", program, str(place), str(rows)], check=True, env=environment)
    return {path.name.removesuffix(".parquet"): path for path in place.iterdir()}


def _added(here: Path, before: Path, after: Path, name: str, target: float | None) -> Figure:
    """What the store grows by, recipes and lists included, in percent of the file."""
    place = workspace(here / name.replace(" ", "-").replace("%", ""))
    added = []
    for source in (before, after):
        shutil.copy(source, place / f"table{source.suffix}")
        cost([*TARMAC, "data", "log", "table", f"table{source.suffix}", "--plain"], place)
        added.append(_bytes(place))
    share = 100 * (added[1] - added[0]) / before.stat().st_size
    limit = "DVC and git-lfs 100 %: a file is whole"
    note = "" if target else "row groups shift: no cut can find them again"
    shutil.rmtree(place)
    return Figure(f"bytes added, foreign {name}", share, "%", target, limit=limit, note=note)


def _bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in (place / ".tarmac/blobs").rglob("*") if path.is_file())


def cut_and_hashed(file: Path) -> str:
    start = time.perf_counter()
    with file.open("rb") as source:
        for piece in chunks.cut(source):
            blake3(piece).digest()
    seconds = time.perf_counter() - start
    return f"cutting and hashing alone {seconds:.2f} s, {file.stat().st_size / seconds / 1e9:.1f} GB/s"


def million(here: Path) -> list[Figure]:
    workspace(here)
    making.many(here / "in", 1000, 1000)
    first = cost([*TARMAC, "data", "log", "many", "in"], here)
    (here / "in/0500/0500.txt").write_bytes(b"changed")
    found = cost([*TARMAC, "data", "status", "in"], here)
    return [
        Figure("log 1,000,000 small files, first time", first.wall, "s", note=first.told()),
        Figure("status of 1,000,000 files after one change", found.wall, "s", 5, note=f"{found.cpu:.2f} s CPU"),
        Figure("— its memory", found.memory, "MB", 500),
    ]

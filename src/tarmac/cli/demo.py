"""`tarmac demo`: what exists so far, done for real in a folder that is gone afterwards.

Every command and every line of Python that is shown is run as shown, in a process of its own. A step that does not end
as it should ends the demo with an error, so the demo is also a test.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import click

from tarmac.core.errors import Conflict, Internal
from tarmac.core.settings import PREFIX

INDENT = "   "
WIDEST = 100
PATIENCE_SECONDS = 15.0
LONG_ID = re.compile(r"\b([0-9a-f]{4})[0-9a-f]{24,56}([0-9a-f]{4})\b")
SHORT_ID = r"\1…\2"
RUN = ("id", "name", "experiment", "status")
CHECKED = ("blobs", "manifests", "events", "faults")
RUN_COLUMNS = ("id", "name", "experiment", "status", "started_at")
TRACKED = ("id", "name", "status", "metrics.loss", "params.lr")
REPRODUCED = ("run", "verdict", "causes", "metrics", "files", "python", "seconds")
GROUPED = ("by.params.lr", "runs", "metrics.loss.mean")
PRELUDE = """\
import tarmac
from pathlib import Path
from tarmac.store.operations import CommitManifest
from tarmac.store.records import File
from tarmac.track.operations import CreateRun, EndRun, ListRuns
"""
TRAIN = """\
import math, os, sys, tarmac
from tarmac.track.operations import LogRun
rate = float(sys.argv[sys.argv.index("--lr") + 1])
points = [("loss", math.exp(-rate * step), step, 0) for step in range(1, 31)]
with tarmac.connect() as workspace:
    workspace(LogRun(id=os.environ["TARMAC_RUN"], metrics=points))
print(f"loss {points[-1][1]:.3g}")
"""
RULE = """\
import tarmac

class Rule:
    def predict(self, rows):
        return [row[0] > 0.5 for row in rows]

with tarmac.run("rules") as run:
    run.model(Rule(), name="mask", example=[[0.2], [0.9]])
"""
GATED = """\
import sys, tarmac

class Rule:
    def __init__(self, least):
        self.least = least
    def predict(self, rows):
        return [row[0] > self.least for row in rows]

least = float(sys.argv[1])
with tarmac.run("rules") as run:
    run.log({"val/accuracy": 0.95 - abs(least - 0.5)})
    run.model(Rule(least), name="door", example=[[0.2], [0.9]])
"""
GATE = """\
[models.door.gates.production]
require = ["metrics['val/accuracy'] >= 0.7",
           "metrics['val/accuracy'] >= champion.metrics['val/accuracy'] - 0.01",
           "package.size_mb <= 1"]
"""
HISTORY = ("at", "alias", "how", "before", "after", "reason")
PIPELINE = """\
import tarmac
LIMIT = 5
@tarmac.step
def load(path: tarmac.File) -> list[int]:
    return [int(word) for word in path.read_text().split()]
@tarmac.step
def cut(rows: list[int]) -> list[int]:
    return [row for row in rows if row <= LIMIT]
@tarmac.step
def score(rows: list[int], all_rows: list[int], weight: float) -> float:
    return weight * sum(rows) + len(all_rows) - 2
@tarmac.pipeline
def main(path: tarmac.File = "rows.txt", weight: float = 2.0):
    rows = load(path)
    return score(cut(rows), rows, weight)
"""


@click.command("demo")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Do it in this new folder, and leave it.")
@click.option("--quick", is_flag=True, help="Leave out what only shows the same again.")
def command(keep: Path | None, quick: bool) -> None:
    """Show what exists so far: runs, tracking, a server, bytes, people, the ledger, backups, data. Nothing stays."""
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise Conflict(f"{keep} exists already", hint="name a folder that does not exist yet")
    with folder(keep) as place, Stage(place) as stage:
        started = time.monotonic()
        stage.opening()
        scenes = (
            workspace, runs, tracking, pipelines, again, server, people, lineage, blobs, damage, models, gates, serving,
            ledger, backup, data,
        )  # fmt: skip
        for scene in scenes:
            scene(stage, quick)
        stage.stop_server()
        closing(stage, keep, time.monotonic() - started)


# --------------------------------------------------------------------------------------------------------- the scenes


def workspace(stage: Stage, quick: bool) -> None:
    stage.scene(
        "A workspace is a folder", "Facts, bytes and the ledger live in it. No service, no account, no cluster."
    )
    stage.tarmac("init")


def runs(stage: Stage, quick: bool) -> None:
    stage.scene("Runs, from Python and from the command line", "A run is one execution of anything.")
    stage.python(
        """\
        import tarmac
        from tarmac.track.operations import CreateRun, EndRun
        with tarmac.connect() as workspace:
            run = workspace(CreateRun(experiment="baseline", name="first"))
            run = workspace(EndRun(id=run.id))
        print(run.id, run.status)"""
    )
    stage.tarmac("runs", "create", "baseline", "--name", "second", only=RUN)
    stage.tarmac("runs", "ls", columns=RUN_COLUMNS)


def tracking(stage: Stage, quick: bool) -> None:
    stage.scene(
        "Any script is a tracked run",
        "Its params, output, source, packages and machine are kept; curves it logs itself.",
    )
    stage.script("train.py", TRAIN)
    ids = [
        stage.found(r"^run (\w+)", stage.tarmac("run", "train.py", "-p", f"lr={rate}", "--name", name))
        for name, rate in (("slow", "0.1"), ("fast", "0.3"))
    ]
    stage.tracked = ids[1]
    stage.note("Found again by what came of it, drawn, compared, grouped:")
    stage.tarmac("runs", "ls", "--filter", "metrics.loss < 0.01 AND params.lr > 0.2", columns=TRACKED, says="fast")
    stage.tarmac("metrics", "sample", *ids, columns=("run", "key", "total", "values"), says="█")
    stage.tarmac("runs", "compare", *ids, says="params.lr")
    words = ("runs", "group", "params.lr", "--metrics", "loss", "--experiment", "train")
    stage.tarmac(*words, columns=GROUPED, says="metrics.loss.mean")


def data(stage: Stage, quick: bool) -> None:
    stage.scene(
        "Versions of data",
        "A folder becomes a version, and later again what it was. Only what changed is stored and written.",
    )
    stage.python(
        """\
        Path("faces").mkdir()
        head = b"P5 100 200 255\\n"
        for number in range(100):
            data = head + bytes([number]) * 20_000
            Path(f"faces/{number:03}.pgm").write_bytes(data)"""
    )
    stage.tarmac("data", "log", "faces", "faces", "--message", "from the camera", says="faces@v1")
    stage.python(
        """\
        Path("faces/007.pgm").write_bytes(b"P5 1 1 255\\n7")
        Path("faces/008.pgm").unlink()"""
    )
    stage.tarmac("data", "status", "faces", says="changed  007.pgm")
    stage.tarmac("data", "log", "faces", "faces", "--message", "labels mended", says="faces@v2")
    stage.tarmac("data", "diff", "faces@v1", "faces@v2", expect=1, says="gone     008.pgm")
    stage.tarmac("data", "checkout", "faces@v1", "faces", says="2 files written")


def gates(stage: Stage, quick: bool) -> None:
    stage.scene(
        "A gate before production",
        "Rules in the project file, asked whoever moves the alias. Trained three times; the second is worse.",
    )
    stage.script("tarmac.toml", GATE)
    (stage.project / "door.py").write_text(GATED, encoding="utf-8")
    for least in ("0.6", "0.9", "0.5"):
        stage.tarmac("run", "door.py", least, show=False)
    stage.tarmac("promote", "door@v1", "--to", "production", "--reason", "the first")
    stage.tarmac("promote", "door@v2", "--to", "production", expect=1, says="has to be at least")
    stage.note("Refused, and the evidence is kept. The third one is better:")
    stage.tarmac("promote", "door@v3", "--to", "production", "--reason", "better", says="points to v3 now")
    stage.tarmac("rollback", "door@production", "--reason", "the door stays shut")
    stage.note("What was live when, and why:")
    stage.tarmac("models", "history", "door", columns=HISTORY)
    stage.tarmac("models", "history", "door", "--at", "-1h", says="no moves")
    (stage.project / "tarmac.toml").unlink()


def serving(stage: Stage, quick: bool) -> None:
    stage.scene(
        "It answers",
        "The runtime follows the alias and keeps what it answered. A cut takes effect at once, and the ledger knows "
        "whose it was.",
    )
    if find_spec("numpy") is None:
        stage.note("Serving needs numpy, which is not installed here: pip install numpy")
        return
    with stage.answering("door@production") as url:
        ask = f"""\
        import json, urllib.error, urllib.request
        address = "{url}/predict/door"
        kind = {{"Content-Type": "application/json"}}
        asked = urllib.request.Request(address, b"[[0.2], [0.9]]", kind)
        try:
            print(json.load(urllib.request.urlopen(asked))["predictions"])
        except urllib.error.HTTPError as refused:
            print(json.load(refused)["error"]["message"])"""
        stage.python(ask)
        stage.tarmac("cut", "door", "--reason", "the hinge is loose", only=("endpoint", "fallback", "reason"))
        time.sleep(2)  # the runtime looks twice a second
        if "hinge" not in stage.python(ask):
            raise Internal("the demo expected the cut to be heard")
        stage.tarmac("uncut", "door", show=False)


def pipelines(stage: Stage, quick: bool) -> None:
    stage.scene(
        "A pipeline that plans and explains itself",
        "Steps are plain functions. What would run is known before, with the reason; what has not changed is reused.",
    )
    stage.script("pipe.py", PIPELINE)
    (stage.project / "rows.txt").write_text("3 1 4 1 5 9 2 6\n")
    stage.tarmac("plan", "pipe:main", says="it has not been run yet")
    stage.tarmac("run", "pipe:main", "--quiet", says="38.0")
    stage.note("LIMIT, a constant that one of the steps uses, is changed from 5 to 6:")
    script = stage.project / "pipe.py"
    script.write_text(script.read_text().replace("LIMIT = 5", "LIMIT = 6"))
    stage.tarmac("plan", "pipe:main", says="`LIMIT = 6`, was `LIMIT = 5`")
    stage.tarmac("run", "pipe:main", says="✓ load  reused")
    if not quick:
        stage.tarmac("run", "pipe:main", "-p", "weight=3", says="reused")


def again(stage: Stage, quick: bool) -> None:
    stage.scene(
        "A run done again from nothing",
        "Its source in a clean folder, its packages from their lock, its command line: does the same come out?",
    )
    if quick or find_spec("uv") is None:
        stage.note("Left out: it installs packages, by uv (`pip install 'tarmac[reproduce]'`).")
        return
    stage.note("The fast run of above; its script is not even there any more:")
    (stage.project / "train.py").unlink()
    stage.tarmac("reproduce", stage.tracked, only=REPRODUCED, says="same")


def server(stage: Stage, quick: bool) -> None:
    stage.scene(
        "The same through a server",
        "One process serves the folder: the web page, the HTTP API and its description at /docs. Commands and Python "
        "take its address instead of the folder; nothing else changes.",
    )
    stage.start_server()
    stage.tarmac("runs", "create", "baseline", "--name", "third", "-w", stage.url, only=RUN)
    stage.python(
        f"""\
        with tarmac.connect("{stage.url}") as workspace:
            page = workspace(ListRuns(experiment=["baseline"]))
        print([run.name for run in page.runs])"""
    )
    stage.http("GET", "/api/v1/p/default/runs.ls?limit=1", expect=200)


def people(stage: Stage, quick: bool) -> None:
    stage.scene(
        "People, roles and tokens",
        "Until now only the user who runs the server was let in. Once it knows a person, everybody shows a token.",
    )
    stage.tarmac("people", "add", "ada", "--role", "admin", "-w", stage.url, show=False)
    stage.tarmac("people", "add", "vic", "--role", "viewer", "-w", stage.url)
    made = stage.tarmac("tokens", "create", "vic", "--days", "1", "-w", stage.url, show=False)
    token = stage.found(r"(tarmac_\S+)", made)
    stage.note("vic may look, and may not change anything:")
    stage.tarmac("runs", "ls", "--limit", "1", "-w", stage.url, columns=RUN_COLUMNS, TARMAC_TOKEN=token)
    stage.tarmac("runs", "create", "mine", "-w", stage.url, expect=1, TARMAC_TOKEN=token)
    stage.note("Without a token there is no answer:")
    stage.http("GET", "/api/v1/p/default/runs.ls", expect=401)
    stage.stop_server()


def lineage(stage: Stage, quick: bool) -> None:
    stage.scene("Lineage", "What had a part in making what is written in the transaction that made it.")
    parent = stage.found(r"id +(\w+)", stage.tarmac("runs", "create", "sweep", "--name", "all", show=False))
    made = stage.tarmac("runs", "create", "sweep", "--name", "one", "--parent", parent, show=False)
    stage.tarmac("lineage", "runs/" + stage.found(r"id +(\w+)", made))


def blobs(stage: Stage, quick: bool) -> None:
    stage.scene(
        "Bytes are stored once, by their digest",
        "A manifest is an immutable list of files. Two of them may share files; what the last one leaves is garbage.",
    )
    megabytes = 1 if quick else 8
    out = stage.python(
        f"""\
        Path("model.bin").write_bytes(bytes(range(256)) * 4096 * {megabytes})
        Path("labels.txt").write_text("mask\\nno mask\\n")
        def commit(workspace, *names):
            files = [File(path=name, size=Path(name).stat().st_size,
                          digest=workspace.put(Path(name))) for name in names]
            return workspace(CommitManifest(kind="files", files=files)).manifest
        with tarmac.connect() as workspace:
            both = commit(workspace, "model.bin", "labels.txt")
            one = commit(workspace, "labels.txt")
        print(both.id, both.files, "files,", both.size, "bytes")
        print(one.id, one.files, "file,", one.size, "bytes")"""
    )
    stage.tarmac("manifests", "rm", out.split()[0], show=False)
    if not quick:
        stage.tarmac("store", "gc", "--grace-hours", "0", "--dry-run", only=("condemned", "deleted"))
    stage.tarmac("store", "gc", "--grace-hours", "0", only=("condemned", "deleted", "deleted_bytes"))
    stage.note("labels.txt is needed by the other manifest, and the scripts and their data by runs, so they stayed:")
    stage.tarmac("store", "check", "--quick", says="faults      none", only=CHECKED)


def damage(stage: Stage, quick: bool) -> None:
    stage.scene("Damage is found and named", "One bit of a stored file is flipped, as a failing disk would.")
    flip = """\
        file, *_ = sorted(Path(".tarmac/blobs").glob("??/*"))
        data = bytearray(file.read_bytes()); data[3] ^= 1; file.write_bytes(data)"""
    stage.python(flip)
    stage.tarmac("store", "check", expect=1, says="damaged", only=CHECKED)
    stage.note("Flipped back, nothing is wrong any more:")
    stage.python(flip, show=False)
    stage.tarmac("store", "check", only=CHECKED)


def models(stage: Stage, quick: bool) -> None:
    stage.scene(
        "A model becomes a package",
        "Sealed, with its signature, its requirements and what made it; in MLflow's layout, and verified when loaded.",
    )
    stage.script("rule.py", RULE)
    stage.tarmac("run", "rule.py", show=False)
    stage.tarmac("versions", "show", "mask@v1", only=("model", "number", "package", "digest", "run"))
    stage.tarmac("models", "verify", "mask@v1", only=("digest", "files", "faults"))
    stage.tarmac("models", "get", "mask@v1", "fetched", show=False)
    stage.note("One byte more in a copy of it:")
    more = """\
        with open("fetched/model.pkl", "ab") as file:
            count = file.write(b"x")"""
    stage.python(more)
    stage.tarmac("models", "verify", "fetched", expect=1, says="`model.pkl` has")


def ledger(stage: Stage, quick: bool) -> None:
    stage.scene(
        "The ledger: who did what",
        "Each change left an event. Events are sealed into a chain, signed with a key that is not in the database.",
    )
    stage.tarmac("audit", "ls", "--before", "6", columns=("position", "at", "actor", "operation", "subject"))
    head = stage.found(r"head +(\S+)", stage.tarmac("audit", "verify"))
    stage.note("Somebody edits the database, so that the second change was another's:")
    edit = """\
        import sqlite3
        with sqlite3.connect(".tarmac/store.db") as database:
            database.execute("UPDATE events SET actor = ? "
                             "WHERE position = 2", ["{}"])"""
    actor = stage.actor_of(2)
    stage.python(edit.format("os:mallory"))
    stage.tarmac("audit", "verify", expect=1, says="event 2", only=("events", "faults"))
    stage.note("Put back, the chain is whole again, and still has the head that may have been written down elsewhere:")
    stage.python(edit.format(actor), show=False)
    stage.tarmac("audit", "verify", "--expect", head, only=("events", "faults"))


def backup(stage: Stage, quick: bool) -> None:
    stage.scene("A backup is one that was restored", "Copied while others may go on working, then proved elsewhere.")
    stage.tarmac("store", "backup", "../backup")
    stage.tarmac("store", "restore", "../backup", "--to", "../restored")
    stage.tarmac("store", "check", "-w", "../restored", only=CHECKED)
    if not quick:
        stage.tarmac("runs", "ls", "--experiment", "sweep", "-w", "../restored", columns=RUN_COLUMNS)


def closing(stage: Stage, keep: Path | None, seconds: float) -> None:
    click.echo()
    if keep is None:
        click.echo(click.style(f"That took {seconds:.0f} seconds, and nothing of it is left.", bold=True) + " To try:")
        rows = [
            ("tarmac demo --keep DIR", "the same, and keep it to look around"),
            ("tarmac init", "a workspace of your own in this folder"),
            ("tarmac up", "then open the address it prints"),
            ("tarmac --help", "every command"),
        ]
    else:
        click.echo(click.style(f"That took {seconds:.0f} seconds. It is all in {keep}.", bold=True) + " To try:")
        rows = [
            (f"cd {keep / 'project'}", ""),
            ("tarmac status", "the workspace at a glance"),
            ("tarmac up", "then open the address it prints"),
            ("tarmac audit ls", "everything that was changed here"),
        ]
    width = max(len(left) for left, _ in rows)
    for left, right in rows:
        click.echo(f"{INDENT}{left:<{width}}   {click.style(right, dim=True)}".rstrip())


# ---------------------------------------------------------------------------------------------------------- the stage


class Stage:
    """A folder, a server when one is up, and the means to do something and show it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.project = place / "project"
        self.project.mkdir()
        self.url = ""
        self.tracked = ""
        self._scenes = 0
        self._children: list[subprocess.Popen[str]] = []
        self._width = min(shutil.get_terminal_size().columns, WIDEST)
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)} | {
            "TARMAC_STATE": str(place / "state"),
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": str(self._width),
        }

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            if child.poll() is None:  # SIGINT lets it end its own children too; Windows has no such thing
                child.terminate() if sys.platform == "win32" else child.send_signal(signal.SIGINT)
        for child in self._children:
            try:
                child.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(self.place / "state", ignore_errors=True)

    # showing

    def opening(self) -> None:
        click.echo(click.style("tarmac demo: what exists so far, done for real on this machine.", bold=True))
        self.note(f"Everything happens in {self.place}, by the commands and calls you see. Long ids are shortened.", "")

    def scene(self, title: str, text: str) -> None:
        self._scenes += 1
        click.echo()
        click.echo(click.style(f"{self._scenes}  {title}", bold=True))
        self.note(text)

    def note(self, text: str, indent: str = INDENT) -> None:
        for line in textwrap.wrap(text, self._width - len(indent), break_on_hyphens=False):
            click.echo(indent + line)

    def _out(self, text: str, *, cut: bool = False) -> None:
        room = self._width - len(INDENT)
        for line in shortened(text).splitlines():
            whole = len(line) <= room or not (cut or sys.stdout.isatty())
            click.echo(INDENT + click.style(line.rstrip() if whole else line[: room - 1] + "…", dim=True))

    # doing

    def tarmac(
        self,
        *words: str,
        show: bool = True,
        expect: int = 0,
        says: str = "",
        only: tuple[str, ...] = (),
        columns: tuple[str, ...] = (),
        **environment: str,
    ) -> str:
        """Run a command and show what it answers: all of it, `only` some facts, or some `columns` of a table.

        The answer has to contain what `says` says.
        """
        token = "TARMAC_TOKEN=tarmac_… " if environment else ""
        shown = " ".join(word if re.fullmatch(r"[\w./:*=-]+", word) else f"'{word}'" for word in words)
        click.echo(f"{INDENT}{click.style('$', fg='cyan')} {token}tarmac {shortened(shown)}")
        out = self._run([sys.executable, "-P", "-m", "tarmac", *words], expect, environment)
        if says not in out:
            raise Internal(f"the demo expected `{says}` of `tarmac {shown}`, and got: {out}")
        if show and columns:
            self._out(only_columns(out, columns))
        elif show:
            self._out("\n".join(line for line in out.splitlines() if not only or line.split(" ")[0] in only))
        return out

    def python(self, code: str, *, show: bool = True) -> str:
        """Run Python; what it prints is shown."""
        code = textwrap.dedent(code)
        for line in code.splitlines() if show else ():
            mark = "..." if line.startswith(" ") else ">>>"
            click.echo(f"{INDENT}{click.style(mark, fg='cyan')} {line}")
        out = self._run([sys.executable, "-P", "-c", PRELUDE + code], 0, {})
        if show:
            self._out(out)
        return out

    def script(self, name: str, code: str) -> None:
        """Write a script into the project, and show it."""
        (self.project / name).write_text(code, encoding="utf-8")
        click.echo(f"{INDENT}{click.style('$', fg='cyan')} cat {name}")
        self._out(code)

    def http(self, method: str, path: str, *, expect: int) -> None:
        """Ask the server as any program could; with its owner's token if that is to succeed."""
        from http.client import HTTPConnection
        from urllib.parse import urlsplit

        from tarmac.core.settings import Settings
        from tarmac.workspace import local_token

        click.echo(f"{INDENT}{click.style(method, fg='cyan')} {path}")
        token = local_token(Settings(state=self.place / "state"), self.url) if expect == 200 else None
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE_SECONDS)
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        if answer.status != expect:
            raise Internal(f"the demo expected {expect} of {path}, and got {answer.status}: {body}")
        self._out(f"{answer.status} {body}", cut=True)

    def start_server(self) -> None:
        click.echo(f"{INDENT}{click.style('$', fg='cyan')} tarmac up --port 0")
        apart: dict[str, Any] = {"process_group": 0} if sys.platform != "win32" else {}  # Ctrl-C is ours to handle
        child = self._start([sys.executable, "-P", "-m", "tarmac", "up", "--port", "0"], {}, **apart)
        assert child.stdout is not None
        line = child.stdout.readline()
        self.url = self.found(r"(http://[^/\s]+)", line)
        self._out(re.sub(r"key=\S+", "key=…", line))

    @contextmanager
    def answering(self, ref: str) -> Iterator[str]:
        """A runtime, as long as something is asked of it."""
        click.echo(f"{INDENT}{click.style('$', fg='cyan')} tarmac serve {ref} --port 0")
        apart: dict[str, Any] = {"process_group": 0} if sys.platform != "win32" else {}
        child = self._start([sys.executable, "-P", "-m", "tarmac", "serve", ref, "--port", "0"], {}, **apart)
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            self._out(line)
            yield self.found(r"(http://[^/\s]+)", line)
        finally:
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=PATIENCE_SECONDS)
            self._children.remove(child)

    def stop_server(self) -> None:
        if not self.url:
            return
        server = self._children.pop(0)
        server.terminate()
        server.communicate(timeout=PATIENCE_SECONDS)
        self.url = ""
        self.tracked = ""

    def actor_of(self, position: int) -> str:
        import sqlite3

        database = sqlite3.connect(self.project / ".tarmac" / "store.db")
        try:
            (actor,) = database.execute("SELECT actor FROM events WHERE position = ?", (position,)).fetchone()
        finally:
            database.close()
        return str(actor)

    def found(self, pattern: str, text: str) -> str:
        match = re.search(pattern, text)
        if match is None:
            raise Internal(f"the demo looked for {pattern} and got: {text}")
        return match[1]

    def _start(self, words: list[str], environment: dict[str, str], **more: Any) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            words,
            cwd=self.project,
            env=self._environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            **more,
        )
        self._children.append(child)
        return child

    def _run(self, words: list[str], expect: int, environment: dict[str, str]) -> str:
        child = self._start(words, environment)
        out, _ = child.communicate()
        self._children.remove(child)
        if child.returncode != expect:
            raise Internal(
                f"the demo expected {' '.join(words[2:])} to end with {expect}, not {child.returncode}: {out}"
            )
        return out


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """Where it happens: a new temporary folder, gone whatever happens, or the one to keep."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    place = Path(tempfile.mkdtemp(prefix="tarmac-demo-"))
    try:
        yield place
    finally:
        signal.signal(signal.SIGTERM, before)
        for _ in range(50):  # a job that was just told to stop may still write its last line
            shutil.rmtree(place, ignore_errors=True)
            if not place.exists():
                break
            time.sleep(0.1)


def shortened(text: str) -> str:
    """Long ids cut to what tells them apart, with the columns of a table still in line."""
    lines = text.splitlines()
    if len(lines) > 1:
        for match in reversed(list(LONG_ID.finditer(lines[1]))):
            start, end = match.start() + 9, match.end()
            if not lines[0][start:end].strip():
                lines[0] = lines[0][:start] + lines[0][end:]
    return "\n".join(LONG_ID.sub(SHORT_ID, line) for line in lines)


def only_columns(text: str, names: tuple[str, ...]) -> str:
    """Some columns of a printed table."""
    head, *rows = text.splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", head)]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    kept = [span for span in spans if head[span[0] : span[1]].strip() in names]
    return "\n".join("".join(line[start:end] for start, end in kept).rstrip() for line in (head, *rows))

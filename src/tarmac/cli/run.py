"""`tarmac run`: a pipeline, or any script as a tracked run; what it prints is kept and still shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any, Literal

import click
from msgspec.structs import replace

from tarmac.cli import pipeline
from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.describe import describe
from tarmac.core.clock import now
from tarmac.core.errors import Conflict, Invalid, NotFound, TarmacError, bounded
from tarmac.core.secrets import mask_value
from tarmac.flow import notebook
from tarmac.flow.leash import on_leash
from tarmac.logging.place import TAKEN
from tarmac.logging.system import Meter
from tarmac.track.operations import BeatRun, CreateRun, EndRun, GetRun, LogRun, Point, WriteLog
from tarmac.track.records import Run
from tarmac.workspace import Workspace

BEAT_SECONDS = 10.0
SHIP_SECONDS = 1.0
LARGEST_PIECE = 500_000
Status = Literal["finished", "failed", "killed"]


@click.command("run", context_settings={"ignore_unknown_options": False})
@click.argument("target", required=False)
@click.argument("words", nargs=-1)
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="KEY=VALUE",
    help="A param; a pipeline has it as its parameter, a script gets --KEY VALUE.",
)
@click.option("--experiment", default=None, help="The experiment.  [default: the pipeline's or script's name]")
@click.option("--name", default=None, help="The run's name.")
@click.option("--resume", is_flag=True, help="Of a pipeline: go on with its last run, which failed or was killed.")
@click.option(
    "--workers",
    type=click.IntRange(min=0, max=1000),
    default=0,
    help="Of a pipeline: run its steps in so many processes.",
)
@click.option("--on", default=None, metavar="ADDRESS", help="Of a pipeline: on a Ray cluster, ray://HOST:PORT.")
@click.option("--quiet", is_flag=True, help="Of a pipeline: show no steps.")
def run(
    target: str | None,
    words: tuple[str, ...],
    params: tuple[str, ...],
    experiment: str | None,
    name: str | None,
    resume: bool,
    workers: int,
    on: str | None,
    quiet: bool,
    **values: Any,
) -> int:
    """Run a pipeline, or a script as a tracked run: params, output, source, packages and machine are kept.

    TARGET is a pipeline of tarmac.toml, MODULE:FUNCTION, a script, or a notebook; without it the only pipeline there
    is. Params of a notebook go to the cell that assigns them, and the executed copy becomes a file of the run. WORDS go
    to a script as they are; put `--` before the ones that start with a dash.
    """
    workspace, project, as_json = take_options(values)
    if pipeline.is_pipeline(target):
        if words:
            raise Invalid(f"a pipeline takes no words like `{bounded(words[0])}`", hint=f"-p {bounded(words[0])}=…")
        return pipeline.run(
            target, pipeline.pairs(params), workspace=workspace, project=project, as_json=as_json, resume=resume,
            workers=workers, on=on, experiment=experiment, name=name, quiet=quiet,
        )  # fmt: skip
    assert target is not None
    if resume or workers or on or quiet:
        raise Invalid(
            "--resume, --workers, --on and --quiet are for pipelines", hint=f"`{bounded(target)}` is a script"
        )
    script = Path(target)
    if not script.is_file():
        raise NotFound.named(
            "script", str(script), [path.name for kind in ("*.py", "*.ipynb") for path in Path().glob(kind)]
        )
    given = pipeline.pairs(params)
    is_notebook = script.suffix == ".ipynb"
    command = _of_notebook(script, given, words) if is_notebook else _of_script(script, given, words)
    with opened(workspace, project) as door:
        started = start(
            door, CreateRun(experiment=experiment or script.stem, name=name, params=_shown(given), beats=True)
        )
        click.echo(f"run {started.id} ({started.experiment}/{started.name})", err=True)
        try:
            describe(door, started.id, [Path(command[0]).name, *command[1:]], script.resolve().parent)
            code, status = _Watched(door, started, command, quiet=as_json, leashed=is_notebook).wait()
        except KeyboardInterrupt:
            code, status = 130, "killed"
        ended = end(door, started, status)
    seconds = ((ended.ended_at or ended.started_at) - ended.started_at) / 1000
    click.echo(f"run {ended.id} {ended.status} after {seconds:.1f} s; `tarmac runs details {ended.id}`", err=True)
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(ended).decode())
    return code


def _of_script(script: Path, given: dict[str, str], words: tuple[str, ...]) -> list[str]:
    params = (part for key, value in given.items() for part in (f"--{key}", value))
    return [sys.executable, str(script), *params, *words]


def _of_notebook(path: Path, given: dict[str, str], words: tuple[str, ...]) -> list[str]:
    """The process that runs it; what is wrong with the notebook or its params is said before there is a run."""
    if words:
        raise Invalid(f"a notebook takes params and no words: `{bounded(words[0])}`", hint="like -p depth=6")
    document = notebook.read(path)
    notebook.values(path, notebook.parameters(document), given)
    notebook.refuse_without_library()
    params = (part for key, value in given.items() for part in ("-p", f"{key}={value}"))
    return [sys.executable, "-m", "tarmac.cli.notebook", str(path), *params]


def start(door: Workspace, request: CreateRun) -> Run:
    """A new run; below the one that this command was started by, if that is of the same workspace."""
    above = os.environ.get("TARMAC_RUN", "").removesuffix(TAKEN)
    if above:
        try:
            return door(replace(request, parent=above))
        except (NotFound, Invalid):
            pass  # it is a run of another workspace
    return door(request)


def end(door: Workspace, started: Run, status: Status) -> Run:
    try:
        return door(EndRun(id=started.id, status=status))
    except Conflict:  # the script has ended its run itself, in its own way
        return door(GetRun(id=started.id))


def _shown(params: dict[str, str]) -> dict[str, str]:
    """Params as they may be kept: the script gets a secret, the store does not."""
    return {key: mask_value(key, value) for key, value in params.items()}


class _Watched:
    """The script's process: its output goes on to the screen and into the run's log, and the run shows as alive."""

    def __init__(
        self, door: Workspace, started: Run, command: list[str], *, quiet: bool, leashed: bool = False
    ) -> None:
        self._door = door
        self._run = started
        self._quiet = quiet
        self._text: list[str] = []
        self._written = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._interrupted = False
        environment = {
            **os.environ,
            "TARMAC_RUN": started.id,
            "TARMAC_WORKSPACE": door.place,
            "TARMAC_PROJECT": door.project,
            "PYTHONUNBUFFERED": "1",
        }
        # who reads from the terminal has to be in its foreground, where Ctrl-C reaches the script by itself
        self._shares_terminal = os.name == "nt" or sys.stdin.isatty()
        self._process = subprocess.Popen(
            on_leash(command) if leashed else command,
            stdin=subprocess.PIPE if leashed else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            process_group=None if self._shares_terminal else 0,
        )

    def wait(self) -> tuple[int, Status]:
        assert self._process.stdout is not None and self._process.stderr is not None  # noqa: PT018
        readers = [
            threading.Thread(
                target=self._pass_on, args=(self._process.stdout, sys.stderr if self._quiet else sys.stdout)
            ),
            threading.Thread(target=self._pass_on, args=(self._process.stderr, sys.stderr)),
        ]
        shipper = threading.Thread(target=self._ship_until_over)
        for thread in (*readers, shipper):
            thread.start()
        before = signal.signal(signal.SIGTERM, lambda number, frame: self._stop(signal.SIGTERM))
        try:
            while self._process.returncode is None:
                try:
                    self._process.wait()
                except KeyboardInterrupt:
                    if self._shares_terminal and not self._interrupted:
                        self._interrupted = True
                    else:
                        self._stop(signal.SIGINT)
        finally:
            signal.signal(signal.SIGTERM, before)
        for reader in readers:
            reader.join()
        self._over.set()
        shipper.join()
        code = self._process.returncode
        if self._interrupted or code < 0:
            return 130 if self._interrupted else 1, "killed"
        return code, "finished" if code == 0 else "failed"

    def _stop(self, number: signal.Signals) -> None:
        """The first time the script is asked to end, the second time it is made to."""
        self._process.send_signal(signal.SIGKILL if self._interrupted and os.name != "nt" else number)
        self._interrupted = True

    def _pass_on(self, pipe: IO[bytes], screen: Any) -> None:
        while data := os.read(pipe.fileno(), 65536):
            try:
                screen.buffer.write(data)
                screen.buffer.flush()
            except (OSError, ValueError):
                pass  # nobody reads the screen any more; the log goes on
            with self._lock:
                self._text.append(data.decode("utf-8", "replace").replace("\x00", ""))
        pipe.close()

    def _ship_until_over(self) -> None:
        beaten, meter, count = time.monotonic(), Meter(self._process.pid), 0
        while not self._over.wait(SHIP_SECONDS):
            self._ship()
            if time.monotonic() - beaten > BEAT_SECONDS:
                beaten = time.monotonic()
                self._quietly(BeatRun(id=self._run.id))
                points: list[Point] = [(name, value, count, now()) for name, value in meter.sample().items()]
                if points:
                    self._quietly(LogRun(id=self._run.id, metrics=points))
                count += 1
        self._ship()

    def _ship(self) -> None:
        with self._lock:
            text = "".join(self._text)
            self._text.clear()
        while text:
            piece, rest = text[:LARGEST_PIECE], text[LARGEST_PIECE:]
            if not self._quietly(WriteLog(id=self._run.id, start=self._written, text=piece)):
                with self._lock:
                    self._text.insert(0, text)  # the store is away: kept for the next time
                return
            self._written += len(piece)
            text = rest

    def _quietly(self, request: Any) -> bool:
        try:
            self._door(request)
        except TarmacError:
            return False
        return True


command = add_options(run)

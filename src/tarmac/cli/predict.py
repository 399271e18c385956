"""`tarmac predict`: a model on all rows of files, as a run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from tarmac.cli.common import add_options, opened, take_options
from tarmac.core.errors import Conflict, Invalid
from tarmac.core.ids import short
from tarmac.registry.operations import LinkPackage
from tarmac.ship import batch
from tarmac.track.operations import CreateRun, EndRun, LogRun


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What `tarmac predict` did."""

    run: str
    model: str
    rows: int
    resumed: int
    seconds: float
    output: str


@click.command("predict")
@click.argument("ref")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--keep", multiple=True, metavar="COLUMN", help="A column of the input that goes along.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Threads that predict.")
@click.option("--trust", multiple=True, metavar="DIGEST", help="A package whose own code may run here.")
@click.option("--experiment", default="predict", show_default=True, help="The experiment of the run.")
def command(ref: str, source: Path, output: Path, **values: Any) -> int:
    """Predict all rows of SOURCE with REF (`churn@production`) into OUTPUT.

    SOURCE is a Parquet, CSV or Arrow file, or a folder of those. OUTPUT is a file that ends in .parquet or .csv, or a
    folder of parts. When it was broken off, the same command goes on where it stopped.
    """
    place, project, as_json = take_options(values)
    single = output.suffix in (".parquet", ".csv")
    if single and output.exists():
        raise Conflict(f"{output} exists already", hint="name a file that does not exist yet")
    if output.suffix and not single and not output.is_dir():
        raise Invalid(f"`{output.suffix}` is not written", hint=".parquet, .csv, or a folder")
    folder = output.with_name(f".{output.name}.parts") if single else output
    with opened(place, project) as door:
        from tarmac.workspace.models import load_model

        model = load_model(ref, workspace=door, trust=values["trust"])
        params = {"model": model.name, "source": str(source), "output": str(output)}
        run = door(CreateRun(experiment=values["experiment"], name=f"{model.name}-{short()[:6]}", params=params))
        began = time.monotonic()
        try:
            with _Shown() as shown:
                done = batch.predict(
                    model.predictor, source, folder, keep=values["keep"], workers=values["workers"], progress=shown
                )
                if single:
                    batch.gather(folder, output)
                    shutil.rmtree(folder)
        except BaseException as error:
            door(EndRun(id=run.id, status="killed" if isinstance(error, KeyboardInterrupt) else "failed"))
            raise
        seconds = time.monotonic() - began
        package = door_package(door, ref)
        if package is not None:
            door(LinkPackage(id=package, run=run.id, part="input"))
        door(LogRun(id=run.id, metrics=[("rows", float(done.rows), 0, 0), ("seconds", seconds, 0, 0)]))
        door(EndRun(id=run.id, status="finished"))
    report = Predicted(
        run=run.id,
        model=model.name,
        rows=done.rows,
        resumed=done.resumed,
        seconds=round(seconds, 3),
        output=str(output),
    )
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
    else:
        before = f", {done.resumed:,} of them before" if done.resumed else ""
        click.echo(f"{done.rows:,} rows with {model.name} in {seconds:.1f} s{before}: {output}")
    return 0


def door_package(door: Any, ref: str) -> str | None:
    from tarmac.registry.operations import GetVersion

    found: str | None = door(GetVersion(ref=ref)).package
    return found


class _Shown:
    """A bar on a terminal; nothing elsewhere."""

    def __enter__(self) -> _Shown:
        self._bar: Any = None
        import sys

        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("predicting", total=None)
        return self

    def __call__(self, done: int, total: int | None) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


add_options(command)

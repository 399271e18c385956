"""What of `tarmac models` touches this machine: packaging files, comparing on a file of rows, fetching, verifying."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.operation import command
from tarmac.cli.show import show
from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.operation import SPECS
from tarmac.formats.package import Sealed
from tarmac.formats.trust import Trust

ExistingPath = click.Path(path_type=Path, exists=True)
TRUST = click.Option(
    ["--trust"], metavar="DIGEST", multiple=True, help="A package that may run its code, by its digest."
)


def _add() -> click.Command:
    """`models.add`, and for a file or folder of this machine the packaging before it."""
    made = command(SPECS["models.add"], "add")
    plain: Callable[..., int] = made.callback  # type: ignore[assignment]

    def add(path: Path | None, example: Path | None, run_it: bool, **values: Any) -> int:
        if path is None:
            if example is not None or run_it:
                raise Invalid("--example and --run-it are for a file or folder", hint="tarmac models add NAME PATH")
            return plain(**values)
        if any(values[name] is not None for name in ("package", "folder", "source", "location")):
            raise Invalid("a version is of PATH, or of a package, a run's folder or a source, not of two of them")
        from tarmac.workspace import packages

        workspace, project, as_json = take_options(values)
        told = {name: values[name] for name in ("note", "link", "run") if values[name] is not None}
        with opened(workspace, project) as door:
            version = packages.add(door, values["name"], path, example=example, run_it=run_it, **told)
        return show(version, as_json=as_json)

    made.callback = add
    made.help = (
        "Add a version: of a model's file or folder PATH on this machine, of a package, of a run's files below a "
        "folder, or of a place outside that is only named.\n\nA model that does not exist is made with PATH or "
        "`--create`. Nothing of a file is run: what brings code is looked at only with `--run-it`."
    )
    made.params[1:1] = [click.Argument(["path"], required=False, type=ExistingPath)]
    made.params.append(click.Option(["--example"], type=ExistingPath, help="Rows: .json, .csv, .parquet or .npy."))
    made.params.append(
        click.Option(["--run-it"], is_flag=True, help="Its code may run here, to find out what it answers and needs.")
    )
    return made


def _compile() -> click.Command:
    """`models.compile`, with rows from a file."""
    made = command(SPECS["models.compile"], "compile")
    plain: Callable[..., int] = made.callback  # type: ignore[assignment]

    def compile(sample: Path | None, **values: Any) -> int:  # noqa: A001 - what the command is called
        if sample is not None:
            import msgspec

            from tarmac.logging.documents import json
            from tarmac.workspace.packages import read_example

            rows = read_example(sample)
            if hasattr(rows, "to_dict"):
                rows = rows.to_dict(orient="records")
            values["rows"] = msgspec.json.encode(msgspec.json.decode(json(rows))).decode()
        return plain(**values)

    made.callback = compile
    made.params.append(
        click.Option(["--sample"], type=ExistingPath, help="Rows of the training data: .json, .csv, .parquet or .npy.")
    )
    return made


@click.command("get")
@click.argument("ref")
@click.argument("target", type=click.Path(path_type=Path))
def get(ref: str, target: Path, **values: Any) -> int:
    """Fetch a version's package into a new folder: what MLflow loads, and what serving takes."""
    from tarmac.workspace import packages

    workspace, project, as_json = take_options(values)
    if target.exists():
        raise Conflict(f"{bounded(target, 300)} exists already", hint="nothing is overwritten; choose another place")
    with opened(workspace, project) as door:
        _, sealed, _ = packages.fetch(door, ref)
    shutil.copytree(sealed.folder, target)
    return show(_verified(Sealed(target, sealed.digest)), as_json=as_json)


@click.command("verify")
@click.argument("what")
@click.option("--fresh", is_flag=True, help="Predict the example in a new environment with its requirements only.")
def verify(what: str, fresh: bool, trust: tuple[str, ...], **values: Any) -> int:
    """Verify all bytes of a version's package, or of a package folder; exit code 1 if it is not what was sealed."""
    from tarmac.workspace import packages, verifying

    workspace, project, as_json = take_options(values)
    command = f"tarmac models verify {what} --fresh --trust {{digest}}"
    with tempfile.TemporaryDirectory(prefix="tarmac-verify-") as place:
        if Path(what).is_dir():
            sealed = Sealed(Path(what))
            vouched = Trust.digests([*trust, *packages.listed()])
        else:
            with opened(workspace, project) as door:
                version, sealed = packages.fetch_anew(door, what, Path(place) / "package")
                vouched = packages.trust_here(door, version, sealed, list(trust))
        vouched = Trust(vouched.reasons, command)
        found = verifying.fresh(sealed, vouched) if fresh else verifying.verify(sealed)
    return show(found, as_json=as_json)


def _verified(sealed: Sealed) -> Any:
    from tarmac.workspace import verifying

    return verifying.verify(sealed)


verify.params.append(TRUST)
commands = {"add": _add(), "compile": _compile(), "get": add_options(get), "verify": add_options(verify)}

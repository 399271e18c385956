"""What of `tarmac models` touches this machine: packaging files, comparing on a file of rows, fetching, verifying."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.operation import command
from tarmac.cli.show import show
from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.operation import SPECS
from tarmac.formats.package import Sealed
from tarmac.formats.trust import Trust
from tarmac.govern import operations as _govern  # noqa: F401 - declares what `compare` asks for
from tarmac.registry.operations import ListSignatures

ExistingPath = click.Path(path_type=Path, exists=True)
TRUST = click.Option(
    ["--trust"], metavar="DIGEST", multiple=True, help="A package that may run its code, by its digest."
)


def _add() -> click.Command:
    """`models.add`, and for a file or folder of this machine the packaging before it."""
    made = command(SPECS["models.add"], "add")
    plain: Callable[..., int] = made.callback  # type: ignore[assignment]

    def add(path: Path | None, example: Path | None, contract: Path | None, run_it: bool, **values: Any) -> int:
        if path is None:
            if example is not None or contract is not None or run_it:
                raise Invalid(
                    "--example, --contract and --run-it are for a file or folder", hint="tarmac models add NAME PATH"
                )
            return plain(**values)
        if any(values[name] is not None for name in ("package", "folder", "source", "location")):
            raise Invalid("a version is of PATH, or of a package, a run's folder or a source, not of two of them")
        from tarmac.workspace import packages

        workspace, project, as_json = take_options(values)
        told = {name: values[name] for name in ("note", "link", "run") if values[name] is not None}
        with opened(workspace, project) as door:
            version = packages.add(
                door, values["name"], path, example=example, contract=contract, run_it=run_it, **told
            )
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
        click.Option(["--contract"], type=ExistingPath, help="What rows have to keep when it is served.")
    )
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
@click.option("--key", "keys", multiple=True, type=ExistingPath, help="It has to be signed with this key (PEM).")
@click.option("--signature", type=ExistingPath, help="A signature's file, where WHAT is a folder.")
def verify(
    what: str, fresh: bool, keys: tuple[Path, ...], signature: Path | None, trust: tuple[str, ...], **values: Any
) -> int:
    """Verify all bytes of a version's package, or of a package folder; exit code 1 if it is not what was sealed, or
    not signed with one of the keys that are given."""
    from tarmac.workspace import packages, signing, verifying

    workspace, project, as_json = take_options(values)
    command = f"tarmac models verify {what} --fresh --trust {{digest}}"
    with tempfile.TemporaryDirectory(prefix="tarmac-verify-") as place:
        if Path(what).is_dir():
            sealed, expected = Sealed(Path(what)), None
            vouched = Trust.digests([*trust, *packages.listed()])
            kept = signing.from_file(signature) if signature else []
        else:
            with opened(workspace, project) as door:
                version, sealed = packages.fetch_anew(door, what, Path(place) / "package")
                vouched, expected = packages.trust_here(door, version, sealed, list(trust)), version.digest
                kept = door(ListSignatures(ref=f"{version.model}@v{version.number}")).signatures
        vouched = Trust(vouched.reasons, command)
        found = verifying.fresh(sealed, vouched) if fresh else verifying.verify(sealed)
        if keys:
            by, faults = signing.proven(kept, sealed, expected, [key.read_text() for key in keys])
            if by is None:
                raise signing.refuse_unproven(what, faults)
            found = msgspec.structs.replace(found, signed=f"with key {by}")
    return show(found, as_json=as_json)


@click.command("sign")
@click.argument("ref", metavar="NAME@vN")
@click.option("--key", required=True, type=ExistingPath, help="The private key: PEM, of P-256, P-384 or P-521.")
@click.option("--password-file", type=ExistingPath, help="Opens the key.")
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="Also write it into a new file.")
def sign(ref: str, key: Path, password_file: Path | None, target: Path | None, **values: Any) -> int:
    """Sign a version's package as OpenSSF model signing does, with a key; the signature is kept with the package."""
    from tarmac.cli.approve import read_key
    from tarmac.workspace import packages, signing

    workspace, project, as_json = take_options(values)
    if target is not None and target.exists():
        raise Conflict(f"{bounded(target, 300)} exists already", hint="nothing is overwritten; choose another file")
    private = read_key(key, password_file)
    with opened(workspace, project) as door, tempfile.TemporaryDirectory(prefix="tarmac-sign-") as place:
        version, sealed = packages.fetch_anew(door, ref, Path(place) / "package")
        made = signing.sign(door, version, sealed, private)
    if target is not None:
        target.write_text(made.bundle, encoding="utf-8")
    if as_json:
        return show(made, as_json=True)
    click.echo(f"{version.model}@v{version.number} is signed with key {made.key}")
    return 0


@click.command("card")
@click.argument("ref", metavar="NAME@vN")
@click.option("--format", "form", type=click.Choice(["md", "html", "json"]), help="By default as --to says, else md.")
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="Into a new file.")
def card(ref: str, form: str | None, target: Path | None, **values: Any) -> int:
    """A page about a version, made of facts: for people, for Hugging Face, or as JSON. What nobody has said is *owner
    needed*. Pictures of a Markdown page are files beside it."""
    from tarmac.registry import cards, drawing
    from tarmac.workspace.cards import card_of

    workspace, project, as_json = take_options(values)
    form = form or (
        "json" if as_json else {".html": "html", ".json": "json"}.get(target.suffix if target else "", "md")
    )
    with opened(workspace, project) as door:
        found = card_of(door, ref, Path.cwd())
    files: dict[Path, str] = {}
    if form == "json":
        text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
    elif form == "html":
        text = cards.page(found)
    else:
        drawn = drawing.pictures(found.pictures) if target else {}
        links = {name: f"{target.stem}-{name}.svg" for name in drawn} if target else {}
        files = {target.with_name(links[name]): drawn[name] for name in drawn} if target else {}
        text = cards.markdown(found, links)
    if target is None:
        click.echo(text, nl=False)
        return 0
    files = {target: text, **files}
    for path in files:
        if path.exists():
            raise Conflict(f"{bounded(path, 300)} exists already", hint="nothing is overwritten; choose another file")
    for path, content in files.items():
        path.write_text(content, encoding="utf-8")
    if as_json:
        return show({"files": [str(path) for path in files]}, as_json=True)
    for path in files:
        click.echo(path)
    return 0


def _verified(sealed: Sealed) -> Any:
    from tarmac.workspace import verifying

    return verifying.verify(sealed)


verify.params.append(TRUST)
commands = {
    "add": _add(),
    "card": add_options(card),
    "compare": command(SPECS["gates.compare"], "compare"),
    "compile": _compile(),
    "get": add_options(get),
    "sign": add_options(sign),
    "verify": add_options(verify),
}

"""`tarmac approve`: consent to the bytes of a version, in one's own name or with a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.show import show
from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.registry.operations import ApproveVersion, GetVersion
from tarmac.workspace import Workspace


@click.command("approve")
@click.argument("ref", metavar="NAME@vN")
@click.option("--to", "alias", metavar="ALIAS", help="For this alias only.")
@click.option("--note", default="", help="Why.")
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), help="Sign it with this private key (PEM).")
@click.option("--password-file", type=click.Path(path_type=Path, dir_okay=False), help="Opens the key.")
@click.option("--withdraw", is_flag=True, help="Take back what was said before.")
def command(
    ref: str, alias: str | None, note: str, key: Path | None, password_file: Path | None, withdraw: bool, **values: Any
) -> int:
    """Consent to exactly the bytes of a version; by somebody other than who made it."""
    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        signed = _signed(door, ref, alias or "", note, read_key(key, password_file)) if key else ""
        made = door(ApproveVersion(ref=ref, to=alias, note=note, signed=signed, withdraw=withdraw))
    if as_json:
        return show(made, as_json=True)
    who = f"key {made.key[:16]}" if made.key else bounded(made.actor)
    what = "no longer approves" if made.withdrawn_at else "approves"
    where = f" as `{made.alias}`" if made.alias else ""
    click.echo(f"{who} {what} {bounded(made.model)}@v{made.version}{where}: digest {made.package_digest[:16]}")
    return 0


def _signed(door: Workspace, ref: str, alias: str, note: str, key: Any) -> str:
    from tarmac.registry import consent

    version = door(GetVersion(ref=ref))
    if not version.digest:
        raise Conflict(f"{bounded(ref)} has no bytes here, so nobody can consent to them")
    statement = consent.Statement(
        model=version.model, version=version.number, digest=version.digest, alias=alias, note=note
    )
    return consent.signed(statement, key)


def read_key(path: Path, password_file: Path | None) -> Any:
    """A private key from a file."""
    from tarmac.formats import signing

    try:
        pem = path.read_bytes()
        password = password_file.read_bytes().strip() if password_file else None
    except OSError as error:
        raise Invalid(f"{error.filename} cannot be read: {error.strerror}") from None
    return signing.private_key(pem, password)


command = add_options(command)

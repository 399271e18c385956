"""What of `tarmac data` touches this machine's files: log, checkout, status, files, cat, diff."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from tarmac.cli import data_between, data_pins, data_tables
from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.data_said import files, progress, size
from tarmac.cli.show import show
from tarmac.core.errors import Invalid, NotFound, bounded

MOST_SHOWN = 20


@click.command("log")
@click.argument("name")
@click.argument("path", nargs=-1)
@click.option("--message", "-m", default="", metavar="TEXT", help="What is new in it.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of the version, any number of times.")
@click.option(
    "--layout",
    type=click.Choice(["packed", "whole"]),
    help="How a new data set is kept: whole files need more room and can be linked instead of copied.",
)
@click.option("--query", metavar="SQL", help="Log what a database answers to this, instead of files.")
@click.option("--connection", metavar="NAME", help="Which database: a connection of the project file.")
@click.option("--accept", is_flag=True, help="Make the version even if its contract does not hold, with the report.")
@click.option("--plain", is_flag=True, help="Do not look into tables: no profile, no contract.")
def log(name: str, path: tuple[str, ...], message: str, tags: tuple[str, ...], **values: Any) -> None:
    """Make what lies in a folder, or files, a version of a data set; or what a database answers.

    Without a path it is what the project file says of NAME.
    """
    from tarmac.workspace.datasets import DataSet
    from tarmac.workspace.tables import Care

    workspace, project, as_json = take_options(values)
    asked = _asked(name, path, values.pop("query"), values.pop("connection"))
    care, notes = Care(plain=values.pop("plain"), accept=values.pop("accept")), list[str]()
    given = _pairs(tags)
    with opened(workspace, project) as door, progress("logging") as told:
        data_set, layout = DataSet(door, name), values.pop("layout")
        if asked.query:
            made = data_set.log_query(
                asked.query, asked.connection, message=message, tags=given, care=care, progress=told, told=notes
            )
        else:
            made = data_set.log_paths(
                asked.paths, message=message, tags=given, layout=layout, care=care, progress=told, told=notes
            )
    if as_json:
        show(made, as_json=True)
        return
    assert made.version is not None
    version = made.version
    what = f"{version.name}@v{version.number}: {files(version.files)}, {size(version.size)}"
    if made.made:
        click.echo(f"{what}; the store grew by {size(version.added)}")
    else:
        click.echo(f"nothing has changed: it is {what}")
    for note in notes:
        click.echo(note)


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    given = {}
    for tag in tags:
        key, mark, text = tag.partition("=")
        if not mark:
            raise Invalid(f"`{bounded(tag)}` is not KEY=VALUE")
        given[key] = text
    return given


class Asked(NamedTuple):
    """What is to be logged: paths, or a query."""

    paths: tuple[str, ...]
    query: str
    connection: str


def _asked(name: str, path: tuple[str, ...], query: str | None, connection: str | None) -> Asked:
    """What was typed; if that is nothing, what the project file says."""
    from tarmac.core import project_file
    from tarmac.workspace.tables import declared

    if path and query:
        raise click.UsageError("a version is made of files or of a query, not of both")
    if query or connection:
        if not (query and connection):
            raise click.UsageError("--query and --connection belong together")
        return Asked((), query, connection)
    said = declared(name) if not path else None
    if said is not None and said.query:
        return Asked((), said.query, said.connection)
    if said is not None and said.path:
        found = project_file.find(Path.cwd())
        assert found is not None
        return Asked((str(found.parent / said.path),), "", "")
    if not path:
        raise click.UsageError("name a folder or files, or a path in [data.NAME] of tarmac.toml")
    return Asked(path, "", "")


@click.command("checkout")
@click.argument("ref", required=False)
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite what no version has.")
@click.option("--link", is_flag=True, help="Link files of the layout `whole`, read-only, instead of copying them.")
def checkout(ref: str | None, target: Path | None, force: bool, link: bool, **values: Any) -> None:
    """Make a folder what a version is. Only what differs is written; what no version has is never overwritten.

    Without arguments every version that tarmac.pins names goes where it belongs; with a name, that one.
    """
    from tarmac.workspace import pins
    from tarmac.workspace.datasets import Version

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door, progress("writing") as told:
        wanted = [(ref, target)] if ref and target else []
        if not wanted:
            file = pins.place(Path.cwd())
            pinned = pins.read(file)
            if ref and ref not in pinned:
                raise NotFound.named("pin", ref, pinned, hint="say where it belongs: `tarmac data checkout REF DIR`")
            chosen = [pinned[ref]] if ref else list(pinned.values())
            if not chosen:
                raise NotFound(f"nothing is pinned in {file}", hint="`tarmac data pin REF DIR`, or name REF and DIR")
            for pin in chosen:
                pins.refuse_another(door, pin)
            wanted = [(pin.ref, shown(file.parent / pin.path)) for pin in chosen]
        for one, place in wanted:
            version = Version.named(door, one)
            done = version.checkout(place, force=force, link=link, progress=told)
            if as_json:
                show({"version": version.ref, "folder": str(place), **done._asdict()}, as_json=True)
            else:
                click.echo(
                    f"{place} is {version.ref}: {files(done.written)} written ({size(done.bytes)}), "
                    f"{done.removed:,} removed, {done.kept:,} as they were"
                )


def shown(place: Path) -> Path:
    """A place as people here call it."""
    return place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place


@click.command("status")
@click.argument("path", nargs=-1, required=True)
@click.option("--fail", is_flag=True, help="Exit code 1 if something has changed.")
def status(path: tuple[str, ...], fail: bool, **values: Any) -> int:
    """What has changed in a folder since it was logged or checked out."""
    from tarmac.data.status import status as status_of
    from tarmac.workspace.datasets import memory_of, sources_of

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        found = status_of(door, memory_of(door), sources_of(path))
    if as_json:
        show(found, as_json=True)
        return int(fail and not found.clean)
    folder = path[0] if len(path) == 1 else found.folder
    if found.unfinished:
        click.echo(f"{folder}: a checkout of {found.unfinished} was stopped; {files(found.left)} are left to do")
    else:
        newer = f" ({found.newest} is newer)" if found.newest else ""
        click.echo(f"{folder} is {found.version}{newer}" + (": nothing has changed" if found.clean else ""))
    for mark, paths in (("changed", found.changed), ("new", found.added), ("gone", found.removed)):
        _list(mark, paths)
    return int(fail and not found.clean)


def _list(mark: str, paths: list[str]) -> None:
    for path in paths[:MOST_SHOWN]:
        click.echo(f"  {mark:<8} {bounded(path, 500)}")
    if len(paths) > MOST_SHOWN:
        click.echo(f"  {mark:<8} … and {len(paths) - MOST_SHOWN:,} more; --json has all")


class ListedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of a version, as it is told."""

    path: str
    kind: str
    size: int
    digest: str = ""
    target: str = ""


KINDS = ("file", "program", "folder", "link")


def told(entry: Any) -> ListedFile:
    return ListedFile(
        path=entry.path, kind=KINDS[entry.kind], size=entry.size, digest=entry.digest.hex(), target=entry.target
    )


@click.command("files")
@click.argument("ref")
def list_files(ref: str, **values: Any) -> None:
    """The files of a version."""
    from tarmac.workspace.datasets import Version

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        found = [told(entry) for entry in Version.named(door, ref).entries().values()]
    show({"files": msgspec.to_builtins(found)}, as_json=as_json)


@click.command("cat")
@click.argument("ref")
@click.argument("path", default="")
def cat(ref: str, path: str, **values: Any) -> None:
    """Print a file of a version."""
    from tarmac.workspace.datasets import Version

    workspace, project, _ = take_options(values)
    with opened(workspace, project) as door, Version.named(door, ref).open(path) as file:
        while piece := file.read(1024 * 1024):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


@click.command("diff")
@click.argument("one")
@click.argument("other")
@click.option("--key", multiple=True, metavar="COLUMN", help="What tells the rows of a table apart; more than once.")
@click.option("--no-key", is_flag=True, help="Compare whole rows, even if the contract names a key.")
@click.option("--files", "only_files", is_flag=True, help="Compare files, even if they are tables.")
def diff(one: str, other: str, key: tuple[str, ...], no_key: bool, only_files: bool, **values: Any) -> int:
    """What differs between two versions: rows of tables, else files; exit code 1 if something does."""
    from tarmac.data import listing
    from tarmac.data.diff import diff_files
    from tarmac.data.operations import DiffData, GetListing

    workspace, project, as_json = take_options(values)
    asked = DiffData(one=one, other=other, key=list(key), no_key=no_key, only_files=only_files)
    with opened(workspace, project) as door:
        if not only_files and (rows := data_tables.compared(door, asked)) is not None:
            show(rows, as_json=True) if as_json else data_tables.tell_diff(rows)
            return int(not rows.same)
        sides = [listing.decode(door(GetListing(ref=ref)).listing) for ref in (one, other)]
        found = diff_files(door, *sides)
    if as_json:
        changed = [{"before": told(item.before), "after": told(item.after)} for item in found.changed]
        show(
            {"added": list(map(told, found.added)), "removed": list(map(told, found.removed)), "changed": changed},
            as_json=True,
        )
    else:
        for mark, paths in (
            ("new", [entry.path for entry in found.added]),
            ("gone", [entry.path for entry in found.removed]),
            ("changed", [item.path for item in found.changed]),
        ):
            _list(mark, paths)
    return int(bool(found.added or found.removed or found.changed))


commands = (
    {
        name: add_options(made)
        for name, made in {
            "log": log,
            "checkout": checkout,
            "status": status,
            "files": list_files,
            "cat": cat,
            "diff": diff,
            **data_tables.commands,
        }.items()
    }
    | data_between.commands
    | data_pins.commands
)

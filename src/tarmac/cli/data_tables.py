"""What of `tarmac data` looks into tables: show, validate, infer, diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tarmac.cli.common import opened, take_options
from tarmac.cli.data_said import progress
from tarmac.cli.show import BARS, cell, facts, show, table
from tarmac.core.clock import iso
from tarmac.core.errors import Invalid, NotFound, bounded

if TYPE_CHECKING:
    from tarmac.data.operations import DiffData
    from tarmac.data.tables.records import TableDiff
    from tarmac.formats.profile import ColumnProfile, Numbers
    from tarmac.formats.records import ContractReport
    from tarmac.workspace import Workspace

BINS = 12
MOST_COLUMNS = 60
MOST_SHIFTS = 8
FROM = 0.1
"""A column whose values moved by less is not told of."""


# ---------------------------------------------------------------------------------------------------------------- show


@click.command("show")
@click.argument("ref")
@click.option("--sample", is_flag=True, help="Its first rows, instead of what each column is like.")
@click.option("--contract", is_flag=True, help="The contract that it was logged with, as TOML.")
def show_version(ref: str, sample: bool, contract: bool, **values: Any) -> None:
    """One version: what it is made of, what each column is like, what its contract says, where it comes from."""
    from tarmac.data.operations import GetData

    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        found = door(GetData(ref=ref))
        if contract:
            _show_contract(found.document, f"{found.name}@v{found.number}")
            return
        if as_json:
            show(found, as_json=True)
            return
        click.echo(facts(_facts(found)), nl=False)
        if sample:
            _show_sample(found.document)
        else:
            _show_columns(found.document)
            _show_verdict(found.document)
            _show_lineage(door, f"data/{found.name}@v{found.number}")


def _show_contract(document: dict[str, Any], ref: str) -> None:
    text = document.get("contract")
    if not isinstance(text, str):
        raise NotFound(f"{bounded(ref)} was logged without a contract")
    click.echo(text, nl=False)


def _facts(found: Any) -> dict[str, Any]:
    plain = {name: value for name, value in msgspec.to_builtins(found).items() if name not in ("document", "layout")}
    rows = found.document.get("table", {})
    source = found.document.get("source", {})
    if rows:
        plain["rows"] = rows.get("rows")
        plain["format"] = rows.get("format")
        if "sampled" in rows:
            plain["looked_into"] = "{files:,} of {of:,} files".format(**rows["sampled"])
    if source:
        plain["connection"] = source.get("connection")
        plain["query"] = source.get("text")
        plain["snapshot_at"] = source.get("snapshot_at")
    return plain


def _show_columns(document: dict[str, Any]) -> None:
    if "profile" not in document:
        return
    from tarmac.formats.profile import from_document

    profile = from_document(document["profile"])
    rows = [_column(column) for column in profile.columns[:MOST_COLUMNS]]
    click.echo("")
    click.echo(table(rows) if rows else "no columns\n", nl=False)
    if len(profile.columns) > MOST_COLUMNS:
        click.echo(f"… and {len(profile.columns) - MOST_COLUMNS:,} more; --json has all")


def _column(column: ColumnProfile) -> dict[str, Any]:
    numbers = column.numbers
    distinct = "" if column.distinct is None else f"{'' if column.distinct.exact else '≈'}{column.distinct.count:,}"
    nulls = column.nulls / column.rows if column.rows else 0.0
    return {
        "column": bounded(column.name, 40),
        "type": column.kind,
        "nulls": f"{nulls:.1%}" if column.nulls else "",
        "distinct": distinct,
        "lowest": _end(column, numbers.lowest) if numbers else "",
        "mean": _end(column, numbers.mean) if numbers else "",
        "highest": _end(column, numbers.highest) if numbers else "",
        "values": _values(column),
    }


def _end(column: ColumnProfile, value: float) -> str:
    if column.kind in ("date", "time"):
        text = iso(int(value * 1000))
        return text[:10] if column.kind == "date" else text
    return cell("value", value, 20)


def _values(column: ColumnProfile) -> str:
    if column.top is not None and column.kind in ("text", "boolean") and column.top.values:
        there = max(1, column.rows - column.nulls)
        first = [f"{bounded(value, 20)} {count / there:.0%}" for value, count in column.top.values[:3]]
        return ", ".join(first) + (", …" if len(column.top.values) > 3 else "")
    numbers = column.numbers or column.lengths
    return _spark(numbers) if numbers is not None else ""


def _spark(numbers: Numbers) -> str:
    """A histogram whose bars stand on zero."""
    bins = numbers.histogram(BINS)[1]
    highest = max(bins)
    return "".join(BARS[round(count / highest * (len(BARS) - 1))] if highest else BARS[0] for count in bins)


def _show_sample(document: dict[str, Any]) -> None:
    found = document.get("table", {})
    names = [column["name"] for column in found.get("schema", [])]
    rows = [dict(zip(names, row, strict=True)) for row in found.get("sample", [])]
    click.echo("")
    click.echo(table(rows) if rows else "no rows\n", nl=False)


def _show_verdict(document: dict[str, Any]) -> None:
    from tarmac.data.tables.inspecting import verdict_in

    verdict = verdict_in(document)
    if verdict is not None:
        click.echo("")
        _tell(verdict)


def _show_lineage(door: Workspace, thing: str) -> None:
    from tarmac.store.operations import ShowLineage

    up, down = (door(ShowLineage(thing=thing, direction=way, depth=1)).edges for way in ("up", "down"))
    if up or down:
        click.echo("")
        for edge in up:
            click.echo(f"made from  {bounded(edge.source, 200)}")
        for edge in down[:MOST_SHIFTS]:
            click.echo(f"used by    {bounded(edge.target, 200)}")
        if len(down) > MOST_SHIFTS:
            click.echo(f"           … and {len(down) - MOST_SHIFTS:,} more; `tarmac lineage {thing} --direction down`")


# ----------------------------------------------------------------------------------------------------------- contracts


@click.command("validate")
@click.argument("ref")
@click.argument("path", nargs=-1, type=click.Path(path_type=Path))
@click.option("--contract", type=click.Path(path_type=Path), metavar="FILE", help="Another contract than its own.")
def validate(ref: str, path: tuple[Path, ...], contract: Path | None, **values: Any) -> int:
    """What the contract of a data set says of a version, or of files that are none yet; exit code 1 if it fails."""
    from tarmac.data.tables import sources
    from tarmac.data.tables.inspecting import contract_in, judge_table
    from tarmac.formats.contract import load
    from tarmac.workspace.datasets import Version
    from tarmac.workspace.tables import contract_of, files_at, judged

    workspace, project, as_json = take_options(values)
    sources.require_libraries("checking a contract")
    name = ref.partition("@")[0]
    rules = load(contract) if contract is not None else contract_of(name)[0]
    with opened(workspace, project) as door, progress("checking") as told:
        if path:
            if rules is None:
                raise NotFound(
                    f"{bounded(name)} has no contract", hint=f"`tarmac data infer {bounded(name)}` makes one"
                )
            verdict = judge_table(sources.open_table(files_at(path)), rules, lambda rows: told(rows, 0, "rows"))
        else:
            version = Version.named(door, ref)
            if rules is None:
                from tarmac.data.operations import GetData

                rules = contract_in(door(GetData(ref=version.ref)).document, version.ref)
            verdict = judged(version, rules, told)
    if as_json:
        show(verdict, as_json=True)
    else:
        _tell(verdict, all_of_them=True)
    return int(verdict.state == "failed")


def _tell(verdict: ContractReport, *, all_of_them: bool = False) -> None:
    from tarmac.data.tables.inspecting import told_finding

    click.echo(f"contract {verdict.told()} ({verdict.rows:,} rows)")
    for finding in verdict.findings:
        if finding.state == "failed":
            click.echo(f"  {click.style('failed', fg='red')}   {told_finding(finding)}")
            for example in finding.examples[1:] if all_of_them else ():
                click.echo(f"           row {example.row:,}: {example.value}")
        elif finding.state == "skipped":
            click.echo(f"  skipped  {finding.check}: {finding.why}")


@click.command("infer")
@click.argument("ref")
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Where it is written.")
def infer(ref: str, output: Path | None, **values: Any) -> None:
    """A contract from what is in a version, to be tightened by hand."""
    from tarmac.data.tables.inferring import HEAD
    from tarmac.data.tables.inspecting import inspect
    from tarmac.formats.contract import dumps
    from tarmac.workspace.datasets import Version
    from tarmac.workspace.tables import source_of

    workspace, project, _ = take_options(values)
    with opened(workspace, project) as door, progress("reading") as told:
        version = Version.named(door, ref)
        found = inspect(source_of(version), None, lambda rows: told(rows, 0, "rows"))
    text = dumps(found.contract, HEAD.format(name=version.facts.name, version=version.ref, rows=found.rows))
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Invalid(f"{output} exists already", hint="write it elsewhere and compare") from None
    except OSError as error:
        raise Invalid(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"{output}: {len(found.contract.columns):,} columns; tighten it by hand")


# ---------------------------------------------------------------------------------------------------------------- diff


def compared(door: Workspace, request: DiffData) -> TableDiff | None:
    """Two versions as tables, read from here; None if they are not."""
    from tarmac.data import listing
    from tarmac.data.operations import GetData, GetListing
    from tarmac.data.tables.jobs import Side, diff_rows
    from tarmac.workspace.datasets import Version
    from tarmac.workspace.tables import contract_of

    versions = [Version.named(door, ref) for ref in (request.one, request.other)]
    one, other = (
        Side(door(GetData(ref=version.ref)), listing.decode(door(GetListing(ref=version.ref)).listing))
        for version in versions
    )
    mine = contract_of(versions[1].facts.name)[0]
    if mine is not None and not request.key and not request.no_key:
        request = msgspec.structs.replace(request, key=list(mine.key))
    return diff_rows(request, (one, other), versions[0].depot())


def tell_diff(found: TableDiff) -> None:
    """The differences of two tables, for people."""
    if found.same and not any((shift.distance or 0) > FROM for shift in found.shifts):
        click.echo(f"the same {found.rows[0]:,} rows")
        return
    by = f"by {', '.join(found.key)}" if found.key else "whole rows, for want of a key"
    click.echo(f"rows     {found.rows[0]:,} → {found.rows[1]:,}, {by}")
    click.echo(f"  added    {found.added:,}{_some(found.added_keys, found.added)}")
    click.echo(f"  removed  {found.removed:,}{_some(found.removed_keys, found.removed)}")
    if found.key:
        click.echo(f"  changed  {found.changed:,}")
    for name, count in list(found.changed_by_column.items())[:MOST_COLUMNS]:
        cells = [one for one in found.cells if one.column == name][:2]
        shown = "; ".join(f"{one.key}: {one.before} → {one.after}" for one in cells)
        click.echo(f"    {bounded(name, 40)}  {count:,} ({bounded(shown, 160)})")
    for mark, names in (("new", found.columns_added), ("gone", found.columns_removed)):
        if names:
            click.echo(f"columns  {mark}: {bounded(', '.join(names), 500)}")
    for column in found.columns_retyped:
        click.echo(f"columns  {bounded(column.name, 40)}: {column.before} → {column.after}")
    _tell_shifts(found)


def _tell_shifts(found: TableDiff) -> None:
    moved = [shift for shift in found.shifts if (shift.distance or 0) > FROM or shift.new or shift.gone]
    for shift in moved[:MOST_SHIFTS]:
        parts = [f"moved by {shift.distance:.2f}" + (f" ± {shift.error:.3f}" if shift.error else "")]
        if shift.mean is not None:
            parts.append(f"mean {shift.mean[0]:.4g} → {shift.mean[1]:.4g}")
        for mark, names in (("new", shift.new), ("gone", shift.gone)):
            parts += [f"{mark} {bounded(', '.join(names), 80)}"] if names else []
        click.echo(f"values   {bounded(shift.column, 40)}: {', '.join(parts)}")


def _some(keys: list[str], count: int) -> str:
    return f" ({bounded('; '.join(keys), 160)}{'; …' if count > len(keys) else ''})" if keys else ""


commands = {"show": show_version, "validate": validate, "infer": infer}

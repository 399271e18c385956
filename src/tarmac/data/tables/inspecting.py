"""Looking through a table once: its schema, some rows, its profile, and what its contract says of it.

What is found becomes the document of the version that is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tarmac.core.errors import Invalid, Refused, bounded
from tarmac.data.tables.inferring import HEAD, ContractFinder
from tarmac.data.tables.measuring import TableMeter
from tarmac.data.tables.sources import Source, as_frame
from tarmac.formats.contract import Contract, dumps, loads
from tarmac.formats.profile import Profile, to_document
from tarmac.formats.profile import from_document as profile_from
from tarmac.formats.records import ContractReport, Finding
from tarmac.formats.table import TableJudge, kind_of

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
SAMPLE = 10
MOST_TOLD = 5
MOST_PROFILED = 2_000
"""Columns; a profile takes some 6 kB for each."""
LONGEST_CELL = 200

Rows = Callable[[int], None]
"""Is told how many rows have been read."""


class Inspection(NamedTuple):
    """What was found in a table."""

    schema: list[dict[str, str]]
    rows: int
    sample: list[list[Any]]
    profile: Profile
    verdict: ContractReport | None
    contract: Contract


def inspect(source: Source, contract: Contract | None, progress: Rows) -> Inspection:
    """One pass over the rows. Without a contract one is inferred."""
    judge = TableJudge(contract) if contract is not None else None
    finder = ContractFinder() if contract is None else None
    meter, sample, rows, schema = None, list[list[Any]](), 0, None
    for frame in frames(source):
        if meter is None:
            schema = frame.schema
            meter = TableMeter(dict(list(schema.items())[:MOST_PROFILED]))
        meter.take(frame)
        room = frame.head(SAMPLE - len(sample))
        sample += [[_cell(value) for value in row] for row in room.rows()]
        if judge is not None:
            judge.take(frame)
        if finder is not None:
            finder.take(frame)
        rows += frame.height
        progress(rows)
    assert meter is not None
    assert schema is not None
    profile = meter.finish()
    return Inspection(
        schema=[{"name": name, "kind": kind_of(dtype), "type": str(dtype)} for name, dtype in schema.items()],
        rows=rows,
        sample=sample,
        profile=profile,
        verdict=judge.finish() if judge is not None else None,
        contract=contract or (finder or ContractFinder()).finish(profile),
    )


def judge_table(source: Source, contract: Contract, progress: Rows) -> ContractReport:
    """Only what the contract says."""
    judge, rows = TableJudge(contract), 0
    for frame in frames(source):
        judge.take(frame)
        rows += frame.height
        progress(rows)
    return judge.finish()


def frames(source: Source) -> Iterator[pl.DataFrame]:
    """The rows as polars has them: one frame without rows, for the columns, and then the batches."""
    yield as_frame(source.schema.empty_table())
    for batch in source.batches():
        yield as_frame(batch)


def document_of(found: Inspection, name: str, *, inferred: bool) -> dict[str, Any]:
    """As it is kept with the version."""
    head = HEAD.format(name=name, version="its first version", rows=found.rows) if inferred else ""
    document: dict[str, Any] = {
        "format": FORMAT,
        "table": {"rows": found.rows, "schema": found.schema, "sample": found.sample},
        "profile": to_document(found.profile),
        "contract": dumps(found.contract, head),
    }
    if found.verdict is not None:
        document["verdict"] = msgspec.to_builtins(found.verdict)
    return document


def contract_in(document: dict[str, Any], ref: str) -> Contract:
    """The contract that a version was logged with."""
    text = document.get("contract")
    if not isinstance(text, str):
        raise Invalid(f"{bounded(ref)} was logged without a contract", hint="log it with the extra: tarmac[data]")
    return loads(text, f"the contract of {ref}")


def profile_in(document: dict[str, Any], ref: str) -> Profile:
    """The profile that was made of a version when it was logged."""
    if "profile" not in document:
        raise Invalid(f"{bounded(ref)} has no profile: it is no table", hint="or it was logged without tarmac[data]")
    return profile_from(document["profile"])


def verdict_in(document: dict[str, Any]) -> ContractReport | None:
    found = document.get("verdict")
    return msgspec.convert(found, ContractReport) if found is not None else None


def refuse_failures(verdict: ContractReport, name: str) -> None:
    """Raise what a contract says against a table."""
    if verdict.state == "passed":
        return
    failing = list(verdict.failures())
    told = "; ".join(told_finding(finding) for finding in failing[:MOST_TOLD])
    more = f"; and {len(failing) - MOST_TOLD} more" if len(failing) > MOST_TOLD else ""
    raise Refused(
        f"the contract of {bounded(name)} does not hold: {told}{more}",
        hint="mend the data or the contract; `--accept` logs it with this report",
        detail={"verdict": msgspec.to_builtins(verdict)},
    )


def told_finding(finding: Finding) -> str:
    """One failure in a line: `age.max: 3 rows are not at most 120 (row 17: 214)`."""
    example = finding.examples[0] if finding.examples else None
    shown = f" (row {example.row:,}: {example.value})" if example else ""
    rows = f"{finding.failed:,} row{'' if finding.failed == 1 else 's'}"
    what = finding.why or (f"{rows}, wanted: {finding.says}" if example else f"wanted: {finding.says}")
    return f"{finding.check}: {what}{shown}"


def _cell(value: Any) -> Any:
    """A value of the sample, as JSON has it, and short."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return bounded(value.isoformat() if hasattr(value, "isoformat") else value, LONGEST_CELL)

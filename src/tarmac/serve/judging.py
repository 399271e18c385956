"""The contract that a package carries, asked of each row before the model sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tarmac.core.errors import Invalid, bounded
from tarmac.formats import contract as contracts
from tarmac.formats.contract import Column, Contract
from tarmac.formats.rows import RowJudge

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array

ONE_BY_ONE = 16
"""Up to so many rows, Python's own numbers are quicker than arrays."""
NAMED = 5


class Judge:
    """What training data had to keep, for the columns that the model takes: the truth, say, is not among them."""

    def __init__(self, document: Mapping[str, Any], names: Sequence[str]) -> None:
        whole = contracts.loads(str(document.get("toml", "")), "the contract of the package")
        columns = {name: column for name, column in whole.columns.items() if name in names}
        asked = {name: rule for name, rule in whole.rules().items() if _used(rule) <= columns.keys()}
        checks = {name: whole.checks[name] for name in asked}
        kept = Contract(columns=columns, checks=checks)
        self._exact = RowJudge(kept)
        # a number of 32 bits is compared with limits of 32 bits: what was at the limit stays there
        self._single = RowJudge(replace(kept, columns={name: _single(column) for name, column in columns.items()}))

    def check(self, columns: Mapping[str, Array]) -> None:
        count = len(next(iter(columns.values()), ()))
        singles = any(array.dtype == "float32" for array in columns.values())
        judge = self._single if singles else self._exact
        if count > ONE_BY_ONE and all(array.dtype.kind in "iufb" for array in columns.values()):
            if judge.passes_columns(columns):
                return
            rows = _rows(columns)
        else:
            rows = _rows(columns)
            if all(map(judge.passes, rows)):
                return
        raise _refusal(judge, rows)


def _used(rule: Any) -> set[str]:
    return {contracts.column_of(name.path) for name in rule.names}


def _single(column: Column) -> Column:
    from struct import pack, unpack

    def rounded(bound: Any) -> Any:
        return unpack("f", pack("f", bound))[0] if isinstance(bound, float) and abs(bound) < 3e38 else bound

    return replace(column, min=rounded(column.min), max=rounded(column.max))


def _rows(columns: Mapping[str, Array]) -> list[dict[str, Any]]:
    values = [
        (array.astype("datetime64[us]") if array.dtype.kind == "M" else array).tolist() for array in columns.values()
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _refusal(judge: RowJudge, rows: list[dict[str, Any]]) -> Invalid:
    verdict = judge.judge(rows)
    failed = [finding for finding in verdict.findings if finding.state == "failed"]
    told = []
    for finding in failed[:NAMED]:
        example = finding.examples[0] if finding.examples else None
        where = f": row {example.row} has {example.value}" if example is not None else ""
        told.append(f"{finding.check} ({finding.says}){where}")
    more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    return Invalid(
        f"the contract of the data is not kept: {'; '.join(told)}{more}",
        hint="the model was trained on data that keeps it; elsewhere its answers mean nothing",
        detail={"failed": [bounded(finding.check, 300) for finding in failed[:100]]},
    )

"""What a contract says of some rows: each of its checks as passed, failed or skipped, with a few rows as examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from tarmac.core.errors import bounded
from tarmac.core.expressions import Expression
from tarmac.formats.contract import Contract
from tarmac.formats.records import ContractReport, Example, Finding, State

MOST_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that a contract asks for."""

    column: str | None
    what: str
    says: str
    rule: Expression | None = None

    @property
    def name(self) -> str:
        if self.rule is not None:
            return f"check {self.what}"
        return f"{bounded(self.column, 80)}.{self.what}" if self.column is not None else self.what


def asks(contract: Contract) -> list[Ask]:
    """All that a contract asks for, in the order in which it is told."""
    found = []
    if contract.rows.min or contract.rows.max is not None:
        most = f" to {contract.rows.max:,}" if contract.rows.max is not None else " or more"
        found.append(Ask(None, "rows", f"{contract.rows.min:,}{most} rows"))
    if contract.others == "refuse":
        found.append(Ask(None, "others", "no columns but those of the contract"))
    if contract.key:
        found.append(Ask(None, "key", f"no two rows with the same {', '.join(map(bounded, contract.key))}"))
    for name, column in contract.columns.items():
        if not column.optional:
            found.append(Ask(name, "there", "the column is there"))
        if column.type != "any":
            found.append(Ask(name, "type", column.type))
        share = f"at most {column.nulls:.4g} of the rows null" if column.nulls else "no nulls"
        if column.nulls < 1:
            found.append(Ask(name, "nulls", share))
        found += [Ask(name, what, says) for what, says in _limits(column)]
    found += [Ask(None, name, rule.text, rule) for name, rule in contract.rules().items()]
    return found


def _limits(column: Any) -> Iterable[tuple[str, str]]:
    if column.min is not None:
        yield "min", f"at least {_shown(column.min)}"
    if column.max is not None:
        yield "max", f"at most {_shown(column.max)}"
    if column.values is not None:
        yield "values", f"one of {bounded(', '.join(map(str, column.values)), 80)}"
    if column.pattern is not None:
        yield "pattern", f"matches {bounded(column.pattern, 80)}"
    if column.shortest is not None:
        yield "shortest", f"{column.shortest} characters or more"
    if column.longest is not None:
        yield "longest", f"at most {column.longest} characters"
    if column.unique:
        yield "unique", "no value twice"


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else shown(value)


class Told(str):
    """A text that says something of a row, and is no value of it."""

    __slots__ = ()


def shown(value: object) -> str:
    """A value of a row as a message has it: texts in quotes, times as they are written."""
    if isinstance(value, Told):
        return bounded(value, 200)
    if isinstance(value, date):
        return value.isoformat()
    return "null" if value is None else bounded(repr(value) if isinstance(value, str | bytes) else value, 80)


class Tally:
    """What was found so far of each check, over as many batches of rows as come."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.asks = asks(contract)
        self.rows = 0
        self.failed = [0] * len(self.asks)
        self._examples: list[list[Example]] = [[] for _ in self.asks]
        self._skipped: dict[int, str] = {}
        self._why: dict[int, str] = {}

    def fail(self, at: int, count: int, examples: Iterable[tuple[int, object]] = (), why: str = "") -> None:
        """`count` rows fail the ask number `at`; `examples` are pairs of a row of this batch and its value."""
        self.failed[at] += count
        if why:
            self._why.setdefault(at, bounded(why, 300))
        kept = self._examples[at]
        for row, value in examples:
            if len(kept) >= MOST_EXAMPLES:
                break
            kept.append(Example(row=self.rows + row, value=shown(value)))

    def wants(self, at: int) -> int:
        """How many more examples of this check would be kept."""
        return MOST_EXAMPLES - len(self._examples[at])

    def skip(self, at: int, why: str) -> None:
        self._skipped.setdefault(at, bounded(why, 300))

    def finish(self, *, whole: bool) -> ContractReport:
        """The verdict; `whole` if all rows of the table were seen, so that shares and the number of rows mean it."""
        findings = [self._finding(at, ask, whole=whole) for at, ask in enumerate(self.asks)]
        state: Literal["passed", "failed"] = "failed" if any(f.state == "failed" for f in findings) else "passed"
        return ContractReport(state=state, rows=self.rows, findings=tuple(findings))

    def _finding(self, at: int, ask: Ask, *, whole: bool) -> Finding:
        failed, why = self.failed[at], self._why.get(at, "")
        skipped = self._skipped.get(at)
        if ask.what in ("key", "unique", "rows") and ask.rule is None and not whole:
            skipped = "needs the whole table"
        elif ask.what == "rows" and ask.rule is None:
            most = self.contract.rows.max
            fits = self.contract.rows.min <= self.rows and (most is None or self.rows <= most)
            failed, why = (0, "") if fits else (1, f"{self.rows:,} rows")
        elif ask.what == "nulls" and ask.column is not None and skipped is None:
            failed, skipped, why = self._nulls(failed, self.contract.columns[ask.column].nulls, whole=whole)
        state: State = "failed" if failed else "skipped" if skipped else "passed"
        return Finding(
            check=ask.name,
            says=ask.says,
            state=state,
            failed=failed,
            why=(skipped or "") if state == "skipped" else why if failed else "",
            examples=tuple(self._examples[at]) if failed else (),
        )

    def _nulls(self, failed: int, allowed: float, *, whole: bool) -> tuple[int, str | None, str]:
        if allowed == 0:
            return failed, None, ""
        if not whole:
            return 0, "needs the whole table", ""
        share = failed / self.rows if self.rows else 0.0
        return (failed, None, f"{share:.4g} of the rows are null") if share > allowed else (0, None, "")

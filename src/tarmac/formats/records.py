"""What a contract says of some rows, as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

FORMAT = 1

State = Literal["passed", "failed", "skipped"]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    row: int
    """Counted from 0 over the whole table."""
    value: str


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One check, and what came of it."""

    check: str
    """`age.min`, `key`, `rows`, or the name of a check of its own."""
    says: str
    state: State
    failed: int = 0
    """Rows; for a check of the whole table 0 or 1."""
    why: str = ""
    examples: tuple[Example, ...] = ()


class ContractReport(msgspec.Struct, frozen=True, kw_only=True):
    format: int = FORMAT
    state: Literal["passed", "failed"]
    rows: int
    findings: tuple[Finding, ...]

    def count(self, state: State) -> int:
        return sum(finding.state == state for finding in self.findings)

    def failures(self) -> Iterator[Finding]:
        return (finding for finding in self.findings if finding.state == "failed")

    def told(self) -> str:
        """The verdict in one line: `failed: 2 of 31 checks, 4 skipped`."""
        failed, skipped, total = self.count("failed"), self.count("skipped"), len(self.findings)
        parts = [f"{failed} of {total:,} checks" if failed else f"{total - skipped:,} checks"]
        return f"{self.state}: {', '.join([*parts, *([f'{skipped} skipped'] if skipped else [])])}"

"""How versions are written: `churn@v7`, `churn@production`, `churn@latest`. Read here and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tarmac.core.errors import Invalid, bounded

LATEST = "latest"
HIGHEST = 2**62
_NUMBER = re.compile(r"[vV](\d{1,19})")
_DIGITS = re.compile(r"[vV]\d+")


@dataclass(frozen=True, slots=True)
class Reference:
    """A model, and which of its versions: a number, an alias, or neither for the latest."""

    model: str
    number: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        return f"{self.model}@{f'v{self.number}' if self.number is not None else self.alias or LATEST}"


def parse(text: str) -> Reference:
    model, mark, which = text.rpartition("@")
    if not mark or not model or not which:
        raise Invalid(
            f"`{bounded(text)}` does not say which version",
            hint=f"write it like {bounded(text.strip('@') or 'churn', 60)}@v7, …@production or …@latest",
        )
    if which.lower() == LATEST:
        return Reference(model)
    if found := _NUMBER.fullmatch(which):
        return Reference(model, number=min(int(found[1]), HIGHEST))
    return Reference(model, alias=which)


def reserved(alias: str) -> bool:
    """Whether an alias called so would be read as something else."""
    return alias.lower() == LATEST or _DIGITS.fullmatch(alias) is not None

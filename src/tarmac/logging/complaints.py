"""What goes wrong in logging: said once for each kind, counted, and raised only where somebody asked for that."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tarmac.core.errors import Invalid, bounded


class Complaints:
    def __init__(self, name: str, *, strict: bool, keep: Callable[[str, str], None]) -> None:
        self.name = name
        self.strict = strict
        self.counts: dict[str, int] = {}
        self._keep = keep

    def __call__(self, kind: str, error: BaseException | None, what: str) -> None:
        """`kind` names the warning in the run, `what` says what happened and what was left out."""
        text = what
        try:
            text = f"{what}: {bounded(error, 200)}" if error is not None else what
        except Exception:  # noqa: BLE001, S110 - an error that cannot say what it is
            pass
        if self.strict:
            raise Invalid(f"run {self.name}: {text}")
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] > 1:
            return
        try:
            say(f"tarmac: warning: run {self.name}: {text} (said once)")
            self._keep(kind, text[:1000])
        except Exception:  # noqa: BLE001, S110 - a warning that cannot be given is none
            pass

    def repeated(self) -> dict[str, int]:
        return {kind: count for kind, count in self.counts.items() if count > 1}


def say(text: str, end: str = "\n") -> None:
    """To whoever looks at the screen, if there is one."""
    try:
        sys.stderr.write(text + end)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass

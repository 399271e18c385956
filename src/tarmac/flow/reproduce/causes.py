"""Why it did not come out the same, as far as what was seen tells."""

from __future__ import annotations

import os
import platform
import re
from typing import Any

from tarmac.core.errors import bounded
from tarmac.flow.reproduce.compare import Outcome
from tarmac.flow.reproduce.needs import Needs
from tarmac.flow.reproduce.records import Cause
from tarmac.track.records import Input

MISSING_FILE = re.compile(
    r"(?:No such file or directory|FileNotFoundError|not found|does not exist)[^'\"\n]*['\"]([^'\"\n]+)['\"]"
)
MISSING_MODULE = re.compile(r"No module named '([^']+)'")


def of_failure(needs: Needs, inputs: list[Input], code: int, output: str) -> list[Cause]:
    """The command did not end well where it did before."""
    found = [_failure(needs, code, output)]
    if inputs:
        names = ", ".join(f"{one.name}@{one.version}" if one.version else one.name for one in inputs[:5])
        what = f"it was given {bounded(names, 300)}: data of the workspace is not brought into the clean folder"
        found.append(Cause(kind="data", what=what))
    return found


def _failure(needs: Needs, code: int, output: str) -> Cause:
    text = output[-20_000:]
    if found := MISSING_MODULE.search(text):
        return Cause(
            kind="package", what=f"module `{bounded(found[1])}` is neither installed nor in the source that was kept"
        )
    if found := MISSING_FILE.search(text):
        path = found[1]
        why = next((f": {why}" for name, why in needs.left_out.items() if path.endswith(name)), "")
        return Cause(kind="data", what=f"{bounded(path)} is not there: it was not kept with the source{why}")
    return Cause(kind="code", what=f"the command ended with {code}: {_last(output)}")


def of_difference(needs: Needs, python: str, first: Outcome, second: Outcome | None) -> list[Cause]:
    """`second` is what differs between the two times that it was done here; None if the second time failed."""
    if second is None:
        return [Cause(kind="randomness", what="done here a second time, it failed")]
    if second.differences:
        names = ", ".join(bounded(name, 60) for _, name in sorted(second.names)[:5])
        more = f" and {len(second.names) - 5} more" if len(second.names) > 5 else ""
        what = f"done here twice, {names}{more} came out differently: something random has no seed"
        causes = [Cause(kind="randomness", what=what)]
        if not first.names - second.names:
            return causes
    else:
        causes = []
    if moved := _machine(needs.machine):
        causes.append(moved)
    if needs.python != python:
        causes.append(Cause(kind="python", what=f"Python {needs.python} then, {python} now"))
    if not causes:
        said = "source, packages, params and settings were the same, and so was what came out twice here"
        what = f"{said}: what differs came from outside, like data, the network, the clock or variables"
        causes.append(Cause(kind="outside", what=what))
    return causes


def _machine(before: dict[str, Any]) -> Cause | None:
    system = f"{platform.system()} {platform.release()}"
    now = {"processor": platform.machine(), "cores": os.cpu_count(), "system": system}
    other = [
        f"{name} {before[name]} then, {here} now" for name, here in now.items() if before.get(name) not in (None, here)
    ]
    return Cause(kind="hardware", what=f"another machine: {'; '.join(other)}") if other else None


def _last(output: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return bounded(lines[-1], 300) if lines else "it printed nothing"


def machine() -> str:
    return f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores"

"""In what runs differ: params, metrics, tags, inputs, files, and how they were started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tarmac.store import manifests
from tarmac.store.sql import Reader
from tarmac.track.queries import files, rows
from tarmac.track.records import Difference, Run

MOST = 5000
LONGEST = 2000


def compare(read: Reader, keys: Sequence[int], runs: Sequence[Run], *, same: bool) -> list[Difference]:
    """What differs, in the order in which people ask: how it came out, what was set, what it was made of."""
    columns = [_facts(read, key, run) for key, run in zip(keys, runs, strict=True)]
    names = dict.fromkeys(name for column in columns for name in column)
    found = []
    for name in sorted(names, key=_rank):
        values = [column.get(name) for column in columns]
        if same or len(set(values)) > 1:
            found.append(Difference(what=name, values=[v if v is None else v[:LONGEST] for v in values]))
        if len(found) == MOST:
            break
    return found


_RANKS = ("run.", "metrics.", "params.", "tags.", "inputs.", "files.", "code.", "packages.", "machine.", "facts.")


def _rank(name: str) -> tuple[int, str]:
    return next((rank for rank, head in enumerate(_RANKS) if name.startswith(head)), len(_RANKS)), name


def _facts(read: Reader, key: int, run: Run) -> dict[str, str]:
    found = {"run.status": run.status, "run.experiment": run.experiment, "run.actor": run.actor}
    if run.ended_at is not None:
        found["run.seconds"] = f"{(run.ended_at - run.started_at) / 1000:.3f}"
    found |= {f"metrics.{name}": str(value) for name, value in run.metrics.items()}
    found |= {f"params.{name}": value for name, value in run.params.items()}
    found |= {f"tags.{name}": value for name, value in run.tags.items()}
    found |= {f"inputs.{given.name}": given.version for given in rows.inputs(read, key)}
    found |= {f"files.{file.path}": (file.digest or "")[:16] for file in files.every(read, key, "", MOST)}
    row = rows.facts(read, key)
    if row is not None:
        found |= _flat("", msgspec.json.decode(row[0]))
        if row[1] is not None:
            found |= _source(read, row[1])
    return found


def _flat(head: str, value: Any) -> dict[str, str]:
    """A nested document as dotted names with text."""
    if isinstance(value, dict):
        found: dict[str, str] = {}
        for name, inner in value.items():
            found |= _flat(f"{head}.{name}" if head else name, inner)
        return found
    name = head if head.startswith(_RANKS) else f"facts.{head}"
    return {name: value if isinstance(value, str) else msgspec.json.encode(value).decode()}


def _source(read: Reader, manifest: str) -> dict[str, str]:
    """The files of a source tree, by digest."""
    return {f"code.{file.path}": file.digest[:16] for file in manifests.files(read, manifest, "", MOST)}

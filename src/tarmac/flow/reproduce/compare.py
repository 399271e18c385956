"""One run beside another: every param, every point of every metric, every file."""

from __future__ import annotations

import fnmatch
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from tarmac.core.errors import bounded
from tarmac.flow import queries_results
from tarmac.flow.records import StepRun
from tarmac.flow.reproduce.place import Aside
from tarmac.flow.reproduce.records import Compared
from tarmac.store.blobs import rows as blobs
from tarmac.store.sql import Reader
from tarmac.track.points import text
from tarmac.track.queries import curves, files, rows

OF_THE_MACHINE = ("system/*",)
"""Metrics that say what a run cost the machine, which is another matter."""
OF_A_STEP = ("seconds", "cpu_seconds", "memory")
"""The same, as runs of steps have it."""
MOST_FILES = 100_000
LARGEST_READ = 64 * 1024 * 1024
"""Larger files that differ are not read to find out by how much."""
MOST_SHOWN = 100


class Side:
    """One run, where it lies."""

    def __init__(self, read: Reader, id: str, where: Aside) -> None:
        self.read = read
        self.key = rows.run_row(read, id)[0]
        self.where = where

    def params(self) -> dict[str, str]:
        return rows.texts(self.read, "params", [self.key], None)[self.key]

    def metrics(self) -> list[str]:
        return [metric.key for metric in rows.metrics(self.read, self.key)]

    def curve(self, name: str) -> tuple[Sequence[int], Sequence[float]]:
        number = self.read.names.number(self.read, name)
        assert number is not None
        steps, _, values = curves.whole(self.read, self.key, number)
        return steps, values

    def last(self, name: str) -> tuple[int, Any]:
        steps, values = self.curve(name)
        return steps[-1], text(values[-1])

    def files(self) -> dict[str, str]:
        return {file.path: file.digest or "" for file in files.every(self.read, self.key, "", MOST_FILES)}

    def steps(self) -> dict[str, StepRun]:
        """Of a run of a pipeline: what became of its steps."""
        return {step.node: step for step in queries_results.steps(self.read, self.key)}

    def result(self, step: StepRun) -> str | None:
        """What stands for the content of a step's result."""
        found = queries_results.find(self.read, [step.key]) if step.key else []
        return " ".join(output.digest[:16] for output in found[0].outputs) if found else None

    def step(self, step: StepRun) -> Side:
        return Side(self.read, step.run, self.where)

    def bytes_of(self, digest: str) -> bytes | None:
        if blobs.find(self.read, digest).size > LARGEST_READ:
            return None
        return b"".join(self.where.bytes_of(self.read, digest))


class Outcome(msgspec.Struct):
    differences: list[Compared] = []
    metrics: int = 0
    files: int = 0
    steps: int = 0

    @property
    def verdict(self) -> str:
        if not self.differences:
            return "same"
        return "close" if all(one.verdict == "close" for one in self.differences) else "different"

    @property
    def names(self) -> set[tuple[str, str]]:
        return {(one.kind, one.name) for one in self.differences}


def compare(before: Side, after: Side, tolerance: float, ignore: Sequence[str]) -> Outcome:
    found = Outcome()
    found.differences += _params(before.params(), after.params(), ignore)
    left = (*OF_THE_MACHINE, *ignore)
    for name in _names(before.metrics(), after.metrics(), left):
        found.metrics += 1
        found.differences += _metric(name, before, after, tolerance)
    old, new = before.files(), after.files()
    for path in _names(old, new, ignore):
        found.files += 1
        found.differences += _file(path, old.get(path), new.get(path), before, after, tolerance)
    known, others = before.steps(), after.steps()
    for node in _names(known, others, ignore):
        found.steps += 1
        _step(found, node, known.get(node), others.get(node), before, after, tolerance, ignore)
    return found


def _step(
    found: Outcome,
    node: str,
    old: StepRun | None,
    new: StepRun | None,
    before: Side,
    after: Side,
    tolerance: float,
    ignore: Sequence[str],
) -> None:
    """A step is the same if its result is, and all that it logged."""
    was, came = (
        None if step is None else side.result(step) or step.done for step, side in ((old, before), (new, after))
    )
    if was != came and {was, came} != {"ran", "reused"}:
        found.differences.append(_compared("step", node, was, came))
    if old is not None and new is not None and old.run and new.run:
        below = compare(before.step(old), after.step(new), tolerance, [*ignore, *OF_A_STEP])
        found.metrics += below.metrics
        found.files += below.files
        found.differences += [replace(one, name=f"{node}: {one.name}") for one in below.differences]


def _names(before: Any, after: Any, ignore: Sequence[str]) -> list[str]:
    names = sorted({*before, *after})
    return [name for name in names if not any(fnmatch.fnmatchcase(name, pattern) for pattern in ignore)]


def _params(before: dict[str, str], after: dict[str, str], ignore: Sequence[str]) -> Iterator[Compared]:
    for name in _names(before, after, ignore):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield _compared("param", name, old, new)


def _compared(
    kind: Any, name: str, before: Any, after: Any, distance: float | None = None, *, near: bool = False
) -> Compared:
    verdict: Any = "missing" if after is None else "new" if before is None else "close" if near else "different"
    old, new = ("" if value is None else bounded(value) for value in (before, after))
    return Compared(kind=kind, name=name, verdict=verdict, before=old, after=new, distance=distance)


def _metric(name: str, before: Side, after: Side, tolerance: float) -> Iterator[Compared]:
    both = (before, after)
    known = [name in side.metrics() for side in both]
    if not all(known):
        was, came = (side.last(name)[1] if there else None for side, there in zip(both, known, strict=True))
        yield _compared("metric", name, was, came)
        return
    (steps, old), (other, new) = before.curve(name), after.curve(name)
    if list(steps) != list(other):
        yield _compared("metric", name, f"{len(steps)} points", f"{len(other)} points, or at other steps")
        return
    distance = apart(old, new)
    if distance:
        worst = max(range(len(old)), key=lambda at: apart_by(old[at], new[at]))
        yield _compared("metric", name, old[worst], new[worst], _finite(distance), near=distance <= tolerance)


def apart(before: Sequence[float], after: Sequence[float]) -> float:
    """How far two rows of numbers are from each other: the largest distance, as a part of the larger value."""
    return max(map(apart_by, before, after), default=0.0)


def apart_by(one: float, other: float) -> float:
    if one == other or (one != one and other != other):
        return 0.0
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _file(
    path: str, old: str | None, new: str | None, before: Side, after: Side, tolerance: float
) -> Iterator[Compared]:
    if old == new:
        return
    if old is None or new is None:
        yield _compared("file", path, old, new)
        return
    one, other = before.bytes_of(old), after.bytes_of(new)
    distance = None if one is None or other is None else between(path, one, other)
    if distance != 0.0:
        near = distance is not None and distance <= tolerance
        yield _compared("file", path, old[:16], new[:16], None if distance is None else _finite(distance), near=near)


def between(path: str, one: bytes, other: bytes) -> float | None:
    """How far the numbers of two files are apart, if that is all in which they differ; None if it is not."""
    for reader in _readers(path):
        try:
            (shape, numbers), (other_shape, others) = reader(one), reader(other)
        except (ValueError, TypeError, msgspec.MsgspecError, RecursionError, ImportError):
            continue
        if shape == other_shape and len(numbers) == len(others):
            return apart(numbers, others)
    return None


Read = tuple[Any, Sequence[float]]
MADE_UP = re.compile(r"[0-9a-f]{32}")


def _readers(path: str) -> list[Callable[[bytes], Read]]:
    if path.startswith("models/") and path.endswith("/about.json"):
        return [lambda data: _json(data, without=("made", "files"))]  # its files are compared themselves
    known: dict[str, Callable[[bytes], Read]] = {".json": _json, ".csv": _csv, ".npy": _npy, ".pkl": _pickle}
    suffix = path[path.rfind(".") :].lower()
    return [known[suffix]] if suffix in known else []


def _json(data: bytes, without: Sequence[str] = ()) -> Read:
    document = msgspec.json.decode(data)
    for name in without:
        document.pop(name, None)
    numbers: list[float] = []

    def shape(value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers.append(float(value))
            return 0
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items()}
        return [shape(inner) for inner in value] if isinstance(value, list) else value

    return shape(document), numbers


def _csv(data: bytes) -> Read:
    import csv

    numbers: list[float] = []

    def cell(text: str) -> str | None:
        try:
            numbers.append(float(text))
        except ValueError:
            return text
        return None

    return [[cell(text) for text in row] for row in csv.reader(io.StringIO(data.decode()))], numbers


def _pickle(data: bytes) -> Read:
    """A pickle as its opcodes, read and never run. What cloudpickle makes up for a class of a script (a number for the
    class, where its source lay) says nothing of the model."""
    import pickletools

    said = [(op.name, value) for op, value, _ in pickletools.genops(data) if op.name not in ("FRAME", "MEMOIZE")]
    by_value = any(value == "_make_skeleton_class" for _, value in said)
    numbers: list[float] = []
    shape: list[tuple[str, Any]] = []
    for (name, value), (following, _) in zip(said, [*said[1:], ("", None)], strict=True):
        if isinstance(value, float):
            numbers.append(value)
            shape.append((name, 0.0))
        elif by_value and isinstance(value, str) and value.endswith(".py"):
            shape.append(("source", value.rpartition("/")[2]))
        elif by_value and isinstance(value, str) and following == "NONE" and MADE_UP.fullmatch(value):
            shape.append((name, ""))
        else:
            shape.append((name, value))
    return shape, numbers


def _npy(data: bytes) -> Read:
    import numpy as np

    array = np.load(io.BytesIO(data), allow_pickle=False)
    return (array.shape, str(array.dtype)), array.astype("float64").ravel().tolist()

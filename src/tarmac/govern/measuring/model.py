"""A package that predicts rows of a table, in pieces, so that a check can be cancelled and memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Refused, bounded
from tarmac.formats import arrays as holding
from tarmac.formats import engines, packing
from tarmac.formats.package import MLMODEL, Sealed, is_package
from tarmac.formats.signature import PREDICTION, PROBABILITIES
from tarmac.govern.measuring.scores import Answers
from tarmac.govern.measuring.table import Table, as_text
from tarmac.govern.trusting import trust_of
from tarmac.registry.handlers.gating import Side
from tarmac.registry.records import Gate
from tarmac.store.job import JobContext

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

PIECE, SAMPLE = 20_000, 20_000
MOST_CLASSES = 1000
Disturb = Callable[[Mapping[str, "Array"]], dict[str, "Array"]]


class Model:
    """The engine of a package, in the form that serving uses, loaded only if its code is trusted here."""

    def __init__(self, folder: Path, side: Side, *, signed: bool) -> None:
        sealed = opened(folder, side)
        trust = trust_of(side, sealed.digest, signed=signed)
        compiled = side.package.compiled if side.package else None
        self._predictor = engines.load(sealed, trust, compiled_digest=compiled.digest if compiled else None)

    def sample(self, rows: Table, most: int = SAMPLE) -> Table:
        """Rows enough to tell, always the same ones."""
        return rows if len(rows) <= most else Table(rows.frame.sample(most, seed=0))

    def inputs(self, rows: Table, gate: Gate) -> list[str]:
        return list(self._inputs(Table(rows.frame.head(1)), gate))

    def answers(self, rows: Table, gate: Gate, job: JobContext, disturb: Disturb | None = None) -> Answers:
        inputs = self._inputs(rows, gate)
        if disturb is not None:
            inputs = disturb(inputs)
        said: list[Array] = []
        probable: list[Array] = []
        for start in range(0, len(rows), PIECE):
            found = self._predictor.predict({name: array[start : start + PIECE] for name, array in inputs.items()})
            said.append(_column(found[PREDICTION], min(PIECE, len(rows) - start)))
            if PROBABILITIES in found:
                probable.append(found[PROBABILITIES])
            job.progress(0, 0, f"predicted {min(start + PIECE, len(rows)):,} of {len(rows):,} rows")
        return _answers(rows.column(gate.label), said, probable, gate)

    def single(self, rows: Table, gate: Gate) -> tuple[Callable[[int], object], int]:
        """A way to predict one row by its number."""
        few = Table(rows.frame.head(200))
        inputs = self._inputs(few, gate)
        each = [{name: array[at : at + 1] for name, array in inputs.items()} for at in range(len(few))]
        return lambda at: self._predictor.predict(each[at]), len(each)

    def _inputs(self, rows: Table, gate: Gate) -> dict[str, Array]:
        signature = self._predictor.signature
        if signature is None:
            raise Refused("has no signature: nobody knows which columns it takes", hint="package it with an example")
        frame = rows.without(gate.label) if gate.label else rows.frame
        if signature.layout == "columns":
            there = [name for name in signature.names() if name in frame.columns]
            return holding.accept(frame.select(there), signature)
        if len(signature.inputs) == 1 and signature.matrix_type() and len(frame.columns) == signature.width():
            return holding.accept(frame.to_numpy(), signature)
        raise Refused(
            f"takes {len(signature.inputs)} arrays, and the rows have {len(frame.columns)} columns beside the label",
            hint="package it with an example that is a table",
        )


def opened(folder: Path, side: Side) -> Sealed:
    """A package's folder as one that says how it is loaded: tarmac's own, or MLflow's, which is read as one."""
    if not is_package(folder):
        if not (folder / MLMODEL).is_file():
            raise Refused(
                "was packaged by neither tarmac nor MLflow, and says nothing of how it predicts",
                hint="`tarmac models add NAME PATH` packages a model anew",
            )
        packing.adopt(folder, side.version.model)
    return Sealed(folder, side.digest)


def _column(array: Array, rows: int) -> Array:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (rows,):
        raise Refused(f"answers {rows} rows with something of shape {array.shape}, not with one value for each")
    return array


def _answers(label: Any, pieces: list[Array], probable: list[Array], gate: Gate) -> Answers:
    import numpy as np

    if label.null_count() or (label.dtype.is_float() and label.is_nan().any()):
        raise Refused(f"column `{bounded(gate.label)}` has rows without an answer")
    truth, said = label.to_numpy(), np.concatenate(pieces)
    if not _are_classes(label, said, has_chances=bool(probable)):
        said = said.astype(float)
        if not np.isfinite(said).all():
            raise Refused(f"answers {int((~np.isfinite(said)).sum())} rows with something that is no number")
        return Answers(truth.astype(float), said)
    kinds, of = _numbered(truth, said)
    positive = _positive(kinds, gate)
    chances = _of_classes(np.concatenate(probable), of[len(truth) :], len(kinds)) if probable else None
    chance = chances[:, positive] if chances is not None else None
    return Answers(of[: len(truth)], of[len(truth) :], kinds, positive, chance, chances)


def _are_classes(label: Any, said: Array, *, has_chances: bool) -> bool:
    return has_chances or not label.dtype.is_numeric() or said.dtype.kind not in "iuf" or (
        not label.dtype.is_float() and said.dtype.kind in "iu"
    )  # fmt: skip


def _numbered(truth: Array, said: Array) -> tuple[tuple[str, ...], Array]:
    """The classes as text in their order, and truth and answers as numbers of these."""
    import numpy as np

    found: list[tuple[Array, Array]] = [np.unique(array, return_inverse=True) for array in (truth, said)]
    names = [[as_text(value.item() if hasattr(value, "item") else value) for value in values] for values, _ in found]
    kinds = sorted({*names[0], *names[1]}, key=_in_order)
    if len(kinds) > MOST_CLASSES:
        raise Refused(f"there are {len(kinds):,} different answers; at most {MOST_CLASSES:,} are classes")
    place = {name: at for at, name in enumerate(kinds)}
    numbers = [
        np.array([place[name] for name in each], dtype=np.int64)[of] for each, (_, of) in zip(names, found, strict=True)
    ]
    return tuple(kinds), np.concatenate(numbers)


def _in_order(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _positive(kinds: tuple[str, ...], gate: Gate) -> int:
    if not gate.positive:
        return len(kinds) - 1
    wanted = gate.positive
    if wanted not in kinds:
        raise Refused(f"no row is `{bounded(wanted)}`, which is to count as yes; there are {bounded(', '.join(kinds))}")
    return kinds.index(wanted)


def _of_classes(probable: Array, said: Array, kinds: int) -> Array | None:
    """Probabilities with a column for each class. Which column is of which class the answers themselves tell: of the
    rows where a column is the highest, nearly all have to be answered with one class."""
    import numpy as np

    if probable.ndim == 1:
        probable = np.column_stack([1 - probable, probable])
    if probable.ndim != 2:
        return None
    highest = probable.argmax(axis=1)
    matrix = np.bincount(highest * kinds + said, minlength=probable.shape[1] * kinds).reshape(-1, kinds)
    found: dict[int, int] = {}
    for column, row in enumerate(matrix):
        if row.sum() and row.max() >= 0.9 * row.sum():
            found[column] = int(row.argmax())
    left = [column for column in range(probable.shape[1]) if column not in found]
    free = [kind for kind in range(kinds) if kind not in found.values()]
    if len(left) == len(free) == 1:
        found[left[0]] = free[0]
    if len(set(found.values())) != len(found) or set(found.values()) != set(range(kinds)):
        return None
    order = {kind: column for column, kind in found.items()}
    picked: Array = probable[:, [order[kind] for kind in range(kinds)]]
    return picked.astype(float)

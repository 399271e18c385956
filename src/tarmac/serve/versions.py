"""A loaded version: the package's predictor, its lane, and how what a caller sent becomes what the model takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Internal, Invalid, bounded
from tarmac.formats import arrays as holding
from tarmac.formats import engines
from tarmac.formats.engines.predictor import Predictor
from tarmac.formats.package import COMPILED, COMPILED_MODEL, Sealed
from tarmac.formats.signature import FLOATS, INPUT, Field, Signature
from tarmac.formats.trust import Trust
from tarmac.serve.judging import Judge
from tarmac.serve.lanes import Cost, Lane
from tarmac.serve.memory import resident
from tarmac.serve.metrics import Tally
from tarmac.serve.routes import Endpoint, Served

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array, Arrays

ROUNDS = 5
LONGEST_WARMING = 1.0
_met: set[tuple[str, str]] = set()
OWN_CODE = ("pickle", "torch", "keras", "mlflow")
"""Loaders whose models may do anything, and so never run in the loop."""


class Version:
    """One version of one endpoint, ready to answer."""

    def __init__(self, endpoint: Endpoint, served: Served, predictor: Predictor, cost: Cost, tally: Tally) -> None:
        self.endpoint = endpoint
        self.served = served
        self.name = served.version
        self.model = served.model or endpoint.name
        self.predictor = predictor
        self.signature = predictor.signature
        self.tally = tally
        self._matrix = predictor.matrix if self.signature is not None else None
        self._width = self.signature.width() if self.signature is not None and self._matrix else 0
        self._names = self.signature.names() if self.signature is not None else []
        document = predictor.about.contract
        tabular = self.signature is not None and self.signature.layout == "columns"
        self._judge = Judge(document, self._names) if document is not None and tabular else None
        row_wise = self.signature is not None and is_row_wise(self.signature)
        self.lane = Lane(
            self.run,
            cost=cost,
            rows=endpoint.batching.rows,
            waiting=endpoint.batching.waiting,
            row_wise=row_wise,
            own_thread=predictor.form == "native" and predictor.about.entry.loader in OWN_CODE,
            name=f"{self.model}@{self.name}",
        )

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        if self._matrix is not None:
            outputs: Arrays = self.predictor.predict_matrix(inputs[INPUT])
        else:
            outputs = self.predictor.predict(inputs)
        for name, array in outputs.items():
            if array.dtype.kind == "f" and not _is_finite(array):
                raise Internal(f"{self.lane.name} answered `{bounded(name)}` with {_first_odd(array)}")
        return outputs

    # --- what came, as what the model takes ---

    def fit(self, given: Mapping[str, Array]) -> tuple[Arrays, int]:
        """Arrays by name, as V2 and rows bring them, as the model's inputs; and how many rows they are."""
        if self._matrix is not None and len(given) == 1:
            only = next(iter(given.values()))
            if only.ndim == 2 and only.shape[1] == self._width and only.dtype.kind in "fiu":
                if only.dtype != self._matrix:
                    only = only.astype(self._matrix)
                if self._judge is not None:
                    self._judge.check(dict(zip(self._names, only.T, strict=True)))
                return {INPUT: only}, only.shape[0]
        if self.signature is None:
            return dict(given), _rows(given)
        fitted = holding.accept(self._unpacked(given), self.signature)
        if self._judge is not None:
            self._judge.check(fitted)
        rows = _rows(fitted)
        if self._matrix is not None:
            return {INPUT: holding.matrix(fitted, self._matrix)}, rows
        return fitted, rows

    def fit_rows(self, data: Any) -> tuple[Arrays, int]:
        """Rows as objects, columns by name, nested lists: what JSON and CSV bring."""
        if self.signature is None:
            raise Invalid(
                f"{self.lane.name} has no signature: nothing says how rows become its input",
                hint="send tensors: POST /v2/models/NAME/infer; or make the package with an example",
            )
        fitted = holding.accept(data, self.signature)
        for name, array in fitted.items():
            if array.dtype.kind == "f":
                _check_size(name, array)
        if self._judge is not None:
            self._judge.check(fitted)
        rows = _rows(fitted)
        return ({INPUT: holding.matrix(fitted, self._matrix)} if self._matrix is not None else fitted), rows

    def _unpacked(self, given: Mapping[str, Array]) -> Any:
        signature = self.signature
        assert signature is not None
        if signature.layout == "columns":
            if len(given) == 1 and len(self._names) != 1:
                only = next(iter(given.values()))
                if only.ndim == 2:
                    return only
            # a column comes as [n] or as [n, 1]
            return {n: _texts(a.reshape(-1) if a.ndim == 2 and a.shape[1] == 1 else a) for n, a in given.items()}
        if len(given) == 1 and len(self._names) == 1:
            return _texts(next(iter(given.values())))
        return {name: _texts(array) for name, array in given.items()}

    def stop(self) -> None:
        self.lane.stop()


def _texts(array: Array) -> Array:
    """BYTES of a tensor are text for a model that takes text."""
    if array.dtype != object:
        return array
    import numpy as np

    try:
        held = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    except UnicodeDecodeError:
        return array
    found = np.empty(len(held), object)
    found[:] = held
    return found.reshape(array.shape)


def _rows(arrays: Mapping[str, Array]) -> int:
    for array in arrays.values():
        return int(array.shape[0]) if array.ndim else 1
    raise Invalid("the request has no inputs")


def _check_size(name: str, array: Array) -> None:
    """JSON has no infinity, but numbers that are one in the model's type. Nulls are NaN, and judged elsewhere."""
    import numpy as np

    large = np.isinf(array)
    if large.any():
        row = int(np.argwhere(large)[0][0])
        raise Invalid(f"`{bounded(name)}` has a number in row {row} that is not finite as {array.dtype}")


def _is_finite(array: Array) -> bool:
    import math

    import numpy as np

    flat = array.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(array).all())


def _first_odd(array: Array) -> str:
    import numpy as np

    place = int(np.argmin(np.isfinite(array.ravel())))
    return f"{array.ravel()[place]} in place {place}, which no answer can carry"


def is_row_wise(signature: Signature) -> bool:
    """Whether rows of several callers may lie in one array: each input has a row for each, and so has each output."""
    inputs = all(not field.shape or field.shape[0] == -1 for field in signature.inputs)
    return signature.layout == "columns" or (inputs and all(field.shape[:1] == [-1] for field in signature.outputs))


# --- loading ---


def load(served: Served, trusted: list[str]) -> tuple[tuple[Predictor, Cost], int]:
    """The slow part, for a thread: verify, load, warm, measure; and how many bytes it takes. The version itself is made
    in the loop."""
    before = resident()
    sealed = Sealed(Path(served.folder), served.digest)
    trust = Trust.digests(trusted) if trusted else Trust()
    predictor = engines.load(sealed, trust, compiled_digest=served.compiled)
    size = size_of(served)
    if (kind := (predictor.form, sealed.about.entry.loader)) in _met:
        size = max(size, resident() - before)
    _met.add(kind)  # the first of a kind brings its library, which stays
    return (predictor, _measure(predictor)), size


def size_of(served: Served) -> int:
    """The bytes of what would be loaded, as a first guess of what it takes."""
    sealed = Sealed(Path(served.folder), served.digest)
    if served.compiled is not None:
        return (sealed.folder / COMPILED / COMPILED_MODEL).stat().st_size
    return sum(file.size for file in sealed.about.files)


def _measure(predictor: Predictor) -> Cost:
    """What one row costs, and what a row more; a model that cannot be tried is taken to be dear."""
    if predictor.signature is None:
        return Cost(1.0, 0.0)
    try:
        one, several = (_seconds(predictor, made_rows(predictor.signature, count)) for count in (1, 33))
    except Exception:  # noqa: BLE001 - made-up rows need not please a model
        return Cost(1.0, 0.0)
    row = max(0.0, (several - one) / 32)
    return Cost(max(0.0, one - row), row)


def _seconds(predictor: Predictor, inputs: Arrays) -> float:
    kind = predictor.matrix
    rows = holding.matrix(inputs, kind) if kind is not None else None
    best, until = 1e9, time.perf_counter() + LONGEST_WARMING
    for _ in range(ROUNDS):
        began = time.perf_counter()
        if rows is not None:
            predictor.predict_matrix(rows)
        else:
            predictor.predict(inputs)
        best = min(best, time.perf_counter() - began)
        if time.perf_counter() > until:
            break
    return best


def made_rows(signature: Signature, count: int) -> Arrays:
    """Rows of the right types that mean nothing, to warm and measure a model."""
    return {field.name: _made(field, count) for field in signature.inputs}


def _made(field: Field, count: int) -> Array:
    import numpy as np

    shape = (count, *(1 if size < 0 else size for size in (field.shape[1:] if field.shape else [])))
    if field.type in FLOATS:
        return np.linspace(0, 1, int(np.prod(shape)), dtype=field.type).reshape(shape)
    filler = {"text": "a", "bytes": b"a", "any": None, "time": np.datetime64("2026-01-01", "ns")}.get(field.type, 0)
    return np.full(shape, filler, dtype=holding.dtype(field.type))

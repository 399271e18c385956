"""ONNX, run by onnxruntime: no code of the model's maker, no pickle, microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Invalid, bounded
from tarmac.formats import arrays as holding
from tarmac.formats import package
from tarmac.formats.arrays import dtype
from tarmac.formats.engines.predictor import Native, Predictor
from tarmac.formats.package import Sealed
from tarmac.formats.signature import INPUT, PREDICTION, Field, Signature

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array, Arrays

_TYPES = {
    "float": "float32", "double": "float64", "string": "text", "bool": "bool", "float16": "float16",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
}  # fmt: skip


def session(model: bytes, threads: int = 1) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(bytes(model), options, providers=["CPUExecutionProvider"])


def signature_of(opened: Any) -> Signature | None:
    """What the model itself says that it takes and gives; None where it says more than tensors."""
    inputs = [_field(node) for node in opened.get_inputs()]
    outputs = [_field(node) for node in opened.get_outputs()]
    if None in inputs or not inputs:
        return None
    return Signature(
        layout="tensors",
        inputs=[field for field in inputs if field],
        outputs=[field for field in outputs if field],
        given="dict" if len(inputs) > 1 else "numpy",
    )


def _field(node: Any) -> Field | None:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _TYPES:
        return None
    shape = [size if isinstance(size, int) else -1 for size in node.shape or []]
    return Field(name=node.name, type=_TYPES[kind], shape=[-1, *shape[1:]] if shape else [])


class Onnx(Native):
    """A model that came as ONNX: its inputs are the arrays of the signature, by name or, for one alone, as it is."""

    def __init__(self, sealed: Sealed, threads: int) -> None:
        super().__init__(sealed)
        self._session = session(sealed.read(sealed.about.entry.file), threads)
        self._inputs = [(node.name, _numpy(node)) for node in self._session.get_inputs()]
        self._outputs = [node.name for node in self._session.get_outputs()]
        shown = signature_of(self._session)
        if self.signature is None:
            self.signature = shown
        only = self._inputs[0] if len(self._inputs) == 1 else None
        if only is not None and self.signature is not None and self.signature.matrix_type() and self._before is None:
            self.matrix = only[1]

    def predict_matrix(self, rows: Array) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, {self._inputs[0][0]: rows}), strict=True))

    def call(self, data: Any) -> Any:
        import numpy as np

        if isinstance(data, Mapping):
            missing = [name for name, _ in self._inputs if name not in data]
            if missing and len(self._inputs) > 1:
                raise Invalid(f"the model has an input `{bounded(missing[0])}` that was not given")
            given = {name: data.get(name, next(iter(data.values()), None)) for name, _ in self._inputs}
        elif hasattr(data, "columns") and len(self._inputs) > 1:
            given = {name: np.asarray(data[name]).reshape(-1, 1) for name, _ in self._inputs}
        else:
            given = {self._inputs[0][0]: data}
        feed = {name: np.asarray(given[name], dtype=kind) for name, kind in self._inputs}
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))


def _numpy(node: Any) -> str:
    return dtype(_TYPES.get(node.type.removeprefix("tensor(").removesuffix(")"), "any"))


class Compiled(Predictor):
    """The form that was proved to answer as the native one does."""

    form = "compiled"

    def __init__(self, sealed: Sealed, report: package.Compiled, model: bytes, *, threads: int = 1) -> None:
        super().__init__(sealed)
        self.report = report
        self._session = session(model, threads)
        self._inputs = [(node.name, _numpy(node)) for node in self._session.get_inputs()]
        self._names = list(report.outputs)
        self._ours = list(report.outputs.values())
        self._flat = set(report.flat)
        self._classes = report.classes
        self._run = self._session.run
        if report.feed == "matrix":
            self._input = self._inputs[0][0]
            if self._before is None and self.signature is not None and self.signature.matrix_type() is not None:
                self.matrix = report.dtype

    def predict_matrix(self, rows: Array) -> Arrays:
        found = self._run(self._names, {self._input: rows})
        answers = dict(zip(self._ours, found, strict=True))
        if self._flat or self._classes is not None or self._after is not None:
            return self._finished(answers)
        return answers

    def predict(self, inputs: Mapping[str, Array], *, only: str | None = None) -> Arrays:
        arrays = dict(inputs)
        if self._before is not None:
            assert self.signature is not None
            data = {name: array.copy() for name, array in arrays.items()}
            arrays = {INPUT: holding.outputs(self._before(holding.as_given(data, self.signature)), INPUT)[INPUT]}
        if self.report.feed == "matrix":
            return self.predict_matrix(holding.matrix(arrays, self.report.dtype))
        feed = {name: _fed(arrays[name], kind, column=self.report.feed == "columns") for name, kind in self._inputs}
        return self._finished(dict(zip(self._ours, self._run(self._names, feed), strict=True)))

    def _finished(self, answers: Arrays) -> Arrays:
        import numpy as np

        for name in self._flat:
            answers[name] = answers[name].reshape(len(answers[name]))
        if self._classes is not None:
            answers[PREDICTION] = np.asarray(self._classes)[answers[PREDICTION]]
        if self._after is not None:
            return holding.outputs(self._after(answers[PREDICTION]), PREDICTION)
        return answers

    def call(self, data: Any) -> Any:
        assert self.signature is not None
        return self.predict(holding.accept(data, self.signature))[PREDICTION]


def _fed(array: Array, kind: str, *, column: bool) -> Array:
    if kind == "object" and array.dtype.kind == "O":
        import numpy as np

        array = np.array(["" if value is None else value for value in array.ravel()], dtype=object).reshape(array.shape)
    found = array.astype(kind, copy=False)
    return found.reshape(-1, 1) if column else found

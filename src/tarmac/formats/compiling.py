"""Converting a model to ONNX and proving that it answers the same: what `children.run` starts for that.

Each way of converting is tried in turn, the quickest form first, until one is equal on every row: all differences
within the tolerance, every label the same.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from tarmac.core.errors import Invalid, TarmacError, bounded
from tarmac.formats import arrays as holding
from tarmac.formats import children, engines, sampling
from tarmac.formats.engines.onnx import Compiled as CompiledEngine
from tarmac.formats.engines.predictor import Native, Predictor
from tarmac.formats.package import COMPILED_MODEL, Compiled, PackedFile, Proof, Sealed
from tarmac.formats.signature import INPUT, PREDICTION, PROBABILITIES, Signature
from tarmac.formats.trust import Trust

if TYPE_CHECKING:
    from tarmac.formats.arrays import Arrays

Feed = Literal["matrix", "columns", "tensors"]
MADE_ROWS = 200
TIMED_SECONDS = 0.2
LABELS = frozenset({"label", "output_label"})
CHANCES = frozenset({"probabilities", "output_probability", "probability_tensor"})


class Way(NamedTuple):
    """One way to convert: how the result is fed, with numbers of which type, and what makes it."""

    feed: Feed
    dtype: str
    convert: Callable[[], bytes]

    def __str__(self) -> str:
        return f"{self.feed} of {self.dtype}" if self.feed == "matrix" else self.feed


class Difference(NamedTuple):
    """How far two answers are from one another; None where there is nothing of that kind to compare."""

    equal: bool
    largest: float | None
    agreement: float | None
    why: str


def work(request: dict[str, Any]) -> dict[str, Any]:
    try:
        report, model = compiled(
            Sealed(Path(request["folder"]), request["digest"]), request["rows"], request["tolerance"]
        )
    except TarmacError as error:
        return {"error": error.message, "hint": error.hint}
    if model is not None:
        Path(request["out"]).write_bytes(model)
    found: dict[str, Any] = msgspec.to_builtins(report)
    return found


def compiled(sealed: Sealed, given: list[Any], tolerance: float) -> tuple[Compiled, bytes | None]:
    """The report, and the model if one was equal."""
    trust = Trust().of(sealed.digest, "asked by who started this child")
    native = engines.load(sealed, trust, form="native")
    if not isinstance(native, Native) or native.signature is None:
        return _no(sealed, "there is no example, so nobody knows what it takes", tolerance), None
    rows = sampling.rows(sealed, native.signature, given, MADE_ROWS)
    try:
        expected = native.predict(rows.inputs)
        second = native.predict(rows.inputs)
    except Exception as error:  # noqa: BLE001 - the rows that were made may be none for this model
        if rows.made == 0:
            raise Invalid(f"the model fails on these rows: {type(error).__name__}: {bounded(error, 300)}") from None
        rows = sampling.rows(sealed, native.signature, given, 0)
        expected = native.predict(rows.inputs)
        second = native.predict(rows.inputs)
    if not _differences(expected, second, 0.0).equal:
        return _no(sealed, "its answers differ from call to call, so no other form can be equal", tolerance), None
    tried: list[str] = []
    try:
        ways = list(_ways(native, rows.inputs))
    except ImportError as error:
        return _no(sealed, f"{error.name} is not installed: pip install 'tarmac[models]'", tolerance), None
    except Exception as error:  # noqa: BLE001 - converters raise what they like
        return _no(sealed, f"no converter: {bounded(error, 300)}", tolerance), None
    for way in ways:
        try:
            report, model = _tried(sealed, native, way, rows, expected, tolerance)
        except Exception as error:  # noqa: BLE001 - as above
            tried.append(f"{way}: {type(error).__name__}: {bounded(error, 300)}")
            continue
        if report.proof.equal:
            return msgspec.structs.replace(report, proof=msgspec.structs.replace(report.proof, tried=tried)), model
        tried.append(f"{way}: {report.proof.why}")
    why = tried[-1].partition(": ")[2] if tried else f"there is no converter for a {sealed.about.kind} model"
    found = _no(sealed, why, tolerance)
    return msgspec.structs.replace(found, proof=msgspec.structs.replace(found.proof, tried=tried)), None


def _no(sealed: Sealed, why: str, tolerance: float) -> Compiled:
    return Compiled(package=sealed.digest, proof=Proof(equal=False, why=why, tolerance=tolerance))


def _tried(
    sealed: Sealed, native: Native, way: Way, rows: sampling.Rows, expected: Arrays, tolerance: float
) -> tuple[Compiled, bytes]:
    from tarmac.core.digest import digest

    model = way.convert()
    report = Compiled(
        package=sealed.digest,
        proof=Proof(equal=True, why=""),
        model=PackedFile(COMPILED_MODEL, digest(model), len(model)),
        feed=way.feed,
        dtype=way.dtype,
    )
    outputs, flat = _matched(sealed, report, model, rows.inputs, expected)
    report = msgspec.structs.replace(report, outputs=outputs, flat=flat, classes=_classes(native, outputs))
    engine = CompiledEngine(sealed, report, model)
    found = _differences(expected, engine.predict(rows.inputs), tolerance)
    count = len(next(iter(rows.inputs.values())))
    proof = Proof(
        equal=found.equal,
        why=found.why if not found.equal else _said(found, count),
        rows=count,
        from_data=rows.given,
        largest_difference=found.largest,
        agreement=found.agreement,
        tolerance=tolerance,
        size=len(model),
        native_size=sum(file.size for file in sealed.about.files),
        native_us=_microseconds(native, rows.inputs) if found.equal else None,
        compiled_us=_microseconds(engine, rows.inputs) if found.equal else None,
        tools=_tools(),
    )
    return msgspec.structs.replace(report, proof=proof), model


def _said(found: Difference, count: int) -> str:
    parts = [f"equal on {count} rows"]
    if found.largest is not None:
        parts.append(f"largest difference {found.largest:.2g}")
    if found.agreement is not None:
        parts.append("every label the same")
    return ", ".join(parts)


# --- what the converted model answers ---


def _matched(
    sealed: Sealed, report: Compiled, model: bytes, inputs: Arrays, expected: Arrays
) -> tuple[dict[str, str], list[str]]:
    """Which of its outputs is which of ours, and which of these are to lose their one column."""
    from tarmac.formats.engines.onnx import session

    names = [node.name for node in session(model).get_outputs()]
    outputs = {}
    for name in names:
        if name in LABELS:
            outputs[name] = PREDICTION
        elif name in CHANCES:
            if PROBABILITIES in expected:
                outputs[name] = PROBABILITIES
        elif len(names) == 1:
            outputs[name] = PREDICTION
        elif name in expected:
            outputs[name] = name
    missing = expected.keys() - set(outputs.values())
    if missing:
        raise Invalid(f"it answers {', '.join(names)}, and nothing for {', '.join(sorted(missing))}")
    first = CompiledEngine(sealed, msgspec.structs.replace(report, outputs=outputs), model)
    if first.has_after:
        return outputs, [PREDICTION]
    found = first.predict({name: array[:2] for name, array in inputs.items()})
    flat = [name for name in found if found[name].ndim == 2 and found[name].shape[1] == 1 and expected[name].ndim == 1]
    return outputs, flat


def _classes(native: Native, outputs: dict[str, str]) -> list[Any] | None:
    """Labels that the converted model knows only as numbers."""
    classes = native.about.entry.classes
    if classes is None or PROBABILITIES not in outputs.values() or classes == list(range(len(classes))):
        return None
    return classes


def _differences(expected: Arrays, found: Arrays, tolerance: float) -> Difference:
    import numpy as np

    largest: float | None = None
    agreement: float | None = None
    faults = []
    for name, want in expected.items():
        have = found.get(name)
        if have is None or have.shape != want.shape:
            shape = "nothing" if have is None else f"shape {have.shape}"
            return Difference(False, None, None, f"`{name}` has the shape {want.shape}, and {shape} when compiled")
        if want.dtype.kind == "f":
            away = np.abs(want - have) / np.maximum(1.0, np.abs(want))
            away = np.where((want == have) | (np.isnan(want) & np.isnan(have)), 0.0, away)
            worst = float(np.max(away, initial=0.0))
            worst = math.inf if math.isnan(worst) else worst
            largest = max(largest or 0.0, worst)
            if worst > tolerance:
                faults.append(f"`{name}` differs by up to {worst:.2g}, more than {tolerance:g}")
        elif want.size:
            same = float(np.mean(want.astype(str) == have.astype(str)))
            agreement = min(agreement if agreement is not None else 1.0, same)
            if same < 1.0:
                faults.append(f"{100 * (1 - same):.2g} % of the labels differ")
    return Difference(not faults, largest, agreement, "; ".join(faults))


def _microseconds(predictor: Predictor, inputs: Arrays) -> float:
    """CPU time of one row, which is what small requests cost."""
    one = {name: array[:1] for name, array in inputs.items()}
    predictor.predict(one)
    started, count = time.process_time(), 0
    while time.process_time() - started < TIMED_SECONDS:
        predictor.predict(one)
        count += 1
    return round((time.process_time() - started) / count * 1e6, 2)


def _tools() -> dict[str, str]:
    found = {}
    for name in ("onnx", "onnxruntime", "skl2onnx", "onnxmltools", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


# --- the converters ---


def _ways(native: Native, inputs: Arrays) -> Iterator[Way]:
    loader, signature = native.about.entry.loader, native.signature
    assert signature is not None
    model = getattr(native, "model", None)
    if loader == "onnx":
        raise Invalid("it is ONNX already")
    if loader == "pickle" and _is_sklearn(model):
        yield from _sklearn(model, native, signature, inputs)
    elif loader == "xgboost":
        width = _width(native, signature, inputs)
        yield Way("matrix", "float32", lambda: _xgboost(model, width))
    elif loader == "lightgbm":
        width = _width(native, signature, inputs)
        yield Way("matrix", "float32", lambda: _lightgbm(model, width))
    elif loader == "torch":
        yield Way("tensors", "float32", lambda: _torch(model, signature, inputs))


def _is_sklearn(model: Any) -> bool:
    return any(cls.__module__.partition(".")[0] == "sklearn" for cls in type(model).__mro__)


def _width(native: Native, signature: Signature, inputs: Arrays) -> int:
    if native.has_before:
        shown = native.prepared({name: array[:1] for name, array in inputs.items()})
        return int(holding.outputs(shown, INPUT)[INPUT].shape[1])
    if signature.matrix_type() is None:
        raise Invalid("its input is not one table of numbers, and the converter takes nothing else")
    return signature.width()


def _sklearn(model: Any, native: Native, signature: Signature, inputs: Arrays) -> Iterator[Way]:
    from skl2onnx.common import data_types as types

    kinds = {
        "float32": types.FloatTensorType, "float64": types.DoubleTensorType, "text": types.StringTensorType,
        "bool": types.BooleanTensorType, "int64": types.Int64TensorType,
    }  # fmt: skip
    if native.has_before or signature.matrix_type() is not None:
        width = _width(native, signature, inputs)
        for dtype in ("float32", "float64"):
            shape = [("input", kinds[dtype]([None, width]))]
            yield Way("matrix", dtype, lambda shape=shape: _skl(model, shape))  # type: ignore[misc]
    elif signature.layout == "tensors" and len(signature.inputs) == 1 and signature.inputs[0].type == "text":
        only = signature.inputs[0]
        shape = [(only.name, types.StringTensorType([None, *(only.shape[1:] or [1])]))]
        yield Way("tensors", "object", lambda: _skl(model, shape))
    if signature.layout == "columns" and not native.has_before:
        for floats in ("float32", "float64"):
            columns = [
                (field.name, kinds.get(_converted(field.type, floats), types.StringTensorType)([None, 1]))
                for field in signature.inputs
            ]
            yield Way("columns", floats, lambda columns=columns: _skl(model, columns))  # type: ignore[misc]


def _converted(kind: str, floats: str) -> str:
    if kind.startswith("float"):
        return floats
    return "int64" if kind.startswith(("int", "uint")) else kind


def _skl(model: Any, shape: list[tuple[str, Any]]) -> bytes:
    from skl2onnx import convert_sklearn

    last = model.steps[-1][1] if hasattr(model, "steps") and model.steps else model
    options = {"zipmap": False} if hasattr(last, "classes_") else None
    if options is not None and hasattr(model, "steps"):
        options = {id(last): {"zipmap": False}}  # type: ignore[dict-item]
    elif options is not None:
        options = {id(model): {"zipmap": False}}  # type: ignore[dict-item]
    try:
        made = convert_sklearn(model, initial_types=shape, options=options)
    except (NameError, ValueError) as error:
        if "zipmap" not in str(error) and "option" not in str(error).lower():
            raise
        made = convert_sklearn(model, initial_types=shape)
    data: bytes = made.SerializeToString()
    return data


def _xgboost(model: Any, width: int) -> bytes:
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = model.get_booster() if hasattr(model, "get_booster") else model
    booster.feature_names = None  # the converter knows columns by number only
    data: bytes = convert_xgboost(model, initial_types=[("input", FloatTensorType([None, width]))]).SerializeToString()
    return data


def _lightgbm(model: Any, width: int) -> bytes:
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("input", FloatTensorType([None, width]))]
    data: bytes = convert_lightgbm(model, initial_types=types, zipmap=False).SerializeToString()
    return data


def _torch(model: Any, signature: Signature, inputs: Arrays) -> bytes:
    import io

    import torch

    names = [field.name for field in signature.inputs]
    given = tuple(torch.as_tensor(inputs[name][:2]) for name in names)
    out = io.BytesIO()
    torch.onnx.export(
        model, given, out, input_names=names, output_names=[PREDICTION], dynamo=False,
        dynamic_axes={name: {0: "rows"} for name in [*names, PREDICTION]},
    )  # fmt: skip
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(children.serve(work))

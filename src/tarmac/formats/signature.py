"""What a model takes and gives: names, types, shapes, what may be null and what may be missing.

Two layouts. *Columns*: a table, one value for each row and name. *Tensors*: arrays with names, the first dimension of
which counts rows; a single array is called `input`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from tarmac.core.errors import Invalid, bounded

Layout = Literal["columns", "tensors"]
INPUT = "input"
PREDICTION = "prediction"
PROBABILITIES = "probabilities"
MOST_FIELDS = 10_000

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
NUMBERS = (*INTEGERS, *FLOATS)
TYPES = ("bool", *NUMBERS, "text", "bytes", "time", "any")


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One column or tensor. A dimension of -1 may be of any size; of a column the shape is that of one value."""

    name: str
    type: str
    shape: list[int] = []
    nullable: bool = False
    optional: bool = False


class Signature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`given` says in what the model was shown its input (pandas, numpy, list …): it gets it in that again."""

    layout: Layout
    inputs: list[Field]
    outputs: list[Field] = []
    given: str = "numpy"

    def names(self) -> list[str]:
        return [field.name for field in self.inputs]

    def matrix_type(self) -> str | None:
        """The type of number that rows can be held in as one matrix, if they can."""
        if self.layout == "tensors":
            only = self.inputs[0] if len(self.inputs) == 1 else None
            return only.type if only is not None and len(only.shape) == 2 and only.type in NUMBERS else None
        kinds = {field.type for field in self.inputs}
        held = kinds <= {*NUMBERS, "bool"} and not any(
            field.shape or field.optional or (field.nullable and field.type not in FLOATS) for field in self.inputs
        )
        if not held:
            return None
        return kinds.pop() if len(kinds) == 1 and kinds <= set(NUMBERS) else "float64"

    def width(self) -> int:
        """How many numbers a row of the matrix has."""
        return self.inputs[0].shape[1] if self.layout == "tensors" else len(self.inputs)


# --- from an example that was described (`logging.examples.describe`) ---

_NAMES = {
    "boolean": "bool", "bool_": "bool", "double": "float64", "float": "float32", "halffloat": "float16",
    "half": "float16", "string": "text", "str": "text", "utf8": "text", "large_string": "text", "category": "",
    "categorical": "", "enum": "", "object": "", "binary": "bytes", "large_binary": "bytes", "date": "time",
}  # fmt: skip
"""What libraries call types, in lower case; an empty one is looked for in the values."""


def type_of(dtype: str, values: Sequence[Any] = ()) -> str:
    """Our name for a library's type."""
    name = dtype.lower().rpartition(".")[2].partition("[")[0].partition("(")[0].strip()
    if name.startswith(("datetime", "timestamp", "date")):
        return "time"
    if name[:2] in ("<u", ">u", "|u") or name.startswith("string"):
        return "text"
    if name[:2] == "|s":
        return "bytes"
    if name.startswith("dictionary"):
        name = "object"
    found = _NAMES.get(name, name)
    if found in TYPES:
        return found
    return _type_of_values(values)


def _type_of_values(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int64"
    if kinds and kinds <= {int, float}:
        return "float64"
    return "text" if kinds == {str} else "any"


def infer(example: Mapping[str, Any]) -> Signature | None:
    """The signature that a described example shows; None where it shows no columns and no array."""
    rows = example.get("rows") or []
    if "columns" in example:
        columns = example["columns"]
        fields = []
        for index, column in enumerate(columns):
            values = [row[index] for row in rows]
            kind = type_of(column["dtype"], values)
            fields.append(Field(name=column["name"], type=kind, nullable=column.get("nullable", _has_null(values))))
        return checked(Signature(layout="columns", inputs=fields, given=example["kind"]))
    if "dtype" in example:
        return checked(Signature(layout="tensors", inputs=[_tensor(INPUT, example)], given=example["kind"]))
    if "fields" in example:
        below = example["fields"]
        arrays = [_from_list(name, inner) for name, inner in below.items()]
        if not arrays or None in arrays:
            return None
        return checked(Signature(layout="tensors", inputs=[a for a in arrays if a], given="dict"))
    if example.get("kind") == "list" and rows:
        if all(isinstance(row, Mapping) for row in rows):
            return _from_records(rows)
        found = _from_list(INPUT, example)
        return checked(Signature(layout="tensors", inputs=[found], given="list")) if found else None
    return None


def _has_null(values: Sequence[Any]) -> bool:
    return any(value is None or (isinstance(value, float) and math.isnan(value)) for value in values)


def _tensor(name: str, example: Mapping[str, Any]) -> Field:
    flat = [value for row in (example.get("rows") or [])[:100] for value in _flat(row)]
    kind = type_of(example["dtype"], flat)
    nulls = kind not in FLOATS and _has_null(flat)
    return Field(name=name, type=kind, shape=[-1, *example["shape"][1:]], nullable=nulls or _is_nan(kind, flat))


def _is_nan(kind: str, flat: Sequence[Any]) -> bool:
    return kind in FLOATS and _has_null(flat)


def _from_list(name: str, example: Mapping[str, Any]) -> Field | None:
    """Nested lists of numbers, text or truth values that are all of one length."""
    if "dtype" in example:
        return _tensor(name, example)
    rows = example.get("rows") or []
    shape: list[int] = [-1]
    level: list[Any] = list(rows)
    while level and all(isinstance(item, list | tuple) for item in level):
        if len({len(item) for item in level}) != 1:
            return None
        shape.append(len(level[0]))
        level = [value for item in level for value in item]
    kind = _type_of_values(level)
    if example.get("kind") != "list" or not level or kind == "any":
        return None
    return Field(name=name, type=kind, shape=shape, nullable=_has_null(level))


def _from_records(rows: Sequence[Mapping[str, Any]]) -> Signature:
    names = list(dict.fromkeys(name for row in rows for name in row))
    fields = []
    for name in names:
        values = [row[name] for row in rows if name in row]
        fields.append(
            Field(name=name, type=_type_of_values(values), nullable=_has_null(values), optional=len(values) < len(rows))
        )
    return checked(Signature(layout="columns", inputs=fields, given="records"))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [inner for item in value for inner in _flat(item)]
    return [value]


def checked(signature: Signature) -> Signature:
    """One whose names are all different, and not too many."""
    names = signature.names()
    if len(names) > MOST_FIELDS:
        raise Invalid(f"a signature has at most {MOST_FIELDS:,} inputs; this one would have {len(names):,}")
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None) if names else None
    if twice is not None:
        raise Invalid(f"two inputs are called `{bounded(twice)}`", hint="give each column a name of its own")
    return signature


# --- as MLflow writes it ---

_MLFLOW = {
    "boolean": "bool", "integer": "int32", "long": "int64", "float": "float32", "double": "float64",
    "string": "text", "binary": "bytes", "datetime": "time",
}  # fmt: skip
_TO_MLFLOW = {
    **{ours: theirs for theirs, ours in _MLFLOW.items()},
    "int8": "integer", "int16": "integer", "uint8": "integer", "uint16": "integer", "uint32": "long",
    "uint64": "long", "float16": "float",
}  # fmt: skip
_DTYPES = {"bool": "bool", "text": "str", "bytes": "object", "time": "datetime64[ns]", "any": "object"}


def from_mlflow(document: Mapping[str, Any]) -> Signature | None:
    """The signature of an MLmodel file; None where it says more than columns and tensors."""
    try:
        inputs = msgspec.json.decode(document.get("inputs") or "null")
        outputs = msgspec.json.decode(document.get("outputs") or "null")
        if not isinstance(inputs, list) or not inputs:
            return None
        layout: Layout = "tensors" if inputs[0].get("type") == "tensor" else "columns"
        given = "numpy" if layout == "tensors" else "pandas"
        if len(inputs) > 1 and layout == "tensors":
            given = "dict"
        fields = [_from_mlflow(spec, INPUT, index) for index, spec in enumerate(inputs)]
        results = [_from_mlflow(spec, PREDICTION, index) for index, spec in enumerate(outputs or [])]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError):
        return None
    if None in fields:
        return None
    return checked(
        Signature(layout=layout, inputs=[f for f in fields if f], outputs=[r for r in results if r], given=given)
    )


def _from_mlflow(spec: Mapping[str, Any], otherwise: str, index: int) -> Field | None:
    name = spec.get("name") or (otherwise if index == 0 else f"{otherwise}{index}")
    optional = spec.get("required") is False
    if spec["type"] == "tensor":
        inner = spec["tensor-spec"]
        kind = type_of(inner["dtype"])
        return Field(name=name, type=kind, shape=[int(size) for size in inner["shape"]], optional=optional)
    if spec["type"] not in _MLFLOW:
        return None
    kind = _MLFLOW[spec["type"]]
    return Field(name=name, type=kind, optional=optional, nullable=optional)


def to_mlflow(signature: Signature) -> dict[str, Any] | None:
    """Only the prediction itself is told of: it is what MLflow's `predict` answers with. None where MLflow has no
    word for a type."""
    inputs = [_to_mlflow(field, signature.layout) for field in signature.inputs]
    if None in inputs:
        return None
    if len(inputs) == 1 and signature.layout == "tensors" and signature.given != "dict":
        inputs[0] = {key: value for key, value in (inputs[0] or {}).items() if key != "name"}
    found: dict[str, Any] = {"inputs": msgspec.json.encode(inputs).decode()}
    outputs = [_to_mlflow(field, "tensors") for field in signature.outputs if field.name == PREDICTION]
    if outputs and None not in outputs:
        outputs = [{key: value for key, value in (spec or {}).items() if key != "name"} for spec in outputs]
        found["outputs"] = msgspec.json.encode(outputs).decode()
    return found


def _to_mlflow(field: Field, layout: Layout) -> dict[str, Any] | None:
    if layout == "columns":
        # MLflow has no null among whole numbers
        kind = "float64" if field.nullable and field.type in INTEGERS else field.type
        if kind not in _TO_MLFLOW or field.shape:
            return None
        return {"type": _TO_MLFLOW[kind], "name": field.name, "required": not field.optional}
    dtype = _DTYPES.get(field.type, field.type)
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": field.shape or [-1]}, "name": field.name}

"""Between what people hand in (tables, arrays, rows of JSON) and what engines take: one numpy array for each input.

What does not fit the signature is refused, with the name of the input, the row and the value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Invalid, bounded, nearest
from tarmac.formats.signature import FLOATS, INTEGERS, Field, Signature

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Arrays = dict[str, Array]

_DTYPES = {"text": "object", "bytes": "object", "any": "object", "time": "datetime64[ns]"}


def dtype(kind: str) -> str:
    """The numpy type that holds one of ours."""
    return _DTYPES.get(kind, kind)


def accept(data: Any, signature: Signature) -> Arrays:
    """Whatever holds rows, as arrays: tables of pandas, polars and Arrow, arrays, tensors, lists, dicts."""
    if signature.layout == "columns":
        return _columns(data, signature)
    if isinstance(data, Mapping):
        _refuse_unknown(data, signature)
        given = {field.name: data.get(field.name) for field in signature.inputs}
    elif len(signature.inputs) == 1:
        given = {signature.inputs[0].name: data}
    else:
        raise Invalid(
            f"the model takes {len(signature.inputs)} arrays", hint=f"a dict of {', '.join(signature.names()[:10])}"
        )
    return _same_length({field.name: _tensor(field, given[field.name]) for field in signature.inputs})


# --- columns ---


def _columns(data: Any, signature: Signature) -> Arrays:
    column, names, count = _reader(data, signature)
    if not any(field.name in names for field in signature.inputs):
        _refuse_unknown(names, signature)
    found: Arrays = {}
    for field in signature.inputs:
        if field.name in names:
            found[field.name] = _cast(field, column(field.name))
        elif field.optional:
            found[field.name] = _nothing(field, count)
        else:
            near = nearest(field.name, names)
            raise Invalid(
                f"column `{bounded(field.name)}` is missing",
                hint=f"is it `{bounded(near)}`?"
                if near
                else f"the model takes {bounded(', '.join(signature.names()))}",
            )
    return _same_length(found)


Column = Callable[[str], Any]


def _reader(data: Any, signature: Signature) -> tuple[Column, Sequence[str], int]:
    """How a column is asked for, which there are, and how many rows."""
    if isinstance(data, Mapping):
        first = next(iter(data.values()), ())
        return data.__getitem__, [str(name) for name in data], len(first) if hasattr(first, "__len__") else 0
    if isinstance(data, list | tuple):
        if all(isinstance(row, Mapping) for row in data):
            names = list(dict.fromkeys(name for row in data for name in row))
            missing = {field.name: field for field in signature.inputs}

            def from_rows(name: str) -> list[Any]:
                field = missing.get(name)
                return [_from_row(row, index, name, field) for index, row in enumerate(data)]

            return from_rows, names, len(data)
        return _by_position(data, signature)
    if hasattr(data, "column_names"):  # Arrow
        return (lambda name: data.column(name).to_pylist()), list(data.column_names), data.num_rows
    if hasattr(data, "columns"):  # pandas, polars
        return data.__getitem__, [str(name) for name in data.columns], len(data)
    return _by_position(data, signature)


def _from_row(row: Mapping[str, Any], index: int, name: str, field: Field | None) -> Any:
    if name not in row and field is not None and not field.optional:
        raise Invalid(f"row {index}: column `{bounded(name)}` is missing")
    return row.get(name)


def _by_position(data: Any, signature: Signature) -> tuple[Column, Sequence[str], int]:
    """Rows without names: their values are in the order of the signature."""
    import numpy as np

    names = signature.names()
    try:
        table = np.asarray(data, dtype=None if hasattr(data, "dtype") else object)
    except ValueError as error:
        raise Invalid(f"the rows are not all of one length: {bounded(error)}") from None
    if table.ndim != 2 or table.shape[1] != len(names):
        raise Invalid(
            f"the model takes {len(names)} columns; this has the shape {table.shape}",
            hint=f"a table with the columns {bounded(', '.join(names), 300)}",
        )
    return (lambda name: table[:, names.index(name)]), names, len(table)


def _nothing(field: Field, count: int) -> Array:
    import numpy as np

    if field.type in FLOATS or field.type in INTEGERS:
        return np.full(count, np.nan, dtype=field.type if field.type in FLOATS else "float64")
    return np.full(count, None, dtype=object)


def _cast(field: Field, values: Any) -> Array:
    """A column as an array of its type; a null is NaN among numbers, None among the rest."""
    import numpy as np

    array = values if type(values) is np.ndarray else _plain(values)
    kind = array.dtype.kind
    if field.type in FLOATS:
        found = _numbers(field, array)
        if not field.nullable and np.isnan(found.sum()) and np.isnan(found).any():
            raise _null(field, int(np.flatnonzero(np.isnan(found))[0]))
        return found
    if field.type in INTEGERS:
        return _integers(field, array)
    if field.type == "time":
        return _times(field, array)
    held = array.astype(object) if kind != "O" else array
    good: Any = {"bool": (bool, np.bool_), "text": str, "bytes": bytes}.get(field.type)
    nulls = False
    for index, value in enumerate(held.flat):
        if value is None or value != value:
            nulls = True
            if not field.nullable and not field.optional and field.type != "any":
                raise _null(field, index)
        elif good is not None and not isinstance(value, good):
            raise _wrong(field, index, value)
    if nulls and field.type != "any":
        return np.array([None if value is None or value != value else value for value in held.flat], dtype=object)
    return held.astype(bool) if field.type == "bool" else held


def _plain(values: Any) -> Array:
    """A column of any library as a numpy array, its nulls None or NaN."""
    import numpy as np

    if hasattr(values, "to_numpy"):
        array: Array = np.asarray(values.to_numpy())
        if array.dtype.kind == "O" and any(type(value).__name__ in ("NAType", "NaTType") for value in array.flat):
            array = np.array([None if type(v).__name__ in ("NAType", "NaTType") else v for v in array], dtype=object)
        return array
    if hasattr(values, "detach"):  # torch
        return np.asarray(values.detach().cpu())
    if isinstance(values, list | tuple) and any(value is None or isinstance(value, str | bytes) for value in values):
        found = np.empty(len(values), dtype=object)
        found[:] = values
        return found
    return np.asarray(values)


def _numbers(field: Field, array: Array) -> Array:
    import numpy as np

    if array.dtype.kind in "fiu":
        return array.astype(field.type, copy=False)
    if array.dtype.kind == "O":
        for index, value in enumerate(array.flat):
            if value is None:
                continue
            if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
                raise _wrong(field, index, value)
        return np.array([np.nan if value is None else value for value in array.flat], dtype=field.type).reshape(
            array.shape
        )
    raise _wrong(field, 0, array.flat[0] if array.size else array.dtype)


def _integers(field: Field, array: Array) -> Array:
    import numpy as np

    if array.dtype.kind in "iu":
        info = np.iinfo(field.type)
        if array.size and (array.min() < info.min or array.max() > info.max):
            bad = int(np.flatnonzero(((array < info.min) | (array > info.max)).ravel())[0])
            raise _wrong(field, bad, array.flat[bad])
        return array.astype(field.type, copy=False)
    if array.dtype.kind == "O" and all(type(value) is int for value in array.flat):
        try:
            return np.array(list(array.flat), dtype=field.type).reshape(array.shape)
        except OverflowError:
            raise Invalid(f"`{bounded(field.name)}` holds a number that is no {field.type}") from None
    found = _numbers(Field(name=field.name, type="float64"), array)
    nulls = np.isnan(found)
    if nulls.any():
        if not (field.nullable or field.optional):
            raise _null(field, int(np.flatnonzero(nulls.ravel())[0]))
        return found
    if (found != np.floor(found)).any():
        bad = int(np.flatnonzero((found != np.floor(found)).ravel())[0])
        raise _wrong(field, bad, found.flat[bad])
    return found.astype(field.type)


def _times(field: Field, array: Array) -> Array:
    import numpy as np

    try:
        found = array.astype("datetime64[ns]")
    except (ValueError, TypeError):
        raise Invalid(
            f"`{bounded(field.name)}` holds something that is no time", hint="like 2026-11-20T14:03"
        ) from None
    if not field.nullable and np.isnat(found).any():
        raise _null(field, int(np.flatnonzero(np.isnat(found))[0]))
    return found


def _null(field: Field, row: int) -> Invalid:
    return Invalid(
        f"`{bounded(field.name)}` is null in row {row}, and the model was not made for that",
        hint="an example with a null in this column would have said that it may be",
        detail={"input": bounded(field.name, 300), "row": row},
    )


def _wrong(field: Field, row: int, value: Any) -> Invalid:
    return Invalid(
        f"`{bounded(field.name)}` is {field.type}; row {row} has {type(value).__name__} `{bounded(value)}`",
        detail={"input": bounded(field.name, 300), "row": row},
    )


# --- tensors ---


def _tensor(field: Field, values: Any) -> Array:
    import numpy as np

    if values is None:
        raise Invalid(f"`{bounded(field.name)}` is missing")
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):
        values = values.to_numpy()
    elif hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    elif hasattr(values, "toarray"):  # a sparse matrix
        values = values.toarray()
    try:
        array = np.asarray(values, dtype=object if field.type in ("text", "bytes", "any") else None)
    except ValueError as error:
        raise Invalid(f"`{bounded(field.name)}` is no array: {bounded(error)}") from None
    wanted = field.shape or [-1]
    fits = array.ndim == len(wanted) and all(want in (-1, have) for want, have in zip(wanted, array.shape, strict=True))
    if not fits:
        shown = ", ".join("any" if size < 0 else str(size) for size in wanted)
        raise Invalid(
            f"`{bounded(field.name)}` has the shape ({', '.join(map(str, array.shape))}); the model takes ({shown})",
            detail={"input": bounded(field.name, 300)},
        )
    if array.dtype == dtype(field.type) and field.type not in ("text", "bytes"):
        return array
    if field.type in FLOATS:
        found = _numbers(field, array)
        if array.dtype.kind == "O" and not field.nullable and np.isnan(found).any():
            raise _null(field, int(np.argwhere(np.isnan(found))[0][0]))
        return found
    return _cast(field, array.reshape(-1)).reshape(array.shape)


def _same_length(arrays: Arrays) -> Arrays:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise Invalid(
            "the inputs are not all of one length: "
            + ", ".join(f"`{bounded(name, 40)}` has {length}" for name, length in list(lengths.items())[:5])
        )
    return arrays


def _refuse_unknown(given: Mapping[str, Any] | Sequence[str], signature: Signature) -> None:
    names = signature.names()
    for name in given:
        if name not in names:
            near = nearest(str(name), names)
            raise Invalid(
                f"the model has no input `{bounded(name)}`",
                hint=f"did you mean `{bounded(near)}`?" if near else f"it takes {bounded(', '.join(names), 300)}",
            )


# --- what engines are given ---


def matrix(arrays: Arrays, kind: str) -> Array:
    """Columns side by side, or the one array there is."""
    import numpy as np

    if len(arrays) == 1:
        only = next(iter(arrays.values()))
        if only.ndim == 2:
            return np.ascontiguousarray(only, dtype=kind)
    count = len(next(iter(arrays.values()))) if arrays else 0
    found = np.empty((count, len(arrays)), dtype=kind)
    for index, column in enumerate(arrays.values()):
        found[:, index] = column
    return found


def as_given(arrays: Arrays, signature: Signature) -> Any:
    """The input in what the model was shown: a table, an array, a list, a dict."""
    given = signature.given
    if signature.layout == "columns":
        if given == "records":
            names = list(arrays)
            columns = [array.tolist() for array in arrays.values()]
            return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        if given == "polars":
            import polars as pl

            return pl.DataFrame(arrays)
        if given == "arrow":
            import pyarrow as pa

            return pa.table(arrays)
        if given == "dict":
            return arrays
        import pandas as pd

        return pd.DataFrame(arrays, copy=False)
    if given == "dict":
        return arrays
    only = arrays[signature.inputs[0].name] if len(arrays) == 1 else arrays
    if given == "list" and not isinstance(only, dict):
        return only.tolist()
    if given == "torch" and not isinstance(only, dict):
        import torch

        return torch.from_numpy(only)
    return only


def outputs(answer: Any, name: str) -> Arrays:
    """What a model answered, as arrays with names."""
    import numpy as np

    if isinstance(answer, Mapping):
        return {str(key): _array(value) for key, value in answer.items()}
    if hasattr(answer, "columns") and hasattr(answer, "to_numpy") and not hasattr(answer, "schema"):
        return {str(column): _array(answer[column]) for column in answer.columns}
    if isinstance(answer, tuple) and len(answer) > 1 and all(hasattr(part, "shape") for part in answer):
        return {(name if index == 0 else f"{name}{index}"): _array(part) for index, part in enumerate(answer)}
    found = _array(answer)
    return {name: found if found.ndim else np.atleast_1d(found)}


def _array(value: Any) -> Array:
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    elif hasattr(value, "toarray"):
        value = value.toarray()
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        return np.asarray(value)
    except ValueError:  # lists of several lengths
        found = np.empty(len(value), dtype=object)
        found[:] = list(value)
        return found


def fields_of(arrays: Arrays) -> list[Field]:
    """What answers look like, as a part of a signature."""
    from tarmac.formats.signature import type_of

    return [
        Field(
            name=name,
            type=type_of(str(array.dtype), array.ravel()[:100].tolist() if array.dtype.kind == "O" else ()),
            shape=[-1, *array.shape[1:]],
        )
        for name, array in arrays.items()
    ]

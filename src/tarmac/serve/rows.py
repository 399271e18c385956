"""Predictions for people and for programs that have rows: JSON objects, CSV, a picture; and MLflow's way to ask."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tarmac.core.errors import Invalid, TarmacError, TooLarge, WrongContent, bounded
from tarmac.formats.signature import FLOATS, INTEGERS, PREDICTION, PROBABILITIES, Signature
from tarmac.serve import explaining, v2
from tarmac.serve.endpoints import Cut, Endpoint
from tarmac.serve.http import Request
from tarmac.serve.versions import Version

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array, Arrays

MOST_ROWS = 100_000
MOST_PIXELS = 64 * 1024 * 1024
TRUTHS = {"true": True, "false": False, "1": True, "0": False}
NOTHING = ("", "NA", "NaN", "nan", "null", "None")

Rows = Callable[[Version], Any]
"""What of the body the version takes: rows or columns for `fit_rows`."""


def predict(request: Request, endpoint: Endpoint) -> None:
    """`POST /predict/NAME`: rows in, rows out. With `?certainty` each row says how certain the model is."""
    _answer(request, endpoint, _fitting(request), _shown if b"certainty" not in request.query else _shown_certain)


def explain(request: Request, endpoint: Endpoint) -> None:
    """`POST /explain/NAME`: rows in; out comes what each input added to the answer."""
    fit = _fitting(request)
    background = None
    if media_type(request) == "application/json" and isinstance(data := _decoded(request), dict):
        background = data.get("background")
    explaining.explain(request, endpoint, fit, Request.refuse, background=background)


def _fitting(request: Request) -> Callable[[Version], tuple[Arrays, int]]:
    kind = media_type(request)
    if kind == "application/json":
        rows = _json_rows(request)
    elif kind in ("text/csv", "application/csv"):
        rows = csv_rows(request)
    elif kind.startswith("image/"):
        data = bytes(request.body)
        return lambda version: version.fit({"input": picture(data, version)})
    else:
        raise WrongContent(
            f"`{bounded(kind, 60)}` is not taken here", hint="application/json with rows, text/csv, or image/*"
        )
    return lambda version: version.fit_rows(rows(version))


def invocations(request: Request, endpoint: Endpoint) -> None:
    """`POST /invocations`, as MLflow's scoring clients ask."""
    kind = media_type(request)
    if kind == "application/json":
        rows = mlflow_rows(request)
    elif kind in ("text/csv", "application/csv"):
        rows = csv_rows(request)
    else:
        raise WrongContent(f"`{bounded(kind, 60)}` is not taken here", hint="application/json or text/csv")
    _answer(request, endpoint, lambda version: version.fit_rows(rows(version)), _shown_to_mlflow)


def _answer(
    request: Request,
    endpoint: Endpoint,
    fit: Callable[[Version], tuple[Arrays, int]],
    shown: Callable[[Version | None, str, Arrays], dict[str, Any]],
) -> None:
    def show(chosen: Version, id: str, outputs: Arrays) -> None:
        request.reply(200, msgspec.json.encode(shown(chosen, id, outputs)))

    try:
        endpoint.answer(request, fit, show, Request.refuse)
    except Cut as cut:
        request.reply(200, msgspec.json.encode(shown(None, "", cut.instead())))


def _shown(version: Version | None, id: str, outputs: Arrays) -> dict[str, Any]:
    found: dict[str, Any] = {"id": id, "version": version.name if version is not None else "fallback"}
    found["predictions"] = nested(outputs.get(PREDICTION, next(iter(outputs.values()))))
    for name, array in outputs.items():
        if name != PREDICTION and not (PREDICTION not in outputs and array is next(iter(outputs.values()))):
            found[name] = nested(array)
    classes = version.predictor.about.entry.classes if version is not None else None
    if classes is not None:
        found["classes"] = classes
    return found


def _shown_certain(version: Version | None, id: str, outputs: Arrays) -> dict[str, Any]:
    """`certainty` is the probability of the likeliest class, `margin` how far the second is behind."""
    found = _shown(version, id, outputs)
    chances = outputs.get(PROBABILITIES)
    if chances is None or chances.ndim != 2 or chances.dtype.kind != "f" or chances.shape[1] < 2:
        raise Invalid(
            "this model tells no probabilities, so nothing says how certain it is", hint="leave out `certainty`"
        )
    chances = chances.copy()
    chances.sort(axis=1)
    return {**found, "certainty": chances[:, -1].tolist(), "margin": (chances[:, -1] - chances[:, -2]).tolist()}


def _shown_to_mlflow(version: Version | None, id: str, outputs: Arrays) -> dict[str, Any]:
    if PREDICTION in outputs or len(outputs) == 1:
        return {"predictions": nested(outputs.get(PREDICTION, next(iter(outputs.values()))))}
    return {"predictions": {name: nested(array) for name, array in outputs.items()}}


def nested(array: Array) -> Any:
    return array.tolist() if array.dtype.kind not in "SO" else _reshaped(v2.listed(array), list(array.shape))


def _reshaped(flat: list[Any], shape: list[int]) -> list[Any]:
    for size in reversed(shape[1:]):
        flat = [flat[at : at + size] for at in range(0, len(flat), size)] if size else flat
    return flat


def media_type(request: Request) -> str:
    given = request.headers.get(b"content-type", b"application/json").decode("latin-1")
    return given.partition(";")[0].strip().lower()


# --- JSON ---


def _decoded(request: Request) -> Any:
    try:
        return msgspec.json.decode(request.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"the body is not JSON: {bounded(error, 300)}") from None


def _json_rows(request: Request) -> Rows:
    data = _decoded(request)
    if isinstance(data, dict) and isinstance(data.get("rows"), list):
        data = data["rows"]
    elif isinstance(data, dict):
        data = [data]
    if not isinstance(data, list):
        raise Invalid("the body is neither a row nor a list of rows", hint='like [{"age": 41, "plan": "basic"}]')
    return lambda version: counted(data)


def counted(data: Any) -> Any:
    if isinstance(data, list) and len(data) > MOST_ROWS:
        raise TooLarge(
            f"{len(data):,} rows in one request; at most {MOST_ROWS:,} are taken", hint="use `tarmac predict`"
        )
    return data


MLFLOW_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def mlflow_rows(request: Request) -> Rows:
    data = _decoded(request)
    if not isinstance(data, dict):
        raise Invalid(f"the body is not an object with one of {', '.join(MLFLOW_KEYS)}")
    found = [key for key in MLFLOW_KEYS if key in data]
    if len(found) != 1:
        raise Invalid(
            f"the body has {' and '.join(found) or 'none'} of {', '.join(MLFLOW_KEYS)}; it needs exactly one",
            hint='like {"dataframe_records": [{"age": 41}]}',
        )
    value = data[found[0]]
    if found[0] == "dataframe_split":
        value = _split_table(value)
    elif found[0] == "dataframe_records" and not (
        isinstance(value, list) and all(isinstance(row, dict) for row in value)
    ):
        raise Invalid("dataframe_records is not a list of objects")
    return lambda version: counted(value)


def _split_table(value: Any) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise Invalid("dataframe_split has no list `data`", hint='like {"columns": ["age"], "data": [[41]]}')
    rows, columns = counted(value["data"]), value.get("columns")
    if columns is None:
        return rows
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise Invalid(f"row {number} of dataframe_split does not have {len(columns)} values")
    if any(not isinstance(name, str) for name in columns):
        return rows  # columns without names, as of an array
    return {name: [row[place] for row in rows] for place, name in enumerate(columns)}


# --- CSV ---


def csv_rows(request: Request) -> Rows:
    try:
        text = bytes(request.body).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"the CSV is not UTF-8: byte {error.start}") from None
    lines = csv.reader(io.StringIO(text), strict=True)
    try:
        head = next(lines, None)
        if not head:
            raise Invalid("the CSV is empty", hint="its first line names the columns")
        rows = []
        for row in lines:
            if not row:
                continue
            if len(row) != len(head):
                raise Invalid(f"line {lines.line_num} of the CSV has {len(row)} values, the first line has {len(head)}")
            rows.append(row)
    except csv.Error as error:
        raise Invalid(f"line {lines.line_num} of the CSV cannot be read: {error}") from None
    counted(rows)
    return lambda version: _typed(head, rows, version.signature)


def _typed(head: list[str], rows: list[list[str]], signature: Signature | None) -> dict[str, list[Any]]:
    """CSV knows texts only: the signature says what they mean."""
    kinds = {field.name: field.type for field in signature.inputs} if signature is not None else {}
    return {
        name: [_value(row[place], kinds.get(name, "any"), name, number) for number, row in enumerate(rows)]
        for place, name in enumerate(head)
    }


def _value(text: str, kind: str, name: str, row: int) -> Any:
    if kind in ("text", "bytes"):
        return text
    if text.strip() in NOTHING:
        return None
    try:
        if kind in INTEGERS:
            return int(text)
        if kind in FLOATS:
            return float(text)
        if kind == "bool":
            return TRUTHS[text.strip().lower()]
        if kind == "any":
            return msgspec.json.decode(text.encode())
    except (ValueError, KeyError, msgspec.DecodeError):
        if kind != "any":
            raise Invalid(f"`{bounded(name)}` is {kind}; row {row} has `{bounded(text)}`") from None
    return text


# --- pictures ---


def picture(data: bytes, version: Version) -> Array:
    """An uploaded picture as the one tensor the model takes: its height, width and channels from the signature."""
    signature = version.signature
    field = signature.inputs[0] if signature is not None and len(signature.inputs) == 1 else None
    if field is None or len(field.shape) not in (3, 4) or field.type not in (*FLOATS, "uint8"):
        raise WrongContent(f"{version.lane.name} takes no picture", hint="send its inputs as rows or tensors")
    try:
        from PIL import Image
    except ImportError:
        raise Invalid("pictures need Pillow, which is not installed here", hint="pip install pillow") from None
    import numpy as np

    channels_first = len(field.shape) == 4 and field.shape[1] in (1, 3)
    height, width, channels = _layout(field.shape, first=channels_first)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise TooLarge(
                    f"the picture has {opened.width} × {opened.height} pixels; at most {MOST_PIXELS:,} are taken"
                )
            shown = opened.convert("L" if channels == 1 else "RGB")
    except TarmacError:
        raise
    except Exception as error:  # noqa: BLE001 - what a decoder of pictures raises is of many kinds
        raise Invalid(f"the picture cannot be read: {bounded(error)}") from None
    if height > 0 and width > 0 and shown.size != (width, height):
        shown = shown.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(shown)
    if field.type in FLOATS:
        array = array.astype(field.type) / 255
    if len(field.shape) == 4:
        array = array.reshape(*array.shape[:2], channels)
    if channels_first:
        array = np.ascontiguousarray(array.transpose(2, 0, 1))
    return array[np.newaxis]


def _layout(shape: list[int], *, first: bool) -> tuple[int, int, int]:
    if len(shape) == 3:
        return shape[1], shape[2], 1
    return (shape[2], shape[3], shape[1]) if first else (shape[1], shape[2], 3 if shape[3] not in (1, 3) else shape[3])

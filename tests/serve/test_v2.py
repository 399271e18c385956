"""The Open Inference Protocol over HTTP, as JSON and with binary tensors, and what it refuses."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import TarmacError
from tarmac.serve import v2
from tests.serve.conftest import Running


def binary(tensors: list[dict[str, Any]], blobs: list[bytes], **more: Any) -> tuple[bytes, dict[str, str]]:
    for tensor, blob in zip(tensors, blobs, strict=True):
        tensor["parameters"] = {"binary_data_size": len(blob)}
    head = json.dumps({"inputs": tensors, **more}).encode()
    return head + b"".join(blobs), {"Inference-Header-Content-Length": str(len(head))}


def test_metadata_health_and_index(quiet: Running) -> None:
    assert quiet.json("GET", "/v2/health/live") == (200, {"live": True})
    assert quiet.json("GET", "/v2/health/ready") == (200, {"ready": True})
    assert quiet.json("GET", "/v2")[1]["name"] == "tarmac"
    status, found = quiet.json("GET", "/v2/models/add")
    assert status == 200
    assert found["versions"] == ["1"]
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert quiet.json("GET", "/v2/models/add/versions/1/ready") == (200, {"ready": True})
    assert {one["name"] for one in quiet.json("GET", "/v2/repository/index")[1]} == {"add", "iris"}


def test_one_row_as_json(quiet: Running) -> None:
    status, answer = quiet.add("add", [1, 2, 3, 4.5], id="mine")
    assert (status, answer["id"], answer["model_name"], answer["model_version"]) == (200, "mine", "add", "1")
    assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1010.5]}]


def test_data_may_be_nested(quiet: Running) -> None:
    tensor = {"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    assert quiet.json("POST", "/v2/models/add/infer", {"inputs": [tensor]})[1]["outputs"][0]["data"] == [1010, 1026]


def test_numbers_of_another_type_are_converted(quiet: Running) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "INT64", "data": [1, 2, 3, 4]}
    assert quiet.json("POST", "/v2/models/add/infer", {"inputs": [tensor]})[1]["outputs"][0]["data"] == [1010]


def test_binary_both_ways(quiet: Running) -> None:
    body, headers = binary(
        [{"name": "x", "shape": [2, 4], "datatype": "FP32"}],
        [struct.pack("<8f", *range(8))],
        outputs=[{"name": "y", "parameters": {"binary_data": True}}],
    )
    status, got, answer = quiet.ask("POST", "/v2/models/add/infer", body, headers)
    assert status == 200
    length = int(got["inference-header-content-length"])
    assert json.loads(answer[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert struct.unpack("<2f", answer[length:]) == (1006, 1022)


def of(shape: list[int], data: list[Any], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": data}], **more}


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no inputs", {}, "inputs"),
    ("a name twice", {"inputs": of([1, 4], [1, 2, 3, 4])["inputs"] * 2}, "twice"),
    ("too few values", of([1, 4], [1, 2, 3]), "4 values"),
    ("another width", of([1, 3], [1, 2, 3]), "shape"),
    ("an unknown type", of([1], [1], "FP8"), "FP8"),
    ("a negative size", of([-1, 4], []), "impossible"),
    ("an overflowing shape", of([2**40, 2**40], []), "too many"),
    ("text for a number", of([1, 4], [1, 2, 3, "4"]), "item 3"),
    ("beyond float32", of([1, 4], [1, 2, 3, 1e39]), "finite"),
    ("beyond uint8", of([1, 4], [1, 2, 3, 256], "UINT8"), "UINT8"),
    ("no rows", of([0, 4], []), "no rows"),
    ("an unknown output", of([1, 4], [1, 2, 3, 4], outputs=[{"name": "z"}]), "no output `z`"),
    ("no data", {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32"}]}, "no data"),
]


@pytest.mark.parametrize(("document", "says"), [pytest.param(d, s, id=name) for name, d, s in WRONG])
def test_what_is_refused_names_the_problem(quiet: Running, document: dict[str, Any], says: str) -> None:
    status, answer = quiet.json("POST", "/v2/models/add/infer", document)
    assert status == 400, answer
    assert says in answer["error"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"nul", b"\xff\xfe", b'{"inputs": ' + b"[" * 100_000, b"[" * 100_000]
)
def test_what_is_no_json_is_refused(quiet: Running, body: bytes) -> None:
    status, _, answer = quiet.ask("POST", "/v2/models/add/infer", body)
    assert status == 400, answer


@pytest.mark.parametrize("length", ["-1", "99999", "x", "1e3", "", "18446744073709551616"])
def test_a_wrong_header_length_is_refused(quiet: Running, length: str) -> None:
    body, _ = binary([{"name": "x", "shape": [1, 4], "datatype": "FP32"}], [struct.pack("<4f", *range(4))])
    status, _, answer = quiet.ask("POST", "/v2/models/add/infer", body, {"Inference-Header-Content-Length": length})
    assert status == 400, answer


@pytest.mark.parametrize("blob", [b"", b"123", b"1" * 17, struct.pack("<4f", 1, 2, 3, float("nan"))])
def test_wrong_binary_tensors_are_refused(quiet: Running, blob: bytes) -> None:
    body, headers = binary([{"name": "x", "shape": [1, 4], "datatype": "FP32"}], [blob])
    status, _, answer = quiet.ask("POST", "/v2/models/add/infer", body, headers)
    assert status == 400, answer


def test_unknown_names_come_with_the_nearest(quiet: Running) -> None:
    status, answer = quiet.json("GET", "/v2/models/ad")
    assert (status, answer["error"]) == (404, "there is no endpoint `ad` (did you mean `add`?)")
    assert quiet.json("GET", "/v2/models/add/versions/7")[0] == 404
    assert quiet.json("GET", "/nothing")[0] == 404
    assert quiet.json("GET", "/v2/models/add/infer")[0] == 405


NUMBERS = [name for name in v2.DTYPES if name not in ("BOOL", *v2.FLOATS)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tensors_survive_both_forms(data: st.DataObject) -> None:
    """What JSON and binary carry is the same array, whatever its type and shape."""
    import numpy as np

    kind = data.draw(st.sampled_from([*v2.DTYPES, "BYTES"]))
    shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    count = int(np.prod(shape))
    if kind == "BYTES":
        values: list[Any] = data.draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))
        array = np.array(values, object).reshape(shape)
    elif kind == "BOOL":
        array = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool).reshape(shape)
    elif kind in v2.FLOATS:
        width = {"FP16": 16, "FP32": 32, "FP64": 64}[kind]
        floats = st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
        array = np.array(data.draw(st.lists(floats, min_size=count, max_size=count)), v2.DTYPES[kind]).reshape(shape)
    else:
        info = np.iinfo(v2.DTYPES[kind])
        numbers = st.integers(int(info.min), int(info.max))
        array = np.array(data.draw(st.lists(numbers, min_size=count, max_size=count)), v2.DTYPES[kind]).reshape(shape)
    plain = {"name": "x", "shape": shape, "datatype": kind, "data": v2.listed(array)}
    from_json = v2.decode(json.dumps({"inputs": [plain]}).encode(), None).inputs["x"]
    body, headers = binary([{"name": "x", "shape": shape, "datatype": kind}], [v2.raw_bytes(array)])
    from_binary = v2.decode(body, headers["Inference-Header-Content-Length"].encode()).inputs["x"]
    if kind == "BYTES":
        from_binary = np.array([item.decode() for item in from_binary.ravel()], object).reshape(shape)
    assert np.array_equal(from_json, array)
    assert np.array_equal(from_binary, array)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.one_of(st.none(), st.binary(max_size=10)))
def test_no_bytes_bring_the_parser_down(body: bytes, header: bytes | None) -> None:
    try:
        v2.decode(body, header)
    except TarmacError as error:
        assert error.status == 400  # noqa: PT017 - anything else it may raise is the failure

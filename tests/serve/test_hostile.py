"""Models that misbehave, and bodies made to hurt: each is an error that names the problem, and others are answered."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarmac.core.errors import TarmacError
from tarmac.serve import routes
from tests.serve import moody
from tests.serve.conftest import Running, endpoint

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# --- models ---


@pytest.fixture
def with_moody(start: Callable[..., Running], packages: Path, tmp_path: Path) -> Callable[..., Running]:
    folder, digest = moody.pack(tmp_path)

    def begin(**config: Any) -> Running:
        served = {"version": "1", "folder": str(folder), "digest": digest}
        one = {"name": "moody", "versions": [served], "timeout_ms": config.pop("timeout_ms", 30_000)}
        return start({"endpoints": [one, endpoint(packages, "add", 1)], "trust": [digest]}, **config)

    return begin


def test_a_poisoned_row_fails_its_own_caller_only(with_moody: Callable[..., Running]) -> None:
    running = with_moody()
    found: dict[int, list[tuple[int, Any]]] = {}

    def ask(number: int) -> None:
        first = moody.POISON if number % 4 == 0 else float(number)
        found[number] = [running.json("POST", "/predict/moody", [[first, 0]]) for _ in range(10)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answers in found.items():
        for status, answer in answers:
            if number % 4 == 0:
                assert (status, "a poisoned row" in answer["error"]["message"]) == (500, True)
            else:
                assert (status, answer["predictions"]) == (200, [number * 2.0])


def test_answers_that_are_none_are_errors(with_moody: Callable[..., Running]) -> None:
    running = with_moody()
    status, answer = running.json("POST", "/predict/moody", [[moody.NAN, 0]])
    assert (status, "nan in place 0" in answer["error"]["message"]) == (500, True), answer
    status, answer = running.json("POST", "/predict/moody", [[moody.SHAPE, 0]])
    assert (status, "answered 1 rows with 3 values" in answer["error"]["message"]) == (422, True), answer
    assert running.json("POST", "/predict/moody", [[3, 0]])[1]["predictions"] == [6]


def test_a_model_that_dies_takes_its_worker_and_no_other(with_moody: Callable[..., Running]) -> None:
    running = with_moody(workers=2)
    with pytest.raises(OSError):
        running.json("POST", "/predict/moody", [[moody.DIES, 0]])
    for number in range(20):
        assert running.add("add", [number, 0, 0, 0])[0] == 200
    running.until(lambda: running.supervisor.restarts == 1 and running.supervisor.ready(), "has a new worker")
    assert running.json("POST", "/predict/moody", [[3, 0]])[1]["predictions"] == [6]


def test_a_model_that_hangs_is_answered_for_and_replaced(with_moody: Callable[..., Running]) -> None:
    running = with_moody(timeout_ms=1000, hang_seconds=2.0)
    status, answer = running.json("POST", "/predict/moody", [[moody.HANGS, 0]])
    assert (status, "takes too long" in answer["error"]["message"]) == (503, True)
    assert running.add("add", [1, 2, 3, 4])[0] == 200, "others are answered by the same process meanwhile"
    running.until(lambda: running.supervisor.restarts >= 1 and running.supervisor.ready(), "has a new worker")
    assert running.json("POST", "/predict/moody", [[3, 0]])[1]["predictions"] == [6]


# --- memory ---


def test_who_is_asked_least_rests_when_memory_is_short(
    start: Callable[..., Running], packages: Path, tmp_path: Path
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        large(tmp_path, name)
    served = [{"name": n, "versions": [{"version": "1", "folder": str(tmp_path / n)}]} for n in names]
    running = start({"endpoints": served}, memory_bytes=50 * 1024 * 1024)
    states = {one["name"]: one["state"] for one in running.json("GET", "/v2/repository/index")[1]}
    assert "UNAVAILABLE" in states.values()
    for name in names * 2:

        def answered(name: str = name) -> bool:
            status, found = running.json("POST", f"/predict/{name}", [[2.0] * 1000])
            assert status == 200 or (status, "put aside" in found["error"]["message"]) == (503, True), found
            return status == 200

        running.until(answered, "wakes what is asked for")
    small = start({"endpoints": served[:1]}, memory_bytes=1024 * 1024, ready=False)
    small.until(lambda: "models may take" in small.supervisor.faults().get("a", ""), "says what does not fit")


def large(root: Path, name: str) -> None:
    """20 MB of weights that add up to nothing."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from tarmac.formats import packing

    weights = numpy_helper.from_array(np.zeros((1000, 5000), np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["wide"]),
            helper.make_node("ReduceSum", ["wide", "axis"], ["y"], keepdims=0),
        ],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [weights, numpy_helper.from_array(np.array([1]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file = root / f"{name}.onnx"
    file.write_bytes(model.SerializeToString())
    (root / name).mkdir()
    packing.seal(root / name, packing.of_path(file, root / name, name=name))


# --- bodies ---

DEEP = b"[" * 200_000 + b"]" * 200_000
BOMBS = [
    DEEP,
    b'{"rows":' + DEEP + b"}",
    b'{"inputs":' + DEEP + b"}",
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    b"[[" + b"9" * 100_000 + b",0,0,0]]",
    b"[[1e999999,0,0,0]]",
    b"[[NaN,0,0,0]]",
    b'["' + b"\\u0000" * 100_000 + b'"]',
    b'[{"' + b"x" * 1_000_000 + b'": 1}]',
    b"[" + b"[]," * 100_000 + b"[]]",
    b"\xff\xfe" * 1000,
    b"",
]
PLACES = ["/predict/add", "/invocations/add", "/v2/models/add/infer", "/explain/add", "/feedback/x"]


@pytest.mark.parametrize("path", PLACES)
def test_bombs_are_refused(quiet: Running, path: str) -> None:
    for bomb in BOMBS:
        status, _, answer = quiet.ask("POST", path, bomb, {"Content-Type": "application/json"})
        assert 400 <= status < 500, (path, bomb[:30], status, answer[:300])
        assert len(answer) < 4000, "an error is short, whatever was sent"
    assert quiet.add("add", [1, 2, 3, 4])[0] == 200


def test_thousands_of_connections(quiet: Running) -> None:
    resource = pytest.importorskip("resource", reason="not run: this system limits no open files")
    count = min(3000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    opened: list[socket.socket] = []
    try:
        while len(opened) < count:
            opened.append(socket.create_connection(("127.0.0.1", quiet.port), timeout=30))
        assert quiet.add("add", [1, 2, 3, 4])[0] == 200
    finally:
        for one in opened:
            one.close()
    assert quiet.add("add", [1, 2, 3, 4])[0] == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ASKED = JSON | st.builds(
    lambda key, value: {key: value},
    st.sampled_from(["rows", "inputs", "instances", "dataframe_split", "dataframe_records", "background"]),
    JSON | st.lists(st.lists(st.floats() | st.integers() | st.none(), min_size=4, max_size=4), max_size=3),
)


@FEW
@given(document=ASKED, path=st.sampled_from([*PLACES, "/predict/iris", "/invocations/iris"]))
def test_no_json_breaks_it(quiet: Running, document: Any, path: str) -> None:
    status, _, answer = quiet.ask("POST", path, json.dumps(document), {"Content-Type": "application/json"})
    assert status < 500, (path, document, answer)
    json.loads(answer)


@FEW
@given(text=st.text(max_size=200) | st.lists(st.sampled_from(["1", ",", "\n", '"', "x", "\r", "é", ""])).map("".join))
def test_no_csv_breaks_it(quiet: Running, text: str) -> None:
    status, _, answer = quiet.ask("POST", "/predict/iris", text.encode(), {"Content-Type": "text/csv"})
    assert status < 500, (text, answer)


REQUEST = (
    b"POST /v2/models/add/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n" + b"{" * 20
)


@FEW
@given(st.data())
def test_no_bytes_break_http(quiet: Running, data: st.DataObject) -> None:
    sent = bytearray(REQUEST)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(sent) - 1))
        sent[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with socket.create_connection(("127.0.0.1", quiet.port), timeout=30) as connection:
        connection.sendall(bytes(sent))
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    assert found == b"" or found.startswith(b"HTTP/1.1 "), found
    assert b" 500 " not in found.split(b"\r\n")[0], (bytes(sent), found)


@FEW
@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_document_breaks_the_routes(text: bytes) -> None:
    with contextlib.suppress(TarmacError):
        routes.parse(text)

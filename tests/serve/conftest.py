"""A runtime that really runs: packages of small models, a supervisor, workers in processes of their own."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.files import write_private
from tarmac.formats import packing
from tarmac.serve.supervisor import Supervisor
from tarmac.serve.worker import Config, states

PATIENCE = 30.0


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`add1`, `add2` and `add3` answer the sum of a row and their number; `iris` is a classifier with columns."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    root = tmp_path_factory.mktemp("packages")
    for number in (1, 2, 3):
        graph = helper.make_graph(
            [
                helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0),
                helper.make_node("Add", ["sum", "number"], ["y"]),
            ],
            f"add{number}",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
            [
                numpy_helper.from_array(np.array([1]), "axis"),
                numpy_helper.from_array(np.array(float(number) * 1000, np.float32), "number"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        _pack(root, f"add{number}", model.SerializeToString())
    rows, labels = load_iris(return_X_y=True)
    fitted = LogisticRegression(max_iter=500).fit(rows, labels)
    made = to_onnx(fitted, rows[:1].astype("float32"), options={"zipmap": False})
    _pack(root, "iris", made.SerializeToString())
    return root


def _pack(root: Path, name: str, model: bytes) -> None:
    file = root / f"{name}.onnx"
    file.write_bytes(model)
    folder = root / name
    folder.mkdir()
    packing.seal(folder, packing.of_path(file, folder, name=name))


class Running:
    """A runtime and a way to talk to it."""

    def __init__(
        self, folder: Path, routes: dict[str, Any], workers: int = 1, ready: bool = True, **config: Any
    ) -> None:
        self.folder = folder
        self.routes = folder.parent / f"{folder.name}-routes.json"
        self.generation = 0
        self.write(routes)
        grpc = config.pop("grpc_port", None)
        self.supervisor = Supervisor(folder, Config(routes=str(self.routes), **config), "127.0.0.1", 0, workers, grpc)
        self.port = self.supervisor.port
        self.supervisor.start()
        self._thread = threading.Thread(target=self.supervisor.watch)
        self._thread.start()
        if ready:
            self.until(self.supervisor.ready, "is ready")

    def write(self, routes: dict[str, Any]) -> None:
        self.generation += 1
        write_private(self.routes, json.dumps({"generation": self.generation, **routes}))

    def change(self, routes: dict[str, Any]) -> None:
        """And wait until all workers follow."""
        self.write(routes)
        self.until(
            lambda: all(state["generation"] == self.generation for state in states(self.folder)), "follows the routes"
        )

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"the runtime {what}: not within {PATIENCE} s: {states(self.folder)}"
            time.sleep(0.02)

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def json(
        self, method: str, path: str, document: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        body = None if document is None else json.dumps(document)
        status, _, answer = self.ask(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        return status, json.loads(answer)

    def add(self, name: str, row: list[float], headers: dict[str, str] | None = None, **more: Any) -> tuple[int, Any]:
        """One row to a model that adds."""
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}
        return self.json("POST", f"/v2/models/{name}/infer", {"inputs": [tensor], **more}, headers)

    def stop(self) -> None:
        self.supervisor.stop()
        self._thread.join(PATIENCE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(routes: dict[str, Any], **config: Any) -> Running:
        running.append(Running(tmp_path / f"runtime{len(running)}", routes, **config))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


def endpoint(packages: Path, name: str, *versions: int, **more: Any) -> dict[str, Any]:
    """An endpoint whose version N is `addN`."""
    served = [{"version": str(number), "folder": str(packages / f"add{number}")} for number in versions]
    shares = more.pop("shares", [1 / len(versions)] * len(versions))
    return {
        "name": name,
        "versions": [{**one, "share": share} for one, share in zip(served, shares, strict=True)],
        **more,
    }


@pytest.fixture(scope="module")
def quiet(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One runtime for many questions that leave nothing behind."""
    routes = {
        "endpoints": [
            endpoint(packages, "add", 1),
            {"name": "iris", "versions": [{"version": "1", "folder": str(packages / "iris")}]},
        ]
    }
    one = Running(tmp_path_factory.mktemp("quiet") / "runtime", routes, body_bytes=4 * 1024 * 1024, grpc_port=0)
    yield one
    one.stop()

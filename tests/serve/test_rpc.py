"""The Open Inference Protocol over gRPC: the same answers, errors, tokens and versions as by HTTP."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import Running, endpoint

grpc = pytest.importorskip("grpc", reason="not run: grpcio is not installed")
messages = pytest.importorskip("tarmac.serve.messages", reason="not run: protobuf is not installed")


class Asking:
    """A client that speaks the protocol and nothing else."""

    def __init__(self, running: Running) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{running.supervisor.grpc_port}")

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def raw(self, method: str, data: bytes, **metadata: str) -> bytes:
        call = self.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        found: bytes = call(data, timeout=30, metadata=list(metadata.items()), wait_for_ready=True)
        return found

    def __call__(self, method: str, request: dict[str, Any] | None = None, **metadata: str) -> Any:
        asked = messages.CLASSES[f"{method}Request"](**(request or {}))
        return messages.CLASSES[f"{method}Response"].FromString(self.raw(method, asked.SerializeToString(), **metadata))

    def refused(self, method: str, request: dict[str, Any], **metadata: str) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self(method, request, **metadata)
        error: Any = caught.value
        return error.code().name, error.details()


def row(*values: float, name: str = "add", **more: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    return {"model_name": name, "inputs": [tensor], "raw_input_contents": [struct.pack("<4f", *values)], **more}


def answer(found: Any) -> list[float]:
    return [value for (value,) in struct.iter_unpack("<f", found.raw_output_contents[0])]


def typed(values: list[Any], field: str = "fp32_contents", datatype: str = "FP32", shape: Any = (1, 4)) -> Any:
    tensor = {"name": "x", "datatype": datatype, "shape": list(shape), "contents": {field: values}}
    return {"model_name": "add", "inputs": [tensor]}


def test_health_and_metadata(quiet: Running) -> None:
    with Asking(quiet) as ask:
        assert ask("ServerLive").live
        assert ask("ServerReady").ready
        assert ask("ModelReady", {"name": "add", "version": "1"}).ready
        assert ask("ServerMetadata").name == "tarmac"
        found = ask("ModelMetadata", {"name": "add"})
        assert (list(found.versions), found.inputs[0].datatype, list(found.inputs[0].shape)) == (["1"], "FP32", [-1, 4])


def test_rows_raw_and_typed(quiet: Running) -> None:
    with Asking(quiet) as ask:
        found = ask("ModelInfer", row(1, 2, 3, 4, id="mine"))
        assert (found.model_name, found.model_version, found.id) == ("add", "1", "mine")
        assert (found.outputs[0].name, list(found.outputs[0].shape), answer(found)) == ("y", [1], [1010])
        assert answer(ask("ModelInfer", typed([1, 2, 3, 4]))) == [1010]
        assert answer(ask("ModelInfer", typed([1, 2, 3, 4], "int64_contents", "INT64"))) == [1010]
        wanted = row(1, 2, 3, 4, outputs=[{"name": "y"}], model_version="1")
        assert answer(ask("ModelInfer", wanted)) == [1010]


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (row(0, 0, 0, 0, name="ad"), "NOT_FOUND", "did you mean `add`"),
        (row(0, 0, 0, 0, model_version="7"), "NOT_FOUND", "version of `add`"),
        (row(0, 0, 0, 0, outputs=[{"name": "z"}]), "INVALID_ARGUMENT", "no output `z`"),
        (row(0, 0, 0, float("nan")), "INVALID_ARGUMENT", "nan at 3"),
        ({**row(0, 0, 0, 0), "raw_input_contents": [b"abc"]}, "INVALID_ARGUMENT", "16 bytes, not 3"),
        ({**row(0, 0, 0, 0), "raw_input_contents": [b"", b""]}, "INVALID_ARGUMENT", "raw contents of 2"),
        ({"model_name": "add"}, "INVALID_ARGUMENT", "missing"),
        (typed([1, 2, 3]), "INVALID_ARGUMENT", "4 values"),
        (typed([1, 2, 3, 300], "int_contents", "INT8"), "INVALID_ARGUMENT", "no INT8 can hold"),
        (typed([1], shape=(2**40, 2**40)), "INVALID_ARGUMENT", "too many"),
        (typed([1], shape=(-1, 4)), "INVALID_ARGUMENT", "impossible"),
        (typed([1], datatype="FP8"), "INVALID_ARGUMENT", "FP8"),
        (typed([], datatype="FP16"), "INVALID_ARGUMENT", "raw contents only"),
        (row(0, 0, 0, 0, id="x" * 101), "INVALID_ARGUMENT", "100 characters"),
    ],
)
def test_what_is_refused(quiet: Running, request_: dict[str, Any], code: str, says: str) -> None:
    with Asking(quiet) as ask:
        found, details = ask.refused("ModelInfer", request_)
    assert (found, says in details) == (code, True), (found, details)


def test_what_is_no_message_and_too_large(quiet: Running) -> None:
    with Asking(quiet) as ask:
        for data, code in ((b"\xff" * 50, "INVALID_ARGUMENT"), (bytes(5 * 1024 * 1024), "RESOURCE_EXHAUSTED")):
            with pytest.raises(grpc.RpcError) as caught:
                ask.raw("ModelInfer", data)
            assert caught.value.code().name == code
        with pytest.raises(grpc.RpcError) as caught:
            ask.raw("ModelTrain", b"")
        assert caught.value.code().name == "UNIMPLEMENTED"
        assert ask("ServerLive").live


def test_tokens_sticky_callers_and_several_workers(start: Callable[..., Running], packages: Path) -> None:
    from tarmac.core.digest import digest

    shared = endpoint(packages, "add", 2, 1, shares=[0.5, 0.5], sticky="customer")
    running = start({"endpoints": [shared], "tokens": [digest(b"secret")]}, workers=2, grpc_port=0)
    known = {"authorization": "Bearer secret"}
    seen: dict[str, str] = {}
    for _ in range(4):  # connections land with either worker
        with Asking(running) as ask:
            assert ask.refused("ModelInfer", row(0, 0, 0, 0))[0] == "UNAUTHENTICATED"
            assert ask("ServerReady").ready
            for number in range(10):
                parameters = {"customer": messages.CLASSES["InferParameter"](string_param=f"c{number}")}
                found = ask("ModelInfer", row(0, 0, 0, 0, parameters=parameters), **known)
                assert answer(found) == [1000 * int(found.model_version)]
                assert seen.setdefault(f"c{number}", found.model_version) == found.model_version
                by_header = running.add(
                    "add", [0, 0, 0, 0], {"customer": f"c{number}", "Authorization": "Bearer secret"}
                )
                assert by_header[1]["model_version"] == found.model_version
    assert set(seen.values()) == {"1", "2"}
    running.change({"endpoints": [{**shared, "cut": True, "fallback": {"message": "it is odd"}}]})
    with Asking(running) as ask:
        code, details = ask.refused("ModelInfer", row(0, 0, 0, 0))
        assert (code, "it is odd" in details) == ("UNAVAILABLE", True)


def test_a_port_is_not_shared_with_another_runtime(quiet: Running) -> None:
    from tarmac.core.errors import Conflict
    from tarmac.serve.supervisor import reserve

    with pytest.raises(Conflict, match="cannot be listened at"):
        reserve("127.0.0.1", quiet.supervisor.grpc_port or 0)

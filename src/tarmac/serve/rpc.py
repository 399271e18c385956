"""The second port: the Open Inference Protocol over gRPC, on the same endpoints, lanes, tokens and log.

grpc's threads decode and encode; what chooses and keeps the books runs in the loop, as for HTTP. All workers listen at
one port, and the kernel spreads connections among them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from tarmac.core.errors import Busy, Internal, Invalid, TarmacError, Unauthenticated, bounded
from tarmac.serve import inference, v2
from tarmac.serve.endpoints import TIMEOUT, Cut
from tarmac.serve.messages import CLASSES, METHODS, PACKAGE, SERVICE
from tarmac.serve.roads import Roads
from tarmac.serve.versions import Version

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array, Arrays

THREADS = 32
MOST_CALLS = 128
"""At once, in one process. Each may hold a message, so this bounds memory; more are told that the process is full."""
OPEN = frozenset({"ServerLive", "ServerReady"})
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED, 404: grpc.StatusCode.NOT_FOUND, 408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED, 415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.FAILED_PRECONDITION, 503: grpc.StatusCode.UNAVAILABLE,
}  # fmt: skip

log = logging.getLogger("tarmac.serve")


class Caller:
    """Who asks by gRPC, as endpoints see callers."""

    __slots__ = ("answer", "gone", "headers")

    def __init__(self, context: Any) -> None:
        self.headers = {
            name.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
            for name, value in context.invocation_metadata()
        }
        if (left := context.time_remaining()) is not None:
            self.headers[TIMEOUT] = b"%d" % min(999_999_999, max(1, int(left * 1000)))
        self.gone = False
        self.answer: Future[Any] = Future()

    def leave(self) -> None:
        self.gone = True

    def finish(self, found: Any, error: TarmacError | None = None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(found)
        else:
            self.answer.set_exception(error)


class Port:
    """gRPC of one worker. Made and stopped in the loop."""

    def __init__(self, address: str, roads: Roads, most_bytes: int) -> None:
        self._roads = roads
        self._loop = asyncio.get_running_loop()
        self._callers: set[Caller] = set()
        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", most_bytes),
            ("grpc.max_send_message_length", -1),
        ]
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, "gRPC"), options=options, maximum_concurrent_rpcs=MOST_CALLS
        )
        # messages are decoded by us: what is none is the caller's fault, and grpc would call it ours
        handlers = {name: grpc.unary_unary_rpc_method_handler(partial(self._serve, name)) for name in METHODS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{PACKAGE}.{SERVICE}", handlers),))
        self._server.add_insecure_port(address)
        self._server.start()

    async def stop(self, seconds: float) -> None:
        """Answer what was asked, take nothing new; who still waits after that is told to go elsewhere."""
        stopped = self._server.stop(seconds)
        await asyncio.to_thread(stopped.wait, seconds + 1)
        for caller in list(self._callers):
            caller.finish(None, Busy("this process ends", hint="try again"))

    # --- in grpc's threads ---

    def _serve(self, method: str, data: bytes, context: Any) -> bytes:
        try:
            try:
                request = CLASSES[f"{method}Request"].FromString(data)
            except Exception as error:  # noqa: BLE001 - protobuf's errors are not all of one kind
                raise Invalid(f"this is no {method}Request: {bounded(error)}") from None
            caller = Caller(context)
            context.add_callback(caller.leave)
            found: bytes = self._answered(method, request, caller).SerializeToString()
            return found
        except TarmacError as error:
            refusal = error
        except Exception:
            log.exception("a call of %s failed", method)
            refusal = Internal("the runtime failed at this call", hint="its log has the rest")
        hint = f" ({refusal.hint})" if refusal.hint else ""
        context.abort(STATUS.get(refusal.status, grpc.StatusCode.INTERNAL), f"{refusal.message}{hint}")
        raise AssertionError("abort raises")

    def _answered(self, method: str, request: Any, caller: Caller) -> Any:
        if method == "ModelInfer":
            inputs = decode(request)
            parameters = {name: _parameter(value) for name, value in request.parameters.items()}
            model, version, outputs = self._in_loop(caller, method, partial(self._infer, request, inputs, parameters))
            return encode(request, model, version, outputs)
        return CLASSES[f"{method}Response"](**self._in_loop(caller, method, partial(self._told, method, request)))

    def _in_loop(self, caller: Caller, method: str, ask: Callable[[Caller], None]) -> Any:
        def asked() -> None:
            try:
                if method not in OPEN and not self._roads.admits(caller.headers):
                    raise Unauthenticated(
                        "this runtime wants a token", hint="send the metadata `authorization: Bearer TOKEN`"
                    )
                ask(caller)
            except TarmacError as error:
                caller.finish(None, error)
            except Exception:
                log.exception("a call of %s failed", method)
                caller.finish(None, Internal("the runtime failed at this call", hint="its log has the rest"))

        self._callers.add(caller)
        try:
            self._loop.call_soon_threadsafe(asked)
            return caller.answer.result()
        finally:
            self._callers.discard(caller)

    # --- in the loop ---

    def _infer(self, request: Any, inputs: Arrays, parameters: Mapping[str, Any], caller: Caller) -> None:
        endpoint = self._roads.endpoint(request.model_name)

        def show(chosen: Version, id: str, outputs: Arrays) -> None:
            request.id = id
            caller.finish((endpoint.name, chosen.name, outputs))

        try:
            endpoint.answer(
                caller,
                lambda chosen: chosen.fit(inputs),
                show,
                lambda caller, error: caller.finish(None, error),
                version=request.model_version or None,
                id=request.id or None,
                parameters=parameters,
            )
        except Cut as cut:
            caller.finish((endpoint.name, "fallback", cut.instead()))

    def _told(self, method: str, request: Any, caller: Caller) -> None:
        if method == "ServerLive":
            caller.finish({"live": True})
        elif method == "ServerReady":
            caller.finish({"ready": self._roads.ready})
        elif method == "ServerMetadata":
            caller.finish(inference.server())
        elif method == "ModelReady":
            endpoint = self._roads.endpoint(request.name)
            if request.version:
                endpoint.version(request.version)
            caller.finish({"ready": True})
        else:
            found = inference.metadata(self._roads.endpoint(request.name), request.version or None)
            tensors = {
                side: [{key: one[key] for key in ("name", "datatype", "shape")} for one in found[side]]
                for side in ("inputs", "outputs")
            }
            caller.finish({**{key: found[key] for key in ("name", "versions", "platform")}, **tensors})


# --- tensors ---


def decode(request: Any) -> Arrays:
    """Raw contents for all inputs, or typed contents in each."""
    raw = request.raw_input_contents
    if len(request.inputs) > v2.MOST_TENSORS:
        raise Invalid(f"a request may have {v2.MOST_TENSORS:,} inputs at most")
    if raw and len(raw) != len(request.inputs):
        raise Invalid(f"the request has {len(request.inputs)} inputs, and raw contents of {len(raw)}")
    inputs: Arrays = {}
    for place, given in enumerate(request.inputs):
        tensor = v2.Tensor(given.name, given.datatype, list(given.shape))
        if tensor.name in inputs:
            raise Invalid(f"input `{bounded(tensor.name)}` stands in the request twice")
        count = v2.elements(tensor)
        if raw:
            if given.HasField("contents"):
                raise Invalid(f"input `{bounded(tensor.name)}` has both contents and raw contents")
            inputs[tensor.name] = v2.from_bytes(tensor, count, memoryview(raw[place]))
        else:
            inputs[tensor.name] = _typed(tensor, count, given.contents)
    return inputs


def _typed(tensor: v2.Tensor, count: int, contents: Any) -> Array:
    import numpy as np

    name = CONTENTS.get(tensor.datatype)
    if name is None:
        raise Invalid(f"input `{bounded(tensor.name)}` is {tensor.datatype}, which travels as raw contents only")
    values = list(getattr(contents, name))
    if len(values) != count:
        raise v2.miscounted(tensor, count, len(values))
    try:
        array = np.array(values, object if tensor.datatype == "BYTES" else v2.DTYPES[tensor.datatype])
    except OverflowError:
        raise Invalid(f"input `{bounded(tensor.name)}` has a number that no {tensor.datatype} can hold") from None
    if tensor.datatype in v2.FLOATS:
        v2.check_finite(array, tensor.name)
    return array.reshape(tensor.shape)


def encode(request: Any, model: str, version: str, outputs: Arrays) -> Any:
    """Always raw: it is what clients expect, and the cheapest."""
    wanted = [output.name for output in request.outputs] or list(outputs)
    answer = CLASSES["ModelInferResponse"](model_name=model, model_version=version, id=request.id)
    for name in wanted:
        if name not in outputs:
            raise Invalid(f"the model has no output `{bounded(name)}`", hint=f"it has: {', '.join(outputs)}")
        array = outputs[name]
        answer.outputs.add(name=name, datatype=v2.datatype(array), shape=array.shape)
        answer.raw_output_contents.append(v2.raw_bytes(array))
    return answer


def _parameter(value: Any) -> Any:
    kind = value.WhichOneof("parameter_choice")
    return getattr(value, kind) if kind else None

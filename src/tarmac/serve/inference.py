"""The Open Inference Protocol's questions, answered by endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tarmac import __version__
from tarmac.core.errors import NotFound, TarmacError, WrongContent
from tarmac.formats.signature import Field
from tarmac.serve import explaining, v2
from tarmac.serve.endpoints import Cut, Endpoint
from tarmac.serve.http import BINARY, JSON, Request
from tarmac.serve.versions import Version

if TYPE_CHECKING:
    from tarmac.formats.arrays import Arrays

EXTENSIONS = ["binary_tensor_data", "model_repository(unload)"]
DATATYPES = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64", "text": "BYTES", "bytes": "BYTES",
    "any": "BYTES", "time": "INT64",
    **{f"{sign}int{bits}": f"{sign}int{bits}".upper() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


def infer(request: Request, endpoint: Endpoint, version: str | None) -> None:
    if request.headers.get(b"content-encoding", b"identity") != b"identity":
        raise WrongContent("bodies are taken as they are, not compressed", hint="leave out `Content-Encoding`")
    call = v2.decode(bytes(request.body), request.headers.get(v2.HEADER))

    def fit(chosen: Version) -> tuple[Arrays, int]:
        return chosen.fit(call.inputs)

    def show(chosen: Version, id: str, outputs: Arrays) -> None:
        call.id = id
        body, head = v2.encode(call, endpoint.name, chosen.name, outputs, None)
        if head:
            request.reply(200, body, BINARY, b"inference-header-content-length: %d\r\n" % head)
        else:
            request.reply(200, body)

    try:
        endpoint.answer(request, fit, show, fail, version=version, id=call.id or None, parameters=call.parameters)
    except Cut as cut:
        body, _ = v2.encode(call, endpoint.name, "fallback", cut.instead(), {"fallback": True})
        request.reply(200, body)


def explain(request: Request, endpoint: Endpoint, version: str | None) -> None:
    call = v2.decode(bytes(request.body), request.headers.get(v2.HEADER))
    explaining.explain(request, endpoint, lambda chosen: chosen.fit(call.inputs), fail, version=version)


def fail(request: Request, error: TarmacError) -> None:
    """The protocol's shape: the message as text, and ours beside it."""
    hint = f" ({error.hint})" if error.hint else ""
    body = {"error": f"{error.message}{hint}", "code": error.code, "detail": error.detail}
    extra = b"retry-after: 1\r\n" if error.status == 503 else b""
    request.reply(error.status, msgspec.json.encode(body), JSON, extra)


# --- what there is ---


def server() -> dict[str, Any]:
    return {"name": "tarmac", "version": __version__, "extensions": EXTENSIONS}


def metadata(endpoint: Endpoint, version: str | None) -> dict[str, Any]:
    chosen = endpoint.version(version) if version is not None else endpoint.first
    signature = chosen.signature
    about = chosen.predictor.about
    return {
        "name": endpoint.name,
        "versions": [served.version for served in endpoint.route.versions],
        "platform": f"{about.library or about.kind}_{chosen.predictor.form}",
        "inputs": [tensor(field) for field in signature.inputs] if signature else [],
        "outputs": [tensor(field) for field in signature.outputs] if signature else [],
        "parameters": {"model": chosen.model, "version": chosen.name, "digest": chosen.predictor.digest},
    }


def tensor(field: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"name": field.name, "datatype": DATATYPES[field.type], "shape": field.shape or [-1]}
    marks = {"nullable": field.nullable, "optional": field.optional}
    if any(marks.values()):
        found["parameters"] = {name: True for name, is_so in marks.items() if is_so}
    return found


def index(endpoints: dict[str, Endpoint]) -> list[dict[str, str]]:
    return [
        {"name": endpoint.name, "version": name, "state": "READY", "reason": ""}
        for endpoint in endpoints.values()
        for name in endpoint.versions
    ]


def unknown(name: str, endpoints: dict[str, Endpoint]) -> TarmacError:
    return NotFound.named("endpoint", name, endpoints, hint=f"there are: {', '.join(endpoints) or 'none'}")

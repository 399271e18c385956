"""What a person sees: the list of what is served, a form to try it, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from tarmac import __version__
from tarmac.formats.signature import FLOATS, INTEGERS, Field
from tarmac.serve.endpoints import Endpoint

SAFE = (
    b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    b"connect-src 'self'; frame-ancestors 'none'\r\nx-content-type-options: nosniff\r\n"
)
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 46rem; margin: 3rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .6rem .3rem 0 }
input, button { font: inherit; padding: .3rem .5rem } label { display: block; margin: .6rem 0 } small { opacity: .7 }
pre { padding: .8rem; border: 1px solid #8886; border-radius: .4rem; overflow: auto; white-space: pre-wrap }
"""
SCRIPT = """
const form = document.querySelector('form'), out = document.querySelector('pre');
form.addEventListener('submit', async event => {
  event.preventDefault();
  const file = form.querySelector('input[type=file]');
  let body, kind;
  if (file) { body = file.files[0]; kind = body ? body.type : 'image/png' } else {
    const row = {};
    for (const input of form.querySelectorAll('input[name]')) {
      if (input.value === '') continue;
      row[input.name] = input.dataset.kind === 'number' ? Number(input.value)
        : input.dataset.kind === 'json' ? JSON.parse(input.value) : input.value;
    }
    body = JSON.stringify([row]); kind = 'application/json';
  }
  const headers = {'Content-Type': kind}, token = document.querySelector('#token').value;
  if (token) headers.Authorization = 'Bearer ' + token;
  try {
    const answer = await fetch(form.action, {method: 'POST', body, headers});
    out.textContent = answer.status + '\\n' + JSON.stringify(await answer.json(), null, 1);
  } catch (error) { out.textContent = String(error) }
});
"""


def front(endpoints: Mapping[str, Endpoint]) -> bytes:
    lines = [
        f'<tr><td><a href="/try/{quote(name, safe="")}">{escape(name)}</a></td>'
        f"<td>{escape(', '.join(_share(endpoint, served.version, served.share) for served in endpoint.route.versions))}"
        f"</td><td>{escape(endpoint.first.predictor.form)}</td></tr>"
        for name, endpoint in endpoints.items()
    ]
    table = "<table><tr><th>endpoint</th><th>versions</th><th>form</th></tr>" + "".join(lines) + "</table>"
    nothing = "<p>Nothing is served yet.</p>"
    return _page("served here", (table if lines else nothing) + '<p><a href="/openapi.json">OpenAPI</a></p>')


def _share(endpoint: Endpoint, version: str, share: float) -> str:
    return version if len(endpoint.route.versions) == 1 else f"{version} ({share:.0%})"


def form(endpoint: Endpoint) -> bytes:
    signature = endpoint.first.signature
    name = endpoint.name
    if signature is None:
        return _page(name, "<p>This model has no signature; send it tensors: POST /v2/models/NAME/infer</p>")
    if signature.layout == "tensors" and len(signature.inputs) == 1 and len(signature.inputs[0].shape) > 2:
        fields = '<label>picture <input type="file" accept="image/*"></label>'
    else:
        fields = "".join(_field(field) for field in signature.inputs)
    action = f"/predict/{quote(name, safe='')}"
    return _page(
        name,
        f'<form action="{action}" method="post">{fields}<label>token <small>if one is wanted</small> '
        f'<input id="token" type="password"></label><button>predict</button></form><pre></pre>'
        f"<script>{SCRIPT}</script>",
    )


def _field(field: Field) -> str:
    number = field.type in (*INTEGERS, *FLOATS) and not field.shape[1:]
    kind = "number" if number else "text" if field.type in ("text", "time", "bytes") else "json"
    marks = " ".join(mark for mark, on in (("may be empty", field.nullable), ("optional", field.optional)) if on)
    typed = 'type="number" step="any"' if number else 'type="text"'
    return (
        f"<label>{escape(field.name)} <small>{escape(field.type)} {marks}</small> "
        f'<input name="{escape(field.name)}" data-kind="{kind}" {typed}></label>'
    )


def _page(title: str, body: str) -> bytes:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    ).encode()


# --- OpenAPI ---


def openapi(endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for name, endpoint in endpoints.items():
        quoted = quote(name, safe="")
        paths[f"/predict/{quoted}"] = {"post": _predict(endpoint)}
        paths[f"/explain/{quoted}"] = {"post": _operation(f"What each input adds to an answer of {name}")}
        paths[f"/v2/models/{quoted}"] = {"get": _operation(f"Metadata of {name}")}
        paths[f"/v2/models/{quoted}/infer"] = {"post": _operation(f"Infer with {name}: Open Inference Protocol V2")}
        paths[f"/invocations/{quoted}"] = {"post": _operation(f"Predict with {name}, as MLflow's clients ask")}
    paths["/feedback/{id}"] = {"post": _operation("Say what was right")}
    for path, text in (("/v2/health/live", "Live"), ("/v2/health/ready", "Ready"), ("/metrics", "Prometheus metrics")):
        paths[path] = {"get": _operation(text)}
    return {"openapi": "3.1.0", "info": {"title": "tarmac serve", "version": __version__}, "paths": paths}


def _operation(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "the answer"}}}


def _predict(endpoint: Endpoint) -> dict[str, Any]:
    signature = endpoint.first.signature
    row: dict[str, Any] = {"type": "object"}
    if signature is not None:
        row["properties"] = {field.name: _schema(field) for field in signature.inputs}
        row["required"] = [field.name for field in signature.inputs if not field.optional]
        row["additionalProperties"] = False
    return {
        **_operation(f"Predict with {endpoint.name}"),
        "requestBody": {"content": {"application/json": {"schema": {"type": "array", "items": row}}, "text/csv": {}}},
    }


def _schema(field: Field) -> dict[str, Any]:
    plain = "integer" if field.type in INTEGERS else "number" if field.type in FLOATS else "string"
    kind: Any = {"bool": "boolean"}.get(field.type, plain)
    found: dict[str, Any] = {"type": [kind, "null"] if field.nullable else kind}
    for size in reversed(field.shape[1:]):
        found = {"type": "array", "items": found} | ({"minItems": size, "maxItems": size} if size >= 0 else {})
    return {} if field.type == "any" else found

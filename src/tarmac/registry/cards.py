"""A model's card: what is known of a version, as a page for people. What nobody has said is *owner needed*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal

import msgspec

from tarmac.core.clock import iso
from tarmac.core.errors import bounded
from tarmac.registry import drawing

OWNER_NEEDED = "*owner needed*"
LIBRARIES = {"sklearn": "sklearn", "onnx": "onnx", "keras": "keras", "torch": "pytorch"}
LONGEST = 400


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Facts; nothing here was written for the card."""

    model: str
    version: int
    digest: str
    kind: str
    bytes: int
    made_at: int
    made_by: str
    note: str = ""
    goal: str = ""
    owners: dict[str, str] = {}
    aliases: list[str] = []
    stage: str = ""
    run: str = ""
    commit: str = ""
    library: str = ""
    form: str = ""
    inputs: list[dict[str, Any]] = []
    outputs: list[dict[str, Any]] = []
    data: list[str] = []
    params: dict[str, str] = {}
    metrics: dict[str, float | str] = {}
    measured: dict[str, Any] = {}
    measured_at: int | None = None
    measured_on: str = ""
    rules: list[dict[str, Any]] = []
    requirements: list[str] = []
    approvals: list[str] = []
    signatures: list[str] = []
    moves: list[str] = []
    pictures: dict[str, Any] = {}


def markdown(card: Card, links: Mapping[str, str] | None = None) -> str:
    """As Hugging Face and git hosts show it; `links` are files with the pictures, by their names."""
    parts = [_front_matter(card), f"# {_flat(card.model)} v{card.version}\n"]
    for title, body in _sections(card):
        parts.append(f"## {title}\n\n{_as_markdown(body)}\n")
    if links:
        shown = "\n".join(f"![{name}]({link})" for name, link in links.items())
        parts.append(f"## Pictures\n\n{shown}\n")
    return "\n".join(parts)


def page(card: Card) -> str:
    """One HTML file that needs no other, pictures inside."""
    head = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{escape(card.model)} v{card.version}</title>"
        "<style>body{font:16px/1.5 sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1f2933}"
        "table{border-collapse:collapse}td,th{border:1px solid #c3ccd6;padding:.2rem .6rem;text-align:left}"
        "h2{margin-top:2rem}svg{margin:.5rem}em{color:#a33}</style>"
        f"<h1>{escape(card.model)} v{card.version}</h1>"
    )
    parts = [head]
    for title, body in _sections(card):
        parts.append(f"<h2>{escape(title)}</h2>{_as_html(body)}")
    if drawn := drawing.pictures(card.pictures):
        parts.append(f"<h2>Pictures</h2>{''.join(drawn.values())}")
    return "\n".join(parts) + "</html>\n"


Body = str | Sequence[str] | Mapping[str, Any]


def _sections(card: Card) -> list[tuple[str, Body]]:
    """Title and content: a sentence, a list, or names with values."""
    what = {
        "Kind": card.kind, "Digest": card.digest or None, "Size": f"{card.bytes / 1e6:.3g} MB", "Note": card.note,
        "Made": f"{iso(card.made_at)} by {card.made_by}", "Run": card.run, "Commit": card.commit,
        "Served as": card.form, "Aliases": ", ".join(card.aliases) or "none",
    }  # fmt: skip
    measured: dict[str, Any] = {name: _value(value) for name, value in card.measured.items()}
    if card.measured_at is not None:
        measured = {f"On {card.measured_on or 'its gate’s rows'}": iso(card.measured_at), **measured}
    return [
        ("What it is", what),
        ("What it is for", card.goal or OWNER_NEEDED),
        ("Who answers for it", card.owners or OWNER_NEEDED),
        ("Limits and risks", OWNER_NEEDED),
        ("Licence", OWNER_NEEDED),
        ("What it takes", _fields(card.inputs) or "not known: it was packaged without an example"),
        ("What it answers", _fields(card.outputs) or "not known: no prediction was made when it was packaged"),
        ("What it was trained on", card.data or OWNER_NEEDED),
        ("How it was trained", card.params or "no params were logged"),
        ("How good it is", {name: _value(value) for name, value in card.metrics.items()} or "no metrics were logged"),
        ("What was measured", measured or "nothing: no gate of the model has been checked"),
        ("Which rules it was judged by", [_rule(rule) for rule in card.rules] or "none"),
        ("Who approved it", card.approvals or "nobody"),
        ("Who signed it", card.signatures or "nobody"),
        ("Where it was", card.moves or "it was never given an alias"),
        ("What it needs", card.requirements or "not known"),
    ]


def _rule(rule: Mapping[str, Any]) -> str:
    return f"{rule['verdict']}: {rule['rule']} ({rule['why']})"


def _fields(fields: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {
        str(field["name"]): field["type"]
        + (f" of shape {field['shape']}" if field.get("shape") else "")
        + (", may be null" if field.get("nullable") else "")
        + (", may be left out" if field.get("optional") else "")
        for field in fields
    }


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _flat(text: object) -> str:
    """Text of others in a Markdown page: on one line, and nothing of it is markup."""
    flat = bounded(text, LONGEST)
    if flat == OWNER_NEEDED:
        return flat
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|!" else sign for sign in flat)


def _as_markdown(body: Body) -> str:
    if isinstance(body, str):
        return _flat(body)
    if isinstance(body, Mapping):
        rows = [f"| {_flat(name)} | {_flat(value)} |" for name, value in body.items() if value not in (None, "")]
        return "\n".join(["| | |", "|---|---|", *rows])
    return "\n".join(f"- {_flat(item)}" for item in body)


def _as_html(body: Body) -> str:
    if isinstance(body, str):
        return f"<p>{'<em>owner needed</em>' if body == OWNER_NEEDED else escape(bounded(body, LONGEST))}</p>"
    if isinstance(body, Mapping):
        rows = "".join(
            f"<tr><th>{escape(bounded(name, LONGEST))}</th><td>{escape(bounded(value, LONGEST))}</td></tr>"
            for name, value in body.items()
            if value not in (None, "")
        )
        return f"<table>{rows}</table>"
    return f"<ul>{''.join(f'<li>{escape(bounded(item, LONGEST))}</li>' for item in body)}</ul>"


def _front_matter(card: Card) -> str:
    """Hugging Face's metadata. Values are JSON, which is YAML too, so that no name can say more than itself."""

    def quoted(value: object) -> str:
        return msgspec.json.encode(value).decode()

    lines = ["---", f"tags: {quoted(['tarmac', card.kind] if card.kind else ['tarmac'])}"]
    library = LIBRARIES.get(card.library.partition(".")[0])
    if library:
        lines.append(f"library_name: {library}")
    if card.data:
        lines.append(f"datasets: {quoted(card.data)}")
    numbers = {name: value for name, value in card.metrics.items() if isinstance(value, float | int)}
    if numbers:
        lines.append(f"metrics: {quoted(list(numbers))}")
        results = [{"type": name, "value": value, "name": name} for name, value in numbers.items()]
        dataset = {"name": card.data[0] if card.data else "unknown", "type": "unknown"}
        index: list[dict[Literal["name", "results"], Any]] = [
            {
                "name": f"{card.model} v{card.version}",
                "results": [{"task": {"type": "other"}, "dataset": dataset, "metrics": results}],
            }
        ]
        lines.append(f"model-index: {quoted(index)}")
    return "\n".join([*lines, "---", ""])

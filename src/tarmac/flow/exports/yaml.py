"""Documents as YAML: blocks of keys and lists, every text in quotes, so that nothing is taken for something else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any


def text(documents: Sequence[dict[str, Any]]) -> str:
    return "---\n".join("\n".join(_lines(document, 0)) + "\n" for document in documents)


def _lines(value: Any, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if isinstance(value, dict):
        for key, inner in value.items():
            name = key if key.isidentifier() else json.dumps(key)
            if isinstance(inner, (dict, list)) and inner:
                yield f"{indent}{name}:"
                yield from _lines(inner, depth + 1)
            else:
                yield f"{indent}{name}: {json.dumps(inner)}"
    else:
        for inner in value:
            if isinstance(inner, (dict, list)) and inner:
                first, *rest = _lines(inner, depth + 1)
                yield f"{indent}- {first.lstrip()}"
                yield from rest
            else:
                yield f"{indent}- {json.dumps(inner)}"

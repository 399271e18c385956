"""The smallest request of every operation, found from its declaration."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

from tarmac.core.operation import Spec

CANDIDATES: tuple[Any, ...] = (
    "0" * 64,
    "nothing",
    "viewer",
    "Staging",
    1,
    True,
    ["0" * 64],
    ["0" * 64, "1" * 64],
    [{"path": "a.txt", "digest": "0" * 64, "size": 0}],
    {"a": "b"},
)


def smallest(spec: Spec) -> dict[str, Any]:
    """Fields that decode, with nothing given that has a default; what they name does not exist."""
    hints = get_type_hints(spec.request, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(spec.request):
        if field.required:
            found[field.encode_name] = _fitting(spec, field.name, hints[field.name])
    msgspec.convert(found, spec.request)
    return found


def _fitting(spec: Spec, name: str, kind: Any) -> Any:
    for candidate in CANDIDATES:
        try:
            msgspec.convert(candidate, kind)
        except msgspec.ValidationError:
            continue
        return candidate
    raise AssertionError(f"no candidate fits {spec.name}.{name}: add one to CANDIDATES")

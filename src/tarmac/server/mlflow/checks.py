"""What MLflow allows for keys, ids and lengths; what it refuses is refused with its texts."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache

from tarmac.server.mlflow.errors import Refusal, absent, invalid, invalid_value, missing_value, too_long

LONGEST_KEY = 250
LONGEST_VALUE = 1_000_000
"""MLflow cuts params at 6,000 and tags at 8,000 characters and says so in its log only; here they stay whole."""
LONGEST_EXPERIMENT_NAME = 500
_KEY = re.compile(r"[/\w.\- :]*")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_OURS = re.compile(r"[0-9a-f]{32}")
_CHARACTERS = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and "
    "slashes (/)."
)


@lru_cache(maxsize=8192)
def _fault(key: str) -> str:
    """What is wrong with the key of a metric, param or tag; nothing if it may be one."""
    if not _KEY.fullmatch(key):
        return _CHARACTERS
    normal = posixpath.normpath(key)
    if normal != key or normal == "." or normal.startswith(("..", "/")):
        return (
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
            f"This name would resolve to {normal!r}"
        )
    return "too long" if len(key) > LONGEST_KEY else ""


def is_key(name: str | None) -> bool:
    return name is not None and name != "" and not _fault(name)


def key(name: str | None, path: str) -> str:
    if not name:
        raise missing_value(path)
    if fault := _fault(name):
        raise too_long(path, name, LONGEST_KEY) if fault == "too long" else invalid_value(path, name, fault)
    return name


def value(text: str | None, path: str) -> str:
    if text is None:
        return ""
    if len(text) > LONGEST_VALUE:
        raise too_long(path, text, LONGEST_VALUE)
    if "\x00" in text:
        raise invalid_value(path, text, "it holds a NUL character")
    return text


def run_id(*given: str | None) -> str:
    """The id of a run, under its old name or its new one. What no run of ours can be called is a run that is absent."""
    found = next((id for id in given if id), None)
    if found is None:
        raise missing_value("run_id")
    if not _OURS.fullmatch(found):
        if not _RUN_ID.fullmatch(found):
            raise invalid_value("run_id", found)
        raise no_run(found)
    return found


def is_run_id(id: str) -> bool:
    return _OURS.fullmatch(id) is not None


def experiment_id(given: str | None) -> str:
    id = given or ""
    if not (id.isascii() and id.isdecimal() and len(id) <= 64):
        raise invalid(f"Invalid experiment ID '{id[:100]}'. Experiment ID must be a valid integer.")
    return id


def most(given: int | None, default: int, largest: int) -> int:
    """`max_results` of a request."""
    if given is None:
        return default
    if given < 1:
        raise invalid_value("max_results", given, "It must be a positive integer")
    if given > largest:
        raise invalid_value("max_results", given, f"It must be at most {largest}")
    return given


def no_run(id: str) -> Refusal:
    return absent(f"Run with id={id} not found")


def no_experiment(id: str) -> Refusal:
    return absent(f"No Experiment with id={id} exists")

"""MLflow's error codes: its clients branch on them, and repeat for minutes whatever is 5xx."""

from __future__ import annotations

import json
from typing import Any

from tarmac.core.errors import Conflict, NotFound, Refused, TarmacError, TooLarge, WrongContent, bounded

LONGEST_SHOWN = 500
SEE_DOCS = "See the API docs for more information about request parameters."

STATUS = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "INVALID_STATE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_CONFLICT": 409,
    "REQUEST_LIMIT_EXCEEDED": 413,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}
_BY_STATUS = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST"}


class Refusal(Exception):
    """An answer that is an error, in MLflow's own words."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def invalid(message: str) -> Refusal:
    return Refusal("INVALID_PARAMETER_VALUE", message)


def absent(message: str) -> Refusal:
    return Refusal("RESOURCE_DOES_NOT_EXIST", message)


def missing_value(path: str) -> Refusal:
    return invalid(f"Missing value for required parameter '{path}'. {SEE_DOCS}")


def invalid_value(path: str, value: Any, why: str = "") -> Refusal:
    """The text that MLflow's clients and tests know, with the value as JSON, cut where it is long."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    if len(shown) > LONGEST_SHOWN:
        shown = f"{shown[:LONGEST_SHOWN]}…"
    return invalid(f"Invalid value {shown} for parameter '{path}' supplied{f': {why}' if why else '.'}")


def too_long(path: str, value: str, limit: int) -> Refusal:
    shown = bounded(value, 60)
    return invalid(f"'{path}' exceeds the maximum length of {limit} characters: {len(value)}, beginning `{shown}`")


def translate(error: Exception) -> tuple[int, str, str]:
    """Status, code and message of whatever went wrong."""
    if isinstance(error, Refusal):
        return STATUS[error.code], error.code, error.message
    assert isinstance(error, TarmacError)
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, TooLarge):
        return 413, "REQUEST_LIMIT_EXCEEDED", message
    if isinstance(error, Conflict):
        exists = error.detail.get("kind") is not None or "in the trash and keeps its name" in message
        return 400, "RESOURCE_ALREADY_EXISTS" if exists else "INVALID_PARAMETER_VALUE", message
    if isinstance(error, Refused):
        return 400, "INVALID_STATE", message
    if isinstance(error, WrongContent):
        return 400, "INVALID_PARAMETER_VALUE", message
    if error.status in _BY_STATUS:
        return error.status, _BY_STATUS[error.status], message
    if error.status == 503:
        return 503, "TEMPORARILY_UNAVAILABLE", message
    if error.status < 500:  # nothing that sending it again could help
        return 400, "INVALID_PARAMETER_VALUE", message
    return 500, "INTERNAL_ERROR", message


def is_absent(error: TarmacError, kind: str) -> bool:
    return isinstance(error, NotFound) and error.detail.get("kind") == kind

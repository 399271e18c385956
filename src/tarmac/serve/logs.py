"""Log lines of the runtime: for people, or one JSON object for each, for what collects them."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

import msgspec

LONGEST = 8000


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": os.getpid(),
            "message": record.getMessage()[:LONGEST],
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-LONGEST:]
        return msgspec.json.encode(line).decode()


def begin(*, as_json: bool) -> None:
    """To standard error, from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])

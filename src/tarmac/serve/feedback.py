"""The truth, when it comes: `POST /feedback/ID` says what the answer should have been."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from tarmac.core.errors import Busy, Invalid, bounded
from tarmac.serve.fleet import Fleet
from tarmac.serve.http import Request

LONGEST_ID = 100
LARGEST = 64 * 1024


class Truth(msgspec.Struct, forbid_unknown_fields=True):
    """`truth` is what was right, for each row of the request; whatever else is known goes into `facts`."""

    truth: Any
    endpoint: str | None = None
    at: float | None = None
    facts: dict[str, Any] = {}


def take(request: Request, id: str, fleet: Fleet) -> None:
    if not 0 < len(id) <= LONGEST_ID:
        raise Invalid(f"an id has 1 to {LONGEST_ID} characters")
    if len(request.body) > LARGEST:
        raise Invalid(f"feedback has at most {LARGEST:,} bytes")
    try:
        truth = msgspec.json.decode(request.body, type=Truth)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"this is no feedback: {bounded(error, 300)}", hint='like {"truth": ["with_mask"]}') from None
    if truth.endpoint is not None and truth.endpoint not in fleet.endpoints:
        from tarmac.serve.inference import unknown

        raise unknown(truth.endpoint, fleet.endpoints)
    if fleet.journal is None:
        raise Invalid("this runtime keeps no log of predictions", hint="start it without `--no-log`")
    at = truth.at or time.time()
    if not fleet.journal.add_truth(id, truth.endpoint or "", at, truth.truth, truth.facts, len(request.body)):
        raise Busy("feedback cannot be kept now", hint="send it again in a minute")
    request.reply(202, b'{"kept":true}')

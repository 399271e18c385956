"""`POST /explain/NAME`: what each input added to the answer; for a picture, where the model looks.

The questions go to the model by its lane, like everybody's, in pieces that let other callers through.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tarmac.core.errors import Busy, Internal, Invalid, TarmacError, TooLarge, bounded
from tarmac.formats import packing, shapley
from tarmac.formats.package import Sealed
from tarmac.formats.signature import INPUT, PREDICTION, PROBABILITIES
from tarmac.serve.endpoints import Caller, Endpoint
from tarmac.serve.http import Request
from tarmac.serve.lanes import Work
from tarmac.serve.versions import Version

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array, Arrays

MOST_ROWS = 20
MOST_BACKGROUND = 32
MOST_INPUTS = 500
AT_ONCE = 2
"""Explanations that one process works on; each asks the model thousands of times."""
PIECE = 1024
CELLS = 8

Fit = Callable[[Version], "tuple[Arrays, int]"]
log = logging.getLogger("tarmac.serve")
_tasks: set[asyncio.Task[None]] = set()


def explain(
    request: Request,
    endpoint: Endpoint,
    fit: Fit,
    fail: Callable[[Request, TarmacError], None],
    *,
    version: str | None = None,
    background: Any = None,
) -> None:
    """Answer now with a refusal, or later with an explanation."""
    if len(_tasks) >= AT_ONCE:
        raise Busy(f"{AT_ONCE} explanations are being made already", hint="try again in a second")
    chosen = endpoint.choose(request.headers, None, version)
    inputs, rows = fit(chosen)
    if not 0 < rows <= MOST_ROWS:
        raise TooLarge(f"{rows:,} rows; 1 to {MOST_ROWS} are explained in one request", hint="ask for fewer")
    wanted = _option(request, b"output")
    asking = _Asking(chosen, request, time.monotonic() + endpoint.patience(request.headers))

    async def work() -> None:
        try:
            found = await asyncio.to_thread(_explained, asking, inputs, rows, background, wanted)
        except TarmacError as error:
            fail(request, error)
        except Exception:
            log.exception("an explanation of %s failed", chosen.lane.name)
            fail(request, Internal(f"{chosen.lane.name} could not be explained", hint="the runtime's log has the rest"))
        else:
            request.reply(200, msgspec.json.encode({"version": chosen.name, **found}))

    task = asyncio.get_running_loop().create_task(work())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def _option(request: Request, name: bytes) -> str | None:
    from urllib.parse import parse_qs

    found = parse_qs(request.query).get(name)
    return found[0].decode("utf-8", "replace") if found else None


class _Asking:
    """The model, asked from another thread by way of the loop."""

    def __init__(self, version: Version, caller: Caller, deadline: float) -> None:
        self.version = version
        self._caller = caller
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()

    def __call__(self, inputs: Arrays) -> Arrays:
        import numpy as np

        count = len(next(iter(inputs.values())))
        pieces = [
            self._piece({name: array[at : at + PIECE] for name, array in inputs.items()})
            for at in range(0, count, PIECE)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _piece(self, inputs: Arrays) -> Arrays:
        answer: Future[Arrays] = Future()

        def done(outputs: Any, error: TarmacError | None) -> None:
            if error is None:
                answer.set_result(outputs)
            else:
                answer.set_exception(error)

        rows = len(next(iter(inputs.values())))
        work = Work(inputs, rows, self._deadline, done, self._caller)
        self._loop.call_soon_threadsafe(self.version.lane.submit, work)
        return answer.result(max(1.0, self._deadline - time.monotonic() + 5))


def _explained(ask: _Asking, inputs: Arrays, rows: int, given: Any, wanted: str | None) -> dict[str, Any]:
    first = ask({name: array[:1] for name, array in inputs.items()})
    output = _output(first, wanted)
    if _is_picture(inputs):
        return _occluded(ask, inputs, rows, output)
    names = _names(ask.version, inputs)
    if len(names) > MOST_INPUTS:
        raise TooLarge(f"the model has {len(names):,} inputs; up to {MOST_INPUTS} are explained")
    background = _background(ask.version, given)
    found = [_of_row(ask, {n: a[row : row + 1] for n, a in inputs.items()}, background, len(names), output)
             for row in range(rows)]  # fmt: skip
    return {
        "output": output,
        "method": found[0].method if len({one.method for one in found}) == 1 else "sampled",
        "inputs": names,
        "background": len(next(iter(background.values()))),
        "base": _plain(found[0].base),
        "answers": [_plain(one.answer) for one in found],
        "values": [[_plain(value) for value in one.values] for one in found],
        "error": max(one.error for one in found),
    }


def _plain(numbers: Array) -> Any:
    """One number where there is one answer."""
    return float(numbers[0]) if len(numbers) == 1 else numbers.tolist()


def _output(answers: Arrays, wanted: str | None) -> str:
    numeric = [name for name, array in answers.items() if array.dtype.kind in "fiub" and array.ndim in (1, 2)]
    if wanted is not None and wanted not in numeric:
        raise Invalid(f"`{bounded(wanted)}` is no output of numbers", hint=f"there are: {', '.join(numeric) or 'none'}")
    if not numeric:
        raise Invalid("the model answers no numbers, so nothing adds to them")
    return wanted or next((name for name in (PROBABILITIES, PREDICTION) if name in numeric), numeric[0])


def _names(version: Version, inputs: Arrays) -> list[str]:
    signature = version.signature
    if signature is not None and signature.layout == "columns":
        return signature.names()
    only = next(iter(inputs.values()))
    if len(inputs) != 1 or only.ndim != 2:
        raise Invalid(f"{version.lane.name} takes neither a table nor a picture", hint="those two can be explained")
    return [str(place) for place in range(only.shape[1])]


def _background(version: Version, given: Any) -> Arrays:
    """The rows to compare with: those in the request, else the package's example."""
    if given is None:
        given = packing.example_input(Sealed(Path(version.served.folder), version.served.digest))
    if given is None:
        raise Invalid(
            f"{version.lane.name} has no example, so there is nothing to compare with",
            hint='send rows to compare with: {"rows": […], "background": […]}',
        )
    try:
        found, rows = version.fit_rows(given)
    except Invalid as error:
        raise Invalid(f"the rows to compare with do not fit: {error.message}", hint=error.hint) from None
    if not rows:
        raise Invalid("the background has no rows")
    step = max(1, -(-rows // MOST_BACKGROUND))
    return {name: array[::step] for name, array in found.items()}


def _of_row(ask: _Asking, row: Arrays, background: Arrays, count: int, output: str) -> shapley.Explanation:
    import numpy as np

    size = len(next(iter(background.values())))

    def worth(masks: Array) -> Array:
        asked: Arrays
        if INPUT in row and row[INPUT].ndim == 2:
            mixed = np.where(masks[:, None, :], row[INPUT][0], background[INPUT][None])
            asked = {INPUT: mixed.reshape(-1, count).astype(row[INPUT].dtype, copy=False)}
        else:
            asked = {
                name: np.where(masks[:, place, None], row[name], background[name][None]).reshape(-1)
                for place, name in enumerate(row)
            }
        found = ask(asked)[output]
        return found.reshape(len(masks), size, -1)

    return shapley.explain(worth, count)


# --- pictures ---


def _is_picture(inputs: Mapping[str, Array]) -> bool:
    only = next(iter(inputs.values()))
    return len(inputs) == 1 and only.ndim in (3, 4) and only.dtype.kind in "fu"


def _occluded(ask: _Asking, inputs: Arrays, rows: int, output: str) -> dict[str, Any]:
    """How much of the answer goes away when a cell of the picture is painted over with its mean colour."""
    import numpy as np

    if rows != 1:
        raise Invalid(f"{rows} pictures; one is explained in one request")
    ((name, picture),) = inputs.items()
    first = picture.ndim == 4 and picture.shape[1] in (1, 3) and picture.shape[3] not in (1, 3)
    rows_at, columns_at = (2, 3) if first else (1, 2)
    down, across = (np.linspace(0, picture.shape[axis], min(CELLS, picture.shape[axis]) + 1).astype(int)
                    for axis in (rows_at, columns_at))  # fmt: skip
    mean = picture.mean(axis=(rows_at, columns_at), keepdims=True).astype(picture.dtype)
    covered = []
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            one = picture.copy()
            place: list[Any] = [slice(None)] * picture.ndim
            place[rows_at], place[columns_at] = slice(top, bottom), slice(left, right)
            one[tuple(place)] = mean
            covered.append(one)
    answers = ask({name: np.concatenate([picture, *covered])})[output].astype(np.float64)
    answers = answers.reshape(len(answers), -1)
    best = int(answers[0].argmax())
    lost = (answers[0, best] - answers[1:, best]).reshape(len(down) - 1, len(across) - 1)
    return {
        "output": output,
        "method": "occlusion",
        "class": best,
        "answer": float(answers[0, best]),
        "lost": lost.tolist(),
        "size": [int(picture.shape[rows_at]), int(picture.shape[columns_at])],
    }

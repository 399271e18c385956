"""What is logged of one fit. The only file here that calls a run.

Each field is tried by itself: whatever goes wrong costs this field and one warning, and nothing else.
"""

from __future__ import annotations

import csv
import io
import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from tarmac.core.errors import bounded
from tarmac.logging.complaints import Complaints, say
from tarmac.logging.run import Run

MOST_PARAMS = 200
LONGEST_PARAM = 500
MOST_POINTS = 10_000
MOST_CANDIDATES = 10_000
LARGEST_MODEL = 256 * 1024 * 1024

_complaints: WeakKeyDictionary[Run, Complaints] = WeakKeyDictionary()
_said: set[str] = set()
_fits: WeakKeyDictionary[Run, int] = WeakKeyDictionary()
_lock = threading.Lock()


def complain(run: Run | None, field: str, error: BaseException) -> None:
    """Say once for each run and field what is missing, and why."""
    try:
        if run is None:
            if field not in _said:
                _said.add(field)
                say(f"tarmac: warning: autolog: {field} is left out: {bounded(error, 200)} (said once)")
            return
        with _lock:
            if run not in _complaints:
                tag = run.tag
                _complaints[run] = Complaints(run.name, strict=False, keep=lambda kind, text: _tag(tag, kind, text))
        _complaints[run](field, error, f"autolog leaves out {field}")
    except Exception:  # noqa: BLE001, S110 - a warning that cannot be given is none
        pass


def _tag(tag: Callable[..., None], kind: str, text: str) -> None:
    tag({f"tarmac.warning.autolog.{kind}": text})


def attempt(run: Run | None, field: str, do: Callable[[], Any]) -> Any:
    try:
        return do()
    except Exception as error:  # noqa: BLE001 - our faults are never the training's
        complain(run, field, error)
        return None


class Record:
    """Where one fit is logged. Of several fits in one run, each but the first has its name before all it logs."""

    def __init__(self, run: Run, name: str) -> None:
        with _lock:
            number = _fits[run] = _fits.get(run, 0) + 1
        self.run = run
        self.label = "" if number == 1 else f"{name}-{number}"

    def field(self, field: str, do: Callable[..., Any], *given: Any) -> None:
        attempt(self.run, field, lambda: do(*given))

    def params(self, given: Mapping[str, Any], prefix: str = "") -> None:
        before = f"{self.label}.{prefix}" if self.label else prefix
        kept = {before + str(name): shown(value) for name, value in itertools.islice(given.items(), MOST_PARAMS)}
        if kept:
            self.run.params(kept)

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        before = f"{self.label}/" if self.label else ""
        if metrics:
            self.run.log({before + name: value for name, value in metrics.items()}, step)

    def curve(self, name: str, values: Iterable[Any]) -> None:
        for step, value in enumerate(itertools.islice(values, MOST_POINTS)):
            self.log({name: value}, step)

    def tag(self, **tags: str) -> None:
        before = f"{self.label}." if self.label else ""
        self.run.tag({f"autolog.{before}{name}": value for name, value in tags.items()})

    def used(self, name: str, about: str) -> None:
        self.run.use(name, about)

    def table(self, name: str, columns: Mapping[str, Sequence[Any]]) -> None:
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(columns)
        rows.writerows(itertools.islice(zip(*columns.values(), strict=True), MOST_CANDIDATES))
        self.save(f"{name}.csv", text.getvalue())

    def save(self, name: str, thing: Any) -> None:
        self.run.save(f"{self.label}/{name}" if self.label else name, thing)

    def model(self, model: Any, size: int | None) -> None:
        """Save a model, if it is not too large: `size` is in bytes, None for one that is larger than could be told."""
        if size is None or size > LARGEST_MODEL:
            self.tag(model=f"not saved: it is larger than {LARGEST_MODEL:,} bytes; `run.model(model)` saves it")
            return
        self.run.model(model, name=self.label or "model", register=False)


def shown(value: Any) -> str:
    """A param's value as a short text, without walking through what is large."""
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)
    if isinstance(value, str):
        return bounded(value, LONGEST_PARAM)
    if callable(getattr(value, "get_params", None)):  # an estimator: its own params are listed beside it
        return type(value).__name__
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__name__))
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"{type(value).__name__} {'×'.join(map(str, shape))}"
    if isinstance(value, (list, tuple, dict, set, frozenset)):
        if len(value) > 50:
            return f"{type(value).__name__} of {len(value)}"
        if isinstance(value, dict):
            return bounded(
                "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}", LONGEST_PARAM
            )
        return bounded("[" + ", ".join(map(shown, value)) + "]", LONGEST_PARAM)
    return bounded(value, LONGEST_PARAM)

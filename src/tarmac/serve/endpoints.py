"""An endpoint: chooses the version that answers, hands it the rows, and keeps the books."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tarmac.core.errors import Busy, Internal, Invalid, NotFound, TarmacError, bounded
from tarmac.core.ids import short
from tarmac.serve.journal import Journal
from tarmac.serve.lanes import Work
from tarmac.serve.routes import Endpoint as Route
from tarmac.serve.splitting import Split, mixed
from tarmac.serve.versions import Version

if TYPE_CHECKING:
    from tarmac.formats.arrays import Arrays

VERSION = b"x-tarmac-version"
TIMEOUT = b"x-tarmac-timeout-ms"
REQUEST_ID = b"x-request-id"
LONGEST_ID = 100
LONGEST_KEY = 500
SAMPLE_LINE = 1 << 32


log = logging.getLogger("tarmac.serve")


class Caller(Protocol):
    """Who waits for the answer, whatever protocol they speak."""

    headers: dict[bytes, bytes]
    gone: bool


C = TypeVar("C", bound=Caller)
Fit = Callable[[Version], "tuple[Arrays, int]"]
Show = Callable[[Version, str, "Arrays"], None]


class Endpoint:
    """One name that callers ask, with its loaded versions."""

    def __init__(self, route: Route, versions: Mapping[str, Version], journal: Journal | None) -> None:
        self.route = route
        self.name = route.name
        self.versions = versions
        self._split = Split([(served.version, served.share) for served in route.versions], route.salt or route.name)
        self._journal = journal if route.log.sample > 0 else None
        self._sample = int(route.log.sample * SAMPLE_LINE)
        self._shadow = versions.get(route.shadow) if route.shadow else None
        self._sticky = route.sticky
        self._sticky_header = route.sticky.lower().encode() if route.sticky else b""
        self._redacted = frozenset(route.log.redact)
        self._prefix = short()
        self._numbers = count()
        self._seconds = route.timeout_ms / 1000
        self.used = time.perf_counter()
        """When somebody asked last."""

    @property
    def first(self) -> Version:
        """The version with the largest share: the one whose signature describes the endpoint."""
        return self.versions[max(self.route.versions, key=lambda served: served.share).version]

    def version(self, name: str) -> Version:
        found = self.versions.get(name.removeprefix("v"))
        if found is None:
            raise NotFound.named(f"version of `{bounded(self.name)}`", name, self.versions)
        return found

    def answer(
        self,
        request: C,
        fit: Fit,
        show: Show,
        fail: Callable[[C, TarmacError], None],
        *,
        version: str | None = None,
        id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """The road of every prediction, whatever protocol it came by. `fit` makes the model's inputs of the request
        and `show` the answer of its outputs."""
        self.used = began = time.perf_counter()
        headers = request.headers
        key = self._key(headers, parameters) if self._sticky is not None else None
        chosen = self.choose(headers, key, version)
        if id is None:
            given = headers.get(REQUEST_ID)
            id = given.decode("latin-1") if given else f"{self._prefix}{next(self._numbers):x}"
        if len(id) > LONGEST_ID:
            raise Invalid(f"an id has at most {LONGEST_ID} characters, this one has {len(id)}")
        inputs, rows = fit(chosen)
        if rows == 0:
            raise Invalid("the request has no rows")

        def done(outputs: Any, error: TarmacError | None) -> None:
            if error is not None:
                chosen.tally.errors += 1
                fail(request, error)
                return
            try:
                show(chosen, id, outputs)
            except Exception as failure:  # noqa: BLE001 - whatever it is, others in the same batch wait behind it
                fail(request, _unshown(failure, chosen))
                return
            seconds = time.perf_counter() - began
            chosen.tally.count(seconds, rows)
            if self._journal is not None and (self._sample >= SAMPLE_LINE or self._sampled(id)):
                self._keep(chosen, id, int(seconds * 1e6), key, rows, inputs, outputs)
            if self._shadow is not None and self._shadow is not chosen:
                self._follow(self._shadow, fit, outputs)

        work = Work(inputs, rows, time.monotonic() + self.patience(headers), done, request)
        chosen.lane.submit(work)

    def choose(self, headers: Mapping[bytes, bytes], key: str | None = None, version: str | None = None) -> Version:
        """The version that answers: the one that is named, or by shares; while the endpoint is cut another one."""
        if self.route.cut:
            return self._instead()
        if version is None and VERSION in headers:
            version = headers[VERSION].decode("latin-1")
        return self.versions[self._split.choose(key)] if version is None else self.version(version)

    def _key(self, headers: Mapping[bytes, bytes], parameters: Mapping[str, Any] | None) -> str | None:
        value = parameters.get(self._sticky) if parameters and self._sticky else None
        if value is None:
            raw = headers.get(self._sticky_header)
            value = raw.decode("latin-1") if raw else None
        if value is None:
            return None
        if not isinstance(value, str | int) or len(str(value)) > LONGEST_KEY:
            raise Invalid(f"`{bounded(self._sticky)}` is a text or a whole number of at most {LONGEST_KEY} characters")
        return str(value)

    def patience(self, headers: Mapping[bytes, bytes]) -> float:
        asked = headers.get(TIMEOUT)
        if asked is None:
            return self._seconds
        if not asked.isdigit() or not 0 < len(asked) < 10:
            raise Invalid("X-Tarmac-Timeout-Ms is a whole number of milliseconds")
        return min(int(asked) / 1000, self._seconds)

    def _instead(self) -> Version:
        fallback = self.route.fallback
        if fallback.kind == "version" and fallback.version is not None:
            return self.versions[fallback.version]
        raise Cut(self)

    # --- books ---

    def _sampled(self, id: str) -> bool:
        """By the id: whoever brings the truth later knows whether its prediction was kept."""
        from zlib import crc32

        return mixed(crc32(id.encode())) < self._sample

    def _keep(
        self, chosen: Version, id: str, micros: int, key: str | None, rows: int, inputs: Arrays, outputs: Arrays
    ) -> None:
        assert self._journal is not None
        if self._redacted:
            inputs = redacted(inputs, chosen, self._redacted)
        if not self.route.log.outputs:
            outputs = {}
        self._journal.add(self.name, chosen.name, id, time.time(), micros, key, rows, inputs, outputs)

    def _follow(self, shadow: Version, fit: Fit, answered: Arrays) -> None:
        """The same rows for the shadow; its answer is compared and nobody sees it."""
        try:
            inputs, rows = fit(shadow)
        except TarmacError:
            shadow.tally.errors += 1
            return
        began = time.perf_counter()

        def done(outputs: Any, error: TarmacError | None) -> None:
            if error is not None:
                shadow.tally.errors += 1
                return
            shadow.tally.count(time.perf_counter() - began, rows)
            if same(answered, outputs):
                shadow.tally.shadow_same += 1
            else:
                shadow.tally.shadow_differs += 1

        shadow.lane.submit(Work(inputs, rows, time.monotonic() + self._seconds, done))


def _unshown(failure: Exception, version: Version) -> TarmacError:
    if isinstance(failure, TarmacError):
        return failure
    log.error("an answer of %s cannot be shown", version.lane.name, exc_info=failure)
    return Internal(f"the answer of {version.lane.name} cannot be shown", hint="the runtime's log has the rest")


class Cut(Exception):
    """The endpoint was cut: it answers with its constant, or with a refusal."""

    def __init__(self, endpoint: Endpoint) -> None:
        fallback = endpoint.route.fallback
        super().__init__(f"{endpoint.name} was cut")
        self.refusal = Busy(f"{endpoint.name}: {fallback.message}", hint="it answers again when the cut is undone")
        self._outputs = fallback.outputs if fallback.kind == "constant" else None

    def instead(self) -> Arrays:
        """The constant; refused if there is none."""
        if self._outputs is None:
            raise self.refusal
        import numpy as np

        return {name: np.asarray(value) for name, value in self._outputs.items()}


def redacted(inputs: Arrays, version: Version, names: frozenset[str]) -> Arrays:
    """Without what is not to be kept; in a matrix its columns become NaN, among whole numbers zero."""
    kept = {name: array for name, array in inputs.items() if name not in names}
    columns = version.signature.names() if version.signature is not None else []
    if len(kept) == 1 and len(columns) > 1:
        ((only, array),) = kept.items()
        places = [place for place, name in enumerate(columns) if name in names]
        if places and array.ndim == 2:
            array = array.copy()
            array[:, places] = float("nan") if array.dtype.kind == "f" else 0
            kept = {only: array}
    return kept


def same(one: Arrays, other: Arrays) -> bool:
    import numpy as np

    if one.keys() != other.keys():
        return False
    for name, array in one.items():
        beside = other[name]
        if array.shape != beside.shape:
            return False
        if array.dtype.kind == "f":
            if not np.allclose(array, beside, rtol=1e-4, atol=1e-6):
                return False
        elif not np.array_equal(array, beside):
            return False
    return True

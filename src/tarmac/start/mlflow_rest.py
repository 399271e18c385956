"""Questions to a server that speaks MLflow's REST API. Nothing is asked of it but to read."""

from __future__ import annotations

import base64
import http.client
import math
import os
import ssl
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlencode, urlsplit

import msgspec

from tarmac import __version__
from tarmac.core.errors import Invalid, TarmacError, Unreachable, bounded
from tarmac.core.secrets import Secret
from tarmac.start.mlflow_database import LARGEST

API = "/api/2.0/mlflow"
TIMEOUT_SECONDS = 60.0
LARGEST_ANSWER = 256 * 1024 * 1024
TRIES = 3
T = TypeVar("T")


class Pair(msgspec.Struct):
    key: str = ""
    value: str = ""


class Rest:
    """Who asks is known to it by `MLFLOW_TRACKING_TOKEN`, or `…_USERNAME` and `…_PASSWORD`, as to MLflow's client."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise Invalid(
                "an address must not carry a password: it would be kept in the ledger",
                hint="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        if not parts.hostname:
            raise Invalid(f"{bounded(url, 300)} is no address of a server")
        self._url = url
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._authorization = _authorization()
        self._kept: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    def pages(self, method: str, body: dict[str, Any], kind: type[T]) -> Iterator[T]:
        token = ""
        while True:
            asked = {**body, "page_token": token} if token else body
            page = self._ask("POST", f"{API}/{method}", kind, msgspec.json.encode(asked))
            yield page
            following = page.next_page_token  # type: ignore[attr-defined]
            if following in ("", token):
                return
            token = following

    def get_pages(self, method: str, kind: type[T], **query: Any) -> Iterator[T]:
        token = ""
        while True:
            given = {**query, "page_token": token} if token else query
            page = self.get(method, kind, **{name: value for name, value in given.items() if value != ""})
            yield page
            following = page.next_page_token  # type: ignore[attr-defined]
            if following in ("", token):
                return
            token = following

    def get(self, method: str, kind: type[T], **query: Any) -> T:
        return self._ask("GET", f"{API}/{method}?{urlencode(query)}", kind)

    def _ask(self, verb: str, path: str, kind: type[T], body: bytes | None = None) -> T:
        """A question; it is repeated when the connection is gone, because all of them only read."""
        status, data = self._answer(verb, path, body)
        if status != 200:
            raise self._refusal(status, data)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"{bounded(self._url)}{path.partition('?')[0]} does not answer as MLflow: {error}") from None

    def _answer(self, verb: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        tries = 0
        while True:
            connection, self._kept = self._kept or self._connect(), None
            tries += 1
            try:
                response = self._send(connection, verb, path, body)
                data = response.read(LARGEST_ANSWER)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if tries == TRIES:
                    raise self._away(error) from error
                continue
            if response.isclosed():
                self._kept = connection
            else:  # more than we take
                connection.close()
            return response.status, data

    def download(self, path: str) -> BinaryIO:
        connection = self._connect()
        try:
            response = self._send(connection, "GET", path, None)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._away(error) from error
        if response.status != 200:
            connection.close()
            raise OSError(f"the server answers {response.status}")
        return cast("BinaryIO", Download(connection, response))

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)

    def _send(
        self, connection: http.client.HTTPConnection, verb: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"tarmac/{__version__}", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._authorization is not None:
            headers["Authorization"] = self._authorization.reveal()
        connection.request(verb, f"{self._path}{path}", body, headers)
        return connection.getresponse()

    def _away(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"no answer from {bounded(self._url)}: {type(error).__name__}: {error}",
            hint="repeat the import, or resume its job: it goes on where it was",
        )

    def _refusal(self, status: int, data: bytes) -> TarmacError:
        said = bounded(data[:1000].decode("utf-8", "replace"), 200)
        if status in (401, 403):
            return Invalid(
                f"{bounded(self._url)} does not let us in ({status}): {said}",
                hint="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        if status in (429, 502, 503, 504):
            return Unreachable(f"{bounded(self._url)} answers {status}: {said}", hint="look at its log, then repeat")
        return Invalid(f"{bounded(self._url)} answers {status}: {said}")


class Download:
    """The body of an answer as a file; one that was cut off is an error and not a shorter file."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def read(self, size: int) -> bytes:
        try:
            data = self._response.read(size)
        except http.client.HTTPException as error:
            raise OSError(f"cut off: {type(error).__name__}") from error
        if not data and self._response.length:
            raise OSError(f"cut off: {self._response.length} bytes are missing")
        return data

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exception: object) -> None:
        self._response.close()
        self._connection.close()


def _authorization() -> Secret | None:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return Secret(f"Bearer {token}")
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    if user or password:
        return Secret(f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")
    return None


def time(value: int | str | None) -> int | None:
    try:
        number = int(value) if value is not None else -1
    except ValueError:
        return None
    return number if 0 <= number <= 2**62 else None


def whole(value: int | str) -> int:
    try:
        found = int(value)
    except ValueError:
        found = 2**63
    if not -(2**63) <= found < 2**63:
        raise Invalid(f"the server says `{bounded(value)}` where a whole number belongs")
    return found


def number(value: float | str) -> float:
    number = float(value)
    return math.copysign(math.inf, number) if abs(number) >= LARGEST else number

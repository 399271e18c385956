"""A workspace, here or far away: the same operations on a folder and on a server.

workspace = tarmac.connect()                       # the nearest .tarmac/
workspace = tarmac.connect("https://host/p/NAME")  # a server
run = workspace(CreateRun(experiment="baseline"))  # -> Run
"""

from __future__ import annotations

import io
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import msgspec

from tarmac.core import places
from tarmac.core.errors import Cancelled, Invalid, NotAWorkspace, bounded, from_json
from tarmac.core.operation import Operation, Started, check, spec_of
from tarmac.core.secrets import Secret
from tarmac.core.settings import Settings
from tarmac.door import catalog
from tarmac.flow.operations import CancelJob, GetJob
from tarmac.flow.records import Job

if TYPE_CHECKING:
    from tarmac.core.actor import Actor
    from tarmac.door.dispatch import Door

T = TypeVar("T")
Follow = Callable[[Job], None]

UNDER_GATES = frozenset(
    {
        "gates.check", "gates.judge", "models.approve", "models.promote", "models.rename", "models.retire", "models.rm",
        "models.rollback", "versions.rm", "versions.stage",
    }
)  # fmt: skip
LOOK_FIRST_SECONDS = 0.05
LOOK_SELDOM_SECONDS = 0.5


class Workspace(ABC):
    """Call it with an operation and get that operation's answer."""

    project: str
    place: str
    warnings: list[str]

    @abstractmethod
    def __call__(self, request: Operation[T]) -> T:
        """Do one operation."""

    @abstractmethod
    def put(self, data: bytes | Path | BinaryIO) -> str:
        """Store bytes; the digest they can be asked for with."""

    @abstractmethod
    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of a blob, verified, in pieces."""

    def locate(self, digest: str) -> Path | None:
        """The file that holds a blob, if it lies on this machine; it must not be written to."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""

    def leave(self) -> None:  # noqa: B027 - a folder keeps nothing for a thread
        """This thread will ask nothing more: what was kept for it alone is let go of."""

    def wait(self, started: Started[T], follow: Follow | None = None) -> T:
        """The answer of a job when it is done. `follow` is called with the job as it goes on."""
        pause = LOOK_FIRST_SECONDS
        while True:
            job = self(GetJob(id=started.id))
            if follow is not None:
                follow(job)
            if job.state not in ("queued", "running"):
                answer: T = self._answer(job)
                return answer
            time.sleep(pause)
            pause = min(pause * 1.3, LOOK_SELDOM_SECONDS)

    def cancel(self, started: Started[Any]) -> None:
        self(CancelJob(id=started.id))

    def _answer(self, job: Job) -> Any:
        if job.state == "done":
            return msgspec.convert(job.answer, catalog.find(job.operation).answer)
        if job.error is not None:
            raise from_json({"error": job.error})
        raise Cancelled(f"job {job.id} is {job.state}", hint=f"`tarmac jobs resume {job.id}` goes on with it")

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class LocalWorkspace(Workspace):
    """A folder on this machine."""

    def __init__(self, door: Door, actor: Actor, project: str) -> None:
        self.door = door
        self.actor = actor
        self.project = project
        self.place = str(door.store.folder.path)
        self.warnings = door.store.folder.warnings()

    def __call__(self, request: Operation[T]) -> T:
        if spec_of(request).name in UNDER_GATES:
            self._follow_project_file()
        answer: T = self.door.dispatch(checked(request), self.actor, self.project)
        return answer

    def _follow_project_file(self) -> None:
        """In a folder the gates are those of the project file beside it, as they stand there now."""
        from tarmac.workspace import gates

        gates.follow(self, Path(self.place).parent)

    def put(self, data: bytes | Path | BinaryIO) -> str:
        with _stream(data) as stream:
            stored = self.door.store.blobs.put(stream)
        self.door.keep_blob(stored, self.actor, self.project)
        return stored.digest

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        blob = self.door.find_blob(digest, self.actor, self.project)
        return self.door.read_blob(blob, max(0, start), blob.size if end is None else min(end, blob.size))

    def locate(self, digest: str) -> Path | None:
        place = self.door.store.folder.blobs / self.door.find_blob(digest, self.actor, self.project).place
        return place if place.is_file() else None

    def close(self) -> None:
        self.door.close()


class RemoteWorkspace(Workspace):
    """A server's."""

    def __init__(self, url: str, project: str, token: str | None) -> None:
        from tarmac.workspace.http import Remote

        self.project = project
        self.place = url
        self.warnings = []
        self._remote = Remote(url, token)

    def __call__(self, request: Operation[T]) -> T:
        spec = spec_of(request)
        path = f"/api/v1/p/{self.project}/{spec.name}"
        try:  # the server checks the rest, as strictly
            wire = query_string(request).encode() if spec.kind == "query" else msgspec.json.encode(request)
        except (UnicodeEncodeError, TypeError, OverflowError) as error:
            raise Invalid(f"{spec.name}: {bounded(error, 300)}") from None
        body = self._remote.get(path, wire.decode()) if spec.kind == "query" else self._remote.post(path, wire)
        try:
            answer: T = msgspec.json.decode(body, type=spec.reply)
        except (msgspec.DecodeError, UnicodeDecodeError):  # what does not fit its type included
            raise self._remote.not_ours(body[:200].decode("utf-8", "replace") or "nothing") from None
        return answer

    @property
    def token(self) -> Secret | None:
        """What it is shown, so that workers on other machines can speak for us."""
        return self._remote.token

    def put(self, data: bytes | Path | BinaryIO) -> str:
        with _stream(data) as stream:
            return self._remote.upload(f"/api/v1/p/{self.project}/blobs", stream)

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self._remote.download(f"/api/v1/p/{self.project}/blobs/{digest}", digest, start, end)

    def close(self) -> None:
        self._remote.close()

    def leave(self) -> None:
        self._remote.leave()

    def interrupt(self) -> None:
        """Break off what other threads are waiting for."""
        self._remote.interrupt()


def checked(request: Operation[T]) -> Operation[T]:
    """The request as strictly checked as one that came over the wire, for which it must be possible to send it."""
    name = spec_of(request).name
    try:
        return check(request)
    except (UnicodeEncodeError, TypeError, OverflowError) as error:
        raise Invalid(f"{name}: {bounded(error, 300)}") from None


def query_string(request: Operation[Any]) -> str:
    """A query as a URL carries it: plain values as they are, anything else as JSON; defaults stay away."""
    from urllib.parse import urlencode

    fields = {}
    for field in msgspec.structs.fields(request):
        value = getattr(request, field.name)
        if value != field.default:
            plain = isinstance(value, str)
            fields[field.encode_name] = value if plain else msgspec.json.encode(value).decode()
    return urlencode(fields)


def connect(
    where: str | Path | None = None,
    project: str | None = None,
    *,
    create: bool = False,
    settings: Settings | None = None,
) -> Workspace:
    """Open a workspace: a folder, a server's URL, or by default what settings say or the nearest `.tarmac/`.

    With `create`, a folder that holds no workspace gets one.
    """
    settings = settings or Settings.from_environment()
    where = where or settings.workspace
    project = places.check_project(project or settings.project)
    if isinstance(where, str) and places.is_address(where):
        return _connect_remote(where, project, settings)
    if isinstance(where, str) and "://" in where:
        raise Invalid(
            f"`{where}` is neither a folder nor an http address",
            hint="a Postgres store is set in a folder: `tarmac init --store URL`",
        )
    return _open_local(Path(where) if where is not None else None, project, create, settings)


def _connect_remote(url: str, project: str | None, settings: Settings) -> RemoteWorkspace:
    address, named = places.address(url)
    return RemoteWorkspace(address, project or named or "default", settings.token or local_token(settings, address))


def token_file(settings: Settings, url: str) -> Path:
    """Where a server on this machine leaves the token for its owner's own command line."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return settings.state / "servers" / f"{port}.token"


def local_token(settings: Settings, url: str) -> str | None:
    if urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"):
        return None
    try:
        return token_file(settings, url).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _open_local(place: Path | None, project: str | None, create: bool, settings: Settings) -> LocalWorkspace:
    from tarmac import store
    from tarmac.core.actor import os_user
    from tarmac.door.dispatch import Door
    from tarmac.store import folder as folders

    start = place.absolute() if place is not None else Path.cwd()
    folder = folders.at(start) if place is not None else folders.find(start)
    if folder is not None and folder.exists():
        opened = store.open_store(folder, settings)
    elif create:
        opened = store.create(folder or folders.at(start), settings)
    else:
        raise NotAWorkspace.at(start)
    try:
        if project is None:
            project = places.project_here(start)
        opened.project_key(project, create=True)
    except BaseException:
        opened.close()
        raise
    return LocalWorkspace(Door(opened), os_user(), project)


def _stream(data: bytes | Path | BinaryIO) -> BinaryIO:
    if isinstance(data, bytes):
        return io.BytesIO(data)
    return data.open("rb") if isinstance(data, Path) else data

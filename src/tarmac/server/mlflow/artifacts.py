"""Files through the proxy: `EXPERIMENT/RUN/artifacts/PATH` is a file of that run, any other path one of the project.

Bytes go to the blob store as they come, so what was there before under any name is stored once; a run's table of paths
is the same that tarmac's own clients see.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from tarmac.core.errors import NotFound
from tarmac.core.ids import time_ordered
from tarmac.door.dispatch import Door
from tarmac.server import stream
from tarmac.server.inflow import Lender
from tarmac.server.mlflow import checks, packages
from tarmac.server.mlflow.errors import Refusal, absent, invalid, missing_value
from tarmac.server.mlflow.messages import Answer, Reader, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import ByRun, artifact_uri, guarded, read
from tarmac.server.mlflow.versions import ByNumber, proxied
from tarmac.server.mlflow.versions import read as read_version
from tarmac.server.wire import Receive, Send, answer, body, encode
from tarmac.store.records import File
from tarmac.track import operations as ops
from tarmac.track.records import Artifact

ROOT, PARTS = "mlflow-artifacts/artifacts", "mlflow-artifacts/mpu/"
LARGEST_FROM_PAGE = 10 * 1024 * 1024
ADDRESSES = frozenset({"get-artifact", "model-versions/get-artifact"})
PAGES = ADDRESSES | {"mlflow/upload-artifact"}
MOST_PARTS = 10_000
LARGEST_BODY = 8 * 1024 * 1024
DEEPEST_CODING = 5
TEXT = frozenset({
    "txt", "log", "err", "cfg", "conf", "cnf", "cf", "ini", "properties", "prop", "hocon", "toml", "yaml", "yml", "xml",
    "json", "js", "py", "py3", "csv", "tsv", "md", "rst", "ipynb", "MLmodel", "mlproject", "MLproject",
})  # fmt: skip
_SAFE = re.compile(ops.RelativePath.__metadata__[0].pattern)  # type: ignore[attr-defined]
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROXIED = re.compile(r"\d{1,64}/([0-9a-f]{32})/artifacts(?:/(.*))?", re.DOTALL)

_OF_MODEL = re.compile(r"mlflow/logged-models/([^/]+)/artifacts/files")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path of the proxy leads: into a run, into a package, or among the files that belong to neither."""

    run: str | None
    path: str
    package: str | None = None


class Shown(Answer):
    path: str
    is_dir: bool
    file_size: int | None = None


class Listed(Answer):
    root_uri: str | None = None
    files: list[Shown] = []
    next_page_token: str | None = None


class ListOfRun(ByRun):
    path: str | None = None
    page_token: str | None = None


class ListProxied(Request):
    path: str | None = None


class Begin(Request):
    required = ("path", "num_parts")
    path: str | None = None
    num_parts: int | None = None


class Part(Request):
    part_number: int | None = None
    etag: str | None = None
    url: str | None = None


class Complete(Request):
    required = ("path", "upload_id")
    path: str | None = None
    upload_id: str | None = None
    parts: list[Part] | None = None


class Credential(Answer):
    url: str
    part_number: int
    headers: dict[str, str] = {}


class Begun(Answer):
    upload_id: str
    credentials: list[Credential]


_begin, _complete, _list = Reader(Begin), Reader(Complete), Reader(ListProxied)


@method("GET", "artifacts/list")
async def list_artifacts(call: Call, request: ListOfRun) -> Listed:
    run, path = request.run, safe(request.path or "", may_be_root=True)
    found = await read(call, run)
    page = await call(ops.ListArtifacts(id=run, folder=path, after=request.page_token or ""))
    return Listed(root_uri=artifact_uri(found), files=_shown(page.artifacts, ""), next_page_token=page.next)


class Files:
    """The part of MLflow's API that is bytes, not JSON."""

    def __init__(self, door: Door) -> None:
        self._door = door

    @staticmethod
    def serves(below: str) -> bool:
        return below.startswith("mlflow-artifacts/") or below in PAGES or _OF_MODEL.fullmatch(below) is not None

    async def serve(
        self,
        call: Call,
        verb: str,
        below: str,
        base: str,
        query: bytes,
        headers: dict[bytes, bytes],
        lender: Lender | None,
        receive: Receive,
        send: Send,
    ) -> None:
        fields = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        if below in ADDRESSES or _OF_MODEL.fullmatch(below):
            if verb not in ("GET", "HEAD"):
                raise Refusal("BAD_REQUEST", f"{below[:200]} is not called with {verb}")
            await self._download(call, await _addressed(call, below, fields), verb, headers, send)
        elif below == "mlflow/upload-artifact":
            await self._from_page(call, fields, headers, lender, receive, send)
        elif below in (ROOT, f"{ROOT}/") and verb == "GET":
            await self._list(call, query, send)
        elif below.startswith(f"{ROOT}/"):
            place = place_of(below.removeprefix(f"{ROOT}/"))
            if verb in ("GET", "HEAD"):
                await self._download(call, place, verb, headers, send)
            elif verb == "PUT":
                await self._keep(call, place, *(await self._take(call, headers, lender, receive)))
                await answer(send, b"{}")
            elif verb == "DELETE":
                await self._delete(call, place)
                await answer(send, b"{}")
            else:
                raise Refusal("BAD_REQUEST", f"files are sent with PUT, read with GET, removed with DELETE, not {verb}")
        elif below.startswith(PARTS):
            await self._parts(call, verb, below.removeprefix(PARTS), base, headers, lender, receive, send)
        elif below.startswith("mlflow-artifacts/presigned"):
            raise Refusal("NOT_IMPLEMENTED", "files come through this server, not from signed addresses")
        else:
            raise Refusal("ENDPOINT_NOT_FOUND", f"MLflow's API has nothing at {below[:200]}")

    async def _download(self, call: Call, place: Place, verb: str, headers: dict[bytes, bytes], send: Send) -> None:
        if not place.path:
            raise invalid("Invalid path")
        name = place.path.rpartition("/")[2]
        described = (
            (b"content-type", kind_of(name).encode()),
            (b"content-disposition", disposition(name)),
            (b"cache-control", b"no-cache"),
        )
        try:
            if place.package is not None:
                digest = await packages.digest_at(call, place.package, place.path)
                if digest is None:
                    raise absent(f"No such artifact: '{place.path}'")
                await stream.get_blob(self._door, digest, call.project, call.actor, verb, headers, send, described)
                return
            await stream.get_file(
                self._door, place.run, place.path, call.project, call.actor, verb, headers, send, described
            )
        except NotFound as error:
            if place.run is not None and error.detail.get("kind") == "run":
                raise checks.no_run(place.run) from None
            raise absent(f"No such artifact: '{place.path}'") from None

    async def _take(
        self, call: Call, headers: dict[bytes, bytes], lender: Lender | None, receive: Receive
    ) -> tuple[str, int]:
        stored = await stream.take_blob(self._door, call.project, call.actor, headers, lender, receive)
        return stored.digest, stored.size

    async def _keep(self, call: Call, place: Place, digest: str, size: int) -> None:
        """Make a path lead to bytes that are in the store."""
        if not place.path:
            raise invalid("Invalid path")
        file = File(path=place.path, digest=digest, size=size)
        if place.package is not None:
            await packages.attach(call, place.package, file)
        elif place.run is None:
            await call(ops.PutFiles(files=[file]))
        else:
            with guarded(place.run):
                await call(ops.AttachFiles(id=place.run, files=[file]))

    async def _delete(self, call: Call, place: Place) -> None:
        if place.package is not None:
            raise Refusal("INVALID_STATE", "files of a logged model are not removed one by one: delete the model")
        try:
            if place.run is None:
                if not place.path:
                    raise invalid("Invalid path")
                await call(ops.RemoveFiles(path=place.path))
                return
            with guarded(place.run):
                paths: Sequence[str] = [place.path]
                if not place.path:
                    paths = [one.path for one in (await call(ops.ListArtifacts(id=place.run))).artifacts]
                for path in paths:
                    await call(ops.DetachFiles(id=place.run, path=path))
        except NotFound:
            raise absent(f"No such artifact: '{place.path}'") from None

    async def _list(self, call: Call, query: bytes, send: Send) -> None:
        request = _list.query(query)
        place = place_of(request.path or "")
        found: list[Artifact] = []
        after: str | None = ""
        while after is not None:
            if place.package is not None:
                found = packages.direct(await packages.files(call, place.package, place.path), place.path)
                break
            if place.run is None:
                page = await call(ops.ListFiles(folder=place.path, after=after))
            else:
                try:
                    page = await call(ops.ListArtifacts(id=place.run, folder=place.path, after=after))
                except NotFound:
                    break  # nothing was logged there
            found += page.artifacts
            after = page.next
        await answer(send, encode(Listed(files=_shown(found, f"{place.path}/" if place.path else ""))))

    async def _from_page(
        self,
        call: Call,
        fields: dict[str, str],
        headers: dict[bytes, bytes],
        lender: Lender | None,
        receive: Receive,
        send: Send,
    ) -> None:
        """What MLflow's own pages send."""
        if not (fields.get("run_uuid") or fields.get("run_id")):
            raise invalid("Request must specify run_uuid.")
        if not fields.get("path"):
            raise invalid("Request must specify path.")
        place = Place(_run_of(fields), safe(fields["path"]))
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > LARGEST_FROM_PAGE:
            raise invalid(f"Artifact size is too large. Max size is {LARGEST_FROM_PAGE // 1024 // 1024}MB.")
        digest, size = await self._take(call, headers, lender, receive)
        if not size:
            raise invalid("Request must specify data.")
        await self._keep(call, place, digest, size)
        await answer(send, b"{}")

    async def _parts(
        self,
        call: Call,
        verb: str,
        below: str,
        base: str,
        headers: dict[bytes, bytes],
        lender: Lender | None,
        receive: Receive,
        send: Send,
    ) -> None:
        """An upload in parts: each part is a blob of its own, and completing it writes them one behind the other."""
        what, _, path = below.partition("/")
        if what == "part" and verb == "PUT":
            digest, _ = await self._take(call, headers, lender, receive)
            await answer(send, b"{}", extra=((b"etag", f'"{digest}"'.encode()),))
            return
        if verb != "POST" or what not in ("create", "complete", "abort"):
            raise Refusal("ENDPOINT_NOT_FOUND", f"MLflow's API has nothing at {PARTS}{below[:200]}")
        content = await body(receive, headers, LARGEST_BODY)
        if what == "create":
            await answer(send, encode(_credentials(_begin.body(content), path, base, headers)))
        elif what == "complete":
            request = _complete.body(content)
            parts = sorted(request.parts or [], key=lambda part: part.part_number or 0)
            if [part.part_number for part in parts] != list(range(1, len(parts) + 1)) or not parts:
                raise invalid("the parts of an upload are numbered 1, 2, 3 … without a gap")
            digests = [(part.etag or "").strip('"') for part in parts]
            place = place_of(_joined(path, request.path or ""))
            stored = await stream.join_blobs(self._door, call.project, call.actor, digests)
            await self._keep(call, place, stored.digest, stored.size)
            await answer(send, b"{}")
        else:
            await answer(send, b"{}")  # parts that nothing needs are garbage, and collected


def _credentials(request: Begin, path: str, base: str, headers: dict[bytes, bytes]) -> Begun:
    place_of(_joined(path, request.path or ""))
    count = request.num_parts or 0
    if not 1 <= count <= MOST_PARTS:
        raise invalid(f"an upload has 1 to {MOST_PARTS} parts, not {count}")
    upload = time_ordered()
    # a part is sent to its address as it is: who it comes from is known by what came with this request
    given = {"Authorization": headers[b"authorization"].decode("latin-1")} if b"authorization" in headers else {}
    url = f"{base}/api/2.0/{PARTS}part/{upload}"
    return Begun(
        upload_id=upload,
        credentials=[Credential(url=f"{url}/{n}", part_number=n, headers=given) for n in range(1, count + 1)],
    )


def place_of(path: str) -> Place:
    found = safe(path, may_be_root=True)
    if of_package := packages.PROXIED.fullmatch(found):
        return Place(None, of_package[2] or "", of_package[1])
    match = _PROXIED.fullmatch(found)
    return Place(match[1], safe(match[2] or "", may_be_root=True)) if match else Place(None, found)


def safe(path: str, *, may_be_root: bool = False) -> str:
    """A path that leads nowhere but down, however often it was encoded."""
    plain = path.rstrip("/") if path not in ("/", "//") else "//"
    if plain in ("", ".") and may_be_root:
        return ""
    decoded = plain
    for _ in range(DEEPEST_CODING):
        if not _SAFE.search(decoded) or len(decoded) > 4096:
            raise invalid("Invalid path")
        if (further := unquote(decoded)) == decoded:
            break
        decoded = further
    return plain


def kind_of(name: str) -> str:
    """Text where it can be read, so that pages show it; never what the client asked for."""
    ending = name.rpartition(".")[2]
    if ending in TEXT:
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def disposition(name: str) -> bytes:
    """`attachment`, with the name as it is where HTTP can carry it, and encoded where it cannot."""
    if _TOKEN.fullmatch(name):
        return f"attachment; filename={name}".encode()
    plain = re.sub(r'[^\x20-\x7e]|["\\]', "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}".encode()


def _joined(folder: str, name: str) -> str:
    """The path of an upload in parts: the address names the folder, and the body the file, as its sender has it."""
    return _below(folder, re.split(r"[/\\]", name)[-1])


def _below(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def listed(found: Sequence[Artifact]) -> list[Shown]:
    """Files and folders by their whole path."""
    return _shown(found, "")


def _shown(found: Sequence[Artifact], prefix: str) -> list[Shown]:
    return [
        Shown(path=one.path.removeprefix(prefix), is_dir=False, file_size=one.size)
        if one.digest is not None
        else Shown(path=one.path.removeprefix(prefix), is_dir=True)
        for one in found
    ]


async def _addressed(call: Call, below: str, fields: dict[str, str]) -> Place:
    """What is asked for by its run, its logged model or its version, and a path in there."""
    if below == "get-artifact":
        return Place(_run_of(fields), safe(fields.get("path", "")))
    of_model = _OF_MODEL.fullmatch(below)
    if of_model is None:
        return await _of_version(call, fields)
    if not fields.get("artifact_file_path"):
        raise missing_value("artifact_file_path")
    package = await packages.read(call, packages.own_id(of_model[1]))
    return Place(None, safe(fields["artifact_file_path"]), package.id)


async def _of_version(call: Call, fields: dict[str, str]) -> Place:
    path, asked = safe(fields.get("path", "")), ByNumber(name=fields.get("name"), version=fields.get("version"))
    version = await read_version(call, asked)
    if version.package is not None:
        return Place(None, path, version.package)
    folder = proxied(version.location or version.source)
    if folder is None:
        raise absent(f"No such artifact: '{path}': the files of this version are not kept here")
    return place_of(_below(folder, path))


def _run_of(fields: dict[str, str]) -> str:
    if not (fields.get("run_id") or fields.get("run_uuid")):
        raise missing_value("run_id")
    return checks.run_id(fields.get("run_id"), fields.get("run_uuid"))

"""What a browser shows: the web UI, the API page, and the way in with a one-time key."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from tarmac import __version__
from tarmac.core.errors import Invalid, NotFound
from tarmac.server.auth import SESSION_COOKIE, SESSION_SECONDS, Authenticator
from tarmac.server.wire import Receive, Scope, Send, answer, encode

HERE = Path(__file__).parent
STATIC = HERE / "static"
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
NOT_BUILT = """<!doctype html><title>tarmac</title><p>This tarmac was installed without its web page.
Build it with <code>make web</code>, or install a released package. The API is at <a href="/docs">/docs</a>."""


class Pages:
    """Everything that is not the API."""

    def __init__(self, auth: Authenticator) -> None:
        self._auth = auth
        self._static = StaticFiles(directory=STATIC, check_dir=False)
        self._api = StaticFiles(directory=HERE / "api_page")
        self._openapi: bytes | None = None

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD"):
            raise Invalid(f"{path[:100]} can be read, not called with {method}", hint="the API is below /api/v1")
        response = await self._response(path, scope, Request(scope))
        response.headers.update(SAFE_HEADERS)
        await response(scope, receive, send)

    async def _response(self, path: str, scope: Scope, request: Request) -> Response:
        if path == "/health":
            return PlainTextResponse("OK")
        if path == "/version":
            return PlainTextResponse(__version__)
        if path == "/docs":
            return FileResponse(HERE / "api_page" / "index.html")
        if path.startswith("/docs/"):
            return await self._file(self._api, path.removeprefix("/docs/"), scope)
        if path == "/" or path.startswith("/p/"):
            key = parse_qs(request.url.query).get("key")
            if key:
                return self._sign_in(key[0], path)
            index = STATIC / "index.html"
            return FileResponse(index) if index.is_file() else HTMLResponse(NOT_BUILT)
        return await self._file(self._static, path.lstrip("/"), scope)

    def _sign_in(self, key: str, path: str) -> Response:
        response = RedirectResponse(path, status_code=303)
        session = self._auth.session_for(key)
        if session is not None:
            response.set_cookie(
                SESSION_COOKIE, session, max_age=SESSION_SECONDS, httponly=True, samesite="strict", path="/"
            )
        return response

    async def _file(self, files: StaticFiles, path: str, scope: Scope) -> Response:
        try:
            return await files.get_response(path, scope)
        except HTTPException:
            raise NotFound.named("page", f"/{path}", hint="the API is below /api/v1; its page is /docs") from None

    async def openapi(self, send: Send) -> None:
        if self._openapi is None:
            from tarmac.server.openapi import document

            self._openapi = encode(document())
        await answer(send, self._openapi)

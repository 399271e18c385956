"""What a client asks about the server itself."""

from __future__ import annotations

from tarmac.server.mlflow.messages import Answer, Request
from tarmac.server.mlflow.routes import Call, method


class Info(Answer):
    store_type: str
    workspaces_enabled: bool
    trace_archival_enabled: bool
    multipart_uploads_enabled: bool
    multipart_downloads_enabled: bool


@method("GET", "server-info")
async def server_info(call: Call, request: Request) -> Info:
    """One streamed PUT is the better way here, however large the file: parts are taken from those who insist."""
    return Info(
        store_type="SqlStore",
        workspaces_enabled=False,
        trace_archival_enabled=False,
        multipart_uploads_enabled=False,
        multipart_downloads_enabled=False,
    )

"""What can be asked about the ledger."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tarmac.core.names import Limit, Name
from tarmac.core.operation import Job, Query, operation
from tarmac.govern.records import AuditEvent, Export, Verification

Position = Annotated[int, Meta(ge=0, le=(1 << 63) - 1, description="the position of an event")]
Head = Annotated[str, Meta(pattern=r"^([0-9]{1,18}:[0-9a-f]{64})?$(?!\n)", description="NUMBER:DIGEST of a seal")]


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    events: list[AuditEvent]
    next: int | None = None


@operation("audit.ls", needs="read")
class ListEvents(Query[AuditPage], frozen=True, kw_only=True):
    """Sealed events of this project, newest first, or oldest first from a position on."""

    after: Position | None = None
    before: Position | None = None
    actor: Name | None = None
    operation: Name | None = None
    subject: Name | None = None
    limit: Limit = 50


@operation("audit.verify", needs="admin", scope="workspace")
class VerifyLedger(Job[Verification], frozen=True, kw_only=True):
    """Prove that no event was changed, removed or added since it was sealed.

    `expect` is a head that was written down elsewhere, as NUMBER:DIGEST: the chain must still contain it.
    """

    expect: Head = ""


@operation("audit.export", needs="admin")
class ExportEvents(Job[Export], frozen=True, kw_only=True):
    """Write this project's events as JSON lines into a blob."""

    after: Position = 0

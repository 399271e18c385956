"""What can be asked about the ledger, and about the gates before an alias."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tarmac.core.names import Id, Limit, Name
from tarmac.core.operation import Command, Job, Query, operation
from tarmac.govern.records import AuditEvent, Export, Verification
from tarmac.registry.records import AliasName, Check, Gate, ModelName, Ref, Verdict
from tarmac.track.records import Difference

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
    """Prove that no event was changed, removed or added since it was sealed, and that history and gates agree with it.

    `expect` is a head that was written down elsewhere, as NUMBER:DIGEST: the chain must still contain it.
    """

    expect: Head = ""


@operation("audit.export", needs="admin")
class ExportEvents(Job[Export], frozen=True, kw_only=True):
    """Write this project's events as JSON lines into a blob."""

    after: Position = 0


# --- gates ---

Rule = Annotated[str, Meta(min_length=1, max_length=2000, description="like metrics['val/accuracy'] >= 0.95")]
Pem = Annotated[str, Meta(min_length=1, max_length=10_000, description="a public key in PEM")]
Column = Annotated[str, Meta(max_length=250)]
Licence = Annotated[str, Meta(min_length=1, max_length=100, description="like MIT or BSD*")]


class GateList(msgspec.Struct, frozen=True, kw_only=True):
    gates: list[Gate]


class SideBySide(msgspec.Struct, frozen=True, kw_only=True):
    """`why` says why nothing was predicted, where nothing was."""

    versions: list[str]
    differences: list[Difference]
    why: str = ""


class CheckPage(msgspec.Struct, frozen=True, kw_only=True):
    checks: list[Check]
    next: str | None = None


@operation("gates.set", needs="admin", positional=("model", "alias"))
class SetGate(Command[Gate], frozen=True, kw_only=True):
    """Say what has to hold before an alias of a model moves. It replaces what was said before.

    The model need not exist yet. `tarmac gates sync` does this for every gate of a project file.
    """

    model: ModelName
    alias: AliasName
    require: Annotated[list[Rule], Meta(max_length=200, description="at most 200 rules")] = []
    first: Annotated[
        Literal["allow", "refuse"], Meta(description="rules that name a champion, when there is none yet")
    ] = "allow"
    signed_by: Annotated[list[Pem], Meta(max_length=20, description="keys that `signed` may be by")] = []
    approvals: Annotated[int, Meta(ge=0, le=20, description="how many people have to approve")] = 0
    approvers: Annotated[list[Pem], Meta(max_length=20, description="keys whose signed approval counts")] = []
    hours: Annotated[float, Meta(gt=0, le=8760, description="how long a measurement counts")] = 24
    data: Annotated[str, Meta(max_length=500, description="what the rows are called")] = ""
    manifest: Annotated[Id | None, Meta(description="the manifest with the rows that are measured on")] = None
    label: Annotated[Column, Meta(description="the column of the rows that has the answers")] = ""
    positive: Annotated[str, Meta(max_length=250, description="which label counts as yes; by default the last")] = ""
    licences: Annotated[list[Licence], Meta(max_length=200, description="what is allowed; none means anything")] = []
    origin: Annotated[Literal["hand", "file"], Meta(description="file: goes when the project file drops it")] = "hand"


@operation("gates.rm", needs="admin", positional=("model", "alias"))
class RemoveGate(Command[Gate], frozen=True, kw_only=True):
    """Let an alias move without rules again."""

    model: ModelName
    alias: AliasName


@operation("gates.ls", needs="read")
class ListGates(Query[GateList], frozen=True, kw_only=True):
    """The gates of this project, or of one model."""

    model: Annotated[str, Meta(max_length=256)] = ""


@operation("gates.judge", needs="read", positional=("ref",))
class JudgeVersion(Query[Verdict], frozen=True, kw_only=True):
    """What the gate of an alias says of a version now, rule by rule; nothing is moved and nothing is measured."""

    ref: Ref
    to: AliasName


@operation("gates.check", needs="write", positional=("ref",))
class CheckGate(Job[Check], frozen=True, kw_only=True):
    """Measure what the gate of an alias names, of a version and its champion, and keep it as evidence."""

    ref: Ref
    to: AliasName


@operation("gates.checks", needs="read", positional=("ref",))
class ListChecks(Query[CheckPage], frozen=True, kw_only=True):
    """What was measured for the gates of a version, newest first."""

    ref: Ref
    limit: Limit = 20
    before: Annotated[str, Meta(max_length=64, description="the `next` of the page before")] = ""


@operation("gates.compare", needs="write", positional=("a", "b"))
class CompareVersions(Job[SideBySide], frozen=True, kw_only=True):
    """In what two versions differ: results, params, data, code, size, and what they predict on the rows of a gate.

    The rows are those of the first model's gate, or of its gate of `alias`. `tarmac models compare` is the same.
    """

    a: Ref
    b: Ref
    alias: Annotated[str, Meta(max_length=255, description="on the rows of this alias's gate")] = ""
    same: Annotated[bool, Meta(description="also what does not differ")] = False

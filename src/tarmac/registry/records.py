"""What was kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

ModelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        # nothing that a reference, a path or an address would read as something else
        pattern=r"^(?!\.{1,2}$)(?=.*\S)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff/:@]*$(?!\n)",
        description="1 to 256 characters, not all blank, without `/`, `:`, `@` and control characters",
    ),
]
AliasName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        pattern=r"^[\w-]*$(?!\n)",
        description="1 to 255 letters, digits, dashes and underscores",
    ),
]
Ref = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=600,
        pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*$(?!\n)",
        description="a version, like churn@v7, churn@production or churn@latest",
    ),
]
PackageState = Literal["pending", "ready", "failed"]
Stage = Literal["None", "Staging", "Production", "Archived"]
Way = Literal["promote", "rollback", "retire"]
Part = Literal["output", "input"]
Number = Annotated[
    float | Literal["NaN", "Infinity", "-Infinity"], Meta(description="a number; NaN and infinities as text")
]


class PackageMetric(msgspec.Struct, frozen=True, kw_only=True):
    """How well a package did, measured by which run, on which data."""

    name: Annotated[str, Meta(min_length=1, max_length=250)]
    value: Number
    step: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0
    at: Annotated[int, Meta(ge=0, le=2**62, description="milliseconds since 1970; 0 is now")] = 0
    run: Annotated[str, Meta(max_length=250)] = ""
    data: Annotated[str, Meta(max_length=500)] = ""
    data_digest: Annotated[str, Meta(max_length=100)] = ""


class CompiledForm(msgspec.Struct, frozen=True, kw_only=True):
    """The form of a package that was made by compiling it. It is used where it was proved to be `equal`; if it was not,
    there is only the report. `digest` is of its files, `manifest` lists them."""

    equal: bool
    why: str
    digest: str
    manifest: str
    proof: dict[str, Any]
    actor: str
    at: int


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable bundle that can predict. `digest` proves all its files once it is `ready`; one that is ready without
    files stands for bytes that are elsewhere."""

    id: str
    name: str
    kind: str
    state: PackageState
    run: str | None
    experiment: str | None
    manifest: str | None
    digest: str | None
    files: int
    size: int
    actor: str
    created_at: int
    updated_at: int
    deleted_at: int | None = None
    document: dict[str, Any] = {}
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: list[PackageMetric] = []
    versions: list[str] = []
    compiled: CompiledForm | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A name with numbered versions. `aliases` says which number each of them points to, `forms` what serving uses of
    the latest and of those, where compiling was tried."""

    id: str
    name: str
    note: str
    latest: int | None
    aliases: dict[str, int]
    actor: str
    created_at: int
    updated_at: int
    deleted_at: int | None = None
    tags: dict[str, str] = {}
    forms: dict[str, str] = {}


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A numbered reference to a package, or to a place outside, and the aliases that point to it."""

    id: str
    model: str
    number: int
    aliases: list[str]
    stage: Stage
    state: PackageState
    package: str | None
    digest: str | None
    source: str
    location: str
    run: str | None
    link: str
    note: str
    actor: str
    created_at: int
    updated_at: int
    tags: dict[str, str] = {}


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One move of an alias: when, from which version to which, by whom and why. Null is nowhere."""

    id: str
    at: int
    alias: str
    how: Way
    before: int | None
    after: int | None
    actor: str
    reason: str
    evidence: dict[str, Any] = {}


class PackageRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that made a package, or was given it."""

    run: str
    package: str
    part: Part
    step: int


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """How much went, and what stayed because something needs it."""

    packages: int
    bytes: int
    kept: list[str] = []


Fact = int | float | bool | str | None
"""What a rule names, as evidence keeps it: not a number and infinities as text, null for what is missing."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule said, with the value of everything that it names. `why` also says what would satisfy it."""

    rule: str
    verdict: Literal["held", "failed", "not applicable"]
    why: str
    values: dict[str, Fact] = {}


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What has to hold before an alias of a model moves. `digest` is that of all rules together, `content` that of the
    rows which are measured on."""

    model: str
    alias: str
    require: list[str]
    first: Literal["allow", "refuse"]
    signed_by: list[str]
    approvals: int
    approvers: list[str]
    hours: float
    data: str
    manifest: str | None
    content: str
    label: str
    positive: str
    licences: list[str]
    digest: str
    origin: str
    actor: str
    updated_at: int


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for a gate: of exactly this version, against exactly this champion, for exactly these rules.

    `unknown` says of what could not be measured why; `pictures` has what the card draws.
    """

    id: str
    model: str
    alias: str
    version: int
    version_id: str
    package_digest: str
    form: str
    champion: int | None
    champion_id: str
    champion_digest: str
    gate: str
    facts: dict[str, Fact]
    unknown: dict[str, str]
    at: int
    actor: str
    pictures: dict[str, Any] = {}
    passed: bool = False
    outcomes: list[Outcome] = []
    digest: str = ""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Consent to one digest. `key` is the fingerprint of the key that signed it, empty where a person gave it."""

    id: str
    model: str
    version: int
    package_digest: str
    alias: str
    actor: str
    note: str
    at: int
    key: str = ""
    statement: str = ""
    withdrawn_at: int | None = None
    digest: str = ""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenSSF model signature of a package. `key` is the SHA-256 of the public key that it says it is of."""

    package: str
    digest: str
    key: str
    bundle: str
    actor: str
    at: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate of an alias says of a version. `to_measure` names what only a measurement can tell."""

    model: str
    version: int
    alias: str
    champion: int | None
    passed: bool
    gate: str | None
    outcomes: list[Outcome]
    to_measure: list[str] = []
    check: str | None = None
    check_digest: str = ""
    approvals: list[str] = []

"""The one error tree of tarmac.

    TarmacError
    ├── Invalid            400  the request itself is wrong
    │   ├── UnknownKey          a key nobody knows, with the nearest known one
    │   ├── NotAWorkspace       a folder or address that holds no workspace
    │   ├── OutsideRange   416  bytes that a blob does not have
    │   ├── WrongMethod    405  a path that is asked otherwise
    │   └── Unstorable          a value that can only be handed on in memory
    ├── Unauthenticated    401  nobody we know
    ├── Forbidden          403  somebody we know, who may not
    │   └── Untrusted           a request that did not come from where it should
    ├── NotFound           404  no such thing, with the nearest name
    ├── TooSlow            408  bytes came so slowly that nobody waits for them
    ├── Conflict           409  the thing is not in a state that allows this
    ├── TooLarge           413
    ├── WrongContent       415
    ├── Refused            422  a rule said no
    ├── StepFailed         422  a step of a pipeline did not come to its end
    ├── Damaged            500  what is stored is not what was stored
    ├── Internal           500  our fault
    ├── Cancelled          499  somebody asked to stop
    ├── Busy               503  try again
    ├── Unreachable        503  no answer from the other side
    ├── NewerFormat        505  made by a tarmac newer than this one
    ├── OlderFormat        505  has to be upgraded first
    ├── ReadOnly           507  the place cannot be written
    └── Full               507  no room left

Every class builds its message from facts; one JSON shape goes over every wire:
``{"error": {"code", "message", "hint", "detail"}}``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

LONGEST_MESSAGE = 2000
LONGEST_QUOTE = 120


def bounded(text: object, limit: int = LONGEST_QUOTE) -> str:
    """`text` on one printable line, cut in the middle so that an error never prints a million characters."""
    flat = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: limit * 4 + 4])
    if len(flat) <= limit:
        return flat
    half = (limit - 1) // 2
    return f"{flat[:half]}…{flat[-half:]}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was most likely meant to be."""
    names = list(known)
    by_folded = {candidate.casefold(): candidate for candidate in names}
    found = difflib.get_close_matches(name.casefold()[:200], by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


class TarmacError(Exception):
    """Base of every error that tarmac raises on purpose."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, detail: Mapping[str, Any] | None = None) -> None:
        self.message = message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"
        self.hint = hint
        self.detail = dict(detail) if detail else {}
        super().__init__(self.message)

    def to_json(self) -> dict[str, Any]:
        """The shape that every wire carries."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, "detail": self.detail}}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.code, self.message, self.hint, self.detail)


class Invalid(TarmacError):
    """The request itself is wrong; sending it again cannot help."""

    code, status, exit_code = "invalid", 400, 2


class UnknownKey(Invalid):
    """A key that nothing reads, so that a typing mistake never passes silently."""

    code = "unknown_key"

    @classmethod
    def at(cls, where: str, key: str, known: Iterable[str]) -> UnknownKey:
        names = sorted(known)
        near = nearest(key, names)
        hint = f"did you mean `{near}`?" if near else f"known: {bounded(', '.join(names), 300)}"
        return cls(f"{where} has no key `{bounded(key)}`", hint=hint)


class NotAWorkspace(Invalid):
    """A folder or an address that holds no workspace."""

    code = "not_a_workspace"

    @classmethod
    def at(cls, place: object) -> NotAWorkspace:
        return cls(f"{bounded(place, 300)} is not a tarmac workspace", hint="make one here with `tarmac init`")


class Unauthenticated(TarmacError):
    """We do not know who asks."""

    code, status = "unauthenticated", 401


class Forbidden(TarmacError):
    """We know who asks; they may not."""

    code, status = "forbidden", 403

    @classmethod
    def to(cls, actor: str, operation: str, needs: str, project: str) -> Forbidden:
        return cls(
            f"{bounded(actor)} may not {operation} in {bounded(project)}: it needs `{needs}`",
            hint="ask an admin: `tarmac people grant NAME --role ROLE`",
        )


class Untrusted(Forbidden):
    """The request came by a road that a browser attack would take (foreign host, origin or form)."""

    code = "untrusted_request"


class NotFound(TarmacError):
    """No such thing."""

    code, status = "not_found", 404

    @classmethod
    def named(cls, kind: str, name: str, known: Iterable[str] = (), *, hint: str | None = None) -> NotFound:
        near = nearest(name, known)
        return cls(
            f"there is no {kind} `{bounded(name)}`",
            hint=f"did you mean `{bounded(near)}`?" if near else hint,
            detail={"kind": kind, "name": bounded(name, 300)},
        )


class Conflict(TarmacError):
    """The thing exists but is not in a state that allows this."""

    code, status = "conflict", 409

    @classmethod
    def exists(cls, kind: str, name: str) -> Conflict:
        return cls(f"{kind} `{bounded(name)}` exists already", detail={"kind": kind, "name": bounded(name, 300)})


class TooLarge(TarmacError):
    """More bytes than this door takes."""

    code, status = "too_large", 413

    @classmethod
    def body(cls, size: int, limit: int) -> TooLarge:
        return cls(
            f"the request body has {size:,} bytes or more; at most {limit:,} are taken",
            hint="send files as blobs: PUT …/blobs/DIGEST",
        )


class TooSlow(TarmacError):
    """The sender takes so long that others could not be served."""

    code, status = "too_slow", 408

    @classmethod
    def body(cls, seconds: float, least: int) -> TooSlow:
        return cls(
            f"of the request body less than {least:,} bytes came in {seconds:.0f} s",
            hint="send it again; a large upload goes on where it stopped",
        )

    @classmethod
    def head(cls, seconds: float) -> TooSlow:
        return cls(f"the head of the request was not whole after {seconds:.0f} s", hint="send it again, at once")


class OutsideRange(Invalid):
    """A range of bytes that a blob does not have."""

    code, status = "outside_range", 416

    @classmethod
    def of(cls, size: int) -> OutsideRange:
        return cls(f"the range is outside of the blob's {size:,} bytes", hint="ask for less", detail={"size": size})


class Unstorable(Invalid):
    """A value that cannot be stored: it can only be handed on in memory."""

    code = "unstorable"


class WrongMethod(Invalid):
    """The path is there; it is asked otherwise."""

    code, status = "wrong_method", 405

    @classmethod
    def of(cls, found: bytes, wanted: bytes) -> WrongMethod:
        return cls(f"{found.decode('latin-1')[:20]} does nothing here", hint=f"use {wanted.decode()}")


class WrongContent(TarmacError):
    """A body in a form that is not spoken here."""

    code, status = "wrong_content_type", 415


class Refused(TarmacError):
    """A rule looked at the facts and said no."""

    code, status = "refused", 422


class StepFailed(TarmacError):
    """A step of a pipeline did not come to its end."""

    code, status = "step_failed", 422


class Damaged(TarmacError):
    """What is stored is not what was stored."""

    code, status = "damaged", 500


class Internal(TarmacError):
    """A fault of ours; the log has the rest."""

    code, status = "internal", 500


class Cancelled(TarmacError):
    """Somebody asked this work to stop, and it stopped at a clean place."""

    code, status = "cancelled", 499


class Busy(TarmacError):
    """Cannot be done now; the same request may pass later."""

    code, status = "busy", 503


class Unreachable(TarmacError):
    """No answer from the other side."""

    code, status = "unreachable", 503


class NewerFormat(TarmacError):
    """Made by a tarmac that is newer than this one."""

    code, status = "newer_format", 505

    @classmethod
    def of(cls, what: str, found: int, known: int) -> NewerFormat:
        return cls(
            f"{bounded(what, 300)} has format {found}; this tarmac knows formats up to {known}",
            hint="install the tarmac that wrote it, or a newer one: `pip install --upgrade tarmac`",
        )


class OlderFormat(TarmacError):
    """Made by an older tarmac; has to be upgraded before it is used."""

    code, status = "older_format", 505

    @classmethod
    def of(cls, what: str, found: int, known: int) -> OlderFormat:
        return cls(
            f"{bounded(what, 300)} has format {found}; this tarmac works with format {known}",
            hint="upgrade it (a backup is made first): `tarmac store upgrade`",
        )


class ReadOnly(TarmacError):
    """The place cannot be written."""

    code, status = "read_only", 507


class Full(TarmacError):
    """No room left; nothing was written."""

    code, status = "full", 507

    @classmethod
    def at(cls, place: object) -> Full:
        return cls(
            f"no room left on the disk of {bounded(place, 300)}; nothing was written",
            hint="free some room (`tarmac store gc` shows what it can), then repeat the command",
        )


def _walk(cls: type[TarmacError]) -> Iterable[type[TarmacError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _walk(below)


def tree() -> dict[str, type[TarmacError]]:
    """Every error class by its code."""
    return {cls.code: cls for cls in _walk(TarmacError)}


def _rebuild(code: str, message: str, hint: str | None, detail: dict[str, Any]) -> TarmacError:
    return tree().get(code, TarmacError)(message, hint=hint, detail=detail)


def from_json(document: Any) -> TarmacError:
    """The error that a wire carried, as the class it was raised as."""
    body = document.get("error") if isinstance(document, dict) else None
    if not isinstance(body, dict):
        return Unreachable("the answer is not one of tarmac's", detail={"answer": bounded(document, 300)})
    hint, detail = body.get("hint"), body.get("detail")
    return _rebuild(
        str(body.get("code")),
        str(body.get("message")),
        hint if isinstance(hint, str) else None,
        detail if isinstance(detail, dict) else {},
    )

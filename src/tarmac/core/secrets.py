"""Values that must not be seen: `***` wherever they are printed, encoded or pickled."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tarmac.core.errors import Invalid, NotFound

MASK = "***"

# up to the last `@`, because people forget to quote what stands in a password
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@\s:]*):[^\s?]*@")
_PASSWORD_IN_QUERY = re.compile(r"(?<=[?&])((?:ssl)?password)=[^&\s]*", re.IGNORECASE)

SECRET_WORDS = re.compile(
    r"(?i)((^|[-_.])(pass|pwd|secret|token|(api|access|secret|private)[-_]?key|credentials?)"
    r"|pass(word|wd|phrase)|(api|access|secret|private)key)$"
)
SECRET_VALUES = re.compile(
    r"\b(AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|xox[abpr]-[\w-]{10,}|sk-[\w-]{20,}|hf_\w{20,}"
    r"|tarmac_[\w-]{20,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,})|(?<=\bBearer )[\w.~+/-]{8,}=*"
)


class Secret:
    """A value that shows itself only when asked by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (MASK,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def resolve(reference: str) -> Secret:
    """The secret behind `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`; anything else is the value itself."""
    kind, _, rest = reference.partition(":")
    if kind == "env":
        if rest not in os.environ:
            raise NotFound.named("environment variable", rest, hint=f"set it: `export {rest}=…`")
        return Secret(os.environ[rest])
    if kind == "file":
        try:
            return Secret(Path(rest).expanduser().read_text(encoding="utf-8").strip())
        except OSError as error:
            raise NotFound.named("secret file", rest, hint=error.strerror) from error
    if kind == "keyring":
        return _from_keyring(rest)
    return Secret(reference)


def _from_keyring(rest: str) -> Secret:
    service, _, user = rest.partition("/")
    try:
        import keyring  # no dependency: most machines have no keyring service
    except ImportError:
        raise Invalid("a secret is in the keyring, but keyring is not installed", hint="pip install keyring") from None
    value = keyring.get_password(service, user)
    if value is None:
        raise NotFound.named("keyring entry", rest)
    return Secret(value)


def mask_url(url: str) -> str:
    """A URL that can be shown: without its password."""
    return _PASSWORD_IN_QUERY.sub(rf"\1={MASK}", _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", url))


def mask_words(words: list[str]) -> list[str]:
    """A command line without what looks like a secret: `--token X`, `--password=X`, well-known forms of keys."""
    shown, hide_next = [], False
    for word in words:
        name, mark, _ = word.partition("=")
        if hide_next:
            shown.append(MASK)
            hide_next = False
        elif mark and SECRET_WORDS.search(name):
            shown.append(f"{name}={MASK}")
        else:
            hide_next = word.startswith("-") and bool(SECRET_WORDS.search(word))
            shown.append(SECRET_VALUES.sub(MASK, mask_url(word)))
    return shown


def mask_value(name: str, value: str) -> str:
    """A named value as it may be kept."""
    return MASK if SECRET_WORDS.search(name) else mask_text(value)


def mask_text(text: str) -> str:
    """A text without what has the form of a key, or is a password in a URL."""
    return SECRET_VALUES.sub(MASK, mask_url(text))

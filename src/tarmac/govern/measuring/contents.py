"""What is inside a package: pickles, and the licences of what it needs."""

from __future__ import annotations

import bz2
import fnmatch
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PICKLED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
NAMES = (".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill", ".pt", ".pth")
_NAME = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_OLD_NAMES = {
    "apache software license": "Apache-2.0", "mit license": "MIT", "bsd license": "BSD",
    "gnu general public license v3 (gplv3)": "GPL-3.0", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0", "isc license (iscl)": "ISC", "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0", "new bsd": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause", "bsd": "BSD",
}  # fmt: skip


def pickles(folder: Path, paths: Iterable[str]) -> list[str]:
    """Files that carry out code when they are loaded: by what their first bytes are, whatever they are called."""
    return [path for path in paths if _is_pickle(folder / path)]


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in NAMES:
        return True
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(PICKLED) or _unpacked(head).startswith(PICKLED):
        return True
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:  # torch keeps a pickle in one
            return any(Path(name).suffix.lower() in NAMES for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return True


def _unpacked(head: bytes) -> bytes:
    """The first bytes of what joblib and others have compressed."""
    for magic, unpacker in (
        (b"\x1f\x8b", lambda: zlib.decompressobj(31)), (b"x", zlib.decompressobj),
        (b"BZh", bz2.BZ2Decompressor), (b"\xfd7zXZ", lzma.LZMADecompressor),
    ):  # fmt: skip
        if head.startswith(magic):
            try:
                return unpacker().decompress(head, 16)
            except (zlib.error, OSError, lzma.LZMAError, EOFError):
                return b""
    return b""


def licences(requirements: Iterable[str], allowed: Sequence[str]) -> dict[str, list[str]]:
    """Names of required packages by what their licence is: `allowed`, `denied`, or `unknown`.

    They are looked up where the check runs, and only those that are required by name: what these need in turn is in
    the lock of the image.
    """
    found: dict[str, list[str]] = {"allowed": [], "denied": [], "unknown": []}
    for name in dict.fromkeys(match[1] for line in requirements if (match := _NAME.match(line))):
        licence = licence_of(name)
        kind = "unknown" if not licence else "allowed" if _is_allowed(licence, allowed) else "denied"
        found[kind].append(f"{name} ({licence})" if licence else name)
    return found


def _is_allowed(licence: str, allowed: Sequence[str]) -> bool:
    """Of `A OR B` one has to be allowed, of `A AND B` both."""
    if not allowed:
        return True
    return any(
        all(any(fnmatch.fnmatch(one.strip("() ").casefold(), pattern.casefold()) for pattern in allowed)
            for one in re.split(r"\s+AND\s+", choice))
        for choice in re.split(r"\s+OR\s+", licence)
    )  # fmt: skip


def licence_of(name: str) -> str:
    """What an installed package says its licence is, in SPDX's words where that can be told; empty if nothing."""
    from importlib import metadata

    try:
        about: Any = metadata.metadata(name)  # a message with headers, though its type does not say so
    except metadata.PackageNotFoundError:
        return ""
    if expression := about.get("License-Expression"):
        return str(expression)
    for classifier in about.get_all("Classifier") or []:
        if classifier.startswith("License :: ") and not classifier.endswith("OSI Approved"):
            last = classifier.rpartition(" :: ")[2]
            return _OLD_NAMES.get(last.casefold(), str(last))
    said = str(about.get("License") or "").strip().split("\n")[0][:60]
    return _OLD_NAMES.get(said.casefold(), said)

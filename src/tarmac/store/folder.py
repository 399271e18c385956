"""The workspace folder `.tarmac/`: what lies in it, how it is made and found.

workspace.toml   format, id, where the facts are      store.db      the facts (SQLite)
keys/            the ledger's key                      blobs/        the bytes
jobs/            logs of jobs                          backups/      made before each upgrade
"""

from __future__ import annotations

import errno
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tarmac.core import places
from tarmac.core.digest import digest
from tarmac.core.errors import Full, Invalid, NewerFormat, NotAWorkspace, ReadOnly
from tarmac.core.files import write_private
from tarmac.core.ids import time_ordered
from tarmac.core.locks import locked
from tarmac.core.secrets import Secret, resolve

FORMAT = 1
NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
}


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `workspace.toml` says."""

    format: int
    id: str
    store: str = "sqlite"


class WorkspaceFolder:
    """Paths inside one `.tarmac/` folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description_file = path / places.DESCRIPTION_FILE
        self.database_file = path / "store.db"
        self.key_file = path / "keys" / "ledger.key"
        self.blobs = path / "blobs"
        self.jobs = path / "jobs"
        self.backups = path / "backups"
        self.heads_file = path / "ledger.heads"

    def exists(self) -> bool:
        return self.description_file.is_file()

    def describe(self) -> Description:
        try:
            document = tomllib.loads(self.description_file.read_text(encoding="utf-8"))
            if isinstance(found := document.get("format"), int) and found > FORMAT:
                raise NewerFormat.of(str(self.path), found, FORMAT)
            return msgspec.convert(document, Description)
        except FileNotFoundError:
            raise NotAWorkspace.at(self.path) from None
        except OSError as error:
            raise NotAWorkspace(f"{self.path} cannot be opened: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise Invalid(f"{self.description_file}: {error}", hint="restore the file from a backup") from None

    @contextmanager
    def making(self, *, with_key: bool = True) -> Iterator[bool]:
        """Lay out a new folder while nobody else does. False: somebody has made it already.

        Without a key of its own where the ledger's comes from the environment.

        The description is written last (`declare`): a folder that has one is a whole workspace.
        """
        try:
            for folder in (self.path, self.key_file.parent, self.jobs, self.blobs / "incoming"):
                folder.mkdir(parents=True, exist_ok=True)
            with locked(self.path / "init.lock"):
                if self.exists():
                    yield False
                    return
                (self.path / ".gitignore").write_text("*\n", encoding="utf-8")
                if with_key and not self.key_file.exists():
                    write_private(self.key_file, secrets.token_hex(32) + "\n")
                yield True
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Full.at(self.path) from error
            raise ReadOnly(f"{self.path} cannot be made: {error.strerror}", hint="choose another folder") from error

    def declare(self, store: str, id: str | None = None) -> None:
        """From now on this is a workspace."""
        text = f'format = {FORMAT}\nid = "{id or time_ordered()}"\nstore = {msgspec.json.encode(store).decode()}\n'
        write_private(self.description_file, text)

    def ledger_key(self, from_environment: str | None) -> bytes:
        text = from_environment
        if text is None:
            try:
                text = self.key_file.read_text(encoding="ascii").strip()
            except OSError as error:
                raise Invalid(
                    f"the ledger's key {self.key_file} cannot be read: {error.strerror}",
                    hint="restore it from a backup, or set TARMAC_LEDGER_KEY",
                ) from None
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != 32:
            raise Invalid("the ledger's key must be 64 hex digits")
        return key

    def file_system(self) -> str | None:
        """The kind of file system below, where the system tells (Linux)."""
        try:
            lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        here, best, kind = str(self.path.resolve()), "", None
        for line in lines:
            _, point, name, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            if (here == point or here.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
                best, kind = point, name
        return kind

    def warnings(self) -> list[str]:
        """What may hurt later and is better said now."""
        kind = self.file_system()
        if kind in NETWORK_FILE_SYSTEMS:
            text = f"{self.path} lies on a network file system ({kind}): SQLite's locks are not safe there"
            return [f"{text}; use a local disk, or a server with Postgres"]
        return []


def key_fingerprint(key: bytes) -> str:
    """Tells one key from another without telling the key."""
    return digest(b"tarmac ledger key " + key)[:16]


def find(start: Path) -> WorkspaceFolder | None:
    """The nearest workspace, here or upwards."""
    found = places.find(start)
    return WorkspaceFolder(found) if found else None


def at(place: Path) -> WorkspaceFolder:
    """The workspace that a person means by `place`: the folder itself, or the one that holds it."""
    return WorkspaceFolder(places.at(place))


def database_url(store: str) -> Secret | None:
    """Postgres' address, or None for the SQLite file in the folder."""
    if store == "sqlite":
        return None
    url = resolve(store)
    if not url.reveal().startswith(("postgresql://", "postgres://")):
        raise Invalid(
            "the store must be `sqlite` or a postgresql:// address",
            hint="or `env:NAME`, the environment variable that holds it",
        )
    return url

"""What an import remembers between two tries."""

from __future__ import annotations

import msgspec

from tarmac.start.operations import Skipped


class Progress(msgspec.Struct):
    after: str = ""
    made: list[str] = []
    runs: int = 0
    points: int = 0
    files: int = 0
    bytes: int = 0
    packages: int = 0
    models: int = 0
    versions: int = 0
    aliases: int = 0
    skipped: list[Skipped] = []
    more: int = 0

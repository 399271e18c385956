"""What reading and writing versions asks of a workspace, here or far away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from tarmac.core.operation import Operation

T = TypeVar("T")


class Depot(Protocol):
    """`tarmac.workspace.Workspace`, as far as it concerns data."""

    project: str
    place: str

    def __call__(self, request: Operation[T]) -> T: ...
    def put(self, data: bytes | Path | BinaryIO) -> str: ...
    def leave(self) -> None: ...
    def locate(self, digest: str) -> Path | None: ...
    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]: ...

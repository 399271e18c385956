"""What tests of gates ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tarmac.workspace import Workspace, connect


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Workspace]:
    """A folder on SQLite, where what is tried is the same on each database."""
    with connect(tmp_path, create=True) as opened:
        yield opened

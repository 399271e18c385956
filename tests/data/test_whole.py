"""Whole files: no deduplication inside them, but a checkout can link them."""

from __future__ import annotations

import os
from pathlib import Path

from tarmac.data.status import status
from tarmac.store.operations import CheckStore
from tarmac.workspace import LocalWorkspace, Workspace
from tarmac.workspace.datasets import memory_of, sources_of
from tests.data.making import data_set, fill, tree


def test_whole_files_are_linked(anywhere: Workspace, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", {"a": b"one", "same": b"one", "hollow": b"", "large": os.urandom(9_000_000)})
    (folder / "a").chmod(0o755)
    faces = data_set(anywhere)
    first = faces.log(folder, layout="whole")
    assert first.facts.layout == "whole"
    (folder / "b").write_bytes(b"two")
    second = faces.log(folder)
    assert second.facts.added < 2000
    second.checkout(tmp_path / "out", link=True)
    assert tree(tmp_path / "out") == tree(folder)
    linked = (tmp_path / "out/large").stat()
    assert (linked.st_nlink > 1) == isinstance(anywhere, LocalWorkspace)
    if isinstance(anywhere, LocalWorkspace):
        assert linked.st_mode & 0o777 == 0o444
    assert status(anywhere, memory_of(anywhere), sources_of([tmp_path / "out"])).clean
    first.checkout(tmp_path / "out")
    with first.open("large") as file:
        file.seek(8_000_000)
        assert file.read(10) == (folder / "large").read_bytes()[8_000_000:8_000_010]
    assert anywhere.wait(anywhere(CheckStore())).faults == []

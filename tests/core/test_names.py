"""What a name may be: anything people write, nothing that fools a terminal, a file system or a log."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.names import Digest, Id, Name, Note, ProjectName, RelativePath


def accepts(kind: Any, value: object) -> bool:
    try:
        return bool(msgspec.convert(value, kind) == value)
    except msgspec.ValidationError:
        return False


@pytest.mark.parametrize("name", ["tiefe Wälder", "模型", "🦊 v2", "a/b", "..", "x" * 250, "naïve", "a'b\"c", "%s"])
def test_names_are_what_people_write(name: str) -> None:
    assert accepts(Name, name)


@pytest.mark.parametrize(
    "name", ["", "x" * 251, "a\nb", "a\n", "\n", "a\tb", "a\x00", "\x7f", "\x85", "\x9b31m", "a\u2028b", "a\u2029"]
)
def test_names_carry_nothing_that_cannot_be_seen(name: str) -> None:
    assert not accepts(Name, name)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (ProjectName, ["a", "a-b_c.d", "9", "x" * 63], ["", "-a", "a-", "A", "ä", "a/b", "..", "a\n", "x" * 64, "*"]),
        (Id, ["0", "deadbeef", "f" * 64], ["", "DEAD", "g", "a" * 65, "ab\n", "../ab"]),
        (Digest, ["0" * 64], ["0" * 63, "0" * 65, "0" * 64 + "\n", "G" * 64, ""]),
        (Note, ["", "a\nb\tc", "x" * 20_000], ["a\x00b", "x" * 20_001]),
        (
            RelativePath,
            ["a", "a/b/c.txt", ".hidden", "...", "a..b", "ä/模型 1.bin", "a/.b", "x" * 4096],
            ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "./a", "a/./b", "a\\b", "..\\a",
             "C:", "C:/a", "c:a", "a\n", "a\n/..", "\n", "a/\n", "a/..\n", "a\x00", "a\x7f", "x" * 4097],
        ),
    ],
)  # fmt: skip
def test_each_kind_of_name_takes_its_own_and_refuses_the_rest(kind: Any, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if not accepts(kind, value)] == []
    assert [value for value in bad if accepts(kind, value)] == []


@settings(deadline=None)
@given(st.text(alphabet="ab./\\:C~ \n\x00é", max_size=12))
def test_no_path_that_is_taken_leads_out_of_its_folder(path: str) -> None:
    if not accepts(RelativePath, path):
        return
    for kind in (PurePosixPath, PureWindowsPath):
        parts = kind(path)
        assert not parts.is_absolute()
        assert not parts.drive
        assert ".." not in parts.parts
    assert str(PurePosixPath(path)) == path, "a path has one way to be written"

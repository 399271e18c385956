"""Pins: a text file that git merges line by line."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Conflict, Invalid
from tarmac.workspace import Workspace, connect
from tarmac.workspace.pins import Pin, parse, pin, read, render
from tests.conftest import Ran
from tests.data.making import data_set, fill, tree

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
PINS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), max_size=len(NAMES))


def pinned(numbers: dict[str, int]) -> dict[str, Pin]:
    return {name: Pin(name, number, f"{number:016x}", f"data/{name}") for name, number in numbers.items()}


def merged(base: str, one: str, other: str) -> str:
    """As git does it where the file's merge is `union`."""
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, name) for name in ("one", "base", "other")]
        for place, text in zip(places, (one, base, other), strict=True):
            place.write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["git", "merge-file", "--union", "-p", *map(str, places)], capture_output=True, check=True
        )
        return done.stdout.decode()


@settings(max_examples=60, deadline=None)
@given(base=PINS, one=PINS, other=PINS)
def test_pins_merge(base: dict[str, int], one: dict[str, int], other: dict[str, int]) -> None:
    """Each side moves or adds its own names: both changes are there afterwards."""
    ours = {**base, **{name: number for name, number in one.items() if NAMES.index(name) % 2}}
    theirs = {**base, **{name: number for name, number in other.items() if not NAMES.index(name) % 2}}
    expected = {**ours, **{name: number for name, number in theirs.items() if base.get(name) != number}}
    found = parse(merged(*(render(pinned(side).values()) for side in (base, ours, theirs))))
    assert found == pinned(expected)


def test_one_name_that_both_moved_is_a_conflict_that_is_told() -> None:
    texts = [render(pinned({"ant": 1, "bee": number}).values()) for number in (1, 2, 3)]
    with pytest.raises(Conflict, match="bee is pinned to v2 and to v3"):
        parse(merged(*texts))
    with pytest.raises(Invalid, match="line 2: `<<<<<<< HEAD` is not a pin"):
        parse("# x\n<<<<<<< HEAD\n")


def test_what_is_pinned_is_checked_out(
    tarmac: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    with connect(tmp_path, create=True) as workspace:
        faces = data_set(workspace)
        for text in (b"one", b"two"):
            faces.log(fill(tmp_path / "in", {"a": text}))
    assert tarmac("data", "pin", "faces@v1", "data/faces").code == 0
    assert (tmp_path / ".gitattributes").read_text() == "tarmac.pins merge=union\n"
    assert "faces" in tarmac("data", "pins").out
    done = tarmac("data", "checkout")
    assert (done.code, tree(tmp_path / "data/faces")["a"][1]) == (0, b"one")
    assert tarmac("data", "pin", "faces@latest", "data/faces").code == 0
    assert tarmac("data", "checkout", "faces").code == 0
    assert tree(tmp_path / "data/faces")["a"][1] == b"two"
    file = tmp_path / "tarmac.pins"
    file.write_text(file.read_text().replace(read(file)["faces"].digest, "0" * 16))
    refused = tarmac("data", "checkout")
    assert (refused.code, "another version with the same number" in refused.err) == (1, True)
    assert tarmac("data", "unpin", "faces").code == 0
    assert "nothing is pinned" in tarmac("data", "checkout").err


def test_a_pin_lies_beside_the_code(workspace: Workspace, tmp_path: Path) -> None:
    version = data_set(workspace).log(fill(tmp_path / "in", {"a": b"1"}))
    for folder in ("elsewhere", "code/../elsewhere", "code"):
        with pytest.raises(Invalid, match="is not below"):
            pin(tmp_path / "code" / "tarmac.pins", version.facts, tmp_path / folder)
    for path in ("../elsewhere", "/etc", "a/../../b"):
        with pytest.raises(Invalid, match="is not a pin"):
            parse(f"faces@v1 {'0' * 16} {path}\n")

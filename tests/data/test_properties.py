"""What holds for every folder: it comes back as it was, pieces join to what was cut, a diff leads to the other side."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarmac.data import chunks, listing
from tarmac.data.diff import diff_files, facts
from tarmac.data.scan import path_problem
from tarmac.workspace import Workspace, connect
from tests.data.making import data_set, tree

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0\\"), min_size=1, max_size=12).filter(
    lambda part: not path_problem(part) and not part.startswith(".tarmac") and len(part.encode()) < 200
)
CONTENT = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=200), st.booleans()),
    st.just(("folder",)),
    st.tuples(st.just("link"), st.just("target")),
)
INSIDE = st.dictionaries(PARTS, CONTENT, max_size=4)
FOLDERS = st.dictionaries(PARTS, st.one_of(CONTENT, INSIDE), min_size=1, max_size=6)


def build(place: Path, wanted: dict) -> None:  # type: ignore[type-arg]
    place.mkdir()
    for name, what in wanted.items():
        inside = place / name
        if isinstance(what, dict):
            build(inside, what)
        elif what[0] == "folder":
            inside.mkdir()
        elif what[0] == "link":
            inside.symlink_to(what[1])
        else:
            inside.write_bytes(what[1])
            inside.chmod(0o755 if what[2] else 0o644)


@SLOW
@given(one=FOLDERS, other=FOLDERS)
def test_a_folder_comes_back_and_a_diff_leads_to_the_other(one: dict, other: dict) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        with connect(place / "w", create=True) as workspace:
            faces = data_set(workspace)
            sides = []
            for name, wanted in (("one", one), ("other", other)):
                build(place / name, wanted)
                sides.append(faces.log(place / name))
            for version, name in ((sides[0], "one"), (sides[1], "other"), (sides[0], "one")):
                version.checkout(place / "out")
                assert tree(place / "out") == tree(place / name)
            _check_diff(workspace, sides)


def _check_diff(workspace: Workspace, sides: list) -> None:  # type: ignore[type-arg]
    from tarmac.data.operations import GetListing

    lists = [listing.decode(workspace(GetListing(ref=side.ref)).listing) for side in sides]
    before, after = (side.entries() for side in sides)
    applied = diff_files(workspace, *lists).apply(before)
    assert {path: facts(entry) for path, entry in applied.items()} == {p: facts(entry) for p, entry in after.items()}


@settings(max_examples=10, deadline=None)
@given(size=st.integers(0, 40_000_000), seed=st.integers(0, 10), flat=st.booleans())
def test_pieces_join_to_what_was_cut(size: int, seed: int, flat: bool) -> None:
    content = bytes(size) if flat else random.Random(seed).randbytes(size)
    pieces = [bytes(piece) for piece in chunks.cut(io.BytesIO(content))]
    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= chunks.LARGEST for piece in pieces)


def test_what_is_cut_in_blocks_is_cut_as_in_one_go() -> None:
    """Where a block of a file ends must not show in its pieces."""
    from pyfastcdc import FastCDC

    content = random.Random(1).randbytes(20_000_000)
    whole = FastCDC(chunks.AVERAGE, min_size=chunks.SMALLEST, max_size=chunks.LARGEST)
    assert [len(p) for p in chunks.cut(io.BytesIO(content))] == [p.length for p in whole.cut_buf(content)]

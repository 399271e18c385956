"""Ids that sort by time, digests that prove a range without the rest."""

from __future__ import annotations

import re
import time
from itertools import pairwise

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core import digest as digests
from tarmac.core import ids
from tarmac.core.clock import iso, now
from tarmac.core.digest import BLOCK, BlockHasher


def test_ids_sort_by_the_time_they_were_made_in() -> None:
    made = []
    for _ in range(20):
        made.append(ids.time_ordered())
        time.sleep(0.0015)
    assert made == sorted(made)
    assert all(re.fullmatch(r"[0-9a-f]{32}", id) for id in made)
    assert abs(int(made[-1][:12], 16) - now()) < 5_000
    many = [ids.time_ordered() for _ in range(20_000)]
    assert many == sorted(set(many)), "also within a millisecond"


def test_decimal_ids_have_18_digits_and_no_leading_zero() -> None:
    made = [ids.decimal() for _ in range(2_000)]
    assert all(re.fullmatch(r"[1-9][0-9]{17}", id) for id in made)
    assert len(set(made)) == len(made)


@settings(deadline=None)
@given(
    size=st.sampled_from([0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7]),
    cuts=st.lists(st.integers(min_value=0, max_value=2 * BLOCK + 7), max_size=4),
)
def test_the_blocks_of_a_stream_do_not_depend_on_how_it_was_cut(size: int, cuts: list[int]) -> None:
    data = b"0123456789abcdef" * (size // 16 + 1)
    data = data[:size]
    hasher = BlockHasher()
    edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
    for start, end in pairwise(edges):
        hasher.update(memoryview(data)[start:end])
    assert (hasher.size, hasher.hexdigest()) == (size, digests.digest(data))
    proofs = [blake3(data[at : at + BLOCK]).digest() for at in range(0, size, BLOCK)]
    assert hasher.blocks() == (b"".join(proofs) if len(proofs) > 1 else b"")


def test_a_time_that_no_calendar_has_can_still_be_shown() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(None) == ""
    assert iso(1 << 62) == f"{1 << 62} ms"

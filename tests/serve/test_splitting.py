"""Who is answered by which version: shares hold, keys stay, and a growing canary only takes, never swaps."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.serve.splitting import Split

CALLERS = [f"customer-{number}" for number in range(20_000)]


def test_shares_hold_with_keys_and_without() -> None:
    split = Split([("2", 0.1), ("1", 0.9)], "churn")
    with_keys = Counter(split.choose(key) for key in CALLERS)
    without = Counter(split.choose(None) for _ in range(20_000))
    assert abs(with_keys["2"] / 20_000 - 0.1) < 0.01
    assert abs(without["2"] / 20_000 - 0.1) < 0.001


def test_a_key_stays_whatever_process_is_asked() -> None:
    one, other = (Split([("2", 0.3), ("1", 0.7)], "churn") for _ in range(2))
    other.choose(None)
    assert [one.choose(key) for key in CALLERS] == [other.choose(key) for key in CALLERS]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 49), st.integers(1, 50))
def test_a_growing_canary_only_takes(small: int, more: int) -> None:
    before = Split([("2", small / 100), ("1", 1 - small / 100)], "s")
    after = Split([("2", (small + more) / 100), ("1", 1 - (small + more) / 100)], "s")
    moved = [(before.choose(key), after.choose(key)) for key in CALLERS[:2000]]
    assert ("2", "1") not in moved
    assert ("1", "2") in moved


def test_experiments_with_other_salts_are_independent() -> None:
    one, other = Split([("2", 0.5), ("1", 0.5)], "a"), Split([("2", 0.5), ("1", 0.5)], "b")
    both = Counter((one.choose(key), other.choose(key)) for key in CALLERS)
    assert all(abs(count / 20_000 - 0.25) < 0.02 for count in both.values())


def test_keys_that_differ_in_one_digit_are_spread() -> None:
    split = Split([("2", 0.5), ("1", 0.5)], "churn")
    for start in range(0, 20_000, 1000):
        share = sum(split.choose(str(key)) == "2" for key in range(start, start + 1000)) / 1000
        assert 0.42 < share < 0.58

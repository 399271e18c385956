"""Hashes of values that are the same on every machine and in every year, because profiles are merged much later.

Those of polars and Python change from one version or process to the next.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_BASE = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def of_numbers(values: Any) -> Any:
    """Whole numbers and fractions that are equal have one hash."""
    bits = (values.astype("f8", copy=False) + 0.0).view("u8")  # -0.0 becomes 0.0
    whole = values.dtype.kind in "iu" and len(values) > 0
    if whole and max(-int(values.min()), int(values.max())) >= 2**53:  # more digits than a fraction holds
        wide = abs(values.astype("f8")) >= 2.0**53
        bits[wide] = values.astype("i8", copy=False).view("u8")[wide]
    return mixed(bits)


def of_texts(values: pl.Series) -> Any:
    """From the CRC-32 of their UTF-8: of a hundred million texts one in a hundred shares that of another."""
    import numpy as np
    import polars as pl

    found = np.fromiter(map(zlib.crc32, values.cast(pl.Binary).to_list()), dtype="u8", count=len(values))
    return mixed(found | (values.str.len_bytes().to_numpy().astype("u8") << np.uint64(32)))


def of_booleans(values: list[bool]) -> Any:
    import numpy as np

    return mixed(np.array([1 + value for value in values], dtype="u8"))


def mixed(bits: Any) -> Any:
    """Bits spread over all 64 places, by the steps of splitmix64."""
    import numpy as np

    bits = bits + np.uint64(_BASE)
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(_FIRST)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(_SECOND)
    bits ^= bits >> np.uint64(31)
    return bits

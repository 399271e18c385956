"""Whether any row comes twice, for tables that are larger than memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MOST_IN_MEMORY = 8_000_000
PARTS = 64
MOST_PAIRS = 5


class Repeats:
    """Remembers 64 bits of each row: of one whole-number column its value, of others a hash.

    Two different rows have the same hash once in 10**19; of a hundred million rows two are confused in one table of
    3,000. Beyond `MOST_IN_MEMORY` rows what is remembered waits on disk, cut into parts by its first bits.
    """

    def __init__(self) -> None:
        self._waiting: list[Any] = []
        self._held = 0
        self._rows = 0
        self._folder: Path | None = None

    def take(self, frame: pl.DataFrame) -> None:
        self._waiting.append(_bits(frame))
        self._held += frame.height
        if self._held >= MOST_IN_MEMORY:
            self._put_away()

    def finish(self) -> tuple[int, list[tuple[int, int]]]:
        """How many rows repeat an earlier one, and of the first few their number and that of the earlier one."""
        import numpy as np

        try:
            if self._folder is None:
                bits = np.concatenate(self._waiting) if self._waiting else np.empty(0, np.uint64)
                return _repeated(bits, np.arange(len(bits)))
            self._put_away()
            count, pairs = 0, []
            for part in sorted(self._folder.iterdir()):
                kept = np.fromfile(part, dtype=np.uint64).reshape(-1, 2)
                more, found = _repeated(kept[:, 0], kept[:, 1].astype(np.int64))
                count += more
                pairs += found
            return count, sorted(pairs)[:MOST_PAIRS]
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _put_away(self) -> None:
        import numpy as np

        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="tarmac-repeats-"))
        bits = np.concatenate(self._waiting) if self._waiting else np.empty(0, np.uint64)
        numbers = np.arange(self._rows, self._rows + len(bits), dtype=np.uint64)
        spread = (bits * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(58)  # whole numbers begin alike
        order = np.argsort(spread, kind="stable")
        ends = np.searchsorted(spread[order], np.arange(1, PARTS + 1))
        for part, rows in enumerate(np.split(order, ends[:-1])):
            with (self._folder / f"{part:02}").open("ab") as file:
                np.stack([bits[rows], numbers[rows]], axis=1).tofile(file)
        self._rows += len(bits)
        self._waiting, self._held = [], 0


def _bits(frame: pl.DataFrame) -> Any:
    import polars as pl

    if frame.width == 1:
        column = frame.to_series()
        if column.dtype.is_integer() and column.dtype not in (pl.Int128, pl.UInt128) and not column.null_count():
            return column.cast(pl.Int64, wrap_numerical=True).to_numpy().view("u8")
    return frame.hash_rows(seed=7).to_numpy()


def _repeated(bits: Any, numbers: Any) -> tuple[int, list[tuple[int, int]]]:
    import numpy as np

    ordered = np.sort(bits)
    count = int((ordered[1:] == ordered[:-1]).sum())
    if not count:
        return 0, []
    order = np.argsort(bits, kind="stable")  # the slow way, only where something repeats
    same = bits[order][1:] == bits[order][:-1]
    first = order[np.maximum.accumulate(np.where(np.concatenate([[False], same]), 0, np.arange(len(order))))]
    pairs = sorted(zip(numbers[order[1:][same]].tolist(), numbers[first[1:][same]].tolist(), strict=True))
    return count, pairs[:MOST_PAIRS]

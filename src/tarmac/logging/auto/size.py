"""How large a model is, found out without keeping it and without going on when it is too large; and a copy of it."""

from __future__ import annotations

import pickle
from typing import Any

from tarmac.logging.auto.record import LARGEST_MODEL


class _TooLarge(Exception):
    pass


class _Counter:
    def __init__(self, most: int) -> None:
        self.count, self.most = 0, most

    def write(self, piece: Any) -> int:
        size = memoryview(piece).nbytes
        self.count += size
        if self.count > self.most:
            raise _TooLarge
        return size


class _Kept(_Counter):
    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.pieces: list[bytes] = []

    def write(self, piece: Any) -> int:
        size = super().write(piece)
        self.pieces.append(bytes(piece))
        return size


def pickled_size(model: Any, most: int = LARGEST_MODEL) -> int | None:
    """In bytes; None if it is more than `most`. Of what cannot be pickled, as much as could: who saves it says why."""
    counter = _Counter(most)
    try:
        pickle.Pickler(counter, protocol=5).dump(model)
    except _TooLarge:
        return None
    except Exception:  # noqa: BLE001, S110 - it may be saved in another way
        pass
    return counter.count


def copy_of(model: Any, most: int) -> Any:
    """A copy that can be worked with while the model stays as it is; None of one that is larger than `most` bytes.

    Even predicting may change a model: the trees of nearest neighbours count how often they are asked.
    """
    kept = _Kept(most)
    try:
        pickle.Pickler(kept, protocol=5).dump(model)
    except _TooLarge:
        return None
    return pickle.loads(b"".join(kept.pieces))  # noqa: S301 - written by the line before


def weights_size(model: Any) -> int:
    """Of what has `parameters()` and `buffers()`, as modules of torch."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

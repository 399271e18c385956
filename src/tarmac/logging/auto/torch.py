"""A plain PyTorch loop that logs itself: `with tarmac.loop(model, optimizer) as loop: for batch in loop(loader): …`.

It asks values only for what tensors have, so nothing here imports torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from tarmac.logging.auto import fits
from tarmac.logging.auto.callers import Bare
from tarmac.logging.auto.record import Record, attempt
from tarmac.logging.auto.size import weights_size
from tarmac.logging.run import Run

TRAIN = "train"


def loop(model: Any = None, optimizer: Any = None, *, every: int = 50, models: bool = True) -> Loop:
    """Log what a training loop says: each epoch's means, every so many steps the newest, learning rate and speed.

    Within a run it logs there, else into one of its own, named after the model. `models=False` does not save the model
    when the loop is over.
    """
    return Loop(model, optimizer, every=every, models=models)


class Loop:
    """Made by `tarmac.loop(...)`."""

    def __init__(self, model: Any, optimizer: Any, *, every: int, models: bool) -> None:
        self.model = model
        self.optimizer = optimizer
        self.every = max(1, every)
        self.models = models
        self._name = type(model).__name__ if model is not None else "loop"
        self._begun: AbstractContextManager[Run | None] | None = None
        self._record: Record | None = None
        self._passes: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._now: Pass | None = None

    def __enter__(self) -> Loop:
        self._begun = fits.begun(self._name)
        run = self._begun.__enter__()
        if run is not None:
            self._record = attempt(run, "fit", lambda: Record(run, self._name)) or Bare(run)
            self._record.field("params", self._params, self._record)
        return self

    def _params(self, record: Record) -> None:
        if self.model is not None:
            record.params({"model": self._name, "parameters": sum(one.numel() for one in self.model.parameters())})
        if self.optimizer is not None:
            record.params({"optimizer": type(self.optimizer).__name__})
            record.params(self.optimizer.defaults, prefix="optimizer.")

    def __call__(self, batches: Iterable[Any], phase: str = TRAIN) -> Pass:
        """One pass over the data, an epoch: yields the batches as they are. `phase` comes first in metrics' names."""
        return Pass(self, batches, phase)

    def log(self, **values: Any) -> None:
        """Values of this step. A tensor is not brought from its device before it is needed."""
        if self._now is not None:
            self._now.add(values)
        elif self._record is not None:
            self._record.log(values)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        record, begun = self._record, self._begun
        if record is not None and error is None and self.models and self.model is not None:
            record.field("model", lambda: record.model(self.model, weights_size(self.model)))
        if begun is not None:
            begun.__exit__(kind, error, at)


class Pass:
    """One pass over the data."""

    def __init__(self, loop: Loop, batches: Iterable[Any], phase: str) -> None:
        self._loop = loop
        self._batches = batches
        self._phase = phase
        self._sums: dict[str, Any] = {}
        """Since the newest point; of tensors on their device."""
        self._counts: dict[str, int] = {}
        self._totals: dict[str, tuple[float, int]] = {}
        self._examples = 0
        self._since = time.perf_counter()

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        loop, phase = self._loop, self._phase
        outer, loop._now = loop._now, self  # noqa: SLF001 - the two are one thing in two classes
        began = self._since = time.perf_counter()
        try:
            for batch in self._batches:
                yield batch
                loop._steps[phase] = step = loop._steps.get(phase, 0) + 1  # noqa: SLF001
                self._examples += attempt(None, "samples per second", lambda: examples(batch)) or 0  # noqa: B023
                if step % loop.every == 0:
                    self._try(self._point, step)
        finally:
            loop._now = outer  # noqa: SLF001
            self._try(self._epoch, time.perf_counter() - began)

    def add(self, values: dict[str, Any]) -> None:
        self._try(self._add, values)

    def _try(self, do: Any, given: Any) -> None:
        record = self._loop._record  # noqa: SLF001
        if record is not None:
            record.field("curves", do, record, given)

    def _add(self, record: Record, values: dict[str, Any]) -> None:
        for name, value in values.items():
            plain: Any = value.detach() if hasattr(value, "detach") else float(value)
            if hasattr(plain, "ndim") and plain.ndim:
                plain = plain.float().mean()
            self._sums[name] = self._sums[name] + plain if name in self._sums else plain + 0.0
            self._counts[name] = self._counts.get(name, 0) + 1

    def _point(self, record: Record, step: int) -> None:
        """The means since the point before. Only here a device is waited for."""
        means = self._gather()
        if self._phase != TRAIN:
            return
        now = time.perf_counter()
        found = {f"{TRAIN}/{name}": mean for name, mean in means.items()}
        if self._examples and now > self._since:
            found[f"{TRAIN}/samples_per_second"] = self._examples / (now - self._since)
        self._examples, self._since = 0, now
        record.log(found | self._rates(), step)

    def _gather(self) -> dict[str, float]:
        means = {}
        for name, total in self._sums.items():
            whole, count = float(total), self._counts[name]
            means[name] = whole / count
            before, number = self._totals.get(name, (0.0, 0))
            self._totals[name] = before + whole, number + count
        self._sums, self._counts = {}, {}
        return means

    def _epoch(self, record: Record, seconds: float) -> None:
        loop, phase = self._loop, self._phase
        epoch = loop._passes.get(phase, 0)  # noqa: SLF001
        loop._passes[phase] = epoch + 1  # noqa: SLF001
        self._gather()
        means = {f"epoch/{phase}/{name}": whole / count for name, (whole, count) in self._totals.items()}
        record.log({**means, f"epoch/{phase}/seconds": seconds}, epoch)

    def _rates(self) -> dict[str, float]:
        groups = getattr(self._loop.optimizer, "param_groups", None) or ()
        return {
            f"learning_rate/{number}" if number else "learning_rate": float(group["lr"])
            for number, group in enumerate(groups)
        }


def examples(batch: Any) -> int:
    """How many examples are in a batch: the length of the first array in it."""
    if isinstance(batch, dict):
        batch = next(iter(batch.values()), None)
    elif isinstance(batch, (list, tuple)) and batch:
        batch = batch[0]
    shape = getattr(batch, "shape", None)
    return int(shape[0]) if shape else 0

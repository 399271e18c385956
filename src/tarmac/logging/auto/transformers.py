"""Hugging Face transformers: a callback for its Trainer, and autolog for `Trainer.train`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tarmac.logging.auto import fits, patches, switch
from tarmac.logging.auto.callers import Target
from tarmac.logging.auto.record import Record
from tarmac.logging.auto.size import weights_size
from tarmac.logging.auto.switch import Options
from tarmac.logging.run import Run


def callback(run: Run | None = None) -> Any:
    """A callback for `Trainer(…, callbacks=[…])`: its arguments as params, and what it logs, into a run."""
    return _callback(Target(run))


def _callback(target: Target) -> Any:
    return _callback_class()(target)


@functools.cache
def _callback_class() -> Any:
    from transformers import TrainerCallback

    class TarmacCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def __init__(self, target: Target) -> None:
            self.target = target

        def __reduce__(self) -> Any:  # workers and clones get one that logs to the same run
            return _callback, (self.target,)

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.is_world_process_zero:
                self.target.do("params", lambda record: record.params(_settings(args)))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
            if state.is_world_process_zero:
                self.target.log("curves", lambda: _named(logs or {}), state.global_step)

    return TarmacCallback


def _settings(args: Any) -> dict[str, Any]:
    """The training arguments that somebody has chosen; paths and tokens are none of them."""
    from dataclasses import MISSING, fields

    chosen = {}
    for field in fields(args):
        value = getattr(args, field.name, None)
        usual = field.default if field.default is not MISSING else None
        important = field.name in ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "seed")
        if field.name.endswith(("_token", "_dir")) or not (important or value != usual):
            continue
        if value is None or isinstance(value, (bool, int, float, str)):
            chosen[field.name] = value
    return chosen


def _named(logs: Mapping[str, Any]) -> dict[str, float]:
    """loss is train/loss, eval_loss is eval/loss; train_loss, the mean at the end, is train/train_loss."""
    found = {}
    for name, value in logs.items():
        if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
            continue
        part, mark, rest = name.partition("_")
        known = mark and part in ("eval", "test")
        found[f"{part}/{rest}" if known else f"train/{name}"] = float(value)
    return found


def install(trainer: ModuleType) -> None:
    original = vars(trainer.Trainer)["train"]
    if not patches.is_ours(original):
        patches.replace(trainer.Trainer, "train", _followed(original))


def _followed(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        options = switch.options("transformers")
        if options is None:
            return original(self, *args, **kwargs)
        return fits.follow(lambda: TrainReport(self, options), original, (self, *args), kwargs)

    return train


class TrainReport(fits.Report):
    fits_once = True

    def __init__(self, trainer: Any, options: Options) -> None:
        self.trainer = trainer
        self.options = options
        self.name = type(trainer.model).__name__
        self._ours: Any = None

    def before(self, record: Record) -> None:
        record.field("tags", lambda: record.tag(model=self.name))
        if self.options.datasets:
            record.field("data", self._data, record)

    def _data(self, record: Record) -> None:
        from tarmac.logging.auto import data

        parts = {"train": self.trainer.train_dataset, "eval": self.trainer.eval_dataset}
        known = {name: _Dataset(part) for name, part in parts.items() if hasattr(part, "__len__")}
        if known:
            record.used(*data.describe(known))

    def attach(self, record: Record, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if not any(isinstance(one, _callback_class()) for one in self.trainer.callback_handler.callbacks):
            self._ours = _callback(Target(record))
            self.trainer.add_callback(self._ours)
        return args, kwargs

    def detach(self) -> None:
        if self._ours is not None:
            self.trainer.remove_callback(self._ours)

    def after(self, record: Record, result: Any) -> None:
        if self.options.models and self.trainer.is_world_process_zero():
            model = self.trainer.model
            record.field("model", lambda: record.model(model, weights_size(model)))


class _Dataset:
    """How many examples a data set has, and what it says of itself; reading it may be slow, or draw."""

    def __init__(self, dataset: Any) -> None:
        self.shape = (len(dataset),)
        self.dtype = getattr(dataset, "_fingerprint", None) or type(dataset).__name__

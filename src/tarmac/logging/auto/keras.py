"""Keras: its callback, and autolog for `Model.fit`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tarmac.logging.auto import data, fits, patches, switch
from tarmac.logging.auto.callers import Target, bind
from tarmac.logging.auto.record import Record
from tarmac.logging.auto.switch import Options
from tarmac.logging.run import Run

GIVEN = (
    "batch_size", "epochs", "validation_split", "shuffle", "initial_epoch", "steps_per_epoch", "validation_steps",
    "validation_batch_size", "validation_freq",
)  # fmt: skip


def callback(run: Run | None = None) -> Any:
    """A callback for `model.fit(…, callbacks=[…])`: each epoch's metrics and the learning rate, into a run."""
    return _callback(Target(run))


def _callback(target: Target) -> Any:
    return _callback_class()(target)


@functools.cache
def _callback_class() -> Any:
    from keras.callbacks import Callback

    # no method of a batch: Keras then has no need to bring each batch's numbers from the device
    class TarmacCallback(Callback):  # type: ignore[misc, unused-ignore]
        def __init__(self, target: Target) -> None:
            super().__init__()
            self.target = target

        def __reduce__(self) -> Any:  # workers and clones get one that logs to the same run
            return _callback, (self.target,)

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            self.target.log("curves", lambda: {name: float(value) for name, value in (logs or {}).items()}, epoch)
            self.target.do("learning_rate", lambda record: record.log(_learning_rate(self.model), epoch))

    return TarmacCallback


def _learning_rate(model: Any) -> dict[str, float]:
    rate = getattr(getattr(model, "optimizer", None), "learning_rate", None)
    return {} if rate is None else {"learning_rate": float(rate)}


def install(keras: ModuleType) -> None:
    # it is on the class that the backend gives
    owner = next(cls for cls in keras.Model.__mro__ if "fit" in vars(cls))
    if not patches.is_ours(vars(owner)["fit"]):
        patches.replace(owner, "fit", _followed(vars(owner)["fit"]))


def _followed(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        options = switch.options("keras")
        if options is None:
            return original(self, *args, **kwargs)
        return fits.follow(lambda: FitReport(original, (self, *args), kwargs, options), original, (self, *args), kwargs)

    return fit


class FitReport(fits.Report):
    fits_once = True

    def __init__(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, options: Options) -> None:
        self.model = args[0]
        self.name = type(self.model).__name__
        self.given = dict(bind(original, args, kwargs))
        self.options = options
        self._lent: list[Any] | None = None
        self._ours: Any = None

    def before(self, record: Record) -> None:
        record.field("params", lambda: record.params({name: self.given[name] for name in GIVEN if name in self.given}))
        record.field("optimizer", lambda: record.params(_optimizer(self.model), prefix="optimizer."))
        record.field("tags", lambda: record.tag(model=self.model.name))
        if self.options.datasets:
            record.field("data", self._data, record)

    def _data(self, record: Record) -> None:
        parts = {name: self.given.get(name) for name in ("x", "y", "sample_weight")}
        record.used(*data.describe({name: part for name, part in parts.items() if hasattr(part, "shape")}))

    def attach(self, record: Record, args: Any, kwargs: Any) -> tuple[Any, Any]:
        self._ours = _callback(Target(record))
        given = self.given.get("callbacks")
        held = getattr(given, "callbacks", None)
        if isinstance(held, list):  # a CallbackList, which Keras takes as it is: ours is in it for this fit
            self._ours.set_model(self.model)
            held.append(self._ours)
            self._lent = held
            return args, kwargs
        many = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
        return (), {**self.given, "callbacks": [*many, self._ours]}

    def detach(self) -> None:
        if self._lent is not None:
            self._lent.remove(self._ours)

    def after(self, record: Record, result: Any) -> None:
        record.field("parameters", lambda: record.params({"parameters": self.model.count_params()}))
        if self.options.models:
            record.field("model", lambda: record.model(self.model, 8 * self.model.count_params()))


def _optimizer(model: Any) -> dict[str, Any]:
    settings: dict[str, Any] = model.optimizer.get_config()
    return settings

"""Lightning (`lightning.pytorch` or `pytorch_lightning`): a logger, and autolog for `Trainer.fit`."""

from __future__ import annotations

import functools
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from tarmac.logging.auto import fits, patches, switch
from tarmac.logging.auto.callers import Target
from tarmac.logging.auto.record import Record
from tarmac.logging.auto.size import weights_size
from tarmac.logging.auto.switch import Options
from tarmac.logging.run import Run


def logger(run: Run | None = None) -> Any:
    """A logger for `Trainer(logger=…)`: all that a module logs, and its hyperparameters, into a run."""
    return _logger_class(_package())(run)


def _package() -> str:
    return "pytorch_lightning" if "lightning.pytorch" not in sys.modules and _has_old() else "lightning.pytorch"


def _has_old() -> bool:
    return "pytorch_lightning" in sys.modules


@functools.cache
def _logger_class(package: str) -> Any:
    base = import_module(f"{package}.loggers.logger")

    class TarmacLogger(base.Logger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self, run: Run | None) -> None:
            super().__init__()
            self.target = Target(run)

        @property
        def experiment(self) -> Run | None:
            return self.target.run

        @property
        def name(self) -> str:
            run = self.target.run
            return run.experiment if run is not None else "tarmac"

        @property
        def version(self) -> str:
            run = self.target.run
            return run.id if run is not None else ""

        def log_hyperparams(self, params: Any, *args: Any, **given: Any) -> None:
            self.target.do(
                "params", lambda record: record.params(vars(params) if isinstance(params, Namespace) else params)
            )

        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            self.target.log("curves", lambda: metrics, step)

        def __reduce__(self) -> Any:
            return logger, (self.target.to,)

    return TarmacLogger


@functools.cache
def _callback_class(package: str) -> Any:
    base = import_module(f"{package}.callbacks.callback")

    # a callback and no logger: a trainer without loggers goes other ways than one with them
    class TarmacCallback(base.Callback):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self, target: Target) -> None:
            self.target = target
            self._package = package
            self._known: dict[str, float] = {}
            self._of_validation: set[str] = set()
            self._validated = False

        def __reduce__(self) -> Any:  # the processes of some strategies get one that logs to the same run
            return _callback, (self._package, self.target)

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.log_every_n_steps and trainer.global_step % trainer.log_every_n_steps == 0:
                self.target.do("rates", lambda record: record.log(_rates(trainer), trainer.global_step))

        def on_validation_start(self, trainer: Any, *args: Any) -> None:
            self.target.do("curves", lambda record: self._known.update(_metrics(trainer)))

        def on_validation_end(self, trainer: Any, *args: Any) -> None:
            self._validated = not trainer.sanity_checking
            self.target.do("curves", lambda record: self._learn(trainer))

        def _learn(self, trainer: Any) -> None:
            """Which metrics are the validation's: those that it has changed."""
            self._of_validation |= {name for name, value in _metrics(trainer).items() if self._known.get(name) != value}

        def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
            self.target.log("curves", lambda: self._fresh(trainer), trainer.current_epoch)

        def _fresh(self, trainer: Any) -> dict[str, float]:
            """What is of this epoch: a validation of an epoch before is still among the metrics."""
            stale = set() if self._validated else self._of_validation
            self._validated = False
            return {name: value for name, value in _metrics(trainer).items() if name not in stale}

    return TarmacCallback


def _callback(package: str, target: Target) -> Any:
    return _callback_class(package)(target)


def _metrics(trainer: Any) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def _rates(trainer: Any) -> dict[str, float]:
    return {
        f"learning_rate/{number}" if number else "learning_rate": float(optimizer.param_groups[0]["lr"])
        for number, optimizer in enumerate(trainer.optimizers)
    }


def install(trainer: ModuleType) -> None:
    original = vars(trainer.Trainer)["fit"]
    if not patches.is_ours(original):
        patches.replace(trainer.Trainer, "fit", _followed(original, trainer.__name__.removesuffix(".trainer.trainer")))


def _followed(original: Callable[..., Any], package: str) -> Callable[..., Any]:
    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        options = switch.options("lightning")
        if options is None:
            return original(self, *args, **kwargs)
        model = args[0] if args else kwargs.get("model")
        return fits.follow(lambda: FitReport(self, model, package, options), original, (self, *args), kwargs)

    return fit


class FitReport(fits.Report):
    fits_once = True

    def __init__(self, trainer: Any, model: Any, package: str, options: Options) -> None:
        self.trainer = trainer
        self.model = model
        self.package = package
        self.options = options
        self.name = type(model).__name__
        self._ours: Any = None

    def before(self, record: Record) -> None:
        record.field("params", lambda: record.params(getattr(self.model, "hparams", {})))
        record.field("params", self._trainer, record)
        record.field("tags", lambda: record.tag(model=self.name))

    def _trainer(self, record: Record) -> None:
        names = ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision")
        record.params({name: getattr(self.trainer, name, None) for name in names}, prefix="trainer.")
        record.params({"parameters": sum(weights.numel() for weights in self.model.parameters())})

    def attach(self, record: Record, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if not any(_is_ours(one) for one in self.trainer.loggers):
            self._ours = _callback(self.package, Target(record))
            # in front: what saves checkpoints stays last
            self.trainer.callbacks.insert(0, self._ours)
        return args, kwargs

    def detach(self) -> None:
        if self._ours is not None:
            self.trainer.callbacks.remove(self._ours)

    def after(self, record: Record, result: Any) -> None:
        if self.options.models and self.trainer.is_global_zero:
            record.field("model", lambda: record.model(self.model, weights_size(self.model)))


def _is_ours(one: Any) -> bool:
    return isinstance(getattr(one, "target", None), Target)

"""Autolog and callbacks of Keras, Lightning and transformers, where they are installed."""

from __future__ import annotations

import pickle
import random
import sys
from pathlib import Path
from typing import Any

import pytest

import tarmac
from tarmac.logging import auto
from tests.logging.autologged import Logged
from tests.logging.conftest import Training

# what these libraries warn of in each other is theirs
pytestmark = pytest.mark.filterwarnings("default")


def random_states() -> tuple[Any, ...]:
    import numpy as np
    import torch

    numbers: Any = np.random.get_state()
    return random.getstate(), numbers[1].tobytes(), torch.get_rng_state().numpy().tobytes()


# --------------------------------------------------------------------------------------------------------------- keras


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    if "keras" not in sys.modules:
        monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip("torch", reason="not run: torch is not installed")
    return pytest.importorskip("keras", reason="not run: keras is not installed")


def keras_fit(keras: Any, callbacks: Any) -> Any:
    import numpy as np

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.layers.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", metrics=["mae"])
    inputs, target = np.ones((20, 3)), np.zeros((20, 1))
    history = model.fit(inputs, target, epochs=3, validation_split=0.2, verbose=0, callbacks=callbacks(model))
    return model, history


def test_keras_logs_epochs_and_trains_the_same(logged: Logged, keras: Any) -> None:
    tarmac.autolog("keras")
    mine: list[Any] = []
    model, history = keras_fit(keras, lambda model: mine)
    ours = [weight.tobytes() for weight in model.get_weights()], history.history, history.params, random_states()
    assert mine == []
    tarmac.autolog(False)
    plain, other = keras_fit(keras, lambda model: None)
    assert ours == ([weight.tobytes() for weight in plain.get_weights()], other.history, other.params, random_states())
    run = logged.only()
    assert (run.begin.name, run.status) == ("Sequential", "finished")
    assert run.points["val_loss"] == list(enumerate(history.history["val_loss"]))
    assert run.last("learning_rate") == pytest.approx(0.1)
    assert run.params["epochs"] == "3"
    assert run.params["optimizer.name"].lower() == "sgd"
    assert run.about["x"]["shape"] == [20, 3]
    assert logged.models == {"model": model}
    assert run.warnings() == {}


def test_keras_callbacks_by_hand_and_lists_that_are_lent(logged: Logged, keras: Any) -> None:
    with tarmac.run():
        keras_fit(keras, lambda model: [auto.keras.callback()])
    tarmac.autolog("keras")
    held: list[Any] = []

    def lent(model: Any) -> Any:
        held.append(keras.callbacks.CallbackList([], add_history=True, model=model))
        return held[0]

    keras_fit(keras, lent)
    assert [type(one).__name__ for one in held[0].callbacks] == ["History"]
    one_alone = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        keras_fit(keras, lambda model: one_alone)
    one, two, three = logged.runs()
    assert len(one.points["loss"]) == len(two.points["loss"]) == 3
    assert three.status == "failed"


# ----------------------------------------------------------------------------------------------------------- lightning


@pytest.fixture
def lightning() -> Any:
    return pytest.importorskip("lightning.pytorch", reason="not run: lightning is not installed")


def lightning_fit(lightning: Any, folder: Path, logger: Any = False) -> tuple[Any, Any]:
    import torch

    class Small(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(3, 1)
            self.dropout = torch.nn.Dropout()

        def training_step(self, batch: Any, number: int) -> Any:
            loss = self.layer(self.dropout(batch[0])).square().mean()
            self.log("loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, number: int) -> None:
            self.log("val_loss", self.layer(batch[0]).square().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    lightning.seed_everything(3, verbose=False)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 3)), 8)
    trainer = lightning.Trainer(
        max_epochs=3, check_val_every_n_epoch=2, logger=logger,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        default_root_dir=folder, log_every_n_steps=2,
    )  # fmt: skip
    model = Small()
    trainer.fit(model, loader, loader)
    return trainer, model


def lightning_state(trainer: Any, model: Any) -> tuple[Any, ...]:
    weights = [weight.detach().numpy().tobytes() for weight in model.parameters()]
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return weights, metrics, [type(one).__name__ for one in trainer.callbacks], trainer.loggers, random_states()


def test_lightning_logs_epochs_and_trains_the_same(logged: Logged, lightning: Any, tmp_path: Path) -> None:
    tarmac.autolog("lightning")
    trainer, model = lightning_fit(lightning, tmp_path / "a")
    ours = lightning_state(trainer, model)
    tarmac.autolog(False)
    assert ours == lightning_state(*lightning_fit(lightning, tmp_path / "b"))
    run = logged.only()
    assert (run.begin.name, run.status) == ("Small", "finished")
    assert run.params["width"] == "4"
    assert [step for step, _ in run.points["loss"]] == [0, 1, 2]
    assert [step for step, _ in run.points["val_loss"]] == [1], "it was validated after the second epoch only"
    assert run.last("val_loss") == pytest.approx(float(trainer.callback_metrics["val_loss"]))
    assert run.last("learning_rate") == pytest.approx(0.1)
    assert logged.models == {"model": model}
    assert run.warnings() == {}
    checkpoint = next((tmp_path / "a").rglob("*.ckpt"))
    assert b"tarmac" not in checkpoint.read_bytes()


def test_lightnings_logger(logged: Logged, lightning: Any, tmp_path: Path) -> None:
    with tarmac.run("mine") as run:
        logger = auto.lightning.logger()
        lightning_fit(lightning, tmp_path, logger)
        assert (logger.name, logger.version) == ("mine", run.id)
        assert type(pickle.loads(pickle.dumps(logger))) is type(logger)
    found = logged.only()
    assert found.params["width"] == "4"
    assert len(found.points["val_loss"]) == 1
    assert found.warnings() == {}


# -------------------------------------------------------------------------------------------------------- transformers


@pytest.fixture
def transformers() -> Any:
    pytest.importorskip("accelerate", reason="not run: accelerate is not installed")
    return pytest.importorskip("transformers", reason="not run: transformers is not installed")


def transformers_fit(transformers: Any, folder: Path, callbacks: Any = None) -> tuple[Any, Any]:
    import torch

    transformers.set_seed(3)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    data = [{"input_ids": torch.tensor([1, 2, 3]), "labels": number % 2} for number in range(8)]
    given = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=2, per_device_train_batch_size=4, logging_steps=1, report_to=[],
        save_strategy="no", eval_strategy="epoch", use_cpu=True, disable_tqdm=True, learning_rate=0.01,
    )  # fmt: skip
    trainer = transformers.Trainer(model, given, train_dataset=data, eval_dataset=data, callbacks=callbacks)
    return trainer, trainer.train()


def transformers_state(trainer: Any, result: Any) -> tuple[Any, ...]:
    weights = [weight.detach().numpy().tobytes() for weight in trainer.model.parameters()]
    losses = [entry.get("loss") for entry in trainer.state.log_history]
    return weights, losses, result.training_loss, trainer.callback_handler.callback_list, random_states()


def test_transformers_logs_and_trains_the_same(logged: Logged, transformers: Any, tmp_path: Path) -> None:
    tarmac.autolog("transformers")
    trainer, result = transformers_fit(transformers, tmp_path / "a")
    ours = transformers_state(trainer, result)
    tarmac.autolog(False)
    assert ours == transformers_state(*transformers_fit(transformers, tmp_path / "b"))
    run = logged.only()
    assert (run.begin.name, run.status) == ("BertForSequenceClassification", "finished")
    assert run.params["learning_rate"] == "0.01"
    assert not [name for name in run.params if name.endswith(("_dir", "_token"))]
    assert [step for step, _ in run.points["train/loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in run.points["eval/loss"]] == [2, 4]
    assert logged.models == {"model": trainer.model}
    assert run.warnings() == {}


def test_transformers_callback_by_hand_is_not_doubled(logged: Logged, transformers: Any, tmp_path: Path) -> None:
    tarmac.autolog("transformers")
    with tarmac.run():
        transformers_fit(transformers, tmp_path, [auto.transformers.callback()])
    assert [step for step, _ in logged.only().points["train/loss"]] == [1, 2, 3, 4]


def test_callbacks_can_be_sent_to_workers(logged: Logged, transformers: Any, lightning: Any, keras: Any) -> None:
    from tarmac.logging.auto.callers import Target
    from tarmac.logging.auto.lightning import _callback

    with tarmac.run() as run:
        theirs = _callback("lightning.pytorch", Target(run))
        for mine in (theirs, auto.keras.callback(run), auto.transformers.callback()):
            other = pickle.loads(pickle.dumps(mine))
            assert type(other) is type(mine)
            assert other.target.run is run


def test_exceptions_come_out_and_nothing_is_left(
    logged: Logged, transformers: Any, lightning: Any, tmp_path: Path
) -> None:
    class Stops(transformers.TrainerCallback):  # type: ignore[misc]
        def on_epoch_end(self, *args: Any, **given: Any) -> None:
            raise ZeroDivisionError("enough")

    tarmac.autolog()
    with pytest.raises(ZeroDivisionError, match="enough"):
        transformers_fit(transformers, tmp_path, [Stops()])
    assert logged.only().status == "failed"


# ------------------------------------------------------------------------------------------------------ the front door

SCRIPTS = {
    "keras": """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy as np
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, verbose=0)
""",
    "lightning": """
import lightning.pytorch as lightning, torch
class Small(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
    def training_step(self, batch, number):
        loss = self.layer(batch[0]).square().mean()
        self.log("loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 3)), 8)
lightning.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                  accelerator="cpu").fit(Small(), loader)
""",
    "transformers": """
import torch, transformers
config = transformers.BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                                 intermediate_size=8, max_position_embeddings=8)
data = [{"input_ids": torch.tensor([1, 2, 3]), "labels": number % 2} for number in range(8)]
given = transformers.TrainingArguments(output_dir="out", num_train_epochs=2, logging_steps=1, report_to=[],
                                       save_strategy="no", use_cpu=True, disable_tqdm=True)
transformers.Trainer(transformers.BertForSequenceClassification(config), given, train_dataset=data).train()
""",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name", "metric"),
    [
        ("keras", "Sequential", "loss"),
        ("lightning", "Small", "loss"),
        ("transformers", "BertForSequenceClassification", "train/loss"),
    ],
)
def test_a_script_and_what_the_workspace_knows_then(local: Training, library: str, name: str, metric: str) -> None:
    for needed in ("torch", library):
        pytest.importorskip(needed, reason=f"not run: {needed} is not installed")
    done = local.run(
        f"import tarmac, sys\ntarmac.autolog()\n{SCRIPTS[library]}\n"
        "found, = tarmac.runs(form='rows')\n"
        f"print(found['name'], found['status'], 'metrics.{metric}' in found, file=sys.stderr)\n"
    )
    assert done.code == 0, done.err
    assert f"{name} finished True" in done.err
    assert "tarmac: warning" not in done.err

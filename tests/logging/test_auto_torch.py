"""`tarmac.loop`: a plain training loop that logs itself, with torch and with anything that looks like it."""

from __future__ import annotations

import random
from typing import Any

import pytest

import tarmac
from tarmac.logging.auto.torch import examples
from tests.logging.autologged import Logged
from tests.logging.conftest import Training


class Sized:
    def __init__(self, *shape: int) -> None:
        self.shape = shape


def test_a_pass_is_an_epoch_and_its_means_are_points(logged: Logged) -> None:
    batches = [Sized(4, 2)] * 10
    with tarmac.loop(every=5) as loop:
        for _ in range(2):
            for number, _ in enumerate(loop(batches)):
                loop.log(loss=float(number), hits=1)
            for _ in loop(batches[:2], "val"):
                loop.log(loss=0.5)
        loop.log(final=3)
    run = logged.only()
    assert (run.begin.name, run.status) == ("loop", "finished")
    assert run.points["train/loss"] == [(5, 2.0), (10, 7.0), (15, 2.0), (20, 7.0)]
    assert run.points["epoch/train/loss"] == [(0, 4.5), (1, 4.5)]
    assert run.points["epoch/val/loss"] == [(0, 0.5), (1, 0.5)]
    assert "val/loss" not in run.points
    assert run.last("final") == 3
    assert [step for step, _ in run.points["train/samples_per_second"]] == [5, 10, 15, 20]
    assert run.warnings() == {}


def test_a_loop_within_a_run_logs_there(logged: Logged) -> None:
    with tarmac.run("mine") as run, tarmac.loop() as loop:
        for _ in loop(range(3)):
            loop.log(loss=1.0)
        assert not run.ended
    assert logged.only().points["epoch/train/loss"] == [(0, 1.0)]


def test_a_pass_that_is_left_early_counts_what_was(logged: Logged) -> None:
    with tarmac.loop() as loop:
        for number in loop(range(100)):
            loop.log(loss=float(number))
            if number == 3:
                break
    assert logged.only().points["epoch/train/loss"] == [(0, 1.5)]


def test_batches_are_what_they_are_and_length_is_known(logged: Logged) -> None:
    batches = [object(), object()]
    with tarmac.loop() as loop:
        assert len(loop(batches)) == 2
        assert all(one is other for one, other in zip(loop(batches), batches, strict=True))


def test_an_exception_comes_out_and_the_run_has_failed(logged: Logged) -> None:
    class Model:
        def parameters(self) -> list[Any]:
            return []

        buffers = parameters

    def fails() -> None:
        with tarmac.loop(Model()) as loop:
            for number in loop(range(3)):
                loop.log(loss=1 / (1 - number))

    with pytest.raises(ZeroDivisionError):
        fails()
    assert logged.only().status == "failed"
    assert logged.models == {}


def test_faults_are_one_warning_each(logged: Logged) -> None:
    class Broken:
        def detach(self) -> Any:
            raise RuntimeError("no such device")

    with tarmac.loop(model=object(), optimizer=None) as loop:
        for number in loop(range(3)):
            loop.log(loss=Broken())
            loop.log(other=number)
    run = logged.only()
    assert set(run.warnings()) == {f"tarmac.warning.autolog.{field}" for field in ("params", "curves", "model")}
    assert logged.err().count("tarmac: warning") == 3
    assert run.points["epoch/train/other"] == [(0, 1.0)]


@pytest.mark.parametrize(
    ("batch", "count"),
    [((Sized(3, 2), Sized(3)), 3), ({"ids": Sized(7)}, 7), (Sized(2), 2), ([], 0), ({}, 0), ("text", 0), (None, 0)],
)
def test_examples_are_counted(batch: Any, count: int) -> None:
    assert examples(batch) == count


def test_a_script_and_what_the_workspace_knows_then(local: Training) -> None:
    done = local.run(
        "import sys, tarmac\n"
        "with tarmac.loop() as loop:\n"
        "    for epoch in range(3):\n"
        "        for number in loop(range(10)):\n"
        "            loop.log(loss=number / (epoch + 1))\n"
        "found, = tarmac.runs(form='rows')\n"
        "print(found['name'], found['status'], found['metrics.epoch/train/loss'])\n"
        "assert 'numpy' not in sys.modules\n"
    )
    assert done.code == 0, done.err
    assert done.out == "loop finished 1.5\n"


# ---------------------------------------------------------------------------------------------------------- with torch


def trained(loop: Any) -> tuple[Any, ...]:
    """The weights and the random state after a small training; `loop` is None for one without us."""
    import torch

    torch.manual_seed(1)
    random.seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.utils.data.TensorDataset(torch.randn(32, 3), torch.randn(32, 1))
    loader = torch.utils.data.DataLoader(data, 8, shuffle=True)
    losses = []

    def epochs(around: Any, log: Any) -> None:
        for _ in range(3):
            for inputs, target in around(loader):
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(model(inputs), target)
                loss.backward()
                optimizer.step()
                log(loss=loss)
                losses.append(loss.item())

    if loop is None:
        epochs(lambda batches: batches, lambda **values: None)
    else:
        with tarmac.loop(model, optimizer, every=2) as loop:
            epochs(loop, loop.log)
    weights = [weight.detach().numpy().tobytes() for weight in model.parameters()]
    return losses, weights, torch.get_rng_state().numpy().tobytes(), random.getstate()


def test_training_with_torch_is_the_same_with_and_without(logged: Logged) -> None:
    torch = pytest.importorskip("torch", reason="not run: torch is not installed")
    ours = trained(tarmac.loop)
    assert ours == trained(None)
    run = logged.only()
    assert run.begin.name == "Sequential"
    assert run.params == {
        "model": "Sequential", "parameters": "21", "optimizer": "SGD", "optimizer.lr": "0.1",
    } | {key: value for key, value in run.params.items() if key.startswith("optimizer.")}  # fmt: skip
    losses = ours[0]
    assert run.points["epoch/train/loss"][0] == pytest.approx((0, sum(losses[:4]) / 4))
    assert run.points["train/loss"][0] == pytest.approx((2, sum(losses[:2]) / 2))
    assert run.last("learning_rate") == pytest.approx(0.1)
    assert isinstance(logged.models["model"], torch.nn.Module)


def test_a_tensor_is_not_waited_for_at_every_step(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="not run: torch is not installed")
    waited = []
    original = torch.Tensor.__float__

    def waits(tensor: Any) -> Any:
        waited.append(tensor)
        return original(tensor)

    monkeypatch.setattr(torch.Tensor, "__float__", waits)
    monkeypatch.setattr(torch.Tensor, "item", lambda self: pytest.fail("item() waits for the device"))
    with tarmac.loop(every=50) as loop:
        for _ in loop(range(100)):
            loop.log(loss=torch.ones((), requires_grad=True) * 2)
    assert len(waited) == 2
    assert logged.only().points["epoch/train/loss"] == [(0, 2.0)]


def test_random_state_of_torch_is_kept() -> None:
    torch = pytest.importorskip("torch", reason="not run: torch is not installed")
    import threading

    from tarmac.logging.auto import randomness

    if threading.active_count() > 1:
        pytest.skip("not run: other threads are alive")
    before = torch.get_rng_state()
    with randomness.kept():
        torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())

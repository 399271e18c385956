"""Batches: everybody gets their own rows, limits hold, a lone caller does not wait, a bad row hurts its sender only."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import TarmacError
from tarmac.serve.lanes import Cost, Lane, Work

CHEAP = Cost(20e-6, 1e-6)
DEAR = Cost(1.0, 0.0)


def lane(
    predict: Callable[[Any], Any], cost: Cost = CHEAP, *, rows: int = 8, waiting: int = 10_000, **more: Any
) -> Lane:
    return Lane(predict, cost=cost, rows=rows, waiting=waiting, row_wise=True, own_thread=False, name="m@1", **more)


class Caller:
    def __init__(self, first: int, rows: int, patience: float = 60.0) -> None:
        self.array = np.arange(first, first + rows, dtype=np.float64).reshape(rows, 1)
        self.answers: list[tuple[Any, TarmacError | None]] = []
        self.event = asyncio.Event()
        self.gone = False
        self.work = Work({"x": self.array}, rows, time.monotonic() + patience, self._done, self)

    def _done(self, outputs: Any, error: TarmacError | None) -> None:
        self.answers.append((outputs, error))
        self.event.set()

    async def answer(self) -> tuple[Any, TarmacError | None]:
        await asyncio.wait_for(self.event.wait(), 30)
        assert len(self.answers) == 1
        return self.answers[0]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=40),
    gone=st.sets(st.integers(0, 39)),
    bad=st.sets(st.integers(0, 39)),
    dear=st.booleans(),
)
def test_everybody_gets_their_own_rows(sizes: list[int], gone: set[int], bad: set[int], dear: bool) -> None:
    """Whoever sent what beside them, whoever left, and whoever sent a row that the model cannot take."""
    seen: list[int] = []

    def predict(inputs: Any) -> Any:
        rows = inputs["x"]
        seen.append(len(rows))
        if (rows < 0).any():
            raise ValueError("a negative row")
        return {"y": rows[:, 0] * 2}

    async def play() -> None:
        found = lane(predict, DEAR if dear else CHEAP)
        callers = []
        for index, rows in enumerate(sizes):
            caller = Caller(index * 1000, rows)
            if index in bad:
                caller.array[-1] = -1
            caller.gone = index in gone
            callers.append(caller)
            found.submit(caller.work)
        for index, caller in enumerate(callers):
            outputs, error = await caller.answer()
            if index in gone and error is not None:
                continue
            if index in bad:
                assert error is not None
                assert "a negative row" in error.message
            else:
                assert error is None
                assert np.array_equal(outputs["y"], caller.array[:, 0] * 2)
        assert max(seen, default=0) <= 8
        assert found.waiting == 0
        found.stop()

    asyncio.run(play())


def test_a_lone_caller_does_not_wait_for_company() -> None:
    async def play() -> None:
        found = lane(lambda inputs: {"y": inputs["x"][:, 0]}, DEAR)
        await _ask(found)
        began = time.perf_counter()
        for _ in range(20):
            await _ask(found)
        assert (time.perf_counter() - began) / 20 < 0.05
        found.stop()

    asyncio.run(play())


async def _ask(found: Lane) -> None:
    caller = Caller(0, 1)
    found.submit(caller.work)
    assert (await caller.answer())[1] is None


def test_who_comes_while_the_engine_is_busy_goes_together() -> None:
    sizes: list[int] = []
    began, go = threading.Event(), threading.Event()

    def predict(inputs: Any) -> Any:
        sizes.append(len(inputs["x"]))
        began.set()
        go.wait(30)
        return {"y": inputs["x"][:, 0]}

    async def play() -> None:
        found = lane(predict, DEAR, rows=64)
        callers = [Caller(number, 1) for number in range(33)]
        found.submit(callers[0].work)
        await asyncio.to_thread(began.wait, 30)
        for caller in callers[1:]:
            found.submit(caller.work)
        go.set()
        for caller in callers:
            outputs, error = await caller.answer()
            assert error is None
            assert outputs["y"][0] == caller.array[0, 0]
        found.stop()

    asyncio.run(play())
    assert sizes == [1, 32]


def test_too_many_waiting_are_sent_away_at_once() -> None:
    go = threading.Event()

    async def play() -> None:
        found = lane(lambda inputs: go.wait(30) and {"y": inputs["x"][:, 0]}, DEAR, waiting=10)
        callers = [Caller(number, 5) for number in range(4)]
        for caller in callers:
            found.submit(caller.work)
        away = [caller for caller in callers if caller.answers]
        assert len(away) == 2
        assert all(error is not None and error.status == 503 for caller in away for _, error in caller.answers)
        go.set()
        for caller in callers:
            await caller.answer()
        found.stop()

    asyncio.run(play())


def test_who_waited_too_long_is_told_and_not_computed() -> None:
    go = threading.Event()
    computed: list[int] = []

    def predict(inputs: Any) -> Any:
        computed.append(len(inputs["x"]))
        go.wait(30)
        return {"y": inputs["x"][:, 0]}

    async def play() -> None:
        found = lane(predict, DEAR, rows=1)
        first, second = Caller(0, 1), Caller(1, 1, patience=0.05)
        found.submit(first.work)
        found.submit(second.work)
        await asyncio.sleep(0.1)
        found.give_up_late(time.monotonic())
        _, error = await second.answer()
        assert error is not None
        assert error.status == 503
        go.set()
        assert (await first.answer())[1] is None
        await asyncio.sleep(0.05)
        found.stop()

    asyncio.run(play())
    assert computed == [1]


@pytest.mark.parametrize("cost", [CHEAP, DEAR])
def test_a_model_that_does_not_answer_by_rows_is_asked_one_by_one(cost: Cost) -> None:
    async def play() -> None:
        found = lane(lambda inputs: {"y": np.array([inputs["x"].sum()])}, cost, rows=64)
        callers = [Caller(number, 2) for number in range(5)]
        for caller in callers:
            found.submit(caller.work)
        for caller in callers:
            outputs, error = await caller.answer()
            assert error is None
            assert outputs["y"][0] == caller.array.sum()
        found.stop()

    asyncio.run(play())

"""Ray keeps the contract of executors, and the promises that take more than one machine."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tarmac.flow.executors import Executor
from tests.contracts.executors import ExecutorContract

pytestmark = [pytest.mark.slow, pytest.mark.ray]
if find_spec("ray") is None:
    pytest.skip("not run: ray is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def connected() -> Iterator[None]:
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="abcdefabcdefabcdefabcdefabcdef12")
    import ray

    from tarmac.flow.executors.ray import connect

    connect(ray, "ray://127.0.0.2:23456")
    yield
    ray.shutdown()


class TestRay(ExecutorContract):
    @pytest.fixture(autouse=True)
    def here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
        monkeypatch.chdir(ROOT)

    @pytest.fixture
    def executor(self, connected) -> Iterator[Executor]:
        from tarmac.flow.executors import carried
        from tarmac.flow.executors.ray import Ray

        made = Ray("ray://127.0.0.2:23456", carried.pack(ROOT / "tests"))
        yield made
        made.close()

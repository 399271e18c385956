"""The whole runtime under load: swap, cut, shadow, sticky callers, workers that die, a stop that loses nobody."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tarmac.formats import segments
from tarmac.serve.worker import states
from tests.serve.conftest import Running, endpoint


class Load:
    """Callers that ask on without a pause; what each got is kept, and whether it belongs together."""

    def __init__(self, running: Running, name: str, callers: int = 4) -> None:
        self._running = running
        self._name = name
        self._stop = threading.Event()
        self.versions: Counter[str] = Counter()
        self.wrong: list[Any] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._running.port, timeout=30)
        count = 0
        while not self._stop.is_set():
            count += 1
            tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [number, count % 500, 0, 0]}
            try:
                connection.request("POST", f"/v2/models/{self._name}/infer", json.dumps({"inputs": [tensor]}))
                answer = connection.getresponse()
                found = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(error)
                connection.close()
                continue
            if answer.status != 200:
                self.wrong.append(found)
                continue
            version = found["model_version"]
            expected = int(version) * 1000 + number + count % 500
            if found["outputs"][0]["data"] != [expected]:
                self.wrong.append((version, expected, found))
            self.versions[version] += 1
            time.sleep(0.002)
        connection.close()

    def until(self, true: Callable[[], bool]) -> None:
        self._running.until(true, "under load")


def test_a_swap_under_load_loses_and_mixes_nothing(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1)]}, workers=2)
    with Load(running, "add") as load:
        for version in (2, 3, 1, 2):
            running.change({"endpoints": [endpoint(packages, "add", version)]})
            before = load.versions[str(version)]
            load.until(lambda version=version, before=before: load.versions[str(version)] > before + 20)  # type: ignore[misc]
    assert load.wrong == []
    assert set(load.versions) == {"1", "2", "3"}


def test_shares_sticky_keys_and_a_version_by_name(start: Callable[..., Running], packages: Path) -> None:
    shared = endpoint(packages, "add", 2, 1, shares=[0.25, 0.75], sticky="customer")
    running = start({"endpoints": [shared]}, workers=2)
    answered: dict[int, str] = {}
    for _ in range(2):
        for caller in range(60):
            status, answer = running.add("add", [0, 0, 0, 0], parameters={"customer": caller})
            assert status == 200
            assert answered.setdefault(caller, answer["model_version"]) == answer["model_version"]
    assert set(answered.values()) == {"1", "2"}
    by_header = {c: running.add("add", [0, 0, 0, 0], {"customer": str(c)})[1]["model_version"] for c in range(60)}
    assert by_header == answered
    assert running.add("add", [0, 0, 0, 0], {"X-Tarmac-Version": "2"})[1]["outputs"][0]["data"] == [2000]
    assert running.add("add", [0, 0, 0, 0], {"X-Tarmac-Version": "9"})[0] == 404


def test_a_cut_answers_at_once_with_what_was_agreed(start: Callable[..., Running], packages: Path) -> None:
    whole = endpoint(packages, "add", 2, 1, shares=[1.0, 0.0])
    running = start({"endpoints": [whole]})
    with Load(running, "add") as load:
        load.until(lambda: load.versions["2"] > 20)
        running.change({"endpoints": [{**whole, "cut": True, "fallback": {"kind": "version", "version": "1"}}]})
        load.until(lambda: load.versions["1"] > 20)
    assert load.wrong == []
    constant = {"kind": "constant", "outputs": {"y": [0.5]}}
    running.change({"endpoints": [{**whole, "cut": True, "fallback": constant}]})
    status, answer = running.add("add", [1, 1, 1, 1])
    assert (status, answer["model_version"], answer["outputs"][0]["data"]) == (200, "fallback", [0.5])
    running.change({"endpoints": [{**whole, "cut": True, "fallback": {"message": "it misjudges children"}}]})
    status, answer = running.add("add", [1, 1, 1, 1])
    assert status == 503
    assert "it misjudges children" in answer["error"]


def test_a_shadow_is_compared_and_answers_nobody(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1, 2, shares=[1.0, 0.0], shadow="2")]})
    for _ in range(10):
        assert running.add("add", [0, 0, 0, 0])[1]["model_version"] == "1"
    running.until(
        lambda: 'shadow_differs_total{endpoint="add",version="2"} 10' in running.ask("GET", "/metrics")[2].decode(),
        "counts what the shadow said",
    )


def test_a_killed_worker_is_replaced_and_the_others_answer(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1)]}, workers=2)
    victim = states(running.folder)[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    running.until(
        lambda: running.supervisor.ready() and victim not in [state["pid"] for state in states(running.folder)],
        "has a new worker",
    )
    assert running.supervisor.restarts == 1
    assert running.add("add", [1, 2, 3, 4])[1]["outputs"][0]["data"] == [1010]


def test_a_stop_answers_who_was_there(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1)]})
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    connection.request("GET", "/v2/health/live")
    connection.getresponse().read()
    running.stop()
    connection.auto_open = 0
    with pytest.raises((OSError, http.client.HTTPException)):
        _again(connection)


def _again(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/v2/health/live")
    connection.getresponse()


def test_routes_that_cannot_be_followed_leave_the_old_ones(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1)]})
    running.write({"endpoints": [{"name": "add", "versions": [{"version": "2", "folder": "/nowhere"}]}]})
    running.until(lambda: "add" in running.supervisor.faults(), "tells of the fault")
    assert running.add("add", [0, 0, 0, 0])[1]["model_version"] == "1"
    running.write({"endpoint": []})
    running.until(lambda: "routes" in running.supervisor.faults(), "tells of the fault")
    assert running.add("add", [0, 0, 0, 0])[1]["model_version"] == "1"
    running.change({"endpoints": [endpoint(packages, "add", 3)]})
    assert running.add("add", [0, 0, 0, 0])[1]["model_version"] == "3"
    assert running.supervisor.faults() == {}


def test_a_changed_package_is_not_served(start: Callable[..., Running], packages: Path, tmp_path: Path) -> None:
    import shutil

    from tarmac.formats.package import Sealed

    copy = tmp_path / "copy"
    shutil.copytree(packages / "add1", copy)
    digest = Sealed(copy).digest
    model = copy / "add1.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    running = start({"endpoints": [endpoint(packages, "add", 1)]})
    running.write(
        {"endpoints": [{"name": "add", "versions": [{"version": "9", "folder": str(copy), "digest": digest}]}]}
    )
    running.until(lambda: "other bytes" in running.supervisor.faults().get("add", ""), "names the fault")
    assert running.add("add", [0, 0, 0, 0])[1]["model_version"] == "1"


def test_models_are_unloaded_and_loaded_by_all_workers(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1), endpoint(packages, "other", 2)]}, workers=2)
    assert running.json("POST", "/v2/repository/models/add/unload")[0] == 200
    running.until(lambda: all("add" not in state["endpoints"] for state in states(running.folder)), "unloads")
    status, answer = running.add("add", [0, 0, 0, 0])
    assert (status, "unloaded" in answer["error"]) == (503, True)
    assert running.add("other", [0, 0, 0, 0])[0] == 200
    assert running.json("POST", "/v2/repository/models/add/load")[0] == 200
    running.until(lambda: all("add" in state["endpoints"] for state in states(running.folder)), "loads")
    assert running.add("add", [0, 0, 0, 0])[0] == 200


def test_only_who_has_a_token_is_answered(start: Callable[..., Running], packages: Path) -> None:
    from tarmac.core.digest import digest

    running = start({"endpoints": [endpoint(packages, "add", 1)], "tokens": [digest(b"secret")]})
    assert running.add("add", [0, 0, 0, 0])[0] == 401
    assert running.add("add", [0, 0, 0, 0], {"Authorization": "Bearer wrong"})[0] == 401
    assert running.add("add", [0, 0, 0, 0], {"Authorization": "Bearer secret"})[0] == 200
    assert running.json("GET", "/v2/health/live")[0] == 200


def logged(running: Running) -> Iterator[segments.Predictions | segments.Truths]:
    for path in sorted((running.folder / "segments").glob("*.seg")):
        with path.open("rb") as file:
            yield from segments.read(file)


def test_what_was_answered_is_in_the_log(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1, sticky="customer")]})
    answers = [running.add("add", [number, 0, 0, 0], parameters={"customer": f"c{number}"})[1] for number in range(20)]
    assert running.json("POST", f"/feedback/{answers[3]['id']}", {"truth": [1003.0]})[0] == 202
    running.stop()
    found = list(logged(running))
    kept = [part for part in found if isinstance(part, segments.Predictions)]
    truths = [part for part in found if isinstance(part, segments.Truths)]
    assert [id for part in kept for id in part.ids] == [answer["id"] for answer in answers]
    assert [key for part in kept for key in part.keys] == [f"c{number}" for number in range(20)]
    assert truths[0].ids == [answers[3]["id"]]
    import numpy as np

    rows = np.concatenate([np.frombuffer(part.inputs[0].data, "<f4").reshape(-1, 4) for part in kept])
    outputs = np.concatenate([np.frombuffer(part.outputs[0].data, "<f4") for part in kept])
    assert rows[:, 0].tolist() == list(range(20))
    assert outputs.tolist() == [1000 + number for number in range(20)]


def test_a_full_disk_costs_the_log_and_no_answer(start: Callable[..., Running], packages: Path) -> None:
    running = start({"endpoints": [endpoint(packages, "add", 1)]}, log_bytes=-1)
    for number in range(5):
        assert running.add("add", [number, 0, 0, 0])[0] == 200
    running.until(lambda: states(running.folder)[0]["lost"] == 5, "counts what is lost")
    assert b"tarmac_predictions_lost_total 5" in running.ask("GET", "/metrics")[2]

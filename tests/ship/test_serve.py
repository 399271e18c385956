"""`tarmac serve` by its front door: files, names, aliases that move, cuts, canaries; and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TRAIN = """
import sys, tarmac, numpy as np
class Constant:
    def __init__(self, value): self.value = value
    def predict(self, rows): return np.full(len(rows), self.value)
with tarmac.run("constant") as run:
    run.model(Constant(int(sys.argv[1])), name="constant", example=np.zeros((2, 3)))
"""
PATIENCE = 60.0


class Served:
    def __init__(self, place: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tarmac", "serve", *words, "--port", "0"],
            cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"answers at http://127.0.0.1:(\d+)/", line):
                self.port = int(found[1])
                return
        self.process.wait(30)
        raise AssertionError(self.said)

    def ask(self, name: str, row: list[float], **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(
            "POST", f"/predict/{name}", json.dumps([row]), {"Content-Type": "application/json", **headers}
        )
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        self.process.stdout.close()
        assert self.process.wait(30) == 0, rest
        return rest


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[..., Served]]:
    running: list[Served] = []

    def start(*words: str) -> Served:
        running.append(Served(place, *words))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.stop()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TARMAC_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    tarmac("init")
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def tarmac(*words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tarmac", *words], capture_output=True, text=True, timeout=120, env={**os.environ}
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def train(place: Path, *values: int) -> None:
    for value in values:
        subprocess.run([sys.executable, "train.py", str(value)], cwd=place, check=True, timeout=120)


@pytest.mark.slow
def test_an_alias_is_followed_cut_and_opened_again(place: Path, serve: Callable[..., Served]) -> None:
    train(place, 1, 2)
    tarmac("models", "promote", "constant@v1", "--to", "production")
    served = serve("constant@production")
    assert served.ask("constant", [0, 0, 0])[1]["predictions"] == [1]
    tarmac("models", "promote", "constant@v2", "--to", "production")
    served.until(lambda: served.ask("constant", [0, 0, 0])[1]["predictions"] == [2])
    tarmac("cut", "constant", "--fallback", "previous", "--reason", "it is odd")
    served.until(lambda: served.ask("constant", [0, 0, 0])[1]["predictions"] == [1])
    tarmac("cut", "constant", "--reason", "both are odd")
    served.until(lambda: served.ask("constant", [0, 0, 0])[0] == 503)
    assert "both are odd" in served.ask("constant", [0, 0, 0])[1]["error"]["message"]
    tarmac("uncut", "constant")
    served.until(lambda: served.ask("constant", [0, 0, 0])[1].get("predictions") == [2])
    assert "predictions are kept" in served.stop()
    (version,) = json.loads(tarmac("data", "versions", "predictions-constant", "--json"))["versions"]
    assert "rows" in version["message"]


@pytest.mark.slow
def test_a_server_of_a_workspace_is_asked_as_well(place: Path, serve: Callable[..., Served]) -> None:
    train(place, 1)
    up = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "up", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=place
    )
    assert up.stdout is not None
    found = re.search(r"http://127.0.0.1:\d+", up.stdout.readline())
    assert found
    try:
        refused = tarmac("--help")  # the command line works beside it
        assert "serve" in refused
        served = serve("constant@latest", "--workspace", found[0], "--trust", _digest(found[0]))
        assert served.ask("constant", [0, 0, 0])[1]["predictions"] == [1]
        served.stop()
    finally:
        up.terminate()
        up.stdout.close()
        assert up.wait(30) == 0


def _digest(where: str) -> str:
    return str(json.loads(tarmac("versions", "show", "constant@v1", "--json", "--workspace", where))["digest"])


def test_what_cannot_be_served_is_said_before_anything_listens(place: Path) -> None:
    assert "there is no model `churn`" in tarmac("serve", "churn@production", code=1)
    assert "nowhere.onnx" in tarmac("serve", "nowhere.onnx", code=1)
    (place / "text.onnx").write_text("no model")
    assert "text" in tarmac("serve", "text.onnx", code=2)
    assert "would let anybody ask" in tarmac("serve", "text.onnx", "--host", "0.0.0.0", code=2)
    assert "is no share" in tarmac("serve", "text.onnx", "--share", "text.onnx=2", code=2)


def test_cuts_are_known_and_recorded(place: Path) -> None:
    tarmac("cut", "churn", "--fallback", "constant", "--outputs", '{"prediction": [0]}', "--reason", "odd")
    (found,) = json.loads(tarmac("cuts", "ls", "--json"))["cuts"]
    assert (found["endpoint"], found["fallback"], found["outputs"]) == ("churn", "constant", {"prediction": [0]})
    assert "constant needs its outputs" in tarmac("cut", "churn", "--fallback", "constant", code=2)
    assert "did you mean `churn`" in tarmac("uncut", "chur", code=1)
    tarmac("uncut", "churn")
    assert json.loads(tarmac("cuts", "ls", "--json"))["cuts"] == []
    operations = [event["operation"] for event in json.loads(tarmac("audit", "ls", "--json"))["events"]]
    assert {"cut", "uncut"} <= set(operations)

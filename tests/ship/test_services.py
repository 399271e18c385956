"""Services: a picture that goes through steps, an ensemble, a router; packaged, sealed and served as any model is."""

from __future__ import annotations

import http.client
import io
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

import tarmac as sdk
from tarmac.core.errors import Invalid
from tests.ship.test_serve import Served, tarmac

MODELS = """
import numpy as np, tarmac
from sklearn.linear_model import LinearRegression, LogisticRegression
rows = np.random.default_rng(0).normal(size=(60, 3))
with tarmac.run("parts") as run:
    run.model(LinearRegression().fit(rows, rows @ [1, 2, 3]), name="one", example=rows[:2])
    run.model(LinearRegression().fit(rows, rows @ [3, 2, 1]), name="two", example=rows[:2])
    bright = rows[:, :1] + 0.5
    run.model(LogisticRegression(C=1e4).fit(bright, bright[:, 0] > 0.5), name="bright", example=bright[:2])
"""
SERVICES = """
import numpy as np, tarmac

LABELS = ["night", "day"]

def normalised(pictures):
    return pictures.astype(float) / 255

@tarmac.service(bright="bright@latest")
def daylight(pictures, bright):
    mean = normalised(pictures).mean(axis=(1, 2, 3))
    return np.array([LABELS[int(found)] for found in bright.predict(mean[:, None])])

@tarmac.service(one="one@v1", two="two@v1")
def mean(rows, one, two):
    return (one.predict(rows) + two.predict(rows)) / 2

@tarmac.service(one="one@v1", two="two@v1")
def either(rows, one, two):
    return np.where(rows[:, 0] > 0, one.predict(rows), two.predict(rows))

rows = np.ones((2, 3))
with tarmac.run("services") as run:
    run.model(daylight, name="daylight", example=np.zeros((1, 8, 8, 3), np.uint8))
    run.model(mean, name="mean", example=rows)
    run.model(either, name="either", example=rows)
"""


@pytest.mark.slow
def test_pictures_ensembles_and_routers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image", reason="not run: pillow is not installed")
    pytest.importorskip("cloudpickle", reason="not run: cloudpickle is not installed")
    monkeypatch.setenv("TARMAC_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    tarmac("init")
    for name, text in (("models.py", MODELS), ("services.py", SERVICES)):
        (tmp_path / name).write_text(text)
        subprocess.run([sys.executable, name], check=True, timeout=120)
    served = Served(tmp_path, "daylight@latest", "mean@latest", "either@latest")
    try:
        for shade, label in ((20, "night"), (230, "day")):
            data = io.BytesIO()
            image.fromarray(np.full((40, 30, 3), shade, np.uint8)).save(data, "PNG")
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
            connection.request("POST", "/predict/daylight", data.getvalue(), {"Content-Type": "image/png"})
            assert msgspec.json.decode(connection.getresponse().read())["predictions"] == [label]
            connection.close()
        assert served.ask("mean", [1, 0, 0])[1]["predictions"] == pytest.approx([2])
        assert served.ask("either", [1, 0, 0])[1]["predictions"] == pytest.approx([1])
        assert served.ask("either", [-1, 0, 0])[1]["predictions"] == pytest.approx([-3])
    finally:
        served.stop()


def test_a_service_that_cannot_be_called_is_refused_where_it_is_made() -> None:
    with pytest.raises(Invalid, match="rows and detector"):
        sdk.service(detector="m@v1")(lambda rows: rows)
    with pytest.raises(Invalid, match="made of a function"):
        sdk.service()(3)  # type: ignore[arg-type]
    plain = sdk.service()(lambda rows: rows)
    assert plain.predict([1]) == [1]

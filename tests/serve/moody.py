"""A model that does what its rows say: answer, fail, lie, hang or die. Its code travels by value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tarmac.formats import packing
from tarmac.formats.signature import Field, infer
from tarmac.logging.examples import describe

POISON, NAN, SHAPE, DIES, HANGS = -1.0, -2.0, -3.0, -4.0, -5.0

CODE = """
import os, time
import numpy as np

class Moody:
    def predict(self, rows):
        first = set(np.asarray(rows)[:, 0].tolist())
        if -1.0 in first:
            raise ValueError("a poisoned row")
        if -3.0 in first:
            return np.zeros((3, 7))
        if -4.0 in first:
            os._exit(9)
        if -5.0 in first:
            time.sleep(3600)
        time.sleep(0.002)  # so that others gather meanwhile
        return np.where(np.asarray(rows)[:, 0] == -2.0, np.nan, np.asarray(rows)[:, 0] * 2)
"""


def pack(root: Path) -> tuple[Path, str]:
    """The package's folder, and the digest to trust it by."""
    cloudpickle = pytest.importorskip("cloudpickle", reason="not run: cloudpickle is not installed")
    space: dict[str, object] = {"__name__": "__main__"}
    exec(CODE, space)
    made = space["Moody"]
    file = root / "moody.pkl"
    file.write_bytes(cloudpickle.dumps(made()))  # type: ignore[operator]
    folder = root / "moody"
    folder.mkdir()
    draft = packing.of_path(file, folder, name="moody")
    draft.example = describe(np.ones((2, 2)))
    signature = infer(draft.example)
    assert signature is not None
    signature = replace(signature, outputs=[Field(name="prediction", type="float64", shape=[-1])])
    draft.about = replace(draft.about, signature=signature)
    return folder, packing.seal(folder, draft).digest

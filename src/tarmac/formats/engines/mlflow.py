"""An MLflow model folder that is like none of ours: MLflow itself loads it."""

from __future__ import annotations

from typing import Any

from tarmac.formats.engines.pickled import own_code
from tarmac.formats.engines.predictor import Native
from tarmac.formats.package import Sealed


class Mlflow(Native):
    def __init__(self, sealed: Sealed, threads: int) -> None:
        from mlflow import pyfunc

        super().__init__(sealed)
        sealed.verify()  # MLflow reads the files by itself
        with own_code(sealed):
            self.model = pyfunc.load_model(str(sealed.folder), suppress_warnings=True)

    def call(self, data: Any) -> Any:
        return self.model.predict(data)

"""Keras, and torch modules that were saved whole."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from tarmac.formats.engines.pickled import own_code
from tarmac.formats.engines.predictor import Native
from tarmac.formats.package import Sealed


class Keras(Native):
    """In safe mode: layers with code of their own are refused by Keras."""

    def __init__(self, sealed: Sealed, threads: int) -> None:
        import keras

        super().__init__(sealed)
        self.model = keras.saving.load_model(sealed.path(sealed.about.entry.file), safe_mode=True, compile=False)

    def call(self, data: Any) -> Any:
        return self.model(data, training=False)


class Torch(Native):
    """A pickled module; `engines.load` asked whether it may run."""

    def __init__(self, sealed: Sealed, threads: int) -> None:
        import torch

        super().__init__(sealed)
        data = io.BytesIO(sealed.read(sealed.about.entry.file))
        with own_code(sealed):
            self.model = torch.load(data, map_location="cpu", weights_only=False)
        self.model.eval()

    def call(self, data: Any) -> Any:
        import torch

        with torch.inference_mode():
            if isinstance(data, Mapping):
                return self.model(**{name: torch.as_tensor(array) for name, array in data.items()})
            return self.model(torch.as_tensor(data))

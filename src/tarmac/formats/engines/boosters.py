"""XGBoost and LightGBM in their own file formats, which hold numbers and no code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Damaged, bounded
from tarmac.formats.engines.predictor import Native
from tarmac.formats.package import Sealed

if TYPE_CHECKING:
    from tarmac.formats.arrays import Array

XGBOOST_CLASSES = ("Booster", "XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")
LIGHTGBM_CLASSES = ("Booster", "LGBMClassifier", "LGBMRegressor", "LGBMRanker", "LGBMModel")


class Xgboost(Native):
    def __init__(self, sealed: Sealed, threads: int) -> None:
        import xgboost

        super().__init__(sealed)
        name = _class(sealed, XGBOOST_CLASSES)
        self._xgboost = xgboost
        self.model = getattr(xgboost, name)()
        self.model.load_model(bytearray(sealed.read(sealed.about.entry.file)))
        self.model.set_param({"nthread": threads}) if name == "Booster" else self.model.set_params(n_jobs=threads)
        self._is_booster = name == "Booster"
        self._classes = sealed.about.entry.classes

    def call(self, data: Any) -> Any:
        import numpy as np

        data = _categories(data)
        if self._is_booster:
            names = None if hasattr(data, "columns") else self.model.feature_names
            return self.model.predict(self._xgboost.DMatrix(data, feature_names=names, enable_categorical=True))
        found = self.model.predict(data)
        if self._classes is not None and self._classes != list(range(len(self._classes))):
            return np.asarray(self._classes)[np.asarray(found).astype(int)]
        return found

    def probabilities(self, data: Any) -> Array | None:
        if self._is_booster or not hasattr(self.model, "predict_proba"):
            return None
        found: Array = self.model.predict_proba(_categories(data))
        return found


class Lightgbm(Native):
    def __init__(self, sealed: Sealed, threads: int) -> None:
        import lightgbm

        super().__init__(sealed)
        name = _class(sealed, LIGHTGBM_CLASSES)
        self.model = lightgbm.Booster(model_str=sealed.read(sealed.about.entry.file).decode())
        self._classes = sealed.about.entry.classes if name == "LGBMClassifier" else None
        self._threads = threads

    def call(self, data: Any) -> Any:
        import numpy as np

        if self._classes is None:
            return self._raw(data)
        found = self.probabilities(data)
        assert found is not None
        return np.asarray(self._classes)[np.argmax(found, axis=1)]

    def probabilities(self, data: Any) -> Array | None:
        import numpy as np

        if self._classes is None:
            return None
        found = np.asarray(self._raw(data))
        return np.column_stack([1.0 - found, found]) if found.ndim == 1 else found

    def _raw(self, data: Any) -> Any:
        return self.model.predict(_categories(data), num_threads=self._threads)


def _class(sealed: Sealed, known: tuple[str, ...]) -> str:
    name = sealed.about.entry.cls or "Booster"
    if name not in known:
        raise Damaged(f"package {bounded(sealed.about.name)} names a class `{bounded(name)}` that nobody knows")
    return name


def _categories(data: Any) -> Any:
    """Text in a table stands for categories, which is how these libraries were given it."""
    if not hasattr(data, "columns") or not hasattr(data, "select_dtypes"):
        return data
    text = [name for name, kind in data.dtypes.items() if str(kind) in ("object", "str", "string")]
    return data.astype(dict.fromkeys(text, "category")) if text else data

"""From a package folder to something that predicts: trust is asked, bytes are verified, one engine is made.

sealed = Sealed(folder, expected_digest)
predictor = engines.load(sealed, trust)
predictor.predict({"input": array})      # arrays by the names of the signature in, arrays out
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tarmac.core.errors import Invalid, TarmacError, bounded
from tarmac.formats import trust as trusting
from tarmac.formats.engines.predictor import Predictor
from tarmac.formats.package import Loader, Sealed
from tarmac.formats.trust import Trust

Form = Literal["best", "native", "compiled"]

NEEDS = {
    "onnx": "onnxruntime", "xgboost": "xgboost", "lightgbm": "lightgbm", "keras": "keras", "torch": "torch",
    "mlflow": "mlflow",
}  # fmt: skip


def load(
    sealed: Sealed,
    trust: Trust | None = None,
    *,
    form: Form = "best",
    compiled_digest: str | None = None,
    threads: int = 1,
) -> Predictor:
    """The compiled form if it was proved to be equal, else the native one. `threads` is how many one prediction may
    use, where the engine can be told."""
    trust = trust or Trust()
    compiled = None if form == "native" else sealed.compiled(compiled_digest)
    if compiled is None and form == "compiled":
        raise Invalid(
            f"package {bounded(sealed.about.name)} has no compiled form that was proved to be equal",
            hint="`tarmac models compile NAME@vN` makes one, or says why not",
        )
    trusting.check(sealed, trust, sealed.brings() if compiled is not None else sealed.runs_code())
    try:
        if compiled is not None:
            from tarmac.formats.engines.onnx import Compiled

            return Compiled(sealed, *compiled, threads=threads)
        return _native(sealed.about.entry.loader)(sealed, threads)
    except TarmacError:
        raise
    except ImportError as error:
        raise Invalid(
            f"package {bounded(sealed.about.name)} needs {bounded(error.name or error)}, which is not installed here",
            hint=f"pip install {' '.join(sealed.about.requirements[:20]) or bounded(error.name)}",
        ) from error
    except Exception as error:
        raise Invalid(
            f"package {bounded(sealed.about.name)} cannot be loaded: {type(error).__name__}: {bounded(error, 300)}",
            hint=f"it was made with Python {sealed.about.python} and "
            f"{bounded(', '.join(sealed.about.requirements), 300) or 'unknown libraries'}",
        ) from error


def _native(loader: Loader) -> Callable[[Sealed, int], Predictor]:
    if loader == "onnx":
        from tarmac.formats.engines.onnx import Onnx

        return Onnx
    if loader in ("xgboost", "lightgbm"):
        from tarmac.formats.engines import boosters

        return boosters.Xgboost if loader == "xgboost" else boosters.Lightgbm
    if loader in ("keras", "torch"):
        from tarmac.formats.engines import networks

        return networks.Keras if loader == "keras" else networks.Torch
    if loader == "mlflow":
        from tarmac.formats.engines.mlflow import Mlflow

        return Mlflow
    if loader == "pickle":
        from tarmac.formats.engines.pickled import Pickled

        return Pickled
    raise Invalid(
        "this package says nothing of how its files are loaded",
        hint="known are pickles, ONNX, XGBoost, LightGBM, Keras, torch and MLflow's model folders",
    )

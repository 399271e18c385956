"""`MLmodel`, the description that MLflow reads: `mlflow.pyfunc.load_model` takes our packages, without tarmac.

The loader that it calls is a module in the package's folder `code`, and needs nothing but the model's own library.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from tarmac.core.errors import Invalid, bounded
from tarmac.formats.package import CODE, EXAMPLE, About, Entry
from tarmac.formats.signature import Signature, from_mlflow, to_mlflow

LOADER = "tarmac_model_1"
LOADER_FILE = f"{CODE}/{LOADER}.py"
MOST_BYTES = 4 * 1024 * 1024

LOADER_CODE = '''"""Loads this model for MLflow. It is part of the package and imports the model's own library only."""

import json
import os
import pickle


def _load_pyfunc(path):
    with open(os.path.join(path, "tarmac.json"), encoding="utf-8") as file:
        entry = json.load(file)["entry"]
    model = _LOADERS[entry["loader"]](os.path.join(path, entry["file"]), entry)
    before, after = (_pickle(os.path.join(path, entry[side]), entry) if entry.get(side) else None
                     for side in ("before", "after"))
    return _Model(model, before, after)


class _Model:
    def __init__(self, model, before, after):
        self.model, self.before, self.after = model, before, after

    def predict(self, data, params=None):
        if self.before is not None:
            data = self.before(data)
        answer = _call(self.model)(data)
        return answer if self.after is None else self.after(answer)


def _call(model):
    for name in ("predict", "transform"):
        if callable(getattr(model, name, None)):
            return getattr(model, name)
    return model


def _pickle(path, entry):
    if path.endswith(".joblib"):
        import joblib

        return joblib.load(path)
    with open(path, "rb") as file:
        return pickle.load(file)


def _onnx(path, entry):
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "object"}
    inputs = [(node.name, types.get(node.type, node.type[7:-1])) for node in session.get_inputs()]
    outputs = [node.name for node in session.get_outputs()]

    def predict(data):
        if isinstance(data, dict) or (hasattr(data, "columns") and len(inputs) > 1):
            feed = {name: np.asarray(data[name], dtype=kind) for name, kind in inputs}
        else:
            feed = {inputs[0][0]: np.asarray(data, dtype=inputs[0][1])}
        return dict(zip(outputs, session.run(outputs, feed)))

    return predict


def _xgboost(path, entry):
    import numpy as np
    import xgboost

    model = getattr(xgboost, entry.get("cls") or "Booster")()
    model.load_model(path)
    classes = entry.get("classes")
    if isinstance(model, xgboost.Booster):
        return lambda data: model.predict(xgboost.DMatrix(data, enable_categorical=True))
    if classes and classes != list(range(len(classes))):
        return lambda data: np.asarray(classes)[np.asarray(model.predict(data)).astype(int)]
    return model


def _lightgbm(path, entry):
    import lightgbm
    import numpy as np

    model = lightgbm.Booster(model_file=path)
    classes = entry.get("classes")
    if entry.get("cls") != "LGBMClassifier" or not classes:
        return model

    def predict(data):
        found = np.asarray(model.predict(data))
        return np.asarray(classes)[(found > 0.5).astype(int) if found.ndim == 1 else found.argmax(axis=1)]

    return predict


def _keras(path, entry):
    import keras

    return keras.saving.load_model(path, safe_mode=True, compile=False)


def _torch(path, entry):
    import torch

    model = torch.load(path, map_location="cpu", weights_only=False)
    model.eval()

    def predict(data):
        with torch.inference_mode():
            return model(torch.as_tensor(getattr(data, "values", data))).numpy()

    return predict


_LOADERS = {
    "pickle": _pickle, "onnx": _onnx, "xgboost": _xgboost, "lightgbm": _lightgbm, "keras": _keras, "torch": _torch,
}
'''


def write(about: About, *, example: dict[str, Any] | None, id: str) -> bytes:
    """The text of `MLmodel`: YAML, its values written as JSON, which is YAML too."""
    entry = about.entry
    flavors: dict[str, Any] = {
        "python_function": {
            "loader_module": LOADER,
            "code": CODE,
            "python_version": about.python,
            "env": {"virtualenv": "python_env.yaml"},
        }
    }
    if about.kind == "sklearn" and entry.loader == "pickle":
        flavors["sklearn"] = {
            "pickled_model": entry.file,
            "serialization_format": "cloudpickle",
            "sklearn_version": about.version,
            "code": CODE,
        }
    made = datetime.fromtimestamp(about.made / 1000, UTC)
    document: dict[str, Any] = {
        "flavors": flavors,
        "model_uuid": id,
        "utc_time_created": f"{made:%Y-%m-%d %H:%M:%S.%f}",
    }
    if about.run:
        document["run_id"] = about.run
    if about.signature is not None and (told := to_mlflow(about.signature)) is not None:
        document["signature"] = told
        if example is not None:
            document["saved_input_example_info"] = example
    return _yaml(document, "").encode()


def _yaml(document: dict[str, Any], indent: str) -> str:
    lines = []
    for key, value in document.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{key}:\n{_yaml(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{key}: {msgspec.json.encode(value).decode()}\n")
    return "".join(lines)


def python_env(about: About) -> bytes:
    """`python_env.yaml`, from which MLflow makes an environment."""
    return (
        f"python: {msgspec.json.encode(about.python).decode()}\n"
        "build_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n"
    ).encode()


_ARRAYS = {"artifact_path": EXAMPLE, "type": "ndarray", "format": "tf-serving"}


def example_of(described: dict[str, Any]) -> tuple[bytes, dict[str, Any]] | None:
    """A described example as MLflow keeps it, and what MLmodel says of it."""
    rows = described.get("rows")
    if "columns" in described and rows:
        names = [column["name"] for column in described["columns"]]
        info = {"artifact_path": EXAMPLE, "type": "dataframe", "pandas_orient": "split"}
        return msgspec.json.encode({"columns": names, "data": rows}), info
    if "fields" in described:
        inputs = {name: inner.get("rows") for name, inner in described["fields"].items()}
        return msgspec.json.encode({"inputs": inputs}), {
            "artifact_path": EXAMPLE,
            "type": "ndarray",
            "format": "tf-serving",
        }
    if rows:
        info = {"artifact_path": EXAMPLE, "type": "ndarray", "format": "tf-serving"}
        return msgspec.json.encode({"inputs": rows}), dict(_ARRAYS)
    return None


# --- those that MLflow wrote ---


def read(data: bytes) -> dict[str, Any]:
    """What an MLmodel file says. It comes from anywhere: plain YAML only, no tags."""
    if len(data) > MOST_BYTES:
        raise Invalid(f"MLmodel has {len(data):,} bytes; at most {MOST_BYTES:,} are read")
    try:
        import yaml
    except ImportError:
        raise Invalid("MLmodel is YAML, and PyYAML is not installed", hint="pip install 'tarmac[models]'") from None
    try:
        found = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe one
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Invalid(f"MLmodel is not YAML: {bounded(error, 300)}") from None
    if not isinstance(found, dict) or not isinstance(found.get("flavors"), dict):
        raise Invalid("MLmodel does not say in which flavors the model can be loaded")
    return found


def text(value: Any, otherwise: str) -> str:
    """A file from anywhere may hold anything in its place, and nested without end."""
    return value if isinstance(value, str) else otherwise


def entry_of(document: dict[str, Any]) -> tuple[str, Entry]:
    """Kind and entry: where a flavor's file is one that we load ourselves, that; else MLflow does it."""
    flavors = document["flavors"]
    found = flavors.get("python_function")
    plain = found if isinstance(found, dict) else {}
    ours = plain.get("predict_fn", "predict") == "predict" and not plain.get("code")
    if isinstance(sklearn := flavors.get("sklearn"), dict) and ours:
        if sklearn.get("serialization_format", "pickle") != "skops":
            return "sklearn", Entry(loader="pickle", file=text(sklearn.get("pickled_model"), "model.pkl"))
        return "sklearn", Entry(loader="mlflow")
    if isinstance(onnx := flavors.get("onnx"), dict) and not onnx.get("save_as_external_data"):
        return "onnx", Entry(loader="onnx", file=text(onnx.get("data"), "model.onnx"))
    if isinstance(xgboost := flavors.get("xgboost"), dict):
        cls = text(xgboost.get("model_class"), "").rpartition(".")[2]
        return "xgboost", Entry(loader="xgboost", file=text(xgboost.get("data"), "model.ubj"), cls=cls or "Booster")
    kinds = [name for name in flavors if isinstance(name, str) and name != "python_function"]
    if "python_function" not in flavors:
        return (kinds or ["mlflow"])[0], Entry(loader="none")
    return (kinds or ["python"])[0], Entry(loader="mlflow")


def signature_of(document: dict[str, Any]) -> Signature | None:
    found = document.get("signature")
    return from_mlflow(found) if isinstance(found, dict) else None

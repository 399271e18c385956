"""Predicts a package's example where tarmac is not installed: `python -I alone.py FOLDER ANSWER`.

It is run as a file by the interpreter of a new environment, so it imports the standard library only, and what the
package itself needs. Types are those of the signature.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path, answer: Path) -> None:
    sys.path.insert(0, str(folder / "code"))
    sys.dont_write_bytecode = True
    import tarmac_model_1  # type: ignore[import-not-found]

    about = json.loads((folder / "tarmac.json").read_bytes())
    example = json.loads((folder / "input_example.json").read_bytes())
    model = tarmac_model_1._load_pyfunc(str(folder))  # noqa: SLF001 - what MLflow calls
    found = model.predict(given(about["signature"], example))
    answer.write_text(json.dumps(plain(found)), encoding="utf-8")


def given(signature: dict[str, Any], example: dict[str, Any]) -> Any:
    """The example in what the model was shown."""
    kind = signature.get("given", "numpy")
    types = {field["name"]: field["type"] for field in signature["inputs"]}
    if "columns" in example:
        columns = {name: [row[index] for row in example["data"]] for index, name in enumerate(example["columns"])}
        if kind == "polars":
            import polars as pl

            return pl.DataFrame(columns)
        if kind == "arrow":
            import pyarrow as pa

            return pa.table(columns)
        import pandas as pd

        numbers = {name: kind for name, kind in types.items() if kind.startswith(("int", "uint", "float"))}
        table = pd.DataFrame(columns)
        times = [name for name, kind in types.items() if kind == "time"]
        for name in times:
            table[name] = pd.to_datetime(table[name])
        whole = {name: kind for name, kind in numbers.items() if not table[name].isna().any()}
        return table.astype(whole)
    inputs = example["inputs"]
    if kind in ("list", "records"):
        return inputs
    import numpy as np

    def array(values: Any, kind: str) -> Any:
        return np.asarray(values, dtype=kind if kind.startswith(("int", "uint", "float", "bool")) else object)

    if kind == "dict":
        return {name: array(values, types[name]) for name, values in inputs.items()}
    found = array(inputs, next(iter(types.values())))
    if kind == "torch":
        import torch

        return torch.from_numpy(found)
    return found


def plain(found: Any) -> Any:
    if isinstance(found, dict):
        return {str(name): plain(value) for name, value in found.items()}
    if hasattr(found, "detach"):
        found = found.detach().cpu().numpy()
    if hasattr(found, "to_numpy"):
        found = found.to_numpy()
    if hasattr(found, "tolist"):
        return found.tolist()
    return [plain(value) for value in found] if isinstance(found, list | tuple) else found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

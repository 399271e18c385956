"""Customers who leave or stay, models that tell, and a table of them to measure on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tarmac.core.ids import time_ordered
from tarmac.core.settings import Settings
from tarmac.formats import trust
from tarmac.registry.operations import GetVersion
from tarmac.registry.records import Version
from tarmac.track.operations import CreateRun, LogRun
from tarmac.workspace import Workspace
from tarmac.workspace.registering import register
from tests.formats.packed import pack

FEATURES = ["age", "income", "visits"]


def people(rows: int = 2000, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 80, rows).astype(float),
            "income": random.normal(3000, 800, rows),
            "visits": random.poisson(4, rows).astype(float),
        }
    )
    pull = (frame["visits"] - 4) * 0.9 + (frame["income"] - 3000) / 700
    frame["left"] = np.where(pull + random.normal(0, 0.7, rows) > 0, "yes", "no")
    frame["sex"] = random.choice(["f", "m"], rows)
    frame["region"] = random.choice(["north", "south", "west"], rows)
    return frame


def rows_file(folder: Path, rows: int = 1000) -> Path:
    path = folder / "holdout.csv"
    people(rows, seed=1).to_csv(path, index=False)
    return path


class Rule:
    """A model that needs numpy only, and so is loaded in a moment: what scikit-learn would have found."""

    classes_ = ("no", "yes")

    def __init__(self, *, good: bool = True) -> None:
        self.weights = [0.0, 1 / 700, 0.9] if good else [0.01, 0.0, 0.0]

    def predict_proba(self, rows: Any) -> Any:
        import numpy as np

        pull = np.asarray(rows, dtype=float) @ self.weights - (3000 * self.weights[1] + 4 * self.weights[2])
        chance = 1 / (1 + np.exp(-2 * pull))
        return np.column_stack([1 - chance, chance])

    def predict(self, rows: Any) -> Any:
        import numpy as np

        return np.where(self.predict_proba(rows)[:, 1] > 0.5, "yes", "no")


def fitted() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame = people()
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(frame[FEATURES], frame["left"])


def made(workspace: Workspace, folder: Path, model: Any, *, name: str = "churn", **metrics: float) -> Version:
    """A version of a model, as a run of this person leaves it."""
    example = people(5)[FEATURES]
    run = workspace(CreateRun()).id
    workspace(LogRun(id=run, metrics=[(key, value, 0, 0) for key, value in metrics.items()]))
    sealed = pack(folder, model, example)
    document = {trust.MARK: trust.mark(Settings.from_environment().state, sealed.digest)}
    register(workspace, sealed, time_ordered(), name=name, document=document, run=run)
    return workspace(GetVersion(ref=f"{name}@latest"))

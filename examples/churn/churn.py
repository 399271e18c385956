"""Which customers are about to leave: from a table to a model and a list of people to call.

tarmac plan                      what would run, and why
tarmac run -p depth=4            run it; what has not changed is reused
"""

from __future__ import annotations

from typing import Any

import features
import polars as pl

import tarmac

GOOD_ENOUGH = 0.70


@tarmac.step
def load(path: tarmac.File) -> pl.DataFrame:
    return pl.read_csv(path)


@tarmac.step
def clean(customers: pl.DataFrame) -> pl.DataFrame:
    """Usage was not always measured: the middle of the others stands in."""
    return customers.with_columns(pl.col("usage").fill_null(pl.col("usage").median()))


@tarmac.step
def split(customers: pl.DataFrame, test_share: float = 0.25) -> tuple[pl.DataFrame, pl.DataFrame]:
    mixed = customers.sample(fraction=1.0, shuffle=True, seed=1)
    tests = int(len(mixed) * test_share)
    return mixed[tests:], mixed[:tests]


@tarmac.step(cpu=1, retries=1)
def fit(customers: pl.DataFrame, depth: int, trees: int = 30) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(max_depth=depth, n_estimators=trees, random_state=0)
    return model.fit(features.of(customers).to_numpy(), customers["left"].to_numpy())


@tarmac.step
def evaluate(model: Any, customers: pl.DataFrame) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    likely = model.predict_proba(features.of(customers).to_numpy())[:, 1]
    found = {
        "auc": float(roc_auc_score(customers["left"].to_numpy(), likely)),
        "precision": float(average_precision_score(customers["left"].to_numpy(), likely)),
    }
    run = tarmac.current_run()
    if run is not None:
        run.log(found)
    return found


@tarmac.step
def good_enough(scores: dict[str, float]) -> bool:
    return scores["auc"] >= GOOD_ENOUGH


@tarmac.step
def whom_to_call(model: Any, customers: pl.DataFrame, most: int = 10) -> list[str]:
    """Those who have not left yet, the most likely to go first."""
    staying = customers.filter(pl.col("left") == 0)
    likely = model.predict_proba(features.of(staying).to_numpy())[:, 1]
    order = likely.argsort()[::-1][:most]
    return [staying["customer"][int(index)] for index in order]


@tarmac.pipeline
def train(path: tarmac.File = "data/customers.csv", depth: int = 3) -> Any:  # type: ignore[assignment]
    training, tests = split(clean(load(path)))
    model = fit(training, depth=depth)
    scores = evaluate(model, tests)
    return scores, tarmac.when(good_enough(scores), lambda: whom_to_call(model, tests), [])

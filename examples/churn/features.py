"""What a model is told of a customer."""

from __future__ import annotations

import polars as pl

LONG_STAY = 24
PLANS = ("basic", "plus", "family")


def of(customers: pl.DataFrame) -> pl.DataFrame:
    """One row of numbers for each customer."""
    return customers.select(
        "months",
        "calls",
        "usage",
        "price",
        (pl.col("months") > LONG_STAY).cast(pl.Float64).alias("stayed_long"),
        *((pl.col("plan") == plan).cast(pl.Float64).alias(plan) for plan in PLANS),
    ).cast(pl.Float64)

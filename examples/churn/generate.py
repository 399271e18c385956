"""Makes data/customers.csv: 4,000 customers who never were, the same ones each time."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

PLANS = {"basic": 20.0, "plus": 35.0, "family": 60.0}


def rows(count: int, seed: int) -> list[dict[str, object]]:
    dice = random.Random(seed)
    made = []
    for number in range(count):
        plan = dice.choice(list(PLANS))
        months = dice.randint(1, 72)
        calls = min(9, int(dice.expovariate(0.8)))
        usage = max(0.0, dice.gauss(30, 12))
        price = PLANS[plan] * dice.uniform(0.9, 1.1)
        drift = -1.6 + 0.55 * calls - 0.035 * months + 0.015 * price - 0.02 * usage
        left = dice.random() < 1 / (1 + math.exp(-drift))
        made.append(
            {
                "customer": f"c{number:05}",
                "plan": plan,
                "months": months,
                "calls": calls,
                "usage": "" if dice.random() < 0.03 else f"{usage:.1f}",
                "price": f"{price:.2f}",
                "left": int(left),
            }
        )
    return made


def main() -> None:
    file = Path(__file__).parent / "data" / "customers.csv"
    file.parent.mkdir(exist_ok=True)
    customers = rows(4000, seed=7)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(customers[0]))
        writer.writeheader()
        writer.writerows(customers)
    print(f"{len(customers)} customers in data/{file.name}")


if __name__ == "__main__":
    main()

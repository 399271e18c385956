"""The same work for everybody: 14 steps, ten of them side by side, 10 MB of numbers in, 1 MB out of each of the ten."""

from __future__ import annotations

PLAIN = """
import numpy as np
def load(seed): return np.random.default_rng(seed).random(1_250_000)
def clean(a): return a - a.mean()
def branch(a, k): return a[k::10] * k
def join(parts): return float(sum(p.sum() for p in parts))
def report(x): return f"{x:.3f}"
a = clean(load(1))
print(report(join([branch(a, k) for k in range(10)])))
"""

TARMAC = """
import os
import numpy as np
import tarmac

@tarmac.step
def load(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(1_250_000)

@tarmac.step
def clean(a: np.ndarray) -> np.ndarray:
    return a - a.mean()

@tarmac.step
def branch(a: np.ndarray, k: int) -> np.ndarray:
    return a[k::10] * k

@tarmac.step
def join(parts: list) -> float:
    BROKEN
    return float(sum(p.sum() for p in parts))

@tarmac.step
def report(x: float) -> str:
    return f"{x:.3f}"

@tarmac.pipeline
def fourteen(seed: int = 1):
    a = clean(load(seed))
    return report(join([branch(a, k) for k in range(10)]))

if __name__ == "__main__":
    print(fourteen.run())
"""

EACH = """
import sys
import tarmac

CHANGED = int(sys.argv[1])

@tarmac.step
def one(item: dict) -> dict:
    return {"id": item["id"], "y": item["v"] * 2}

@tarmac.step
def total(rows: list) -> int:
    return sum(row["y"] for row in rows)

@tarmac.pipeline
def many(count: int):
    return total(one(tarmac.each([{"id": i, "v": i + (i < CHANGED)} for i in range(count)])))

if __name__ == "__main__":
    print(many.run(count=int(sys.argv[2])))
"""

WIDE = """
import tarmac

@tarmac.step
def add(x: int, k: int = 0) -> int:
    return x + k

@tarmac.pipeline
def chains(steps: int = 1000):
    ends = [add(start) for start in range(10)]
    for number in range(steps // 10 - 1):
        ends = [add(end, number) for end in ends]
    return ends

if __name__ == "__main__":
    import sys, time
    if sys.argv[1] == "run":
        chains.run()
    else:
        with tarmac.connect() as workspace:
            began, cpu = time.perf_counter(), time.process_time()
            plan = chains.plan(workspace=workspace)
            print(time.perf_counter() - began, time.process_time() - cpu, len(plan.steps))
"""

HAMILTON = """
import sys
import numpy as np
from hamilton import ad_hoc_utils, driver

def load(seed: int) -> np.ndarray: return np.random.default_rng(seed).random(1_250_000)
def clean(load: np.ndarray) -> np.ndarray: return load - load.mean()
def make(k):
    def branch(clean: np.ndarray) -> np.ndarray: return clean[k::10] * k
    branch.__name__ = f"branch_{k}"
    return branch
branches = [make(k) for k in range(10)]
def join(branch_0: np.ndarray, branch_1: np.ndarray, branch_2: np.ndarray, branch_3: np.ndarray, branch_4: np.ndarray,
         branch_5: np.ndarray, branch_6: np.ndarray, branch_7: np.ndarray, branch_8: np.ndarray,
         branch_9: np.ndarray) -> float:
    return float(sum(p.sum() for p in (branch_0, branch_1, branch_2, branch_3, branch_4, branch_5, branch_6, branch_7,
                                       branch_8, branch_9)))
def report(join: float) -> str: return f"{join:.3f}"
module = ad_hoc_utils.create_temporary_module(load, clean, *branches, join, report, module_name="fourteen")
made = driver.Builder().with_modules(module).with_cache(path="cache").build()
print(made.execute(["report"], inputs={"seed": 1})["report"])
"""

PREFECT = """
import numpy as np
from prefect import flow, task

@task
def load(seed): return np.random.default_rng(seed).random(1_250_000)
@task
def clean(a): return a - a.mean()
@task
def branch(a, k): return a[k::10] * k
@task
def join(parts): return float(sum(p.sum() for p in parts))
@task
def report(x): return f"{x:.3f}"
@flow
def fourteen():
    a = clean(load(1))
    parts = [branch.submit(a, k) for k in range(10)]
    return report(join([part.result() for part in parts]))

if __name__ == "__main__":
    print(fourteen())
"""

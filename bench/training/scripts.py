"""The loops that are measured: each prints one line of JSON. `{log}` and its like are filled in for each library."""

from __future__ import annotations

LATENCY = """
import json, sys, time
{start}
n, clock, took = int(sys.argv[1]), time.perf_counter_ns, []
values = {{"loss": 0.5, "acc": 0.25, "lr": 0.001}}
for step in range(n):
    values["loss"] = step * 0.5
    before = clock()
    {log}
    took.append(clock() - before)
took.sort()
shown = [took[len(took) // 2] / 1e3, took[int(len(took) * 0.99)] / 1e3]
last = time.perf_counter()
{end}
print(json.dumps({{"p50": shown[0], "p99": shown[1], "after": time.perf_counter() - last}}))
"""

STEPS = """
import json, sys, time
{start}
n, clock = int(sys.argv[1]), time.perf_counter_ns
values = {{"loss": 0.5, "acc": 0.25, "lr": 0.001}}
def work():
    until = clock() + 100_000
    while clock() < until:
        pass
def plain():
    began = clock()
    for step in range(n):
        work()
    return clock() - began
def logged():
    began = clock()
    for step in range(n):
        work()
        {log}
    return clock() - began
ratios = sorted(logged() / plain() for _ in range(5))
{end}
print(json.dumps({{"overhead": 100 * (ratios[2] - 1)}}))
"""

MEMORY = """
import json, re
def private():
    text = open("/proc/self/smaps_rollup").read()
    return sum(map(int, re.findall(r"^Private_(?:Clean|Dirty):\\s+(\\d+)", text, re.M))) / 1024
before = private()
{start}
values = {{"loss": 0.5, "acc": 0.25, "lr": 0.001}}
for step in range(10_000):
    {log}
print(json.dumps({{"megabytes": private() - before}}))
{end}
"""

FIRST = """
import json, resource, time
began = time.process_time()
{start}
done = time.process_time() - began
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({{"cpu": done + children.ru_utime + children.ru_stime}}))
{end}
"""

TARMAC = {
    "start": "import tarmac\nrun = tarmac.run('bench', capture=False)",
    "log": "run.log(values, step)",
    "end": "run.end()",
}
MLFLOW = {
    "start": "import mlflow\nmlflow.set_experiment('bench')\nmlflow.start_run()",
    "log": "mlflow.log_metrics(values, step=step)",
    "end": "mlflow.end_run()",
}
MLFLOW_LATER = {**MLFLOW, "log": "mlflow.log_metrics(values, step=step, synchronous=False)"}
WANDB = {
    "start": "import wandb\nrun = wandb.init(mode='offline', project='bench', settings=wandb.Settings(silent=True))",
    "log": "run.log(values, step=step)",
    "end": "run.finish()",
}
NOTHING = {"start": "", "log": "pass", "end": ""}

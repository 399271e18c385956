"""Pipelines through the command line: what runs, what is reused, and why."""

from __future__ import annotations

import json

import pytest

from tests.flow.conftest import Project

PIPE = """
    import tarmac
    import helpers

    LIMIT = 3

    @tarmac.step
    def load(path: tarmac.File) -> list[int]:
        return [int(word) for word in path.read_text().split()]

    @tarmac.step
    def split(numbers: list[int]) -> tuple[list[int], list[int]]:
        return numbers[:LIMIT], numbers[LIMIT:]

    @tarmac.step
    def fit(numbers: list[int], depth: int = 2) -> int:
        return helpers.score(numbers, depth)

    @tarmac.step
    def report(score: int, rest: list[int]) -> str:
        return f"{score} {len(rest)}"

    @tarmac.pipeline
    def main(path: tarmac.File = "data.txt", depth: int = 6):
        first, rest = split(load(path))
        return report(fit(first, depth=depth), rest)
"""
HELPERS = """
    def weight(depth):
        return depth * 10

    def score(numbers, depth):
        # what it is about
        return sum(numbers) * weight(depth)
"""


@pytest.fixture
def simple(project: Project) -> Project:
    project.write("pipe.py", PIPE)
    project.write("helpers.py", HELPERS)
    project.write("data.txt", "1 2 3 4 5")
    return project


def test_what_has_not_changed_is_reused(simple: Project) -> None:
    assert simple.marks() == {"load": "run", "split": "depends", "fit": "depends", "report": "depends"}
    first = simple.run()
    assert first["result"] == "360 2"
    assert set(first["steps"].values()) == {"ran"}
    assert set(simple.marks().values()) == {"reuse"}
    again = simple.run()
    assert again["result"] == "360 2"
    assert set(again["steps"].values()) == {"reused"}


@pytest.mark.parametrize(
    ("file", "old", "new", "ran", "why"),
    [
        ("helpers.py", "depth * 10", "depth * 20", "fit", "`weight` has changed: helpers.py:3: `return depth * 20`"),
        ("pipe.py", "LIMIT = 3", "LIMIT = 2", "split", "`LIMIT` has changed: pipe.py:5: `LIMIT = 2`, was `LIMIT = 3`"),
        ("pipe.py", "numbers[:LIMIT]", "numbers[: LIMIT + 0]", "split", "`split` has changed: pipe.py:13: "),
        ("data.txt", "1 2 3", "1 2 4", "load", "the content of data.txt has changed"),
    ],
)
def test_a_change_is_a_miss_and_named(simple: Project, file: str, old: str, new: str, ran: str, why: str) -> None:
    simple.run()
    simple.edit(file, old, new)
    planned = simple.plan()
    assert planned[ran]["mark"] == "run"
    assert planned[ran]["why"][0].startswith(why)
    done = simple.run()["steps"]
    assert done[ran] == "ran"
    before = list(done)[: list(done).index(ran)]
    assert all(done[name] == "reused" for name in before)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("helpers.py", "# what it is about", "# something else"),
        ("helpers.py", "return depth * 10", "return  (depth*10)"),
        ("pipe.py", "def load(path", "def load(\n        path"),
        ("pipe.py", "        return f", '        """Say it."""\n        return f'),
        ("pipe.py", "    @tarmac.step\n    def fit", "    @tarmac.step(retries=3, cpu=2)\n    def fit"),
        ("helpers.py", "def weight", "def other():\n    return 1\n\ndef weight"),
    ],
)
def test_comments_layout_and_what_is_not_called_are_hits(simple: Project, file: str, old: str, new: str) -> None:
    simple.run()
    text = (simple.folder / file).read_text()
    old = old if old in text else old.replace("    @", "@").replace("    def", "def").replace("        ret", "    ret")
    new = (
        new
        if old not in ("@tarmac.step\ndef fit", "    return f")
        else new.replace("    @", "@").replace("    def", "def")
    )
    if old == "    return f":
        new = '    """Say it."""\n    return f'
    simple.edit(file, old, new)
    assert set(simple.marks().values()) == {"reuse"}


def test_a_result_that_comes_out_the_same_stops_the_change(simple: Project) -> None:
    simple.run()
    simple.edit("data.txt", "1 2 3 4 5", "1 2 3\n4 5")
    assert simple.run()["steps"] == {"load": "ran", "split": "reused", "fit": "reused", "report": "reused"}


def test_parameters(simple: Project) -> None:
    assert simple.run("pipe:main", "-p", "depth=7")["result"] == "420 2"
    planned = simple.plan("pipe:main", "-p", "depth=8")
    assert planned["fit"]["why"] == ["`depth` was 7, is 8"]
    assert planned["report"]["mark"] == "depends"
    assert planned["report"]["depends"] == "fit"
    simple.run("pipe:main", "-p", "depth=8")
    assert set(simple.marks("pipe:main", "-p", "depth=7").values()) == {"reuse"}
    assert "`depth` was 8, is 9" in simple.tarmac("why", "fit", "pipe:main", "-p", "depth=9")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "pipe:man"), "did you mean `main`?"),
        (("run", "pip:main"), "there is no module `pip`"),
        (("run", "train"), "there is no pipeline `train`"),
        (("run", "pipe:main", "-p", "dept=3"), "did you mean `depth`?"),
        (("run", "pipe:main", "-p", "depth=deep"), "`depth` is a whole number, and `deep` is not"),
        (("run", "pipe:main", "-p", "path=nowhere.txt"), "there is no file nowhere.txt"),
        (("run", "pipe:main", "-p", "depth"), "is not KEY=VALUE"),
        (("run", "pipe:load"), "is a Step, no pipeline"),
        (("why", "fid", "pipe:main"), "did you mean `fit`?"),
        (("plan",), "say which pipeline"),
    ],
)
def test_what_cannot_be_meant_is_said(simple: Project, words: tuple[str, ...], said: str) -> None:
    out = simple.start(*words).communicate(timeout=60)[0]
    assert said in out
    assert "Traceback" not in out


BAD = """
    import tarmac

    @tarmac.step
    def make() -> int:
        return 1

    @tarmac.step
    def two() -> tuple[int, int]:
        return 1, 2

    @tarmac.step
    def take(x) -> int:
        return x

    @tarmac.step
    def generator():
        return (i for i in range(3))

    @tarmac.step
    def liar() -> tuple[int, int]:
        return 1, 2, 3

    @tarmac.pipeline
    def condition():
        if make():
            return 1

    @tarmac.pipeline
    def text():
        return take(f"{make()}")

    @tarmac.pipeline
    def sum_of():
        return make() + 1

    @tarmac.pipeline
    def attribute():
        return take(make().real)

    @tarmac.pipeline
    def unpacked():
        a, b = make()

    @tarmac.pipeline
    def third():
        return take(two()[2])

    @tarmac.pipeline
    def arguments():
        return take(make(), 3)

    @tarmac.pipeline
    def one():
        return other()

    @tarmac.pipeline
    def other():
        return one()

    @tarmac.pipeline
    def nothing():
        return 3

    @tarmac.pipeline
    def unstorable():
        return generator()

    @tarmac.pipeline
    def parts():
        a, b = liar()
        return take(a)

    @tarmac.pipeline
    def argument():
        return take(lambda: 1)
"""


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("condition", "pipe.py:26: what `make` makes is not known while the pipeline is put together, and it is used"),
        ("text", "pipe.py:31: what `make` makes is not known"),
        ("sum_of", "pipe.py:35: what `make` makes is not known"),
        ("attribute", "it is asked for `.real` here"),
        ("unpacked", "say how many there will be"),
        ("third", "it is asked for [2] here"),
        ("arguments", "step `take`: too many positional arguments"),
        ("one", "a cycle: one → other → one"),
        ("nothing", "calls no step"),
        ("unstorable", "its result is a generator, which cannot be stored"),
        ("parts", "it returned a tuple of 3, and is declared to return a tuple of 2"),
        ("argument", "`x` of step `take`"),
    ],
)
def test_bad_pipelines_are_told_what_is_wrong(project: Project, pipeline: str, said: str) -> None:
    project.write("pipe.py", BAD)
    out = project.start("run", f"pipe:{pipeline}").communicate(timeout=60)[0]
    assert said in out
    assert "Traceback" not in out


def test_outside_of_a_pipeline_a_step_is_its_function(simple: Project) -> None:
    import subprocess
    import sys

    code = "import pipe; print(pipe.main('data.txt') if 0 else pipe.fit([1, 2], 3), pipe.split([1, 2, 3, 4]))"
    out = subprocess.run([sys.executable, "-c", code], cwd=simple.folder, capture_output=True, text=True, check=True)
    assert out.stdout == "90 ([1, 2, 3], [4])\n"


MADE = """
    import functools
    import tarmac

    def loud(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args) + 0
        return wrapper

    def times(factor):
        @tarmac.step
        def multiply(x: int) -> int:
            return x * factor
        return multiply

    @tarmac.step
    @loud
    def inner(x: int) -> int:
        return x + 1

    class Scale:
        by = 2

        def of(self, x):
            return x * self.by

    @tarmac.step
    def scaled(x: int, *more: int, scale: int = 1, **named: int) -> int:
        import helpers as h
        return Scale().of(x) + sum(more) + sum(named.values()) + h.weight(1)

    @tarmac.pipeline
    def main(x: int = 3):
        return scaled(times(FACTOR)(inner(x)), 1, inner(2), extra=inner(5))
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "ran"),
    [
        ("pipe.py", "FACTOR", "8", {"multiply", "scaled"}),
        ("pipe.py", "return x + 1", "return x + 2", {"inner", "inner-2", "inner-3", "multiply", "scaled"}),
        (
            "pipe.py",
            "function(*args) + 0",
            "function(*args) + 5",
            {"inner", "inner-2", "inner-3", "multiply", "scaled"},
        ),
        ("pipe.py", "by = 2", "by = 3", {"scaled"}),
        ("helpers.py", "depth * 10", "depth * 11", {"scaled"}),
    ],
)
def test_functions_that_functions_made(project: Project, file: str, old: str, new: str, ran: set[str]) -> None:
    project.write("helpers.py", HELPERS)
    project.write("pipe.py", MADE.replace("FACTOR", "7") if old != "FACTOR" else MADE.replace("FACTOR", "int('7')"))
    first = project.run()["result"]
    assert set(project.marks().values()) == {"reuse"}
    project.edit(file, old if old != "FACTOR" else "int('7')", new if old != "FACTOR" else "int('8')")
    done = project.run()
    assert {name for name, how in done["steps"].items() if how == "ran"} == ran
    assert done["result"] != first


BRANCHES = """
    import tarmac

    @tarmac.step
    def measure(x: int) -> int:
        return x

    @tarmac.step
    def good(x: int) -> bool:
        return x > 10

    @tarmac.step
    def publish(x: int) -> str:
        return f"published {x}"

    @tarmac.step
    def repair(x: int) -> str:
        return f"repaired {x}"

    @tarmac.step
    def tell(text: str) -> str:
        return text.upper()

    @tarmac.pipeline
    def main(x: int = 3):
        found = measure(x)
        return tell(tarmac.when(good(found), publish(found), repair(found)))
"""


def test_only_the_chosen_side_of_when_is_run(project: Project) -> None:
    project.write("pipe.py", BRANCHES)
    done = project.run()
    assert done["result"] == "REPAIRED 3"
    assert "publish" not in done["steps"]
    assert project.run("pipe:main", "-p", "x=11")["result"] == "PUBLISHED 11"
    assert project.marks() == {
        "measure": "reuse", "good": "reuse", "publish": "skip", "repair": "reuse", "tell": "reuse",
    }  # fmt: skip


EACH = """
    import tarmac

    @tarmac.step
    def names(n: int) -> list[str]:
        return [f"n{i}" for i in range(n)]

    @tarmac.step
    def shout(name: str, mark: str = "!") -> str:
        with open("done.txt", "a") as file:
            file.write(name + " ")
        return name + mark

    @tarmac.step
    def join(parts: list[str]) -> str:
        return " ".join(parts)

    @tarmac.pipeline
    def main(n: int = 3):
        return join(shout(tarmac.each(names(n))))
"""


def test_each_item_has_a_result_of_its_own(project: Project) -> None:
    project.write("pipe.py", EACH)
    ledger = project.folder / "done.txt"
    assert project.run()["result"] == "n0! n1! n2!"
    assert ledger.read_text().split() == ["n0", "n1", "n2"]
    assert project.run("pipe:main", "-p", "n=5")["result"] == "n0! n1! n2! n3! n4!"
    assert ledger.read_text().split() == ["n0", "n1", "n2", "n3", "n4"]
    assert project.run("pipe:main", "-p", "n=2")["result"] == "n0! n1!"
    assert project.run("pipe:main", "-p", "n=4")["result"] == "n0! n1! n2! n3!"
    assert ledger.read_text().split() == ["n0", "n1", "n2", "n3", "n4", "n2", "n3"]  # those had gone with their items


FAILS = """
    import tarmac, pathlib

    @tarmac.step
    def load() -> int:
        return 1

    @tarmac.step
    def branch(x: int, k: int) -> int:
        return x + k

    @tarmac.step
    def join(parts: list[int]) -> int:
        BROKEN
        return sum(parts)

    @tarmac.step
    def report(x: int) -> str:
        return str(x)

    @tarmac.pipeline
    def main(top: int = 10):
        x = load()
        return report(join([branch(x, k) for k in range(top)]))
"""


def test_after_a_failure_only_the_rest_is_run(project: Project) -> None:
    project.write("pipe.py", FAILS.replace("BROKEN", "1 / 0"))
    error = project.run(code=1)["error"]
    assert error["code"] == "step_failed"
    assert "ZeroDivisionError" in error["message"]
    assert error["detail"]["where"] == "pipe.py:14"
    failed = json.loads(project.tarmac("runs", "ls", "--filter", "tags.`tarmac.pipeline` = 'main'", "--json"))["runs"][
        0
    ]
    assert failed["status"] == "failed"
    project.write("pipe.py", FAILS.replace("BROKEN", "pass"))
    done = project.run("pipe:main", "--resume")
    assert done["run"] == failed["id"]
    assert done["result"] == "55"
    assert [name for name, what in done["steps"].items() if what == "ran"] == ["join", "report"]
    out = project.start("run", "pipe:main", "--resume").communicate()[0]
    assert "there is nothing to resume" in out


def test_every_step_is_a_run_below_the_pipelines(simple: Project) -> None:
    done = simple.run()
    steps = json.loads(simple.tarmac("pipelines", "show", done["run"], "--json"))["steps"]
    assert [step["node"] for step in steps] == ["load", "split", "fit", "report"]
    fit = json.loads(simple.tarmac("runs", "show", steps[2]["run"], "--json"))
    assert (fit["name"], fit["status"], fit["parent"], fit["params"]) == (
        "fit",
        "finished",
        done["run"],
        {"depth": "6"},
    )
    assert {"seconds", "cpu_seconds", "memory"} <= fit["metrics"].keys()
    edges = json.loads(simple.tarmac("lineage", f"runs/{steps[3]['run']}", "--json"))["edges"]
    assert {edge["source"] for edge in edges} >= {f"runs/{step['run']}" for step in steps[:3]} | {"files/data.txt"}
    again = simple.run()
    edges = json.loads(simple.tarmac("lineage", f"runs/{again['run']}", "--json"))["edges"]
    assert {f"runs/{step['run']}" for step in steps} <= {edge["source"] for edge in edges if edge["how"] == "reused"}
    assert json.loads(simple.tarmac("audit", "verify", "--json"))["faults"] == []

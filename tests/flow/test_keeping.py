"""What is kept of pipelines: blobs by need, nothing of secrets, sources by their content."""

from __future__ import annotations

import json

from tests.flow.conftest import Project

BIG = """
    import numpy as np, tarmac

    @tarmac.step
    def load(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).random(5000)

    @tarmac.step
    def pages(n: int) -> np.ndarray:
        return np.full(3000, n)

    @tarmac.step
    def total(a: np.ndarray, parts: list) -> float:
        return float(a.sum() * 0 + sum(part.sum() for part in parts))

    @tarmac.pipeline
    def main(seed: int = 1, count: int = 3):
        return total(load(seed), pages(tarmac.each(list(range(count)))))
"""


def blobs(project: Project) -> int:
    return len([file for file in (project.folder / ".tarmac" / "blobs").glob("??/*") if file.is_file()])


def collect(project: Project) -> None:
    for _ in range(2):
        project.tarmac("store", "gc", "--grace-hours", "0")
    assert json.loads(project.tarmac("store", "check", "--json"))["faults"] == []


def test_bytes_are_kept_as_long_as_a_result_needs_them(project: Project) -> None:
    project.write("pipe.py", BIG)
    assert project.run()["result"] == 9000
    assert blobs(project) == 5, "four results, and the source"
    collect(project)
    assert blobs(project) == 5
    assert set(project.marks().values()) == {"reuse"}
    project.run("pipe:main", "-p", "seed=2", "-p", "count=2")  # the third page goes with its item
    collect(project)
    assert blobs(project) == 5
    known = json.loads(project.tarmac("manifests", "ls", "--json"))["manifests"]
    manifest = next(one["id"] for one in known if one["kind"] != "source")
    assert "is what a result of step `load` is made of" in project.tarmac("manifests", "rm", manifest, code=1)
    project.tarmac("results", "prune", "--days", "0")
    collect(project)
    assert blobs(project) == 1, "the runs' source"
    assert project.run()["steps"] == {"load": "ran", "pages": "ran", "total": "ran"}


SECRET = """
    import os, tarmac

    @tarmac.step(cache=False)
    def send(text: str, shop: tarmac.Connection) -> str:
        assert str(shop.secret) == "***"
        print("with", shop.secret.reveal(), "to", shop.url)
        return text + RESULT

    @tarmac.pipeline
    def main():
        return send("hello ", tarmac.connection("shop"))
"""


def test_a_secret_in_the_open_is_refused_and_not_shown(project: Project) -> None:
    project.write("tarmac.toml", '[connections.shop]\nsecret = "hunter2"\n')
    project.write("pipe.py", SECRET.replace("RESULT", '"sent"'))
    said = project.tarmac("run", "pipe:main", code=2)
    assert "stands in the open" in said
    assert "hunter2" not in said


def test_a_connections_secret_reaches_its_step_and_nothing_else(project: Project) -> None:
    project.write("tarmac.toml", '[connections.shop]\nurl = "https://shop.example"\nsecret = "env:SHOP"\n')
    project.write("pipe.py", SECRET.replace("RESULT", '"sent"'))
    out = project.tarmac("run", "pipe:main", SHOP="tiger-lily-77")
    assert "send │ with *** to https://shop.example" in out
    assert "hello sent" in out
    assert "tiger-lily-77" not in out
    project.tarmac("run", "pipe:main", "--workers", "1", SHOP="tiger-lily-77")
    project.write("pipe.py", SECRET.replace("RESULT", "shop.secret.reveal()").replace("(cache=False)", ""))
    error = project.run("pipe:main", code=1, SHOP="tiger-lily-77")["error"]
    assert "its result has a connection's secret in it" in error["message"]
    project.write("pipe.py", SECRET.replace("RESULT", "1 / len(shop.secret.reveal() + 1)"))
    project.tarmac("run", "pipe:main", code=1, SHOP="tiger-lily-77")
    for file in (project.folder / ".tarmac").rglob("*"):
        if file.is_file():
            assert b"tiger-lily-77" not in file.read_bytes(), file
    assert "did you mean `shop`?" in misnamed(project)


def misnamed(project: Project) -> str:
    project.edit("pipe.py", 'tarmac.connection("shop")', 'tarmac.connection("shp")')
    return str(project.start("plan", "pipe:main").communicate()[0])


FOLDERS = """
    import tarmac
    from pathlib import Path

    @tarmac.step
    def write(text: str) -> tarmac.File:
        place = Path("out")
        place.mkdir(exist_ok=True)
        (place / "a.txt").write_text(text)
        (place / "b.txt").write_text(text * 1000)
        return tarmac.File(place)

    @tarmac.step
    def read(folder: tarmac.File, again: int) -> str:
        return (folder / "a.txt").read_text() + str(len((folder / "b.txt").read_text()))

    @tarmac.pipeline
    def main(again: int = 1):
        return read(write("xyz "), again)
"""


def test_files_that_a_step_returns_are_there_again(project: Project) -> None:
    import shutil

    project.write("pipe.py", FOLDERS)
    assert project.run()["result"] == "xyz 4000"
    shutil.rmtree(project.folder / "out")
    done = project.run("pipe:main", "-p", "again=2")
    assert (done["result"], done["steps"]) == ("xyz 4000", {"write": "reused", "read": "ran"})
    assert set(project.marks().values()) == {"reuse"}


def test_a_model_is_found_again_by_who_made_it(project: Project) -> None:
    project.write(
        "pipe.py",
        """
        import tarmac
        from sklearn.linear_model import LinearRegression

        @tarmac.step
        def fit(n: int):
            return LinearRegression().fit([[0], [n]], [0, n])

        @tarmac.step
        def use(model, at: int) -> float:
            return round(float(model.predict([[at]])[0]), 3)

        @tarmac.pipeline
        def main(at: int = 2):
            return use(fit(3), at)
        """,
    )
    assert project.run()["result"] == 2
    done = project.run("pipe:main", "-p", "at=3")
    assert (done["result"], done["steps"]) == (3, {"fit": "reused", "use": "ran"})


def test_a_version_of_data_counts_by_its_content(project: Project) -> None:
    (project.folder / "faces").mkdir()
    project.write("faces/a.txt", "a")
    project.tarmac("data", "log", "faces", "faces")
    project.write(
        "pipe.py",
        """
        import tarmac

        @tarmac.step
        def read(faces) -> str:
            return (faces.path() / "a.txt").read_text()

        @tarmac.step
        def back(faces):
            return faces

        @tarmac.pipeline
        def main(version: str = "latest"):
            return read(tarmac.dataset("faces").at(version))

        @tarmac.pipeline
        def returned():
            return back(tarmac.dataset("faces").latest)
        """,
    )
    done = project.run()
    assert done["result"] == "a"
    assert project.marks() == {"read": "reuse"}
    step = json.loads(project.tarmac("pipelines", "show", done["run"], "--json"))["steps"][0]["run"]
    edges = json.loads(project.tarmac("lineage", f"runs/{step}", "--json"))["edges"]
    assert "data/faces@v1" in {edge["source"] for edge in edges}
    project.write("faces/a.txt", "b")
    project.tarmac("data", "log", "faces", "faces")
    assert project.plan()["read"]["why"] == ["`faces` was data/faces@v1, is data/faces@v2"]
    assert project.run("pipe:main", "--workers", "1")["result"] == "b"
    assert project.run("pipe:main", "-p", "version=v1")["steps"] == {"read": "reused"}
    assert "what steps are only given" in project.run("pipe:returned", code=1)["error"]["message"]

"""`run.save`: what is kept of each kind of thing, what is refused and why, and what never ends training."""

from __future__ import annotations

import collections
import dataclasses
import errno
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.errors import Invalid, NotFound
from tarmac.formats.spool import Tags
from tarmac.logging import arrays, shelf
from tarmac.logging.run import Run
from tarmac.workspace import Workspace
from tarmac.workspace.files import artifacts
from tests.conftest import tarmac_environment
from tests.logging.conftest import Training, only_run
from tests.logging.spooled import lying, records, saved, spooled

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    made = spooled(tmp_path)
    yield made
    made.end()


# --- files and folders ---


def test_a_file_is_saved_under_its_own_name_or_another(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.bin").write_bytes(b"weights")
    run.save("out/model.bin")
    run.save(tmp_path / "out" / "model.bin")
    run.save("best/model", Path("out/model.bin"))
    assert saved(run) == {"model.bin": b"weights", "best/model": b"weights"}


def test_a_folder_is_saved_with_all_below_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out" / "deep" / "er").mkdir(parents=True)
    for name in ("a.txt", "deep/b.txt", "deep/er/c.txt"):
        (tmp_path / "out" / name).write_text(name)
    run.save(Path("out"))
    assert saved(run) == {f"out/{name}": name.encode() for name in ("a.txt", "deep/b.txt", "deep/er/c.txt")}
    run.save("plots", Path("out"))
    assert saved(run)["plots/deep/er/c.txt"] == b"deep/er/c.txt"
    os.chdir(tmp_path / "out" / "deep")
    run.save(".")
    assert saved(run)["deep/b.txt"] == b"deep/b.txt"


def test_the_bytes_are_safe_when_it_returns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"before")
    run.save("a.bin")
    (tmp_path / "a.bin").write_bytes(b"after!")
    assert saved(run) == {"a.bin": b"before"}
    run.save("a.bin")
    assert saved(run) == {"a.bin": b"after!"}, "saving again replaces"
    (tmp_path / "a.bin").unlink()
    assert saved(run) == {"a.bin": b"after!"}


def test_thousands_of_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(5000):
        (tmp_path / "many" / f"{number}.txt").write_text(str(number))
    run.save("many")
    found = saved(run)
    assert len(found) == 5000
    assert all(found[f"many/{number}.txt"] == str(number).encode() for number in range(5000))


def test_links_and_devices_are_refused_and_nothing_of_their_folder_is_kept(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    for make in (
        lambda: (folder / "z").symlink_to(tmp_path),
        lambda: (folder / "z").symlink_to("a.txt"),
        lambda: os.mkfifo(folder / "z"),
    ):
        make()
        with pytest.raises(Invalid, match=r"z is not a regular file") as caught:
            run.save("out")
        assert caught.value.hint == "links and devices are not uploaded"
        (folder / "z").unlink()
    with pytest.raises(Invalid, match=r"neither a file nor a folder"):
        run.save("null", Path("/dev/null"))
    assert saved(run) == {}
    assert lying(run) == []


def test_files_whose_size_says_nothing_are_read_whole(run: Run) -> None:
    run.save("status.txt", Path("/proc/self/status"))
    assert b"Pid:" in saved(run)["status.txt"]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 7])
def test_copies_are_the_same_with_and_without_the_kernel(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    assert shelf.copy(source, tmp_path / "one") == size

    def refuse(*_: Any) -> int:
        raise OSError(errno.EXDEV, "not between these two")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert shelf.copy(source, tmp_path / "two") == size
    assert source.read_bytes() == (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with pytest.raises(FileExistsError):
        shelf.copy(source, tmp_path / "two")


# --- things in memory ---


def test_text_and_bytes(run: Run) -> None:
    run.save("note", "größe\n")
    run.save("page.html", "<p>")
    run.save("results-v1.2", "the suffix is added: .2 is none")
    run.save("odd", "\ud800")
    run.save("raw", b"\x00\xff")
    run.save("raw.png", bytearray(b"123"))
    run.save("view.bin", memoryview(b"abc")[1:])
    run.save("buffer.png", io.BytesIO(b"all of it"))
    assert saved(run) == {
        "note.txt": "größe\n".encode(), "page.html": b"<p>", "odd.txt": b"?", "raw": b"\x00\xff", "raw.png": b"123",
        "results-v1.2.txt": b"the suffix is added: .2 is none", "view.bin": b"bc", "buffer.png": b"all of it",
    }  # fmt: skip


@dataclasses.dataclass
class Report:
    auc: float
    path: Path


def test_dicts_and_lists_become_json(run: Run) -> None:
    run.save("report", {"auc": 0.9, "nan": math.nan, "inf": -math.inf, "big": 2**80, "nested": {"a": (1, None)}})
    run.save("list.json", [1, "zwei", {"drei": 3}])
    run.save("data", Report(0.5, Path("x/y")))
    run.save("keys", {"found": {"a": 1}.keys(), "set": {7}})
    found = {path: json.loads(data) for path, data in saved(run).items()}
    assert found == {
        "report.json": {"auc": 0.9, "nan": None, "inf": None, "big": 2**80, "nested": {"a": [1, None]}},
        "list.json": [1, "zwei", {"drei": 3}],
        "data.json": {"auc": 0.5, "path": "x/y"},
        "keys.json": {"found": ["a"], "set": [7]},
    }
    assert b'\n  "auc"' in saved(run)["report.json"], "laid out for eyes"


class Shout(str):
    __slots__ = ()


def test_what_is_made_of_plain_types_is_one(run: Run) -> None:
    run.save("x", {"a": Shout("hey"), "b": collections.OrderedDict(c=1), "d": collections.deque([1]), Shout("e"): 2})
    assert json.loads(saved(run)["x.json"]) == {"a": "hey", "b": {"c": 1}, "d": [1], "e": 2}


def test_rows_become_csv(run: Run) -> None:
    run.save("rows.csv", [{"a": 1, "b": "x,y"}, {"a": 2, "c": None}])
    run.save("rows.jsonl", [{"a": 1}, {"a": math.nan}])
    assert saved(run) == {"rows.csv": b'a,b,c\r\n1,"x,y",\r\n2,,\r\n', "rows.jsonl": b'{"a":1}\n{"a":null}\n'}


def test_numpy_inside_of_json(run: Run) -> None:
    np = pytest.importorskip("numpy")
    run.save("x", {"a": np.float32(0.5), "b": np.arange(3), np.int64(4): np.bool_(True), "c": [np.float64("nan")]})
    assert json.loads(saved(run)["x.json"]) == {"a": 0.5, "b": [0, 1, 2], "4": True, "c": [None]}


def test_arrays_are_kept_as_they_are(run: Run) -> None:
    np = pytest.importorskip("numpy")
    for name, array in {
        "flat": np.arange(5), "table": np.eye(3, dtype="f4"), "cube": np.zeros((2, 3, 5), "i2"),
        "none": np.zeros((0, 3)), "point": np.array(7), "strided": np.arange(20)[::3], "texts": np.array(["a", "bc"]),
    }.items():  # fmt: skip
        run.save(name, array)
        back = np.load(io.BytesIO(saved(run)[f"{name}.npy"]))
        assert back.dtype == array.dtype
        assert np.array_equal(back, array)
    with pytest.raises(Invalid, match=r"`objects.npy` cannot be written: ValueError: Object arrays cannot be saved"):
        run.save("objects", np.array([object()]))


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (7, 5, 3), (7, 5, 4), (200, 3, 3)])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "bool"])
def test_arrays_as_images_have_the_same_pixels(run: Run, shape: tuple[int, ...], kind: str) -> None:
    np = pytest.importorskip("numpy")
    image = pytest.importorskip("PIL.Image")
    if kind == "uint16" and shape[2:] not in ((), (1,)):
        pytest.skip("Pillow reads only 8 of the 16 bits of a colour")
    made = np.random.default_rng(1).integers(0, 1 << 16, shape).astype(kind)
    run.save("a.png", made)
    read = image.open(io.BytesIO(saved(run)["a.png"]))
    read.load()
    back = np.asarray(read)
    expected = made.astype("uint8") * 255 if kind == "bool" else made
    assert np.array_equal(back, expected[:, :, 0] if shape[2:] == (1,) else expected)


def test_numbers_become_pixels() -> None:
    np = pytest.importorskip("numpy")

    def row(*values: float, kind: str = "f4") -> list[int]:
        found: list[int] = arrays.pixels(np.array([values], kind))[0, :, 0].tolist()
        return found

    assert row(0, 0.5, 1) == [0, 128, 255], "0 to 1 as they are"
    assert row(0.25, 0.5) == [64, 128]
    assert row(-1, 0, 1) == [0, 128, 255], "others are stretched"
    assert row(0, 510) == [0, 255]
    assert row(np.nan, np.inf, 1) == [0, 0, 255]
    assert row(0, 200, 255, kind="i8") == [0, 200, 255]
    assert row(0, 1000, kind="i8") == [0, 255]
    assert row(3, 3, 3, kind="i8") == [3, 3, 3]
    assert row(300, 300, kind="i8") == [0, 0], "no range, no error"
    with pytest.raises(Invalid, match=r"complex64 make no image"):
        row(1j, kind="c8")  # type: ignore[arg-type]


def test_arrays_as_other_images(run: Run) -> None:
    np = pytest.importorskip("numpy")
    image = pytest.importorskip("PIL.Image")
    for suffix, shape in ((".jpg", (8, 8, 4)), (".webp", (8, 8, 3)), (".tiff", (8, 8)), (".gif", (8, 8, 1))):
        run.save(f"a{suffix}", np.full(shape, 200, "uint16") * 256)
        assert image.open(io.BytesIO(saved(run)[f"a{suffix}"])).size == (8, 8)
    with pytest.raises(Invalid, match=r"shape \(3, 8, 8\) cannot be saved as `a.png`") as caught:
        run.save("a.png", np.zeros((3, 8, 8)))
    assert caught.value.hint == "its suffix can be .npy"


def test_figures(run: Run) -> None:
    matplotlib = pytest.importorskip("matplotlib.figure")
    figure = matplotlib.Figure()
    axes = figure.subplots()
    axes.plot([1, 2, 3])
    for name in ("roc", "roc.svg", "roc.pdf", "roc.jpg"):
        run.save(name, figure)
    run.save("axes.png", axes)
    found = saved(run)
    assert found["roc.png"].startswith(b"\x89PNG")
    assert found["axes.png"] == found["roc.png"]
    assert b"<svg" in found["roc.svg"]
    assert found["roc.pdf"].startswith(b"%PDF")
    assert found["roc.jpg"].startswith(b"\xff\xd8")
    with pytest.raises(Invalid, match=r"a figure cannot be saved as `roc.txt`") as caught:
        run.save("roc.txt", figure)
    assert ".png, .svg, .pdf" in str(caught.value.hint)


def test_plotly_figures(run: Run) -> None:
    plotly = pytest.importorskip("plotly.graph_objects")
    figure = plotly.Figure(plotly.Scatter(y=[1, 3, 2]))
    run.save("curve", figure)
    run.save("curve.json", figure)
    assert b"<html>" in saved(run)["curve.html"]
    assert b'src="http' not in saved(run)["curve.html"], "it shows without a network"
    assert json.loads(saved(run)["curve.json"])["data"][0]["y"]


def test_images(run: Run) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = image.new("RGBA", (4, 6), (255, 0, 0, 10))
    for name in ("a", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.tif"):
        run.save(name, picture)
    for data in saved(run).values():
        assert image.open(io.BytesIO(data)).size == (4, 6)


def test_pandas_tables(run: Run) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1, 2], 7: ["x", None]})
    run.save("t.csv", table)
    run.save("t.json", table)
    run.save("named.csv", table.set_index("a"))
    run.save("series.csv", table["a"])
    run.save("nameless.csv", pandas.Series([1.5]))
    found = saved(run)
    assert found["t.csv"] == b"a,7\n1,x\n2,\n"
    assert json.loads(found["t.json"]) == [{"a": 1, "7": "x"}, {"a": 2, "7": None}]
    assert found["named.csv"] == b"a,7\n1,x\n2,\n"
    assert found["series.csv"] == b"a\n1\n2\n"
    assert found["nameless.csv"] == b"value\n1.5\n"
    run.save("implied", table)
    if find_spec("pyarrow") is None:
        assert saved(run)["implied.csv"] == found["t.csv"]
        with pytest.raises(Invalid, match=r"`t.parquet` cannot be written: .*pyarrow"):
            run.save("t.parquet", table)
    else:
        back = pandas.read_parquet(io.BytesIO(saved(run)["implied.parquet"]))
        assert back.to_dict() == table.rename(columns=str).to_dict()
        with pytest.raises(Invalid, match=r"`mixed.parquet` cannot be written: Arrow"):
            run.save("mixed.parquet", pandas.DataFrame({"a": [1, "x", object()]}))


def test_polars_tables(run: Run) -> None:
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"a": [1, 2], "b": ["x", None]})
    run.save("t", table)
    run.save("lazy.csv", table.lazy().filter(polars.col("a") > 1))
    run.save("series.json", table["a"])
    found = saved(run)
    assert polars.read_parquet(io.BytesIO(found["t.parquet"])).equals(table)
    assert found["lazy.csv"] == b"a,b\n2,\n"
    assert json.loads(found["series.json"]) == [{"a": 1}, {"a": 2}]


def test_arrow_tables(run: Run) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"a": [1, 2], "b": ["x", None]})
    run.save("t", table)
    run.save("t.csv", table)
    run.save("t.json", table.to_batches()[0])
    found = saved(run)
    assert parquet.read_table(io.BytesIO(found["t.parquet"])).equals(table)
    assert found["t.csv"] == b'"a","b"\n1,"x"\n2,\n'
    assert json.loads(found["t.json"]) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


def test_tensors_and_checkpoints(run: Run) -> None:
    torch = pytest.importorskip("torch")
    np = pytest.importorskip("numpy")
    whole = torch.arange(1_000_000, dtype=torch.float32)
    run.save("view", whole[:3].requires_grad_())
    run.save("half.npy", torch.ones(2, dtype=torch.bfloat16))
    run.save("checkpoint.pt", {"epoch": 3, "weights": torch.zeros(2)})
    run.save("values", {"a": torch.tensor([1.5]), "b": torch.tensor(2)})
    found = saved(run)
    assert torch.equal(torch.load(io.BytesIO(found["view.pt"])), torch.tensor([0.0, 1.0, 2.0]))
    assert len(found["view.pt"]) < 10_000, "a view does not bring along what it looks at"
    assert np.load(io.BytesIO(found["half.npy"])).tolist() == [1, 1]
    assert torch.load(io.BytesIO(found["checkpoint.pt"]))["epoch"] == 3
    assert json.loads(found["values.json"]) == {"a": [1.5], "b": 2}


# --- what is wrong with the arguments ---


@pytest.mark.parametrize(
    "name", ["../up.txt", "a/../../b.txt", "/tmp/x.txt", "a\x00b.txt", "a\nb", "", ".", "a//b", "\\x"]
)
def test_names_that_cannot_be(run: Run, name: str) -> None:
    with pytest.raises(Invalid, match=r"cannot be the name of a run's file"):
        run.save(name, "text")
    assert records(run) == []


def test_what_is_not_there(run: Run) -> None:
    with pytest.raises(NotFound, match=r"there is no file or folder `nowhere.bin`") as caught:
        run.save("nowhere.bin")
    assert "run.save(" in str(caught.value.hint)
    with pytest.raises(NotFound):
        run.save("a", Path("nowhere"))
    Path("empty").mkdir()
    with pytest.raises(Invalid, match=r"the folder empty is empty"):
        run.save("empty")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    with pytest.raises(Invalid, match=r"secret cannot be read: Permission denied"):
        run.save("secret")


class Odd:
    pass


@pytest.mark.parametrize("thing", [Odd(), Odd, 7, 1.5, True, object(), threading.Lock(), lambda: 1])
def test_types_that_nobody_knows(run: Run, thing: Any) -> None:
    with pytest.raises(Invalid, match=r"a thing of type .* cannot be saved") as caught:
        run.save("x", thing)
    assert "polars" in str(caught.value.hint)
    with pytest.raises(Invalid, match=r"a file of a run has a name"):
        run.save(thing, "x")


def test_suffixes_that_do_not_fit(run: Run) -> None:
    with pytest.raises(Invalid, match=r"text cannot be saved as `a.png`"):
        run.save("a.png", "text")
    with pytest.raises(Invalid, match=r"a dict cannot be saved as `a.csv`") as caught:
        run.save("a.csv", {"a": 1})
    assert str(caught.value.hint).startswith("its suffix can be .json")


def test_what_json_cannot_say(run: Run) -> None:
    ring: list[Any] = []
    ring.append(ring)
    for thing, why in (
        ({"a": Odd()}, r"`x.json` cannot be written: it holds a .*\.Odd, which JSON cannot say"),
        ({(1, 2): 3}, "it holds a builtins.tuple"),
        (ring, "it holds itself"),
        (["\ud800"], "some text in it cannot be"),
    ):
        with pytest.raises(Invalid, match=why):
            run.save("x", thing)
    assert saved(run) == {}
    assert lying(run) == [], "nothing half-made stays"


def test_text_that_names_a_file_is_a_slip(run: Run) -> None:
    Path("out.csv").write_text("a,b")
    with pytest.raises(Invalid, match=r"`out.csv` is text, and names a file"):
        run.save("best.csv", "out.csv")
    run.save("best.csv", b"out.csv")
    run.save("best.txt", "out.csv")
    assert saved(run) == {"best.csv": b"out.csv", "best.txt": b"out.csv"}


def test_a_path_is_a_file_or_a_folder(run: Run) -> None:
    run.save("a.txt", "1")
    run.save("b/c.txt", "2")
    run.save("b/d.txt", "3")
    with pytest.raises(Invalid, match=r"`a.txt` would be a file and a folder of this run"):
        run.save("a.txt/b.txt", "x")
    with pytest.raises(Invalid, match=r"`b` would be a file and a folder"):
        run.save("b", b"x")
    assert set(saved(run)) == {"a.txt", "b/c.txt", "b/d.txt"}


# --- what never ends training ---


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_said_once_and_leaves_nothing_half(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    for name in "abc":
        (tmp_path / "out" / name).write_text(name)
    real, count = shelf.copy, 0

    def third_is_too_much(source: Path, target: Path) -> int:
        nonlocal count
        count += 1
        if count % 3 == 0:
            target.write_bytes(b"hal")
            full()
        return real(source, target)

    monkeypatch.setattr(shelf, "copy", third_is_too_much)
    run.save("out")
    run.save("out")
    assert saved(run) == {}
    assert lying(run) == [], "a folder is saved whole or not at all"
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "run first: `out` was not saved: No space left on device: out/c" in said
    assert [record for record in records(run) if isinstance(record, Tags)]
    run.log(x=1)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    run.save("out")
    assert set(saved(run)) == {"out/a", "out/b", "out/c"}, "there is room again"


@pytest.fixture
def no_long_files() -> Iterator[None]:
    """No file may become longer than this: a real write fails, in whatever library it happens."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("what", ["file", "text", "npy", "png", "figure", "pandas", "polars", "arrow", "torch", "pil"])
def test_real_writes_that_fail(
    run: Run, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    thing, name = large(what, tmp_path)
    request.getfixturevalue("no_long_files")
    run.save(name, thing)
    run.save("small.txt", "fits")
    assert set(saved(run)) == {"small.txt"}
    assert len(lying(run)) == 1
    assert f"`{name}` was not saved" in capsys.readouterr().err


def large(what: str, folder: Path) -> tuple[Any, str]:
    if what == "file":
        (folder / "big.bin").write_bytes(os.urandom(300_000))
        return folder / "big.bin", "big.bin"
    if what == "text":
        return "x" * 300_000, "big.txt"
    np = pytest.importorskip("numpy")
    noise = np.random.default_rng(1).random((400, 400))
    if what == "npy":
        return noise, "big.npy"
    if what == "png":
        return noise, "big.png"
    if what == "figure":
        figure = pytest.importorskip("matplotlib.figure").Figure()
        figure.figimage(noise)
        return figure, "big.png"
    if what == "torch":
        return pytest.importorskip("torch").rand(400, 400), "big.pt"
    if what == "pil":
        image = pytest.importorskip("PIL.Image")
        return image.fromarray((noise * 255).astype("uint8")), "big.bmp"
    table = {str(number): noise[number] for number in range(400)}
    if what == "pandas":
        return pytest.importorskip("pandas").DataFrame(table), "big.csv"
    if what == "polars":
        return pytest.importorskip("polars").DataFrame(table), "big.parquet"
    return pytest.importorskip("pyarrow").table(table), "big.parquet"


def test_interrupted_while_copying(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1000)

    def interrupt(_: Path, target: Path) -> int:
        target.write_bytes(b"xx")
        raise KeyboardInterrupt

    monkeypatch.setattr(shelf, "copy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.save("big")
    assert saved(run) == {}
    assert lying(run) == []


def test_other_ranks_check_what_they_can_and_keep_nothing(tmp_path: Path) -> None:
    run = spooled(tmp_path, quiet=True)
    run.save("a.txt", "text")
    run.save("model.bin")  # only rank 0 has written it
    run.save("plots", Path("nowhere"))
    for wrong in (lambda: run.save("../a", "x"), lambda: run.save("x", Odd()), lambda: run.save("a.png", "x")):
        with pytest.raises(Invalid):
            wrong()
    assert not run.place.spools.exists()


def test_a_workspace_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".tarmac").write_text("in the way")
    run = spooled(tmp_path)
    run.save("a.txt", "x")
    assert "cannot be written; this run is not recorded" in capsys.readouterr().err


def test_after_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = spooled(tmp_path)
    run.save("a.txt", "x")
    run.end()
    run.save("b.txt", "x")
    assert set(saved(run)) == {"a.txt"}
    assert "nothing is recorded after its end" in capsys.readouterr().err


def python(text: str, folder: Path) -> str:
    """In a process without the threads of other libraries, which forbid to fork."""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=folder, timeout=60, env=tarmac_environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKS = """
import os
from pathlib import Path
from tarmac.logging import start
from tests.logging.spooled import lying, saved, spooled
run = spooled(Path.cwd())
start._keep(run)
run.save("parent.txt", "p")
if os.fork() == 0:
    run.save("child.txt", "c")
    os._exit(0)
os.wait()
run.save("after.txt", "a")
run.end()
assert saved(run) == {"parent.txt": b"p", "child.txt": b"c", "after.txt": b"a"}
print(len({path.parent for path in lying(run)}))
"""


def test_a_forked_child_saves_in_a_spool_of_its_own(tmp_path: Path) -> None:
    assert python(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{FORKS}", tmp_path) == "2\n"


def test_threads_save_at_the_same_time(run: Run) -> None:
    def work(number: int) -> None:
        for turn in range(50):
            run.save(f"{number}/{turn}.txt", f"{number} {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saved(run) == {f"{n}/{t}.txt": f"{n} {t}".encode() for n in range(8) for t in range(50)}


MEMORY = """
import os, resource
from pathlib import Path
from tarmac.logging import shelf
def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = most()
assert shelf.copy(Path("big"), Path("one")) == 200 << 20
del os.copy_file_range
shelf.sys.platform = "another"
assert shelf.copy(Path("big"), Path("two")) == 200 << 20
print(most() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(200 << 20)
    assert int(python(MEMORY, tmp_path)) < 10_000, "kilobytes"


# --- through the front door ---

SCRIPT = """
import tarmac
from pathlib import Path
Path("out").mkdir()
for number in range(450): Path(f"out/{number}.txt").write_text(str(number))
with tarmac.run("baseline") as run:
    run.save("report", {"auc": 0.5})
    run.save("report", {"auc": 0.9})
    run.save("out")
    for turn in range(3):
        run.save("last.txt", f"turn {turn}")
        run.log(x=turn)
"""


def test_what_was_saved_is_in_the_workspace(training: Training, anywhere: Workspace) -> None:
    done = training.run(SCRIPT)
    assert done.code == 0, done.err
    assert "warning" not in done.err
    assert "not whole" not in done.err, done.err
    run = only_run(anywhere)
    found = {file.path: file for file in artifacts(anywhere, run.id)}
    assert set(found) == {"report.json", "last.txt", *(f"out/{number}.txt" for number in range(450))}

    def read(path: str) -> bytes:
        digest = found[path].digest
        assert digest is not None
        return b"".join(anywhere.read(digest))

    assert json.loads(read("report.json")) == {"auc": 0.9}
    assert read("last.txt") == b"turn 2"
    assert read("out/449.txt") == b"449"
    assert training.spools() == []

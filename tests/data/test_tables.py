"""Tables as data sets: logged, shown, judged, compared and read, through the command line and Python."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tarmac.cli import errors, root
from tarmac.core.errors import Invalid, NotFound, Refused, UnknownKey
from tarmac.data.operations import DiffData, GetData, ValidateData
from tarmac.formats.contract import load
from tarmac.formats.profile import from_document
from tarmac.workspace import Workspace
from tarmac.workspace.datasets import DataSet
from tarmac.workspace.tables import Care

PEOPLE = pl.DataFrame(
    {
        "id": range(1, 301),
        "age": [18 + n % 60 for n in range(300)],
        "plan": [("free", "basic", "pro")[n % 3] for n in range(300)],
        "code": [f"AB-{n % 50:04}" for n in range(300)],
    }
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a workspace, where one stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tarmac.toml").write_text('[project]\nname = "default"\n')
    assert tarmac("init").exit_code == 0
    return tmp_path


def tarmac(*words: str) -> Result:
    """A command, with its errors as people see them."""
    return CliRunner().invoke(_told, list(words))


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def _told(words: tuple[str, ...]) -> None:
    """The root command as `tarmac` runs it: an error is two lines and an exit code."""
    sys.exit(errors.run(root, list(words)))


def test_a_table_is_logged_with_profile_and_contract(anywhere: Workspace) -> None:
    version = DataSet(anywhere, "people").log(PEOPLE)
    document = anywhere(GetData(ref=version.ref)).document
    assert document["table"]["rows"] == 300
    assert [column["kind"] for column in document["table"]["schema"]] == ["integer", "integer", "text", "text"]
    assert document["table"]["sample"][0] == [1, 18, "free", "AB-0000"]
    age = from_document(document["profile"]).column("age")
    assert age is not None
    assert age.numbers is not None
    assert (age.numbers.lowest, age.numbers.highest) == (18, 77)
    assert version.profile().column("age") == age
    assert version.table().polars().equals(PEOPLE)
    lazy = version.table(columns=["age", "id"]).lazy()
    assert lazy.filter(pl.col("age") == 18).select("id").collect().height == 5
    assert lazy.head(3).collect().rows() == [(18, 1), (19, 2), (20, 3)]
    assert version.table().pandas().shape == (300, 4)
    with pytest.raises(UnknownKey, match="no key `agee`"):
        version.table(columns=["agee"])


def test_contract_and_difference_are_jobs_of_the_server_too(anywhere: Workspace) -> None:
    people = DataSet(anywhere, "people")
    people.log(PEOPLE)
    people.log(PEOPLE.with_columns(age=pl.when(pl.col("id") == 7).then(300).otherwise(pl.col("age"))))
    found = anywhere.wait(anywhere(DiffData(one="people@v1", other="people@v2")))
    assert found.changed == ["people.parquet"]
    assert found.table is not None
    assert (found.table.key, found.table.changed_by_column) == (["id"], {"age": 1})
    judged = anywhere.wait(
        anywhere(ValidateData(ref="people@v2", contract="[columns.age]\ntype = 'integer'\nmax = 99"))
    )
    assert [(finding.check, finding.failed) for finding in judged.failures()] == [("age.max", 1)]
    with pytest.raises(UnknownKey, match="has no key `tpye`"):
        anywhere.wait(anywhere(ValidateData(ref="people", contract="[columns.age]\ntpye = 'integer'")))


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "arrow"])
def test_any_frame_is_a_table_and_the_same_frame_the_same_version(project: Path, kind: str) -> None:
    import tarmac as library

    made: dict[str, Any] = {
        "polars": lambda: PEOPLE,
        "lazy": PEOPLE.lazy,
        "pandas": PEOPLE.to_pandas,
        "arrow": PEOPLE.to_arrow,
    }
    people = library.dataset("people")
    assert people.log(made[kind]()).ref == "people@v1"
    assert people.log(made[kind]()).ref == "people@v1"
    assert people.latest.table().polars().equals(PEOPLE)
    with pytest.raises(Invalid, match="is no table that can be logged"):
        people.log(type("Odd", (), {"columns": 1})())


def test_a_pandas_index_is_a_column(project: Path) -> None:
    import tarmac as library

    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="who"))
    assert library.dataset("p").log(frame).table().polars().rows() == [(1, "a"), (2, "b")]


def test_the_contract_is_inferred_into_a_file_tightened_and_kept_to(project: Path) -> None:
    PEOPLE.write_csv("people.csv")
    first = tarmac("data", "log", "people", "people.csv")
    assert first.exit_code == 0
    assert "its contract was inferred: contracts/people.toml; tighten it by hand" in first.output
    place = project / "contracts/people.toml"
    contract = load(place)
    assert contract.key == ("id",)
    assert contract.columns["plan"].values == ("basic", "free", "pro")
    assert contract.columns["code"].pattern == "AB-\\d{4}" or contract.columns["code"].pattern == "AB\\-\\d{4}"
    assert (contract.columns["age"].min, contract.columns["age"].max) == (0, 136)
    place.write_text(place.read_text().replace("max = 136", "max = 99") + "\n[checks.grown]\nrule = 'age >= 18'\n")
    worse = PEOPLE.with_columns(age=pl.when(pl.col("id") == 7).then(120).otherwise(pl.col("age")))
    worse.write_csv("people.csv")
    refused = tarmac("data", "log", "people", "people.csv")
    assert refused.exit_code == 1
    assert "age.max: 1 row, wanted: at most 99 (row 6: 120)" in refused.output
    assert tarmac("data", "versions", "people").output.count("people") == 1
    checked = tarmac("data", "validate", "people", "people.csv", "--json")
    assert checked.exit_code == 1
    assert [f["check"] for f in json.loads(checked.output)["findings"] if f["state"] == "failed"] == ["age.max"]
    accepted = tarmac("data", "log", "people", "people.csv", "--accept")
    assert accepted.exit_code == 0
    assert "contract failed: 1 of" in accepted.output
    assert "failed   age.max" in tarmac("data", "show", "people").output
    assert tarmac("data", "validate", "people@v1").exit_code == 0
    assert tarmac("data", "validate", "people@v2").exit_code == 1


def test_a_contract_with_an_unknown_key_is_refused_with_the_nearest(project: Path) -> None:
    PEOPLE.write_csv("people.csv")
    (project / "contracts").mkdir()
    (project / "contracts/people.toml").write_text("[columns.age]\ntpye = 'integer'\n")
    found = tarmac("data", "log", "people", "people.csv")
    assert found.exit_code == 2
    assert "contracts/people.toml [columns.age] has no key `tpye`" in found.output
    assert "did you mean `type`?" in found.output
    (project / "tarmac.toml").write_text("[data.people]\ncontarct = 'x'\n")
    assert "did you mean `contract`?" in tarmac("data", "log", "people", "people.csv").output


def test_skipped_checks_are_shown_as_skipped(project: Path) -> None:
    PEOPLE.write_csv("people.csv")
    (project / "c.toml").write_text(
        "[columns.age]\ntype = 'integer'\n[columns.gone]\ntype = 'text'\noptional = true\n"
        "[checks.both]\nrule = 'missing(gone) or age > 3'\n"
    )
    found = tarmac("data", "validate", "people", "people.csv", "--contract", "c.toml")
    assert found.exit_code == 0
    assert "passed: 3 checks, 3 skipped (300 rows)" in found.output
    assert "skipped  check both: the column gone is not there" in found.output


def test_what_cannot_be_read_is_refused_and_logged_plainly_if_asked(project: Path) -> None:
    Path("t.csv").write_text("a,b\n1,2\n1,2,3\n")
    found = tarmac("data", "log", "t", "t.csv")
    assert found.exit_code == 2
    assert "t.csv has 2 columns, but line 3 has 3" in found.output
    assert tarmac("data", "log", "t", "t.csv", "--plain").exit_code == 0
    Path("t.parquet").write_bytes(b"PAR1 and no more")
    assert "t.parquet is cut short" in tarmac("data", "log", "t", "t.parquet").output


def test_files_that_are_no_table_together_are_files(project: Path) -> None:
    Path("both").mkdir()
    Path("both/customers.csv").write_text("id,name\n1,a\n")
    Path("both/orders.csv").write_text("id,price\n1,2\n")
    made = tarmac("data", "log", "both", "both")
    assert made.exit_code == 0
    assert "its rows were not looked into: orders.csv has other columns than customers.csv: name, price" in made.output
    Path("both/orders.csv").write_text("id,price\n1,3\n")
    tarmac("data", "log", "both", "both")
    assert tarmac("data", "diff", "both@v1", "both@v2").output == "  changed  orders.csv\n"


def test_versions_are_compared_row_by_row(project: Path) -> None:
    PEOPLE.write_csv("people.csv")
    tarmac("data", "log", "people", "people.csv")
    after = pl.concat([PEOPLE.slice(3), PEOPLE.head(1).with_columns(id=pl.lit(999, pl.Int64))])
    after = after.with_columns(age=pl.when(pl.col("id") == 10).then(99).otherwise(pl.col("age")))
    after.write_csv("people.csv")
    tarmac("data", "log", "people", "people.csv")
    found = tarmac("data", "diff", "people@v1", "people@v2")
    assert found.exit_code == 1
    assert found.output.splitlines()[:5] == [
        "rows     300 → 298, by id",
        "  added    1 (999)",
        "  removed  3 (1; 2; 3)",
        "  changed  1",
        "    age  1 (10: 27 → 99)",
    ]
    as_json = json.loads(tarmac("data", "diff", "people@v1", "people@v2", "--json").output)
    assert (as_json["added"], as_json["changed_by_column"]) == (1, {"age": 1})
    assert tarmac("data", "diff", "people@v1", "people@v1").exit_code == 0
    assert "changed" in tarmac("data", "diff", "people@v1", "people@v2", "--files").output
    assert "the key is no key" in tarmac("data", "diff", "people@v1", "people@v2", "--key", "plan").output
    assert "no key `idd`" in tarmac("data", "diff", "people@v1", "people@v2", "--key", "idd").output
    assert "did you mean `people`" in tarmac("data", "diff", "people@v1", "poeple@v2").output


def test_show_tells_what_a_version_is(project: Path) -> None:
    PEOPLE.write_csv("people.csv")
    tarmac("data", "log", "people", "people.csv")
    import tarmac as library

    with library.run("r") as run:
        run.use("people@v1")
    tarmac("sync")
    shown = tarmac("data", "show", "people").output
    assert "free 33%, basic 33%, pro 33%" in shown or "basic 33%, free 33%, pro 33%" in shown
    assert f"used by    runs/{run.id}" in shown
    assert tarmac("data", "show", "people", "--sample").output.splitlines()[-10].split() == [
        "1",
        "18",
        "free",
        "AB-0000",
    ]
    assert tarmac("data", "show", "people", "--contract").output.startswith("# What the rows of people have to be")
    assert json.loads(tarmac("data", "show", "people", "--json").output)["document"]["table"]["rows"] == 300
    inferred = tarmac("data", "infer", "people", "-o", "mine.toml")
    assert "mine.toml: 4 columns" in inferred.output
    assert "mine.toml exists already" in tarmac("data", "infer", "people", "-o", "mine.toml").output


def test_pictures_are_measured_and_judged(project: Path) -> None:
    for n in range(8):
        Path("faces", "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32 + n, 32), (n * 30, 0, 0)).save(Path("faces", "ab"[n % 2], f"{n}.png"))
    assert tarmac("data", "log", "faces", "faces").exit_code == 0
    assert "brightness" in tarmac("data", "show", "faces").output
    assert not Path("contracts").exists(), "pictures have a contract when somebody wants one"
    Path("contracts").mkdir()
    Path("contracts/faces.toml").write_text("[columns.width]\ntype = 'integer'\nmax = 38\n")
    found = tarmac("data", "validate", "faces")
    assert "width.max: 1 row, wanted: at most 38 (row 7: 39)" in found.output
    Path("faces/a/8.png").write_bytes(b"no picture")
    refused = tarmac("data", "log", "faces", "faces")
    assert "a/8.png cannot be read as a picture" in refused.output
    assert refused.exit_code == 2
    Path("contracts/faces.toml").unlink()
    kept = tarmac("data", "log", "faces", "faces")
    assert kept.exit_code == 0
    assert "its pictures were not looked into: a/8.png cannot be read as a picture" in kept.output


def test_a_query_is_a_version_and_its_secret_is_nowhere(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect("shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER, price REAL, note TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, ?, ?)", [(n, n / 4, None) for n in range(25_000)])
    database.close()
    (project / "tarmac.toml").write_text(
        '[data.orders]\nconnection = "shop"\nquery = "SELECT * FROM orders ORDER BY id"\n'
        '[connections.shop]\nkind = "sqlite"\nsecret = "env:SHOP"\n'
        '[connections.open]\nkind = "postgres"\nsecret = "postgres://ada:geheim@localhost/x"\n'
        '[connections.hook]\nkind = "webhook"\nsecret = "env:HOOK"\n'
    )
    monkeypatch.setenv("SHOP", "sqlite:///shop.db")
    made = tarmac("data", "log", "orders")
    assert made.exit_code == 0, made.output
    assert "nothing has changed" in tarmac("data", "log", "orders").output
    document = json.loads(tarmac("data", "show", "orders", "--json").output)["document"]
    source = document["source"]
    assert (source["connection"], source["rows"], source["text"]) == (
        "shop",
        25_000,
        "SELECT * FROM orders ORDER BY id",
    )
    assert source["snapshot_at"].startswith("20")
    assert document["table"]["schema"][2] == {"name": "note", "kind": "text", "type": "String"}
    for words, said in (
        (
            ("--query", "SELECT nope FROM orders", "--connection", "shop"),
            "the query failed on connection `shop`: no such",
        ),
        (("--query", "DELETE FROM orders", "--connection", "shop"), "attempt to write a readonly database"),
        (("--query", "SELECT id, id FROM orders", "--connection", "shop"), "gives `id` twice"),
        (("--query", "SELECT 1", "--connection", "shpo"), "did you mean `shop`"),
        (("--query", "SELECT 1", "--connection", "hook"), "which cannot be asked"),
        (("--query", "SELECT 1", "--connection", "open"), "its secret stands in the open"),
        (("--query", "SELECT 1"), "belong together"),
    ):
        failed = tarmac("data", "log", "orders", *words)
        assert failed.exit_code != 0
        assert said in failed.output
    assert tarmac("data", "versions", "orders").output.count("\n") == 2, "nothing that failed left a version"
    assert "3." in tarmac("connections", "test", "shop").output
    listed = tarmac("connections", "ls").output
    assert "env:SHOP" in listed
    assert "geheim" not in listed
    everything = b"".join(path.read_bytes() for path in (project / ".tarmac").rglob("*") if path.is_file())
    assert b"geheim" not in everything


@pytest.mark.postgres
def test_a_query_to_postgres(project: Path, monkeypatch: pytest.MonkeyPatch, new_database: Any) -> None:
    import psycopg

    url = new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t (id int, at timestamptz, price numeric, tags text[])")
        connection.execute("CREATE SEQUENCE s")
        connection.execute("INSERT INTO t SELECT n, now(), n / 8.0, ARRAY['a'] FROM generate_series(1, 12000) n")
    monkeypatch.setenv("PG", url)
    (project / "tarmac.toml").write_text('[connections.pg]\nkind = "postgres"\nsecret = "env:PG"\n')
    made = tarmac("data", "log", "t", "--query", "SELECT * FROM t ORDER BY id;", "--connection", "pg")
    assert made.exit_code == 0, made.output
    document = json.loads(tarmac("data", "show", "t", "--json").output)["document"]
    assert [column["kind"] for column in document["table"]["schema"]] == ["integer", "time", "number", "list"]
    assert document["source"]["database"] == "postgres"
    assert "PostgreSQL" in tarmac("connections", "test", "pg").output
    for query, said in (("SELECT 1/0 AS x", "division by zero"), ("SELECT nextval('s')", "read-only")):
        assert said in tarmac("data", "log", "t", "--query", query, "--connection", "pg").output
    monkeypatch.setenv("PG", "postgres://ada:geheim@127.0.0.1:1/none")
    gone = tarmac("connections", "test", "pg")
    assert gone.exit_code == 1
    assert "does not answer" in gone.output
    assert "geheim" not in gone.output


def test_without_the_extra_files_are_still_data(project: Path) -> None:
    Path("t.csv").write_text("a,b\n1,2\n")
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('polars', 'pyarrow', 'numpy') else real(name, *a)\n"
        "sys.modules.update(dict.fromkeys(('polars', 'pyarrow', 'numpy')))\n"
        "from tarmac.cli import main; sys.argv = ['tarmac', *sys.argv[1:]]; main()"
    )

    def bare(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)

    made = bare("data", "log", "t", "t.csv")
    assert made.returncode == 0, made.stderr
    assert "its rows were not looked at: pip install 'tarmac[data]'" in made.stdout
    assert bare("data", "checkout", "t", "out").returncode == 0
    assert bare("data", "diff", "t@v1", "t@v1").returncode == 0
    validated = bare("data", "validate", "t")
    assert validated.returncode == 2
    assert "pip install 'tarmac[data]'" in validated.stderr
    Path("contracts").mkdir()
    Path("contracts/t.toml").write_text("[columns.a]\n")
    Path("t.csv").write_text("a,b\n1,3\n")
    assert "checking a contract needs" in bare("data", "log", "t", "t.csv").stderr


def test_what_is_no_table_says_so(project: Path) -> None:
    import tarmac as library

    Path("f").mkdir()
    Path("f/a.txt").write_text("x")
    version = library.dataset("f").log("f")
    with pytest.raises(Refused, match="f@v1 is no table"):
        version.table()
    with pytest.raises(NotFound, match="there is no data set `g`"):
        library.dataset("g").at("latest")
    PEOPLE.write_csv("people.csv")
    plain = library.dataset("plain").log("people.csv", care=Care(plain=True))
    assert "profile" not in plain.facts.document
    assert plain.table().polars().height == 300

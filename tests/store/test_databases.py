"""SQLite and Postgres keep the same promises, and what differs between them is written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.errors import Invalid, Unreachable
from tarmac.core.secrets import Secret
from tarmac.store.postgres import PostgresDatabase
from tarmac.store.sql import Database, portions, to_percent
from tarmac.store.sqlite import SQLiteDatabase
from tests.contracts.database import DatabaseContract, DatabaseElsewhere


class TestSQLite(DatabaseContract):
    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        made = SQLiteDatabase(tmp_path / "store.db")
        yield made
        made.close()

    def elsewhere(self, database: Database) -> DatabaseElsewhere:
        assert isinstance(database, SQLiteDatabase)
        return DatabaseElsewhere(SQLiteDatabase(database.file))

    def test_a_number_no_column_holds_is_the_askers_fault(self, database: Database) -> None:
        with pytest.raises(Invalid, match="too large"), database.read() as connection:
            connection.all("SELECT * FROM things WHERE id > :id", id=1 << 70)
        assert self.names(database) == []


@pytest.mark.postgres
class TestPostgres(DatabaseContract):
    @pytest.fixture
    def database(self, new_database: Callable[[], str]) -> Iterator[Database]:
        self.url = new_database()
        made = PostgresDatabase(Secret(self.url))
        yield made
        made.close()

    def elsewhere(self, database: Database) -> DatabaseElsewhere:
        return DatabaseElsewhere(PostgresDatabase(Secret(self.url)))

    def test_a_lost_connection_is_made_anew(self, database: Database) -> None:
        with database.write() as connection:
            connection.run("INSERT INTO things (id, name) VALUES (1, 'kept')")
        assert self.names(database) == ["kept"]
        with self.elsewhere(database) as other, other.read() as connection:
            connection.all("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                           "AND datname = current_database()")  # fmt: skip
        with pytest.raises(Unreachable), database.write() as connection:
            connection.run("INSERT INTO things (id, name) VALUES (2, 'lost')")
        with pytest.raises(Unreachable):
            self.names(database)
        with database.write() as connection:
            connection.run("INSERT INTO things (id, name) VALUES (3, 'again')")
        assert self.names(database) == ["kept", "again"]


@pytest.mark.postgres
def test_an_address_nobody_answers_at_is_said_without_its_password() -> None:
    with (
        pytest.raises(Unreachable) as caught,
        PostgresDatabase(Secret("postgresql://u:swordfish@127.0.0.1:1/d")).read(),
    ):
        pass
    assert "u:***@127.0.0.1:1/d does not answer" in caught.value.message
    assert "swordfish" not in str(caught.value.to_json())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a = :a AND b = :b_1", "a = %(a)s AND b = %(b_1)s"),
        ("x::text, ':not', 'it''s :no', 5 % 2", "x::text, ':not', 'it''s :no', 5 %% 2"),
        ("LIKE '%:x%' OR :x", "LIKE '%%:x%%' OR %(x)s"),
        ("a -- don't read :this %\nAND :that", "a \nAND %(that)s"),
        ("a -- the end", "a "),
        (":_a:", "%(_a)s:"),
        ("", ""),
    ],
)
def test_names_of_values_are_written_as_psycopg_wants_them(ours: str, theirs: str) -> None:
    assert to_percent(ours) == theirs


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=5000), st.integers(min_value=1, max_value=300))
def test_rows_are_cut_into_few_sizes_of_statements(count: int, widest: int) -> None:
    cut = list(portions(count, widest))
    assert sum(cut) == count
    assert len(set(cut)) <= 4
    assert max(cut, default=0) <= widest

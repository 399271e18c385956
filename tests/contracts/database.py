"""What a database promises to the rest of the store: SQLite and Postgres keep these by inheriting them."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from tarmac.core.errors import TarmacError
from tarmac.store.sql import Database, Unclean, Writing


class DatabaseContract:
    """One small table, one writer, many readers."""

    @pytest.fixture
    def database(self) -> Iterator[Database]:
        raise NotImplementedError("a backend gives itself here")

    @pytest.fixture(autouse=True)
    def table(self, database: Database) -> None:
        with database.write() as connection:
            connection.run("CREATE TABLE things (id BIGINT PRIMARY KEY, name TEXT NOT NULL, parent BIGINT)")

    @staticmethod
    def names(database: Database) -> list[str]:
        with database.read() as connection:
            return [row[0] for row in connection.all("SELECT name FROM things ORDER BY id")]

    def test_values_come_back_as_they_went(self, database: Database) -> None:
        odd = ["", "it's", "100 % :of ::them", "käse 🦊", "a\nb\tc", '"', "\\", "x" * 100_000]
        with database.write() as connection:
            connection.insert("things", ("id", "name"), list(enumerate(odd)))
            assert connection.run("UPDATE things SET parent = :n WHERE name = :name", n=1 << 62, name="it's") == 1
            assert connection.run("UPDATE things SET parent = 1 WHERE name = :name", name="none of them") == 0
        with database.read() as connection:
            rows = connection.all("SELECT id, name FROM things ORDER BY id")
            assert rows == list(enumerate(odd))
            assert connection.one("SELECT parent FROM things WHERE id = :id", id=1) == (1 << 62,)
            assert connection.one("SELECT 1 FROM things WHERE id = :id", id=99) is None
            assert connection.value("SELECT name FROM things WHERE id = :id", id=99) is None
            assert connection.value("SELECT 'a:b %s' -- don't read :this") == "a:b %s"

    @pytest.mark.parametrize("count", [0, 1, 9, 10, 61, 1234])
    def test_any_number_of_rows_goes_in_at_once(self, database: Database, count: int) -> None:
        rows = [(number, f"row {number}", None) for number in range(count)]
        with database.write() as connection:
            connection.insert("things", ("id", "name", "parent"), rows)
            connection.insert("things", ("id", "name", "parent"), rows, otherwise="ON CONFLICT DO NOTHING")
        with database.read(snapshot=True) as connection:
            pieces = list(connection.pieces("SELECT id, name, parent FROM things ORDER BY id", 100))
        assert [row for piece in pieces for row in piece] == rows
        assert all(len(piece) <= 100 for piece in pieces)

    @pytest.mark.parametrize("count", [1, 3, 4, 300])
    def test_numbers_and_bytes_of_many_rows_come_back_as_they_went(self, database: Database, count: int) -> None:
        amounts = [None, 0.1, -0.0, 1e308, 5e-324, float("inf"), float("-inf"), 1 / 3]
        texts = [None, "", "NULL", "{a,b}", 'it\'s "quoted"', "back\\slash"]
        rows = [
            (number - (1 << 62), amounts[number % 8], bytes(range(number % 256)), texts[number % 6])
            for number in range(count)
        ]
        names = ("id", "amount", "data", "text")
        with database.write() as connection:
            connection.run("CREATE TABLE many (id BIGINT PRIMARY KEY, amount DOUBLE PRECISION, data BYTEA, text TEXT)")
            connection.insert("many", names, rows)
            connection.insert("many", names, rows, otherwise="ON CONFLICT (id) DO UPDATE SET amount = excluded.amount")
        with database.read() as connection:
            found = connection.all("SELECT id, amount, data, text FROM many ORDER BY id")
        assert [(id, amount, bytes(data), text) for id, amount, data, text in found] == rows

    def test_rows_of_every_kind_go_in_as_they_are(self, database: Database) -> None:
        rows = [
            (1, None, None, None),
            (-(1 << 63), 'a "quoted", {braced} \\ NULL', 0.1, b'"\\\x00\xff'),
            ((1 << 63) - 1, "NULL", float("inf"), b""),
            (0, "", -1e-300, bytes(range(256))),
        ]
        data, real = ("BLOB", "REAL") if database.kind == "sqlite" else ("BYTEA", "DOUBLE PRECISION")
        with database.write() as connection:
            connection.do(f"CREATE TABLE kinds (number BIGINT, text TEXT, real {real}, data {data})")
            connection.insert("kinds", ("number", "text", "real", "data"), rows)
        with database.read() as connection:
            assert set(connection.all("SELECT number, text, real, data FROM kinds")) == set(rows)

    def test_what_fails_in_a_hurry_is_heard_of_in_the_end(self, database: Database) -> None:
        with database.write() as connection:
            connection.begin(hurried=True)
            # a statement's own error, at whichever statement it is heard of, or the commit's
            with pytest.raises((Unclean, sqlite3.IntegrityError, psycopg.IntegrityError)):
                write_twice(connection)
            connection.rollback()
        assert self.names(database) == []
        with database.write() as connection:
            for number in range(20):  # statements that were prepared in what was undone are prepared again
                before = connection.changes()
                connection.begin(hurried=True)
                connection.insert("things", ("id", "name"), [(number, "kept")])
                large = "x" * 5_000_000 if number == 7 else "kept"  # more than fits into one sending
                assert connection.run("UPDATE things SET name = :name WHERE id = :id", name=large, id=number) == 1
                assert connection.run("UPDATE things SET name = 'kept' WHERE id = :id", id=number) == 1
                assert connection.value("SELECT count(*) FROM things") == number + 1
                assert connection.changes() > before
                connection.commit()
        assert self.names(database) == ["kept"] * 20

    def test_a_savepoint_undoes_its_own_work_only(self, database: Database) -> None:
        with database.write() as connection:
            connection.begin()
            for number, fails in enumerate([False, True, False]):
                connection.savepoint()
                connection.run("INSERT INTO things (id, name) VALUES (:id, 'kept')", id=number)
                if not fails:
                    connection.release()
                    continue
                with pytest.raises(Exception, match=r"(?i)unique") as caught:
                    connection.run("INSERT INTO things (id, name) VALUES (:id, 'twice')", id=number)
                assert isinstance(connection.recover(caught.value), TarmacError)
            connection.commit()
        with database.read() as connection:
            assert [row[0] for row in connection.all("SELECT id FROM things ORDER BY id")] == [0, 2]

    def test_a_rollback_leaves_nothing_and_twice_is_once(self, database: Database) -> None:
        with database.write() as connection:
            connection.begin()
            connection.run("INSERT INTO things (id, name) VALUES (1, 'undone')")
            connection.rollback()
            connection.rollback()
        assert self.names(database) == []

    def test_a_snapshot_stays_as_it_was(self, database: Database) -> None:
        with database.write() as connection:
            connection.run("INSERT INTO things (id, name) VALUES (1, 'before')")
        with database.read(snapshot=True) as reader:
            assert reader.value("SELECT count(*) FROM things") == 1
            with database.write() as connection:
                connection.run("INSERT INTO things (id, name) VALUES (2, 'after')")
            assert reader.value("SELECT count(*) FROM things") == 1
        assert self.names(database) == ["before", "after"]

    def test_what_fails_in_a_reader_harms_no_later_one(self, database: Database) -> None:
        for _ in range(20):
            with pytest.raises(TarmacError), database.read(snapshot=True) as connection:
                connection.all("SELECT nothing FROM nowhere")
            with pytest.raises(ZeroDivisionError), database.read() as connection:
                connection.all("SELECT 1")[1 // 0]
        assert self.names(database) == []

    def test_a_named_lock_has_one_holder(self, database: Database) -> None:
        order: list[str] = []

        def second() -> None:
            with database.exclusive("work"):
                order.append("second")

        with database.exclusive("work") as held:
            assert held
            with database.exclusive("other", wait=False) as other:
                assert other
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(0.2)
            order.append("first")
            with self.elsewhere(database) as same, same.exclusive("work", wait=False) as taken:
                assert not taken
        thread.join()
        assert order == ["first", "second"]

    def elsewhere(self, database: Database) -> DatabaseElsewhere:
        """The same database as another process would open it."""
        raise NotImplementedError


def write_twice(connection: Writing) -> None:
    connection.do("INSERT INTO things (id, name) VALUES (1, 'one')")
    connection.insert("things", ("id", "name"), [(1, "again")])
    connection.do("INSERT INTO things (id, name) VALUES (2, 'two')")
    connection.commit()


class DatabaseElsewhere:
    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Database:
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.close()

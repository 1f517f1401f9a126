"""The database: transactions that are whole or not at all, one after the other, and on the disk when they return."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.monkey import get_original
from sqlalchemy import Column, Connection, Integer, Table, event, func, insert, select, text

from esl_record.database import Database, metadata
from esl_record.errors import DatabaseError

LIMIT = 10.0

numbers = Table("test_numbers", metadata, Column("number", Integer, primary_key=True))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database.in_file(tmp_path / "a.sqlite")
    database.open()
    yield database
    database.close()


def put(number: int) -> "object":
    return lambda connection: connection.execute(insert(numbers).values(number=number)).inserted_primary_key[0]


def count(database: Database) -> int:
    return database.read(lambda connection: connection.execute(select(func.count()).select_from(numbers)).scalar_one())


def test_what_has_returned_is_there_for_another_process(database: Database, tmp_path: Path) -> None:
    assert database.run(put(7)) == 7
    with sqlite3.connect(tmp_path / "a.sqlite") as other:
        assert other.execute("SELECT number FROM test_numbers").fetchall() == [(7,)]
    other.close()


def test_a_transaction_that_fails_leaves_nothing_of_it(database: Database) -> None:
    def half(connection: Connection) -> None:
        put(1)(connection)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        database.run(half)
    assert count(database) == 0


def test_one_that_fails_does_no_harm_to_those_beside_it(database: Database) -> None:
    database.run(put(5))
    greenlets = [gevent.spawn(outcome, database, number) for number in range(20)]
    gevent.joinall(greenlets, timeout=LIMIT, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == [*range(5), "DatabaseError", *range(6, 20)]
    assert count(database) == 20


def outcome(database: Database, number: int) -> object:
    try:
        return database.run(put(number))
    except DatabaseError as error:
        return type(error).__name__


def test_what_waits_together_shares_a_commit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    commit = Database._commit
    monkeypatch.setattr(
        Database, "_commit", lambda self, works, reads: commits.append(len(works)) or commit(self, works, reads)
    )
    gevent.joinall([gevent.spawn(database.run, put(number)) for number in range(100)], timeout=LIMIT)
    assert count(database) == 100
    assert sum(commits[:-1]) == 100
    assert len(commits) <= 4


def test_the_hub_goes_on_while_it_works(database: Database) -> None:
    turns: list[int] = []

    def turning() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0)

    other = gevent.spawn(turning)
    database.run(lambda connection: connection.execute(text("SELECT 1")).scalar())
    other.kill()
    assert len(turns) > 1


def test_all_of_it_runs_on_one_thread(database: Database) -> None:
    get_ident = get_original("_thread", "get_ident")
    threads = {database.run(lambda connection: get_ident()) for _ in range(5)}
    works = [gevent.spawn(database.read, lambda connection: get_ident()) for _ in range(20)]
    gevent.joinall(works, timeout=LIMIT)
    threads |= {one.value for one in works}
    assert len(threads) == 1
    assert get_ident() not in threads


def test_an_error_of_the_driver_is_told_without_the_values(database: Database) -> None:
    database.run(put(4711))
    with pytest.raises(DatabaseError) as raised:
        database.run(put(4711))
    told = str(raised.value)
    assert "UNIQUE constraint failed" in told
    assert "4711" not in told


def test_tables_are_made_once(database: Database, tmp_path: Path) -> None:
    database.run(put(1))
    again = Database.in_file(tmp_path / "a.sqlite")
    again.open()
    assert count(again) == 1
    again.close()


def test_the_file_is_for_its_user_alone(database: Database, tmp_path: Path) -> None:
    database.run(put(1))
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_command_beside_it_waits_for_the_lock_and_then_goes_on(database: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = gevent.spawn(database.run, put(1))
    gevent.idle()
    assert not waiting.ready()
    other.execute("COMMIT")
    other.close()
    assert waiting.get(timeout=LIMIT) == 1


def test_where_another_process_holds_the_lock_reading_goes_on_and_all_that_write_fail_together(
    database: Database, tmp_path: Path
) -> None:
    database.run(put(1))
    database.read(lambda connection: connection.execute(text("PRAGMA busy_timeout=50")))
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun: list[int] = []
    event.listen(database._engine, "begin", lambda connection: begun.append(1), insert=True)
    writing = [gevent.spawn(outcome, database, number) for number in range(2, 22)]
    reading = gevent.spawn(database.read, lambda connection: connection.execute(select(numbers)).all())
    gevent.joinall([*writing, reading], timeout=LIMIT)
    assert reading.value == [(1,)]
    assert [one.value for one in writing] == ["DatabaseError"] * 20
    assert len(begun) <= 3
    other.execute("COMMIT")
    other.close()
    assert database.run(put(2)) == 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite:////nowhere/at/all.sqlite", "No such file or directory"),
        ("no url", "Could not parse"),
        ("dancing://host/name", "dancing"),
        ("postgresql+nodriver://ann:secret@host/name", "nodriver"),
    ],
)
def test_one_that_cannot_be_opened_says_why_and_keeps_the_password(url: str, told: str) -> None:
    with pytest.raises(DatabaseError, match=told) as raised:
        Database(url).open()
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"this is no database, but it is long enough to be looked at" * 100)
    with pytest.raises(DatabaseError, match="not a database"):
        Database.in_file(tmp_path / "a.sqlite").open()


def test_a_closed_one_says_so(tmp_path: Path) -> None:
    database = Database.in_file(tmp_path / "a.sqlite")
    database.open()
    database.close()
    with pytest.raises(DatabaseError, match="closed"):
        database.run(put(1))


KILLED = """
from gevent import monkey; monkey.patch_all()
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
import test_database as t
database = t.Database.in_file(Path({file!r}))
database.open()
for number in range(int({count})):
    database.run(t.put(number))
    print(number, flush=True)
os.kill(os.getpid(), 9)
"""


def test_what_had_returned_survives_a_kill(tmp_path: Path) -> None:
    program = KILLED.format(path=[str(Path(__file__).parent)], file=str(tmp_path / "k.sqlite"), count=20)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, env=dict(os.environ), check=False)
    assert killed.stdout.split() == [str(number).encode() for number in range(20)]
    database = Database.in_file(tmp_path / "k.sqlite")
    database.open()
    assert count(database) == 20
    database.close()

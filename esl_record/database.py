"""The database under catalog and outbox: transactions, one after the other, on one thread."""

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult
from gevent.threadpool import ThreadPool
from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from esl_record.errors import DatabaseError
from esl_record.hub import off_hub

T = TypeVar("T")

metadata = MetaData()
"""Every module with a table adds it here."""

_BATCH = 256
"""Transactions at most that share one commit."""

_BUSY = 10_000
"""Milliseconds another process, a command beside the service, may hold SQLite's write lock."""


class Database:
    """Runs functions on a connection, each whole or not at all; what has returned is on the disk.

    ``url`` is SQLAlchemy's. What waits at the same moment shares a commit, so that one fsync serves many calls. One
    thread does all of it: SQLite has one writer, and the locks of SQLAlchemy, which gevent has patched, must not
    pass between threads.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: deque[_Transaction] = deque()
        self._worker: gevent.Greenlet | None = None
        self._thread = ThreadPool(1)
        self._engine: Engine | None = None

    @classmethod
    def in_file(cls, path: Path) -> "Database":
        """SQLite in ``path``."""
        return cls(f"sqlite:///{path.absolute()}")

    def open(self) -> bool:
        """Connects and makes the tables that are missing; says whether there were none at all.

        Raises DatabaseError.
        """
        try:
            return off_hub(self._open, self._thread)
        except (SQLAlchemyError, ArgumentError, OSError, ImportError) as error:
            raise DatabaseError(f"database {self.shown}: {_plain(error)}") from error

    @property
    def shown(self) -> str:
        """The URL for a log line: without its password."""
        try:
            return make_url(self._url).render_as_string(hide_password=True)
        except ArgumentError:
            return "of an unreadable URL"

    def run(self, work: Callable[[Connection], T]) -> T:
        """``work`` in a transaction of its own; gives its result once that is committed, or raises what it raised.

        ``work`` may be run twice, when another's failure has undone it, and must take no lock that greenlets take.
        Raises DatabaseError where the database fails.
        """
        transaction = _Transaction(work)
        self._waiting.append(transaction)
        if self._worker is None:
            self._worker = gevent.spawn(self._work)
        try:
            result: T = transaction.outcome.get()
            return result
        except SQLAlchemyError as error:
            raise DatabaseError(f"database {self.shown}: {_plain(error)}") from error

    def close(self) -> None:
        """Waits for what is under way and disconnects."""
        if self._worker is not None:
            self._worker.join()
        if self._engine is not None:
            off_hub(self._engine.dispose, self._thread)
            self._engine = None
        self._thread.kill()

    def _work(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                works = [transaction.work for transaction in batch]
                try:
                    outcomes = off_hub(lambda works=works: self._commit(works), self._thread)  # type: ignore[misc]
                except Exception as error:
                    outcomes = [(None, error)] * len(batch)
                for transaction, (result, failure) in zip(batch, outcomes, strict=True):
                    if failure is None:
                        transaction.outcome.set(result)
                    else:
                        transaction.outcome.set_exception(failure)
        finally:
            self._worker = None

    # ---- on the thread

    def _open(self) -> bool:
        url = make_url(self._url)
        if url.get_backend_name() == "sqlite":
            if url.database:
                # SQLite gives its -wal and -shm the mode of the file itself: addresses in it may hold passwords.
                os.close(os.open(url.database, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
            event.listen(self._engine, "connect", _configure)
            event.listen(self._engine, "begin", _begin)
        else:
            self._engine = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        with self._engine.begin() as connection:
            new = not any(self._engine.dialect.has_table(connection, name) for name in metadata.tables)
            metadata.create_all(connection)
        return new

    def _commit(self, works: list[Callable[[Connection], Any]]) -> list[tuple[Any, Exception | None]]:
        if self._engine is None:
            raise DatabaseError(f"database {self.shown}: is closed")
        try:
            with self._engine.begin() as connection:
                return [(work(connection), None) for work in works]
        except Exception as error:
            if len(works) == 1:
                return [(None, error)]
        # One of them has undone all: each for itself, so that only that one fails.
        return [outcome for work in works for outcome in self._commit([work])]


class _Transaction:
    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.outcome: AsyncResult[Any] = AsyncResult()


def _configure(connection: Any, _: object) -> None:
    # The driver would begin transactions where it sees fit; "begin" below does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _plain(error: Exception) -> str:
    """What the driver said, without statement and parameters: those hold addresses with passwords."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]

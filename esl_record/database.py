"""The database under catalog and outbox: transactions, one after the other, on one thread."""

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

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

_BUSY = 2_000
"""Milliseconds another process, a command beside the service, may hold SQLite's write lock. Calls wait meanwhile."""


class Database:
    """Runs functions on a connection, each whole or not at all; what has returned is on the disk.

    ``url`` is SQLAlchemy's. What waits at the same moment shares a commit, so that one fsync serves many calls. One
    thread does all of it: SQLite has one writer, and the locks of SQLAlchemy, which gevent has patched, must not
    pass between threads.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: deque[_Transaction[Any]] = deque()
        self._worker: gevent.Greenlet | None = None
        self._thread = ThreadPool(1)
        self._engine: Engine | None = None

    @classmethod
    def in_file(cls, path: Path) -> "Database":
        """SQLite in ``path``."""
        return cls(f"sqlite:///{path.absolute()}")

    def open(self) -> None:
        """Connects and makes the tables that are missing. Raises DatabaseError."""
        try:
            off_hub(self._open, self._thread)
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
        return self._result(_Transaction(work))

    def read(self, work: Callable[[Connection], T]) -> T:
        """As ``run`` for what only reads: where another process writes for long, this need not wait for it."""
        return self._result(_Transaction(work, reads=True))

    def close(self) -> None:
        """Waits for what is under way and disconnects."""
        if self._worker is not None:
            self._worker.join()
        if self._engine is not None:
            off_hub(self._engine.dispose, self._thread)
            self._engine = None
        self._thread.kill()

    def _result(self, transaction: "_Transaction[T]") -> T:
        self._waiting.append(transaction)
        if self._worker is None:
            self._worker = gevent.spawn(self._work)
        try:
            result: T = transaction.outcome.get()
            return result
        except SQLAlchemyError as error:
            raise DatabaseError(f"database {self.shown}: {_plain(error)}") from error

    def _work(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                for reads in (True, False):
                    self._settle([one for one in batch if one.reads is reads], reads)
        finally:
            self._worker = None

    def _settle(self, batch: "list[_Transaction[Any]]", reads: bool) -> None:
        if not batch:
            return
        works = [transaction.work for transaction in batch]
        try:
            outcomes = off_hub(lambda: self._commit(works, reads), self._thread)
        except Exception as error:
            outcomes = [(None, error)] * len(batch)
        for transaction, (result, failure) in zip(batch, outcomes, strict=True):
            if failure is None:
                transaction.outcome.set(result)
            else:
                transaction.outcome.set_exception(failure)

    # ---- on the thread

    def _open(self) -> None:
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
            metadata.create_all(connection)

    def _commit(self, works: list[Callable[[Connection], Any]], reads: bool) -> list[tuple[Any, Exception | None]]:
        if self._engine is None:
            raise DatabaseError(f"database {self.shown}: is closed")
        begun = False
        try:
            with self._engine.connect().execution_options(reads=reads) as connection, connection.begin():
                begun = True
                return [(work(connection), None) for work in works]
        except Exception as error:
            # A database that is locked has kept all of them waiting long enough.
            if len(works) == 1 or not begun:
                return [(None, error)] * len(works)
        # One of them has undone all: each for itself, so that only that one fails.
        return [outcome for work in works for outcome in self._commit([work], reads)]


class _Transaction(Generic[T]):
    def __init__(self, work: Callable[[Connection], T], *, reads: bool = False) -> None:
        self.work = work
        self.reads = reads
        self.outcome: AsyncResult[T] = AsyncResult()


def _configure(connection: Any, _: object) -> None:
    # The driver would begin transactions where it sees fit; "begin" below does.
    connection.isolation_level = None
    settings = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY}", "foreign_keys=ON", "secure_delete=ON")
    for pragma in settings:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # What will write asks for the lock at once: asking later could only fail.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("reads") else "BEGIN IMMEDIATE")


def _plain(error: Exception) -> str:
    """What the driver said, without statement and parameters: those hold addresses with passwords."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]

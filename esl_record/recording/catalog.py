"""Which recordings there are: a row each, written in the transaction that tells of what became of it."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Row,
    Select,
    String,
    Table,
    Text,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import tuple_ as pair

from esl_record.database import Database, metadata
from esl_record.logs import Sparing
from esl_record.recording.machine import State
from esl_record.recording.recording import Recording

log = logging.getLogger(__name__)
_sparing = Sparing(log)

recordings = Table(
    "recordings",
    metadata,
    Column("recording_id", String(64), primary_key=True),
    Column("call_id", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("start_time", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("facts", Text, nullable=False),
    Index("recordings_by_start", "start_time", "recording_id"),
    Index("recordings_by_call", "call_id"),
)


indexings = Table("indexings", metadata, Column("at", Float, nullable=False))
"""A row once the recordings that were there before the database are in it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A recording as last told, and when that was, in unix seconds."""

    recording: Recording
    updated_at: float


@dataclass(frozen=True, slots=True)
class Totals:
    """How many recordings there are by state, the bytes of their audio, and how many have ended without any."""

    by_state: dict[State, int]
    size: int
    empty: int = 0


class Catalog:
    """The recordings in a database. ``put`` is for a transaction of the caller's; everything else makes its own.

    All of it raises DatabaseError. Where several are given, rows of the database that are no recording are left out.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def put(connection: Connection, recording: Recording, at: float) -> State | None:
        """Writes the row of ``recording``; gives the state it had before, None if there was none."""
        this = recordings.c.recording_id == recording.recording_id
        before = connection.execute(select(recordings.c.state).where(this)).scalar()
        values = {
            "call_id": recording.call_id,
            "state": recording.state.value,
            "start_time": recording.start_time,
            "updated_at": at,
            "size": recording.size,
            "facts": recording.told().model_dump_json(),
        }
        if before is None:
            connection.execute(insert(recordings).values(recording_id=recording.recording_id, **values))
            return None
        connection.execute(update(recordings).where(this).values(**values))
        return State(before)

    @property
    def indexed(self) -> bool:
        """Whether ``index`` has been done."""
        return self._database.read(lambda connection: connection.execute(select(indexings)).first() is not None)

    def index(self, found: Iterable[Recording], at: float) -> int:
        """Takes in recordings a database that was lost or is new knows nothing of; says how many."""
        known = list(found)

        def take_in(connection: Connection) -> None:
            for one in known:
                self.put(connection, one, at)
            connection.execute(insert(indexings).values(at=at))

        self._database.run(take_in)
        return len(known)

    def put_all(self, found: Sequence[Recording], at: float) -> None:
        """``put`` for several, in one transaction."""

        def take_in(connection: Connection) -> None:
            for one in found:
                self.put(connection, one, at)

        self._database.run(take_in)

    def get(self, recording_id: str) -> Entry | None:
        """Raises ValueError too, where its row is that of no recording."""
        rows = self._rows(select(recordings).where(recordings.c.recording_id == recording_id))
        return _entry(rows[0]) if rows else None

    def find(self, beginning: str) -> Recording | None:
        """The recording of which ``beginning`` is the id or how it begins, None if none or several are."""
        if not beginning:
            return None
        rows = self._read(
            select(recordings).where(func.substr(recordings.c.recording_id, 1, len(beginning)) == beginning).limit(2)
        )
        return rows[0].recording if len(rows) == 1 else None

    def of_call(self, call_id: str) -> list[Recording]:
        """The recordings of a call, in the order in which they began."""
        query = select(recordings).where(recordings.c.call_id == call_id).order_by(recordings.c.start_time)
        return [entry.recording for entry in self._read(query)]

    def page(
        self, limit: int, *, before: tuple[float, str] | None = None, after: tuple[float, str] | None = None
    ) -> list[Entry]:
        """Up to ``limit`` recordings, the newest first; with ``before``, a start time and id, the next ones that began
        before that one, with ``after`` the next ones that began after it."""
        rising = after is not None
        place, at = pair(recordings.c.start_time, recordings.c.recording_id), after or before
        columns = recordings.c.start_time, recordings.c.recording_id
        order = columns if rising else tuple(column.desc() for column in columns)
        found: list[Entry] = []
        while len(found) < limit:
            query = select(recordings)
            if at is not None:
                query = query.where(place > at if rising else place < at)
            wanted = limit - len(found)
            rows = self._rows(query.order_by(*order).limit(wanted))
            found += _readable(rows)
            if len(rows) < wanted:
                break
            at = rows[-1].start_time, rows[-1].recording_id
        return found[::-1] if rising else found

    def all(self) -> list[Recording]:
        """Every recording, oldest first."""
        order = recordings.c.start_time, recordings.c.recording_id
        return [entry.recording for entry in self._read(select(recordings).order_by(*order))]

    def remove(self, recording_id: str) -> bool:
        """Whether there was one to remove."""
        statement = delete(recordings).where(recordings.c.recording_id == recording_id)
        return self._database.run(lambda connection: connection.execute(statement).rowcount > 0)

    def totals(self) -> Totals:
        size, empty = recordings.c.size, case((recordings.c.size == 0, 1), else_=0)
        query = select(recordings.c.state, func.count(), func.sum(size), func.sum(empty)).group_by(recordings.c.state)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return Totals(
            {State(state): count for state, count, _, _ in rows},
            sum(size for _, _, size, _ in rows),
            sum(empty for state, _, _, empty in rows if State(state).final),
        )

    def _read(self, query: Select[Any]) -> list[Entry]:
        return _readable(self._rows(query))

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return self._database.read(lambda connection: connection.execute(query).all())


def _readable(rows: Sequence[Row[Any]]) -> list[Entry]:
    """The entries of ``rows``, without those somebody else has written to."""
    found = []
    for row in rows:
        try:
            found.append(_entry(row))
        except ValueError:
            _sparing(logging.ERROR, "recording %s: its row in the catalog cannot be read", row.recording_id)
    return found


def _entry(row: Row[Any]) -> Entry:
    return Entry(Recording.model_validate_json(row.facts), row.updated_at)

"""What must still be told: a row for each status event, written with the state it tells of, kept until it is told."""

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    Update,
    delete,
    func,
    insert,
    select,
    update,
)

from esl_record.database import Database, metadata

log = logging.getLogger(__name__)

_NAMED = 10
"""Unreadable rows named in a log line."""


class Status(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


callbacks = Table(
    "callbacks",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("callback_id", String(64), nullable=False, unique=True),
    Column("node_id", String(256), nullable=False),
    Column("recording_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("status", String(16), nullable=False),
    Column("queued_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", Float, nullable=False),
    Column("last_attempt", Float),
    Column("last_result", Text, nullable=False),
    Index("callbacks_by_status", "status", "queued_at"),
    Index("callbacks_by_recording", "recording_id", "seq"),
    sqlite_autoincrement=True,
)

ended_receivers = Table(
    "ended_receivers",
    metadata,
    Column("url", Text, primary_key=True),
    Column("ended_at", Float, nullable=False),
)

GONE = "the receiver has answered 410 Gone"


@dataclass(frozen=True, slots=True)
class Callback:
    """One event for one receiver. Times are unix seconds.

    ``callback_id`` is the ``webhook-id``, the same in every attempt. ``queued_at``: when it last became pending;
    ``url`` may hold a password.
    """

    seq: int
    callback_id: str
    recording_id: str
    state: str
    url: str
    body: Mapping[str, Any]
    created_at: float
    status: Status
    queued_at: float
    attempts: int
    next_attempt: float
    last_attempt: float | None
    last_result: str


@dataclass(frozen=True, slots=True)
class Depth:
    """How many callbacks wait to be delivered, and since when the oldest does, None where none does."""

    pending: int
    dead: int
    oldest: float | None


class Outbox:
    """The status events of one node in a database that others use as well, or of all of it where ``node_id`` is None.

    ``put`` is for a transaction of the caller's; everything else makes its own. All of it raises DatabaseError. A row
    nobody can read is left where it is, and out.
    """

    def __init__(self, database: Database, node_id: str | None = None) -> None:
        self._database = database
        self._node_id = node_id
        self._unreadable: set[str] = set()

    def put(
        self,
        connection: Connection,
        recording_id: str,
        state: str,
        url: str,
        body: Mapping[str, Any],
        at: float,
        refusal: str = "",
    ) -> Callback:
        """Queues an event; dead at once where its receiver has ended all delivery, or there is a ``refusal``."""
        if connection.execute(select(ended_receivers.c.url).where(ended_receivers.c.url == url)).scalar() is not None:
            refusal = GONE
        callback = Callback(
            seq=0,
            callback_id=f"msg_{uuid.uuid4().hex}",
            recording_id=recording_id,
            state=state,
            url=url,
            body=body,
            created_at=at,
            status=Status.DEAD if refusal else Status.PENDING,
            queued_at=at,
            attempts=0,
            next_attempt=at,
            last_attempt=None,
            last_result=refusal,
        )
        row = asdict(callback) | {"status": callback.status.value, "body": json.dumps(body)}
        row["node_id"] = self._node_id or ""
        del row["seq"]
        key = connection.execute(insert(callbacks).values(**row)).inserted_primary_key
        assert key is not None
        return replace(callback, seq=key[0])

    def pending(self, since: float = 0.0) -> list[Callback]:
        """What waits to be delivered and has been queued at ``since`` or later, in the order it happened."""
        query = select(callbacks).where(callbacks.c.status == Status.PENDING.value, callbacks.c.queued_at >= since)
        if self._node_id is not None:
            query = query.where(callbacks.c.node_id == self._node_id)
        return self._read(query.order_by(callbacks.c.seq))

    def delivered(self, callback: Callback, at: float, result: str) -> None:
        this = callbacks.c.seq == callback.seq
        self._attempted(update(callbacks).where(this), callback, at, Status.DELIVERED, result)

    def postponed(self, callback: Callback, at: float, result: str, next_attempt: float) -> None:
        self._failed(callback, at, Status.PENDING, result, next_attempt=next_attempt)

    def died(self, callback: Callback, at: float, result: str) -> None:
        """Gives up this one; ``resend`` brings it back."""
        self._failed(callback, at, Status.DEAD, result)

    def end_receiver(self, callback: Callback, at: float) -> None:
        """Gives up ``callback`` and whatever else waits, or will be queued, for its address."""

        def end(connection: Connection) -> None:
            if connection.execute(select(ended_receivers).where(ended_receivers.c.url == callback.url)).first() is None:
                connection.execute(insert(ended_receivers).values(url=callback.url, ended_at=at))
            waiting = callbacks.c.url == callback.url, callbacks.c.status == Status.PENDING.value
            dead = {"status": Status.DEAD.value, "last_result": GONE}
            connection.execute(update(callbacks).where(*waiting).values(**dead))
            this = callbacks.c.seq == callback.seq
            connection.execute(update(callbacks).where(this).values(attempts=callback.attempts + 1, last_attempt=at))

        self._database.run(end)

    def resend(self, chosen: list[Callback], at: float) -> None:
        """Queues ``chosen`` again, as if they had just happened, and lifts the end of their receivers."""

        def queue(connection: Connection) -> None:
            for callback in chosen:
                connection.execute(delete(ended_receivers).where(ended_receivers.c.url == callback.url))
                connection.execute(
                    update(callbacks)
                    .where(callbacks.c.seq == callback.seq)
                    .values(status=Status.PENDING.value, queued_at=at, next_attempt=at, attempts=0)
                )

        self._database.run(queue)

    def listed(
        self, *, status: Status | None = None, recording_id: str | None = None, limit: int | None = None
    ) -> list[Callback]:
        """The newest ``limit``, oldest first."""
        query = select(callbacks)
        if status is not None:
            query = query.where(callbacks.c.status == status.value)
        if recording_id is not None:
            query = query.where(callbacks.c.recording_id == recording_id)
        return self._read(query.order_by(callbacks.c.seq.desc()).limit(limit))[::-1]

    def find(self, beginning: str) -> Callback | None:
        """The callback of which ``beginning`` is the id or how it begins, None if none or several are."""
        beginning = beginning if beginning.startswith("msg_") else f"msg_{beginning}"
        query = select(callbacks).where(func.substr(callbacks.c.callback_id, 1, len(beginning)) == beginning)
        rows = self._read(query.limit(2))
        return rows[0] if len(rows) == 1 else None

    def depth(self) -> Depth:
        query = select(callbacks.c.status, func.count(), func.min(callbacks.c.created_at)).where(
            callbacks.c.status != Status.DELIVERED.value
        )
        rows = self._database.read(lambda connection: connection.execute(query.group_by(callbacks.c.status)).all())
        found = {status: (count, oldest) for status, count, oldest in rows}
        waiting, oldest = found.get(Status.PENDING.value, (0, None))
        return Depth(waiting, found.get(Status.DEAD.value, (0, None))[0], oldest)

    def undelivered(self) -> set[str]:
        """The ids of recordings with events that were not delivered yet, or given up."""
        query = select(callbacks.c.recording_id).where(callbacks.c.status != Status.DELIVERED.value).distinct()
        return self._database.read(lambda connection: set(connection.execute(query).scalars()))

    def prune(self, before: float) -> int:
        """Forgets what was delivered before; says how many."""
        old = callbacks.c.status == Status.DELIVERED.value, callbacks.c.last_attempt < before
        return self._database.run(lambda connection: connection.execute(delete(callbacks).where(*old)).rowcount)

    def rewrite(self, event_type: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Replace the body of every event of this type by what ``change`` makes of it."""
        query = select(callbacks).where(callbacks.c.body.contains(event_type, autoescape=True))
        if self._node_id is not None:
            query = query.where(callbacks.c.node_id == self._node_id)
        for callback in self._read(query):
            if callback.body.get("event_type") == event_type and (body := change(callback.body)) != callback.body:
                self._replace(callback, body)

    def _replace(self, callback: Callback, body: Mapping[str, Any]) -> None:
        changed = update(callbacks).where(callbacks.c.seq == callback.seq).values(body=json.dumps(body))
        self._database.run(lambda connection: connection.execute(changed).rowcount)

    def _failed(self, callback: Callback, at: float, status: Status, result: str, **more: Any) -> None:
        # While it was under way it may have been queued again, or given up with its receiver: that stands.
        unchanged = callbacks.c.queued_at == callback.queued_at, callbacks.c.status == Status.PENDING.value
        statement = update(callbacks).where(callbacks.c.seq == callback.seq, *unchanged)
        self._attempted(statement, callback, at, status, result, **more)

    def _attempted(
        self, statement: Update, callback: Callback, at: float, status: Status, result: str, **more: Any
    ) -> None:
        values = {"status": status.value, "attempts": callback.attempts + 1, "last_attempt": at, **more}
        noted = statement.values(last_result=result, **values)
        self._database.run(lambda connection: connection.execute(noted).rowcount)

    def _read(self, query: Select[Any]) -> list[Callback]:
        found = self._database.read(lambda connection: [_callback(row) for row in connection.execute(query)])
        # Here, and not on the database's thread: logging takes a lock that greenlets take.
        unreadable = {one for one in found if isinstance(one, str)} - self._unreadable
        if unreadable:
            self._unreadable |= unreadable
            some = ", ".join(sorted(unreadable)[:_NAMED])
            log.warning("%d callbacks cannot be read and are left alone: %s", len(unreadable), some)
        return [one for one in found if not isinstance(one, str)]


def _callback(row: Row[Any]) -> Callback | str:
    """The callback, or its id where the row is none."""
    values = dict(row._mapping)
    del values["node_id"]
    try:
        body = json.loads(row.body)
        if not isinstance(body, dict):
            return str(row.callback_id)
        return Callback(**{**values, "status": Status(row.status), "body": body})
    except (ValueError, TypeError, RecursionError):
        return str(row.callback_id)

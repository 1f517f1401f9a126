"""Where a recording's state is recorded and its telling queued, in one transaction: never one without the other."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from esl_record.database import Database
from esl_record.hub import off_hub
from esl_record.recording.audit import Audit
from esl_record.recording.catalog import Catalog
from esl_record.recording.machine import PauseBehavior
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage
from esl_record.status.event import Identity, payload
from esl_record.status.outbox import Callback, Outbox, Status

log = logging.getLogger(__name__)

_AT_ONCE = 500
"""Rows written in a transaction."""

AUDIT = "deleted.jsonl"
"""In the data directory: what was deleted."""


class Ledger:
    """Catalog and outbox of one node, in a database that may be ``shared`` with others.

    ``link`` gives the URL a recording's file is served at, by its id and format. ``on_queued`` is called with every
    event that now waits to be delivered, in the order of each recording's events. Everything here raises
    DatabaseError.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        identity: Identity,
        link: Callable[[str, str], str],
        *,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.catalog = Catalog(database)
        # A database of its own is all this node's, whatever the node was called when a row was written.
        self.outbox = Outbox(database, identity.node_id if shared else None)
        self.on_queued: Callable[[Callback], None] = lambda callback: None
        self.refusal: Callable[[str], str] = lambda url: ""
        """Why no further event for this address is to wait, empty where it may: it is given up at once."""
        self.audit = Audit(storage.recordings.parent / AUDIT, clock)
        self._database = database
        self._storage = storage
        self._identity = identity
        self._link = link
        self._clock = clock

    def open(self) -> None:
        """Opens the database; into a new one goes what lies in the recordings directory."""
        self._database.open()
        if not self.catalog.indexed:
            # What has a spool yet may not have been told of: the recovery sees to that.
            filed = (one for _, one in self._storage.filed() if not self._storage.announced_path(one).exists())
            if taken := self.catalog.index(filed, self._clock()):
                log.info("catalog made anew from %d recordings", taken)

    def rebuild(self, found: Iterable[Recording]) -> tuple[int, int]:
        """Makes the catalog that of the recordings ``found`` on disk; says how many it has now, and how many rows of
        others went. Events are left as they are, and so is what has not ended."""
        there: set[str] = set()
        for some in _chunks(found, _AT_ONCE):
            self.catalog.put_all(some, self._clock())
            there |= {one.recording_id for one in some}
        gone = [one.recording_id for one in self.catalog.all() if one.state.final and one.recording_id not in there]
        for recording_id in gone:
            self.catalog.remove(recording_id)
        return len(there), len(gone)

    def close(self) -> None:
        self._database.close()

    def tell(self, recording: Recording, pausing: PauseBehavior | None = None) -> None:
        """Records the state of ``recording`` and queues its event. A state is told once until another comes, and what
        has ended does not end again."""
        at = self._clock()
        refusal = self.refusal(recording.status_url) if recording.status_url is not None else ""
        queued = self._database.run(lambda connection: self._write(connection, recording, pausing, at, refusal))
        if queued is not None and queued.status is Status.PENDING:
            self.on_queued(queued)

    def tell_begun(self, recording: Recording) -> None:
        """``tell`` for a recording of an earlier run, which may have told this already."""
        if self.catalog.get(recording.recording_id) is None:
            self.tell(recording)

    def begun(self, call_id: str, control_id: str, since: float) -> Recording | None:
        """The recording of a call that began at unix time ``since`` or later, as its JSON has it if it is complete."""
        for one in reversed(self.catalog.of_call(call_id)):
            if one.control_id == control_id and one.start_time >= since:
                return self._storage.as_filed(one)
        return None

    def queue(self, url: str, key: str, state: str, body: Mapping[str, Any]) -> None:
        """Queues an event that is no recording's; those with the same ``key`` are told in their order."""
        at, refusal = self._clock(), self.refusal(url)
        queued = self._database.run(lambda connection: self.outbox.put(connection, key, state, url, body, at, refusal))
        if queued.status is Status.PENDING:
            self.on_queued(queued)

    def delete(self, recording: Recording, why: str) -> None:
        """Deletes audio, JSON, spool and row. Raises OSError too; what is left then can be deleted again."""
        # First: a line too many can be told from the files, one that is missing from nothing.
        self.audit.deleting(recording, why)
        off_hub(lambda: self._storage.delete(recording))
        self.catalog.remove(recording.recording_id)
        log.info("recording %s deleted: %s", recording.recording_id, why)

    def _write(
        self, connection: Connection, recording: Recording, pausing: PauseBehavior | None, at: float, refusal: str
    ) -> Callback | None:
        before = self.catalog.put(connection, recording, at)
        if recording.status_url is None or (before is not None and (before.final or before is recording.state)):
            return None
        body = payload(
            recording,
            self._identity,
            at,
            url=self._link(recording.recording_id, recording.format.value),
            pausing=pausing,
        )
        return self.outbox.put(
            connection, recording.recording_id, recording.state.value, recording.status_url, body, at, refusal
        )


def _chunks(found: Iterable[Recording], count: int) -> Iterator[list[Recording]]:
    rest = iter(found)
    while some := list(islice(rest, count)):
        yield some

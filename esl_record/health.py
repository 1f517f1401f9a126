"""Whether this service can record a call that comes in now, and the figures of all it has done."""

import logging
import time
from collections.abc import Callable

from esl_record.errors import DatabaseError
from esl_record.hub import off_hub
from esl_record.live import LiveCalls
from esl_record.metrics import Metrics
from esl_record.recording.room import Room
from esl_record.recording.storage import Storage
from esl_record.status.ledger import Ledger

log = logging.getLogger(__name__)

STALE_TICK = 5.0
"""Seconds without a look at new audio after which the detector is taken to stand still."""


class Health:
    """``full`` says whether no more calls are taken. ``ticked`` is to be called at every look at new audio."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        calls: LiveCalls,
        metrics: Metrics,
        room: Room,
        full: Callable[[], bool],
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._calls = calls
        self._metrics = metrics
        self._room = room
        self._full = full
        self._ticked = time.monotonic()
        self._asking = False
        """Whether the disk is being asked for its figures."""

    def ticked(self) -> None:
        self._ticked = time.monotonic()

    def unready(self) -> list[str]:
        """What keeps this service from recording a call that comes in now."""
        wrong = []
        if time.monotonic() - self._ticked > STALE_TICK:
            wrong.append("the detector stands still")
        if self._room.refusal:
            wrong.append(f"no recording is begun: {self._room.refusal}")
        if self._full():
            wrong.append("all calls of the setting capacity are in use")
        try:
            self._ledger.outbox.depth()
        except DatabaseError as error:
            wrong.append(str(error))
        return wrong

    def exposition(self) -> tuple[bytes, str]:
        """All figures in Prometheus' text format, and its content type. Raises DatabaseError."""
        live = [recorder.recording for recorder in self._calls.recorders]
        totals, depth = self._ledger.catalog.totals(), self._ledger.outbox.depth()
        self._metrics.look(live, len(self._calls), totals, depth, time.time())
        self._metrics.bytes.labels("recordings").set(totals.size)
        self._metrics.refusing.set(bool(self._room.refusal))
        # A thread for each monitor that asks a disk that does not answer: soon there would be none for the recordings.
        if not self._asking and not self._room.late:
            self._look_at_disk()
        return self._metrics.exposition()

    def _look_at_disk(self) -> None:
        self._asking = True
        try:
            spooled, free = off_hub(self._storage.usage)
        except OSError as error:
            log.error("metrics: the disk cannot be looked at: %s", error)
        else:
            self._metrics.bytes.labels("spool").set(spooled)
            self._metrics.bytes.labels("free").set(free)
        finally:
            self._asking = False

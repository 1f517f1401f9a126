"""Which recordings have been kept long enough: the oldest first, by age and by what all of them take."""

from collections.abc import Iterator

import gevent

from esl_record.recording.recording import Recording
from esl_record.status.ledger import Ledger

EMPTY = 4096
"""Bytes that one without audio counts as, about what its JSON and its row take: callers who say nothing can make any
number of them."""

PAGE = 100
"""Recordings looked at before others run."""


def expired(
    ledger: Ledger, now: float, *, age: float = 0.0, size: int = 0, untold: bool = False
) -> Iterator[tuple[Recording, str]]:
    """Each recording that began more than ``age`` seconds before ``now``, or is too much for ``size`` bytes of audio,
    and why; 0 is no limit. One without audio counts as ``EMPTY`` bytes. What is given counts as deleted from then on.

    One that has not ended is none of them, nor one with an undelivered callback, but for ``untold``. Raises
    DatabaseError.
    """
    totals = ledger.catalog.totals()
    total = totals.size + totals.empty * EMPTY
    kept = set() if untold else ledger.outbox.undelivered()
    place = (float("-inf"), "")
    while page := ledger.catalog.page(PAGE, after=place)[::-1]:
        for recording in (entry.recording for entry in page):
            place = (recording.start_time, recording.recording_id)
            old = age > 0 and now - recording.start_time > age
            much = size > 0 and total > size
            if not (old or much):
                return
            if recording.state.final and recording.recording_id not in kept:
                total -= recording.size or EMPTY
                yield recording, f"older than {age:g} s" if old else f"more than {size} bytes are kept"
        gevent.sleep(0)

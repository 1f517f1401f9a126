"""Recordings encoded while their calls run, so that at the end of each only its last seconds remain."""

import logging
import os
import time
from collections.abc import Callable

import gevent
from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from gevent.threadpool import ThreadPool

from esl_record.audio.spool import Spool
from esl_record.hub import off_hub
from esl_record.recording.draft import Draft
from esl_record.recording.recording import Recording
from esl_record.recording.storage import Storage

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds from one round to the next, if a round does not last longer."""

STEP = 10.0
"""Seconds of audio one recording is taken forward by at most in a round: no end waits longer than that takes."""


class Encoding:
    """The file of one recording. ``certain`` gives how many samples will be in it, however the recording ends;
    ``spool`` is the recording's own where that is open.

    Where the encoding behind the call fails, it is done at the end: the spool has it all.
    """

    def __init__(
        self, storage: Storage, recording: Recording, certain: Callable[[], int], spool: Spool | None = None
    ) -> None:
        self._spool = spool
        self._storage = storage
        self._recording = recording
        self._certain = certain
        self._draft: Draft | None = None
        self._over = False
        self._turn = BoundedSemaphore(1)

    def advance(self, pool: ThreadPool | None = None) -> None:
        """Encodes what is certain by now, on a thread of ``pool``."""
        with self._turn:
            done = self._draft.position if self._draft else 0
            upto = min(self._certain(), done + round(STEP * self._recording.sample_rate))
            if self._over or upto <= done:
                return
            try:
                off_hub(lambda: self._write(upto), pool)
            except Exception as error:
                self._give_up(str(error) or repr(error))

    def finish(self, recording: Recording, samples: int) -> Recording:
        """``recording`` complete with the first ``samples`` of the spool. Raises OSError or SpoolError."""
        with self._turn:
            self._over = True
            draft = self._finished(samples)
            if draft is not None:
                return off_hub(lambda: self._storage.conclude(recording, draft.position))
            return off_hub(lambda: self._storage.complete(recording, samples, self._spool))

    def close(self) -> None:
        """Leaves nothing behind but what is complete."""
        with self._turn:
            self._over = True
            if self._draft is not None:
                off_hub(self._draft.discard)

    def _write(self, upto: int) -> None:
        if self._draft is None:
            self._draft = self._storage.begin(self._recording, spool=self._spool)
        self._draft.write(upto)

    def _finished(self, samples: int) -> Draft | None:
        draft = self._draft
        if draft is not None and draft.position > samples:
            self._give_up("it ends before what has been encoded")
        elif draft is not None:
            try:
                off_hub(lambda: draft.complete(samples))
            except Exception as error:
                self._give_up(str(error) or repr(error))
        return self._draft

    def _give_up(self, why: str) -> None:
        self._over = True
        log.warning("recording %s: to be encoded anew at its end: %s", self._recording.recording_id, why)
        draft, self._draft = self._draft, None
        if draft is not None:
            off_hub(draft.discard)


class Encodings:
    """Takes the live recordings forward, each a little in turn, on as many threads as leave a core to the hub."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._live: dict[Encoding, None] = {}
        size = max(1, (os.cpu_count() or 1) - 1)
        self._threads, self._turns = ThreadPool(size), Pool(size)

    def begin(self, recording: Recording, certain: Callable[[], int], spool: Spool | None = None) -> Encoding:
        """Takes on a recording whose tap runs; ``end`` it."""
        encoding = Encoding(self._storage, recording, certain, spool)
        self._live[encoding] = None
        return encoding

    def end(self, encoding: Encoding) -> None:
        """Leaves nothing of it behind but what is complete."""
        self._live.pop(encoding, None)
        encoding.close()

    def run(self) -> None:
        """Goes on until it is killed."""
        while True:
            began = time.monotonic()
            self.advance()
            gevent.sleep(max(0.0, began + EVERY - time.monotonic()))

    def advance(self) -> None:
        """One round."""
        for encoding in list(self._live):
            self._turns.spawn(encoding.advance, self._threads)
        self._turns.join()

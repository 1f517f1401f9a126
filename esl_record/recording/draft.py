"""A recording's audio file as far as it is written."""

from contextlib import AbstractContextManager

from gevent.monkey import get_original

from esl_record.audio.encoder import Encoder
from esl_record.audio.spool import Spool
from esl_record.errors import SpoolError

BLOCK = 1 << 16
"""Samples copied from the spool at a time."""


class Draft:
    """Encodes a spool from its beginning, in as many steps as it is told to. Not for the hub: all of it waits for a
    disk and for the encoder.

    Raises OSError or SpoolError; what fails leaves nothing behind, and nothing more can be done with it.
    """

    def __init__(self, spool: Spool, encoder: Encoder) -> None:
        self.position = 0
        """Samples that are in it."""
        self._spool = spool
        self._encoder = encoder
        self._over = False
        # Who waits for a thread may be killed while it goes on: the next thread must not meet it in here.
        self._turn: AbstractContextManager[bool] = get_original("_thread", "allocate_lock")()

    def write(self, upto: int) -> None:
        """Encodes up to sample ``upto``, or the end of the spool."""
        with self._turn:
            self._write(upto)

    def complete(self, samples: int) -> None:
        """Encodes up to sample ``samples``, or the end of the spool, and gives the file its name, if anything is in
        it."""
        with self._turn:
            self._write(samples)
            if not self.position:
                self._discard()
                return
            self._over = True
            self._spool.close()
            self._encoder.complete()

    def discard(self) -> None:
        """Leaves nothing behind, unless it is complete."""
        with self._turn:
            self._discard()

    def _write(self, upto: int) -> None:
        if self._over:
            raise SpoolError(f"spool {self._spool.path}: is not read any more")
        try:
            while self.position < upto:
                block = self._spool.block(self.position, min(BLOCK, upto - self.position))
                if not len(block):
                    break
                self._encoder.write(block)
                self.position += len(block)
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        if not self._over:
            self._over = True
            self._encoder.discard()
            self._spool.close()

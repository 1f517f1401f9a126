"""The file a media bug writes while the call runs, read from behind.

A ``.raw`` file of the switch: signed 16-bit little-endian samples, channels interleaved, no header. It is on disk
before this process has seen it, and stays until the finished recording is.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from esl_record.errors import SpoolError

FRAME = 0.02
"""Seconds in a frame of the media bug."""


class Gaps:
    """Stretches of the recording in which the switch wrote nothing, as during a hold; each is read as silence.

    Positions are samples of the recording, those before them in the file plus the gaps between.
    """

    def __init__(self, closed: Iterable[tuple[int, int]] = ()) -> None:
        self.closed = list(closed)
        """Start and length of each gap that has ended, in order."""
        self.open: int | None = None
        """Where the gap begins that has not ended."""

    @property
    def length(self) -> int:
        """Samples in the gaps that have ended."""
        return sum(length for _, length in self.closed)

    def __bool__(self) -> bool:
        return self.open is not None or bool(self.closed)

    def place(self, position: int) -> tuple[int | None, int | None]:
        """Return where ``position`` is in the file, None inside a gap, and the position at which that changes next,
        None where it does not."""
        passed = 0
        for start, length in self.closed:
            if position < start:
                return position - passed, start
            if position < start + length:
                return None, start + length
            passed += length
        if self.open is None:
            return position - passed, None
        return (None, None) if position >= self.open else (position - passed, self.open)


class Spool:
    """One tap's file, with silence where it has ``gaps``. Positions and sizes are in samples of one channel.

    An open gap grows at ``rate`` by unix time, from the file's last write on.
    """

    def __init__(self, path: Path, channels: int, gaps: Gaps | None = None, *, rate: int = 0) -> None:
        self.path = path
        self.channels = channels
        self.gaps = Gaps() if gaps is None else gaps
        self.rate = rate
        self.position = 0
        self._since = 0.0
        self._width = 2 * channels
        self._descriptor: int | None = None

    def size(self) -> int:
        """How much audio is there, in whole samples. Raises SpoolError if the file is not there."""
        try:
            written = os.fstat(self._open()).st_size // self._width
        except OSError as error:
            raise SpoolError(f"spool {self.path}: {error.strerror}") from error
        if self.gaps.open is None:
            return written + self.gaps.length
        behind = written + self.gaps.length - self.gaps.open
        passed = max(0, round((time.time() - self._since) * self.rate)) - behind
        if behind <= 0:
            return self.gaps.open + passed
        self._close_gap(passed)
        return written + self.gaps.length

    def open_gap(self) -> None:
        """Read silence from the last write on, in real time, until the file grows again. Raises SpoolError."""
        if self.gaps.open is None:
            size = self.size()
            self._since = os.fstat(self._open()).st_mtime
            self.gaps.open = size

    def close_gap(self) -> None:
        """End an open gap now. Raises SpoolError."""
        if self.gaps.open is None:
            return
        size = self.size()  # ends it by itself where the file has grown
        if self.gaps.open is not None:
            self._close_gap(size - self.gaps.open)

    def _close_gap(self, passed: int) -> None:
        assert self.gaps.open is not None
        start, self.gaps.open = self.gaps.open, None
        # What has been read of it stays.
        self.gaps.closed.append((start, max(passed, self.position - start, 0)))

    def read(self, limit: int) -> NDArray[np.int16]:
        """What has been written since the last read, at most ``limit`` samples; shape (samples, channels).

        Raises SpoolError if the file cannot be read, or is shorter than what was read of it.
        """
        if not self.gaps:
            block = self.block(self.position, limit)
            self.position += len(block)
            return block
        upto = min(self.position + limit, self.size())
        blocks = [np.zeros((0, self.channels), np.int16)]
        while self.position < upto and len(block := self.block(self.position, upto - self.position)):
            self.position += len(block)
            blocks.append(block)
        return np.concatenate(blocks)

    def block(self, start: int, limit: int) -> NDArray[np.int16]:
        """Up to ``limit`` samples from ``start`` on, fewer before a gap; shape (samples, channels).

        Raises SpoolError.
        """
        place, change = self.gaps.place(start)
        if change is not None:
            limit = min(limit, change - start)
        if place is None:
            return np.zeros((limit, self.channels), np.int16)
        start = place
        try:
            data = os.pread(self._open(), limit * self._width, start * self._width)
            if not data and start * self._width > os.fstat(self._open()).st_size:
                raise SpoolError(f"spool {self.path}: has become shorter than {start} samples")
        except OSError as error:
            raise SpoolError(f"spool {self.path}: {error.strerror}") from error
        whole = len(data) - len(data) % self._width
        return np.frombuffer(data[:whole], "<i2").reshape(-1, self.channels)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

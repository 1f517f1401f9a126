"""The file a media bug writes while the call runs, read from behind.

A ``.raw`` file of the switch: signed 16-bit little-endian samples, channels interleaved, no header. It is on disk
before this process has seen it, and stays until the finished recording is.
"""

import os
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from esl_record.errors import SpoolError

FRAME = 0.02
"""Seconds in a frame of the media bug."""


class Spool:
    """One tap's file. Positions and sizes are in samples of one channel."""

    def __init__(self, path: Path, channels: int) -> None:
        self.path = path
        self.channels = channels
        self.position = 0
        self._width = 2 * channels
        self._descriptor: int | None = None

    def size(self) -> int:
        """How much audio is there, in whole samples. Raises SpoolError if the file is not there."""
        try:
            return os.fstat(self._open()).st_size // self._width
        except OSError as error:
            raise SpoolError(f"spool {self.path}: {error.strerror}") from error

    def read(self, limit: int) -> NDArray[np.int16]:
        """What has been written since the last read, at most ``limit`` samples; shape (samples, channels).

        Raises SpoolError if the file cannot be read, or is shorter than what was read of it.
        """
        block = self.block(self.position, limit)
        self.position += len(block)
        return block

    def block(self, start: int, limit: int) -> NDArray[np.int16]:
        """Up to ``limit`` samples from ``start`` on; shape (samples, channels). Raises SpoolError."""
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

"""A recording's audio file, written block by block under a temporary name and renamed into place complete."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile
from gevent.monkey import get_original
from numpy.typing import NDArray

_OPENING: AbstractContextManager[bool] = get_original("_thread", "allocate_lock")()
"""soundfile opens files under a lock of its class, which gevent may have patched: such a lock does not pass between the
threads that encode, and one of two that meet there waits for ever. A native one in front keeps them from meeting."""

_LARGEST_WAV = 2**32 - 2**16
"""Bytes of audio; the rest is for the header."""


class Encoder:
    """Writes ``path`` as signed 16-bit wav. A context manager: leaving it in order completes the file.

    Where ``samples`` are more than a wav's 32-bit sizes can tell of, it is RF64 (EBU Tech 3306), which readers of wav
    know too.

    Leaving it by an exception, or failing to complete it, leaves nothing behind. Raises OSError, also for what
    libsndfile has to complain of, a full disk for one.
    """

    def __init__(self, path: Path, rate: int, channels: int, samples: int = 0) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: soundfile.SoundFile | None = None
        self._descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            with _OPENING:
                self._file = soundfile.SoundFile(
                    self._descriptor, "w", rate, channels, "PCM_16", format=_form(samples, channels), closefd=False
                )
        except soundfile.SoundFileError as error:
            self._discard()
            raise OSError(f"{path}: {error}") from error

    def write(self, block: NDArray[np.int16]) -> None:
        """Appends ``block``, shape (samples, channels)."""
        assert self._file is not None
        try:
            self._file.write(block)
        except (soundfile.SoundFileError, AssertionError) as error:
            # A short write is an assertion of soundfile's.
            raise OSError(f"{self.path}: not all of it could be written: {error or 'disk full?'}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._complete()
        except BaseException:
            self._discard()
            raise

    def _complete(self) -> None:
        assert self._file is not None
        wanted = self._file.frames * 2 * self._file.channels
        self._file.close()
        # libsndfile does not tell of a header or tail that did not fit.
        if os.fstat(self._descriptor).st_size < wanted:
            raise OSError(f"{self.path}: not all of it could be written: disk full?")
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._partial.replace(self.path)
        sync_directory(self.path.parent)

    def _discard(self) -> None:
        if self._file is not None:
            # Before its descriptor: closing writes the header, to whatever has that number by then.
            self._file.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._partial.unlink(missing_ok=True)


def _form(samples: int, channels: int) -> str:
    return "RF64" if samples * channels * 2 > _LARGEST_WAV else "WAV"


def sync_directory(directory: Path) -> None:
    """Makes a rename in ``directory`` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that libsndfile encodes: wav and mp3; flac and opus are a row of the table away."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np
import soundfile
from gevent.monkey import get_original
from numpy.typing import NDArray

from esl_record.audio.part import Part

_OPENING: AbstractContextManager[bool] = get_original("_thread", "allocate_lock")()
"""soundfile opens files under a lock of its class, which gevent may have patched: such a lock does not pass between the
threads that encode, and one of two that meet there waits for ever. A native one in front keeps them from meeting."""


class SoundFileWriter:
    """Writes to ``file`` what libsndfile makes of the samples, behind what is in it already.

    ``most``: how many samples the format holds. ``floating``: whether libsndfile gets them as numbers of -1 to 1.
    ``strings`` are tags by soundfile's names; so are ``settings``.
    Everything raises OSError, also for what libsndfile has to complain of, a rate it does not know for one.
    """

    def __init__(
        self,
        file: Part,
        rate: int,
        channels: int,
        container: str,
        subtype: str,
        *,
        most: int | None = None,
        floating: bool = False,
        strings: Mapping[str, str] | None = None,
        **settings: float | str,
    ) -> None:
        self._sink = _Sink(file)
        self._floating = floating
        self._most = most
        try:
            with _OPENING:
                self._sound = soundfile.SoundFile(
                    self._sink, "w", rate, channels, subtype, format=container, **settings
                )
            for name, text in (strings or {}).items():
                if text:
                    setattr(self._sound, name, text)
        except soundfile.SoundFileError as error:
            raise OSError(str(error)) from error

    def write(self, block: NDArray[np.int16]) -> None:
        if self._most is not None and self._sound.frames + len(block) > self._most:
            raise OSError(f"its format holds {self._most} samples at most")
        samples = block.astype(np.float32) / 32768 if self._floating else block
        self._checked(lambda: self._sound.write(samples))

    def close(self) -> None:
        # Closing writes header and tail, and libsndfile does not tell whether they fitted.
        self._checked(self._sound.close)

    def _checked(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (soundfile.SoundFileError, AssertionError) as error:
            # A short write is an assertion of soundfile's.
            raise self._sink.failure or OSError(str(error)) from error
        if self._sink.failure is not None:
            raise self._sink.failure


class _Sink:
    """A file that begins where ``file`` stands. What fails is kept in ``failure``: libsndfile calls from C, where an
    exception would get lost."""

    def __init__(self, file: Part) -> None:
        self.failure: OSError | None = None
        self._file = file
        self._start = file.tell()

    def write(self, data: bytes) -> int:
        return self._kept(lambda: self._file.write(data))

    def seek(self, offset: int, whence: int) -> int:
        beginning = self._start if whence == os.SEEK_SET else 0
        return self._kept(lambda: self._file.seek(beginning + offset, whence) - self._start)

    def tell(self) -> int:
        return self._kept(lambda: self._file.tell() - self._start)

    def _kept(self, work: Callable[[], int]) -> int:
        try:
            return work()
        except OSError as error:
            self.failure = self.failure or error
            return 0

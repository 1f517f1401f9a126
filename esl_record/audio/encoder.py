"""A recording's audio file, written block by block under a temporary name and renamed into place complete."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from esl_record.audio.facts import SPEECH, UNTAGGED, Quality, Tags
from esl_record.audio.formats import FORMATS, Sound, Writer
from esl_record.audio.part import Part

T = TypeVar("T")


class Encoder:
    """Writes ``path`` in the format its suffix names. A context manager: leaving it in order completes the file.
    ``part`` makes what the file is until then.

    ``samples`` is how many there will be at most, as far as that is known: of very many a wav must know beforehand.
    Leaving it by an exception, or failing to complete it, leaves nothing behind. Raises OSError, also for what the
    format cannot hold.
    """

    def __init__(
        self,
        path: Path,
        rate: int,
        channels: int,
        samples: int = 0,
        *,
        tags: Tags = UNTAGGED,
        quality: Quality = SPEECH,
        part: Callable[[Path], Part] = Part,
    ) -> None:
        self.path = path
        self._part = part(path)
        self._writer: Writer | None = None
        sound = Sound(rate, channels, samples, tags, quality)
        self._writer = self._cleanly(lambda: FORMATS[path.suffix[1:]].writer(self._part, sound))

    def write(self, block: NDArray[np.int16]) -> None:
        """Appends ``block``, shape (samples, channels)."""
        assert self._writer is not None
        writer = self._writer
        self._named(lambda: writer.write(block))

    def complete(self) -> None:
        """Gives the file its name."""
        self._cleanly(self._complete)

    def discard(self) -> None:
        """Leaves nothing behind, unless it is complete."""
        writer, self._writer = self._writer, None
        try:
            # Before the part: closing writes a header.
            if writer is not None:
                writer.close()
        except OSError:
            pass  # what cannot be completed is not wanted either
        finally:
            self._part.discard()

    def _complete(self) -> None:
        assert self._writer is not None
        writer, self._writer = self._writer, None
        writer.close()
        self._part.complete()

    def _cleanly(self, work: Callable[[], T]) -> T:
        try:
            return self._named(work)
        except BaseException:
            self.discard()
            raise

    def _named(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise OSError(f"{self.path}: not all of it could be written: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.complete()
        else:
            self.discard()

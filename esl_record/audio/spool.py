"""The files the switch writes while a call runs, read from behind as one recording.

Each is a ``.raw`` file of the switch: signed 16-bit little-endian samples, channels interleaved, no header. It is on
disk before this process has seen it, and stays until the finished recording is.
"""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from gevent.monkey import get_original
from numpy.typing import NDArray

from esl_record.audio.spoolfile import Identity, open_spool
from esl_record.audio.timeline import Segment, Span, Timeline
from esl_record.errors import SpoolError, SpoolUnfit

FRAME = 0.02
"""Seconds in a frame of the media bug: a tap that writes on within another one has left nothing out."""

FASTEST = 8
"""Times faster than the clock a tap writes at most: six times where the codec has changed from 8 to 48 kHz."""

AHEAD = 3600.0
"""Seconds of audio a file may have beyond that: what a clock that was set leaves unclear."""

SKEW = 5.0
"""Seconds by which the time of a file may differ from this machine's clock, as on a file server."""

Samples = NDArray[np.int16]


class _Look(NamedTuple):
    """The last look at the size of a segment. Times are unix times."""

    at: float
    size: int
    grown_after: float
    """When it was last seen to have less."""


# Files are opened on threads of their own, too.
_new_lock = get_original("_thread", "allocate_lock")


def segment_paths(path: Path, number: int, segment: Segment) -> list[Path]:
    """Return the files of segment ``number`` of the recording whose first file is ``path``, the party's first."""
    stem = f"{path.stem}.{number}" if number else path.stem
    names = [stem, f"{stem}.far"] if segment.split else [stem]
    return [path.with_name(name + path.suffix) for name in names]


class _File:
    """One file of a tap, opened once. Raises SpoolError.

    What ``known`` says of its path it must be. One with a ``source`` reads what that has open. Threads may share it.
    """

    def __init__(self, path: Path, channels: int, known: dict[Path, Identity], source: "_File | None" = None) -> None:
        self.path = path
        self._channels = channels
        self._width = 2 * channels
        self._known = known
        self._source = source
        self._descriptor: int | None = None
        self._turn: AbstractContextManager[bool] = _new_lock()

    def size(self) -> int:
        """Whole samples that are in it."""
        return self.status().st_size // self._width

    def changed(self) -> float:
        """The unix time of the last write."""
        return self.status().st_mtime

    def read(self, first: int, limit: int) -> Samples:
        try:
            data = os.pread(self._open(), limit * self._width, first * self._width)
        except OSError as error:
            raise self._error(error) from error
        if not data and first > self.size():
            raise SpoolError(f"spool {self.path}: has become shorter than {first} samples")
        whole = len(data) - len(data) % self._width
        return np.frombuffer(data[:whole], "<i2").reshape(-1, self._channels)

    def exists(self) -> bool:
        """Whether anything is there, whatever it is."""
        return self._descriptor is not None or os.path.lexists(self.path)

    def duplicate(self) -> int:
        """A further descriptor of it."""
        with self._turn:
            return os.dup(self._opened())

    def close(self) -> None:
        with self._turn:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def status(self) -> os.stat_result:
        try:
            return os.fstat(self._open())
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> SpoolError:
        return SpoolError(f"spool {self.path}: {error.strerror}")

    def _open(self) -> int:
        if self._descriptor is not None:
            return self._descriptor
        with self._turn:
            return self._opened()

    def _opened(self) -> int:
        if self._descriptor is None:
            if self._source is not None:
                self._descriptor = self._source.duplicate()
            else:
                self._descriptor, self._known[self.path] = open_spool(self.path, self._known.get(self.path))
        return self._descriptor


class Spool:
    """The segments of one recording with silence in their gaps. Positions and sizes are in samples of one channel.

    An open gap ends where the segment that is written grows again; its length is the time since it began, ``pace``
    samples a second of ``clock``, unix time. Until then it has that length where it ``passes``, as a hold does, and
    none where it is not known whether anything will follow.

    Each file is opened once; ``known`` has what the files under these paths are, and takes note of it. A file that
    has more than a call can have brought since unix time ``began`` is refused, if that is given.
    """

    def __init__(
        self,
        path: Path,
        channels: int,
        timeline: Timeline | None = None,
        *,
        pace: float = 0.0,
        began: float | None = None,
        known: dict[Path, Identity] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.channels = channels
        self.timeline = timeline or Timeline([Segment(channels=channels)])
        self.pace = pace
        self.began = began
        self.ahead = AHEAD
        self.position = 0
        self._known = {} if known is None else known
        self._source: Spool | None = None
        self._turn: AbstractContextManager[bool] = _new_lock()
        self._seen: dict[int, tuple[float, int, float]] = {}
        """By segment: the unix time of the last look at its size, that, and how many seconds it may yet be ahead."""
        self._looks: dict[int, _Look] = {}
        """By segment, of this run."""
        self._clock = clock
        self._broken = False
        self._passes = True
        self._least = 0
        self._segments: list[list[_File]] = []

    def shared(self) -> "Spool":
        """Return the same recording at its beginning, for a thread of its own: the same timeline, the same open files.

        It is to be closed by itself.
        """
        other = Spool(
            self.path,
            self.channels,
            self.timeline,
            pace=self.pace,
            began=self.began,
            known=self._known,
            clock=self._clock,
        )
        other._source = self
        return other

    @property
    def exists(self) -> bool:
        """Whether anything is there under the name of its first file."""
        return self._files(0)[0].exists()

    @property
    def paths(self) -> list[Path]:
        """The files of the segment that is written."""
        return [file.path for file in self._files(len(self.timeline.segments) - 1)]

    @property
    def all_paths(self) -> list[Path]:
        """The files of every segment."""
        return [file.path for number in range(len(self.timeline.segments)) for file in self._files(number)]

    @property
    def in_gap(self) -> bool:
        """Whether the recording is in a gap, as far as ``size`` has seen."""
        return self.timeline.last.segment is None

    def size(self) -> int:
        """How much audio is there, in whole samples. Raises SpoolError if a file is not there."""
        last = self.timeline.last
        if last.segment is not None:
            return last.start + self._written(last.segment) - last.offset
        passed = max(0, round((self._clock() - last.since) * self.pace))
        current = len(self.timeline.segments) - 1
        used = self.timeline.used(current)
        grown = 0 if self._broken else self._written(current, perhaps=True) - used
        if grown <= 0:
            return max(self._least, last.start + (passed if self._passes else 0))
        # The last of it was written at the time of the file's last change.
        gone = self._last_write(current) - last.since
        until = round(gone * self.pace) - grown
        if until < FRAME * self.pace:
            until = 0
        self._go_on(Span(start=last.start + until, segment=current, offset=used))
        return self.timeline.last.start + grown

    def now(self) -> float:
        """The unix time by which gaps pass, that of the files."""
        return self._clock()

    def settled(self) -> int:
        """How much audio is there without a gap that has not ended. Raises SpoolError."""
        size = self.size()
        return self.timeline.last.start if self.in_gap else size

    def changed(self) -> float:
        """The unix time of the last write to any file, 0 where there is none. Raises SpoolError."""
        return max(self._changed(number) for number in range(len(self.timeline.segments)))

    def written(self) -> int:
        """Samples in the segment that is written. Raises SpoolError."""
        return self._written(len(self.timeline.segments) - 1, perhaps=True)

    def begin(self, segment: Segment) -> None:
        """Say what the first tap will write, before it does."""
        self.close()
        self._segments.clear()
        self._seen.clear()
        self._looks.clear()
        self.timeline.segments[:] = [segment]

    def open_gap(self, not_before: float = 0.0, *, passes: bool) -> None:
        """Begin a gap at the last write, or at unix time ``not_before``, if there is none. Raises SpoolError.

        One that has passed so far and no longer does keeps the length it has.
        """
        if self.in_gap and not passes:
            self._least = self.size()
        if not self.in_gap:
            # Of a segment that has not been started there is no write.
            self._open_gap(max(self._last_write(len(self.timeline.segments) - 1), not_before) or self._clock())
        self._passes = passes

    def let_pass(self) -> None:
        """Have an open gap last as long as the clock says."""
        self._passes = True

    def cut(self, not_before: float = 0.0) -> None:
        """Read nothing more of the segment that is written. Silence follows until the next one, from the last write
        on, or from unix time ``not_before``. Raises SpoolError."""
        if not self.in_gap:
            self.open_gap(not_before, passes=True)
        self._broken = True

    def add(self, segment: Segment, not_before: float = 0.0, *, cut: bool = True) -> None:
        """Go on with a new segment, behind a gap that ends with its first sample; see ``cut``. Raises SpoolError.

        Without ``cut`` no gap begins: nothing is written until another segment is added.
        """
        if cut:
            self.cut(not_before)
        self.timeline.segments.append(segment)
        self._broken = False

    def close_gap(self) -> None:
        """End an open gap now. Raises SpoolError."""
        if self.in_gap:
            size = self.size()  # ends it by itself where the file has grown
            if self.in_gap:
                current = len(self.timeline.segments) - 1
                self._go_on(Span(start=size, segment=current, offset=self.timeline.used(current)))

    def _open_gap(self, since: float) -> None:
        self._least = 0
        self.timeline.spans.append(Span(start=self.size(), segment=None, since=since))

    def _go_on(self, span: Span) -> None:
        # What has been read of the gap stays.
        self.timeline.spans.append(span.model_copy(update={"start": max(span.start, self.position)}))

    def read(self, limit: int) -> Samples:
        """What has been written since the last read, at most ``limit`` samples; shape (samples, channels).

        Raises SpoolError if a file cannot be read, or is shorter than what was read of it.
        """
        if self.timeline.plain:
            block = self.block(self.position, limit)
            if len(block) == limit:
                # There may be more, and more than a call brings.
                self.written()
            self.position += len(block)
            return block
        upto = min(self.position + limit, self.size())
        blocks = [np.zeros((0, self.channels), np.int16)]
        while self.position < upto and len(block := self.block(self.position, upto - self.position)):
            self.position += len(block)
            blocks.append(block)
        return np.concatenate(blocks)

    def block(self, start: int, limit: int) -> Samples:
        """Up to ``limit`` samples from ``start`` on, fewer before the next span; shape (samples, channels).

        Raises SpoolError.
        """
        span, end = self.timeline.place(start)
        if end is not None:
            limit = min(limit, end - start)
        if span.segment is None:
            return np.zeros((limit, self.channels), np.int16)
        number, first = span.segment, span.offset + start - span.start
        segment = self.timeline.segments[number]
        parts = [file.read(first, limit) for file in self._files(number)]
        if len(parts) == 1 and segment.channels == self.channels:
            return parts[0]
        length = min(len(part) for part in parts)
        mono = [_mono(part[:length]) for part in parts]
        return np.repeat(mono[0], 2, axis=1) if len(mono) < self.channels else np.hstack(mono[: self.channels])

    def _files(self, number: int) -> list[_File]:
        if len(self._segments) <= number:
            with self._turn:
                while len(self._segments) <= number:
                    self._segments.append(self._new_files(len(self._segments)))
        return self._segments[number]

    def _new_files(self, number: int) -> list[_File]:
        segment = self.timeline.segments[number]
        paths = segment_paths(self.path, number, segment)
        sources = self._source._files(number) if self._source is not None else [None] * len(paths)
        return [_File(path, segment.channels, self._known, source) for path, source in zip(paths, sources, strict=True)]

    def _written(self, number: int, *, perhaps: bool = False) -> int:
        """Samples that all files of a segment have; none where ``perhaps`` one is not there yet."""
        files = self._files(number)
        if perhaps and not all(file.exists() for file in files):
            return 0
        size = files[0].size() if len(files) == 1 else min(file.size() for file in files)
        self._look(number, size)
        if self.began is not None and self.pace:
            self._check_growth(number, size, self.began)
        return size

    def _check_growth(self, number: int, size: int, began: float) -> None:
        """Raise SpoolUnfit for more samples than a call can have brought: to hear them would hold up all others."""
        at, before, left = self._seen.get(number, (began, 0, self.ahead))
        now, changed = self._clock(), self._changed(number)
        # A clock that has not been set yet, as on a machine that just booted, says nothing of an earlier run.
        now = min(now, changed) if now >= began else changed
        grown = (size - before) / self.pace
        # What one look has let pass the next one does not let pass again.
        left = min(left, self.ahead) + max(0.0, now - at) * FASTEST - grown
        if left < 0:
            raise SpoolUnfit(
                f"spool {self.path}: has grown by {grown:.0f} s of audio within {max(0.0, now - at):.0f} s"
            )
        self._seen[number] = now, size, left

    def _look(self, number: int, size: int) -> None:
        now, last = self._clock(), self._looks.get(number)
        if last is None:
            self._looks[number] = _Look(now, size, self.began or 0.0)
        else:
            self._looks[number] = _Look(now, size, last.at if size > last.size else last.grown_after)

    def _last_write(self, number: int) -> float:
        """The unix time of the last write to a segment, 0 where there was none; see ``_changed``.

        Whoever owns a file can give it any time, which would become any length of silence. So it is not in the future,
        nor before the segment was last seen to have less, but for ``SKEW``.
        """
        changed = self._changed(number)
        if not changed:
            return 0.0
        self._written(number, perhaps=True)
        look = self._looks.get(number)
        earliest = look.grown_after if look else self.began or 0.0
        return min(self._clock() + SKEW, max(changed, earliest - SKEW))

    def _changed(self, number: int) -> float:
        """The unix time of the last write to a segment, 0 where there was none."""
        return max((file.changed() for file in self._files(number) if file.exists()), default=0.0)

    def close(self) -> None:
        for files in self._segments:
            for file in files:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _mono(samples: Samples) -> Samples:
    """The mean of the channels, shape (samples, 1)."""
    if samples.shape[1] == 1:
        return samples
    mean: Samples = (samples.astype(np.int32).sum(axis=1, keepdims=True) // samples.shape[1]).astype(np.int16)
    return mean

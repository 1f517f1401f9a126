"""When somebody spoke: the detector's changes as events of the state machine, and as spans of the recording."""

from collections.abc import Iterable, Iterator, Sequence

from esl_record.recording.machine import SpeechEnded, SpeechStarted
from esl_record.vad.detector import TAIL

PAUSE = 0.3
"""Seconds of silence that part two spans of speech; less is a pause between words."""


class Speech:
    """The speech of one recording; spans in samples, the last one open while somebody speaks."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._spans: list[tuple[int, int | None]] = []

    def changes(self, changes: Iterable[tuple[int, bool]]) -> Iterator[SpeechStarted | SpeechEnded]:
        """Takes the detector's changes, (sample, speaking) in turn. An end counts from where the voice ended, which
        is ``TAIL`` before the detector's smoothing let go of it."""
        for at, speaking in changes:
            if speaking:
                self._spans.append((at, None))
                yield SpeechStarted(at)
            elif self._spans:
                start, _ = self._spans[-1]
                end = max(start + 1, at - round(TAIL * self._rate))
                self._spans[-1] = (start, end)
                yield SpeechEnded(end)

    def seconds(self, end: int, masked: Iterable[tuple[int, int]] = ()) -> list[tuple[float, float]]:
        """Return the spans within a recording of ``end`` samples, in seconds.

        A silence shorter than ``PAUSE`` parts none. Nobody is heard in what is ``masked``, spans in samples, in order,
        though somebody who spoke before it may do so behind it.
        """
        heard = ((start, end if stop is None else min(stop, end)) for start, stop in self._spans if start < end)
        spans: list[tuple[int, int]] = []
        for start, stop in _without(heard, list(masked)):
            if spans and start - spans[-1][1] < PAUSE * self._rate:
                start, _ = spans.pop()
            spans.append((start, stop))
        return [(start / self._rate, stop / self._rate) for start, stop in spans]


def _without(spans: Iterable[tuple[int, int]], holes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, stop in spans:
        for begins, ends in holes:
            if begins >= stop or ends <= start:
                continue
            if start < begins:
                yield start, begins
            start = ends
        if start < stop:
            yield start, stop

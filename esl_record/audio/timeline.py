"""The timeline of a recording: which file of the switch has which of its samples, and where none has. Pure.

A tap writes one file as long as nothing about its leg changes. A change of codec, a hold or a restarted tap ends that:
then the recording goes on in another file, or behind a gap of known length.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field


class Segment(BaseModel):
    """What one tap writes. ``channels`` is the number of channels in each of its files."""

    model_config = ConfigDict(frozen=True)

    channels: int = Field(default=1, ge=1, le=2)
    split: bool = False
    """The party and the far end are in a file each, as on a leg with two channels."""
    rate: int = Field(default=0, ge=0)
    """Samples a second of the leg's codec when its tap was started, 0 for those of the recording. A tap writes at
    another speed once that changes."""


class Span(BaseModel):
    """A stretch of the recording, from sample ``start`` to the start of the next span."""

    model_config = ConfigDict(frozen=True)

    start: int = Field(default=0, ge=0)
    segment: int | None = Field(default=0, ge=0)
    """The number of the segment that has its audio, None for a gap, which is silence."""
    offset: int = Field(default=0, ge=0)
    """The sample of the segment at which it begins."""
    since: float = 0.0
    """Of a gap: the unix time at which it began."""


class Timeline:
    """The spans of one recording in order; the last one has no end. Its last segment is the one that is written.

    Raises ValueError where spans and segments do not fit together.
    """

    def __init__(self, segments: Iterable[Segment] = (), spans: Iterable[Span] = ()) -> None:
        self.segments = list(segments) or [Segment()]
        self.spans = list(spans) or [Span()]
        starts = [span.start for span in self.spans]
        if starts != sorted(starts) or starts[0] != 0:
            raise ValueError("the spans of the timeline are not in order")
        if any(span.segment is not None and span.segment >= len(self.segments) for span in self.spans):
            raise ValueError("the timeline names a segment that is not there")

    @property
    def last(self) -> Span:
        """The span that has not ended."""
        return self.spans[-1]

    @property
    def plain(self) -> bool:
        """Whether the recording is one file from its beginning to its end."""
        return len(self.spans) == 1 and self.last.segment is not None

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """Start and end of each gap that has ended."""
        ends = [span.start for span in self.spans[1:]]
        return [
            (span.start, end)
            for span, end in zip(self.spans, ends, strict=False)
            if span.segment is None and end > span.start
        ]

    def place(self, position: int) -> tuple[Span, int | None]:
        """Return the span of sample ``position``, and the sample at which the next one begins, None for the last."""
        after = None
        for span in reversed(self.spans):
            if position >= span.start:
                return span, after
            after = span.start
        raise ValueError(f"sample {position} is before the recording")

    def used(self, segment: int) -> int:
        """Return how many samples of ``segment`` lie before the span that has not ended."""
        ends = [span.start for span in self.spans[1:]]
        used = 0
        for span, end in zip(self.spans, ends, strict=False):
            if span.segment == segment:
                used = max(used, span.offset + end - span.start)
        return used

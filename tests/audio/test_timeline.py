"""The timeline: each sample of a recording is in one place, and a segment's samples are used in order and once."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.audio.timeline import Segment, Span, Timeline


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording. ``new``: it begins another segment, behind ``gap`` samples that no tap has written."""

    new: bool
    gap: int
    length: int


pieces = st.lists(st.builds(Piece, st.booleans(), st.integers(0, 20), st.integers(0, 30)), min_size=1, max_size=8)


def built(parts: list[Piece]) -> tuple[Timeline, list[tuple[int | None, int]]]:
    """A timeline, and of each of its samples the segment and the sample there, None in a gap."""
    segments, spans, where = [Segment()], [Span()], list[tuple[int | None, int]]()
    used = 0
    for part in parts:
        spans.append(Span(start=len(where), segment=None))
        where += [(None, 0)] * part.gap
        if part.new:
            segments.append(Segment())
            used = 0
        spans.append(Span(start=len(where), segment=len(segments) - 1, offset=used))
        where += [(len(segments) - 1, used + at) for at in range(part.length)]
        used += part.length
    return Timeline(segments, spans), where


@given(pieces)
def test_every_sample_is_where_its_span_says(parts: list[Piece]) -> None:
    timeline, where = built(parts)
    for position, (segment, sample) in enumerate(where):
        span, after = timeline.place(position)
        assert span.segment == segment
        assert span.start <= position
        assert after is None or position < after
        if segment is not None:
            assert span.offset + position - span.start == sample
    span, after = timeline.place(len(where))
    assert (span, after) == (timeline.last, None)


@given(pieces)
def test_the_gaps_are_the_samples_that_no_segment_has(parts: list[Piece]) -> None:
    timeline, where = built(parts)
    silent = {position for start, end in timeline.gaps for position in range(start, end)}
    assert silent == {position for position, (segment, _) in enumerate(where) if segment is None}
    assert all(start < end for start, end in timeline.gaps)


@given(pieces, st.integers(0, 20))
def test_what_is_used_of_a_segment_is_what_lies_before_the_open_span(parts: list[Piece], silent: int) -> None:
    timeline, where = built(parts)
    timeline.spans.append(Span(start=len(where), segment=None))
    for number in range(len(timeline.segments)):
        assert timeline.used(number) == sum(segment == number for segment, _ in where)


@given(pieces)
def test_a_timeline_that_was_noted_is_the_same_again(parts: list[Piece]) -> None:
    timeline, where = built(parts)
    again = Timeline(
        [Segment.model_validate_json(one.model_dump_json()) for one in timeline.segments],
        [Span.model_validate_json(one.model_dump_json()) for one in timeline.spans],
    )
    assert again.gaps == timeline.gaps
    assert [again.place(at) for at in range(len(where))] == [timeline.place(at) for at in range(len(where))]


def test_a_recording_of_one_file_is_plain_and_no_other() -> None:
    assert Timeline().plain
    assert not Timeline([Segment()], [Span(segment=None)]).plain
    assert not Timeline([Segment(), Segment()], [Span(), Span(start=5, segment=1)]).plain


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(-3, 8))
def test_spans_out_of_order_and_segments_that_are_not_there_are_refused(starts: list[int], segment: int) -> None:
    spans = [Span(start=start, segment=max(segment, 0)) for start in starts]
    if starts == sorted(starts) and starts[0] == 0 and segment <= 1:
        assert Timeline([Segment(), Segment()], spans).last == spans[-1]
    else:
        with pytest.raises(ValueError, match="timeline"):
            Timeline([Segment(), Segment()], spans)


def test_nothing_lies_before_the_recording() -> None:
    with pytest.raises(ValueError, match="before the recording"):
        Timeline().place(-1)

"""A file through detector and state machine: where and why a live recording would have ended."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.replay import replay
from esl_record.standin import voice


def silence(seconds: float, rate: int = 8000) -> NDArray[np.int16]:
    return np.zeros(round(seconds * rate), np.int16)


def call(*parts: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.concatenate(parts)


TWO = RecordParams(initial_timeout=3.0, end_silence_timeout=2.0)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_it_ends_so_long_after_the_voice_has(rate: int) -> None:
    result = replay(call(silence(1, rate), voice.say(2.0, rate), silence(5, rate)), rate, TWO)
    assert (result.end.state, result.end.reason) == (State.FINISHED, EndReason.END_SILENCE)
    assert result.stopped == pytest.approx(5.0, abs=0.3)
    assert result.speech[0][0] == pytest.approx(1.0, abs=0.3)
    assert result.speech[-1][1] == pytest.approx(3.0, abs=0.3)


def test_it_ends_without_input() -> None:
    result = replay(silence(5), 8000, TWO)
    assert (result.end.state, result.end.reason, result.stopped) == (State.NO_INPUT, EndReason.INITIAL_TIMEOUT, 3.0)
    assert result.speech == []


def test_the_end_of_the_audio_is_the_hang_up() -> None:
    result = replay(call(silence(0.5), voice.say(2.0)), 8000, TWO)
    assert (result.end.state, result.end.reason, result.stopped) == (State.FINISHED, EndReason.HANGUP, 2.5)


def test_the_maximum_length_counts() -> None:
    params = TWO.model_copy(update={"max_length": 1.23})
    result = replay(call(silence(0.5), voice.say(2.0)), 8000, params)
    assert (result.end.reason, result.end.at) == (EndReason.MAX_LENGTH, 9840)


def test_what_the_detector_does_not_hear_is_silence() -> None:
    deaf = TWO.model_copy(update={"input_sensitivity": 0.0})
    assert replay(call(silence(0.5), voice.say(4.0)), 8000, deaf).end.reason is EndReason.INITIAL_TIMEOUT


def test_a_rate_nobody_records_is_refused() -> None:
    with pytest.raises(ValueError, match="rate"):
        replay(silence(1), 1000, TWO)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=5), st.integers(0, 30), st.integers(0, 30))
def test_every_audio_has_one_end_within_it(spans: list[tuple[bool, int]], initial: int, ending: int) -> None:
    parts = [voice.say(tenths / 10) if speaks else silence(tenths / 10) for speaks, tenths in spans]
    samples = call(silence(0), *parts)
    params = RecordParams(initial_timeout=initial / 10, end_silence_timeout=ending / 10)
    result = replay(samples, 8000, params)
    assert result.end.state.final
    assert 0 <= result.end.at <= len(samples)
    assert all(0 <= start < stop <= result.stopped for start, stop in result.speech)

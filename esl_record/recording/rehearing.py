"""The speech of a recording whose call is gone: what a live recording would have heard, from its spool."""

from collections.abc import Iterator

import gevent

from esl_record.audio.spool import Spool
from esl_record.recording.machine import PauseBehavior, State
from esl_record.recording.params import Direction, RecordParams
from esl_record.recording.recording import Recording
from esl_record.recording.speech import Speech
from esl_record.vad.engine import Engine, Track

STRETCH = 5
"""Seconds of audio heard at a time, in 5 to 10 ms of a core."""

BREATH = 0.005
"""Seconds the live calls have for themselves between two stretches."""

_LEGS = {Direction.SPEAK: (0,), Direction.LISTEN: (1,), Direction.BOTH: (0, 1)}
"""The channels of a stereo recording that are listened to for speech."""


def legs_of(params: RecordParams) -> tuple[int, ...]:
    """Return the channels of a recording that are listened to for speech."""
    return _LEGS[params.direction] if params.stereo else (0,)


def speech_in(spool: Spool, recording: Recording, samples: int) -> list[tuple[float, float]]:
    """Return the spans of speech, in seconds, in the first ``samples`` of a recording that has none noted.

    The legs, the sensitivity and the pauses are those of the live recording. Other greenlets run in between.

    Raises:
        SpoolError: the spool cannot be read.
        ParameterError: the recording's parameters are damaged.
        ValueError: the detector cannot hear its sample rate.
    """
    params, rate = RecordParams.of("record", recording.parameters), recording.sample_rate
    # An engine of its own: the ticks of the live calls' would read all of the spool at once.
    track = Engine().join(spool, rate, legs_of(params), params.input_sensitivity, lambda: None)
    _hold_pauses(track, recording, samples)
    speech = Speech(rate)
    before = -1
    while before < track.position < samples:
        before = track.position
        track.catch_up(min(samples, before + STRETCH * rate))
        if track.error is not None:
            raise track.error
        for _ in speech.changes(track.take_changes()):
            pass
        gevent.sleep(BREATH)
    masked = [(start, end) for start, end, behavior in _pauses(recording, samples) if behavior is PauseBehavior.SILENCE]
    return speech.seconds(samples, masked)


def _pauses(recording: Recording, samples: int) -> Iterator[tuple[int, int, PauseBehavior]]:
    """Start, end and behavior of each pause, in samples; the last one may be open."""
    rate, last = recording.sample_rate, len(recording.pauses)
    for number, pause in enumerate(recording.pauses, 1):
        is_open = number == last and recording.state is State.PAUSED
        end = samples if is_open else min(round(pause.end * rate), samples)
        yield min(round(pause.start * rate), samples), end, pause.behavior


def _hold_pauses(track: Track, recording: Recording, samples: int) -> None:
    """Have ``track`` not hear what the switch wrote during pauses."""
    for start, end, _ in _pauses(recording, samples):
        track.hold(start)
        track.release(end)

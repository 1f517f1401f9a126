"""A recording that was recovered has the speech that a live one of the same audio has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import pytest
from gevent.event import Event as Flag
from test_recorder import LIMIT, NO_LIMITS, RATE, Bench, Samples

from esl_record.audio.timeline import Span
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.recording import Recording
from esl_record.recording.recovery import Recovery
from esl_record.recording.rehearing import STRETCH
from esl_record.recording.storage import Storage
from esl_record.standin import voice

SAID: Samples = np.concatenate(
    [
        np.zeros(RATE // 2, np.int16),
        voice.say(2.5),
        np.zeros(2 * RATE, np.int16),
        (voice.say(3.1) // 12).astype(np.int16),
        np.zeros(RATE, np.int16),
        voice.say(9.3),
        # It ends within a frame, and while somebody speaks.
        voice.say(1.0)[:4321],
    ]
)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    numbers = iter("12")
    return lambda **params: Bench(tmp_path / next(numbers), **{**NO_LIMITS, **params})


def recovered(storage: Storage) -> Recording:
    """What becomes of a recording whose call has gone while there was no service."""
    told: list[Recording] = []
    recovery = Recovery(storage, lambda one: None, lambda one, pausing: told.append(one), clock=lambda: 4e9)
    recovery.find()
    (done,) = recovery.run()
    assert told[-1].speech == done.speech
    assert Recording.model_validate_json(storage.document_path(done).read_bytes()) == done
    return done


@pytest.mark.parametrize("pauses", [(), (PauseBehavior.SKIP,), (PauseBehavior.SILENCE, PauseBehavior.SKIP)], ids=str)
@pytest.mark.parametrize("ends_paused", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"input_sensitivity": 15},
        {"input_sensitivity": 0},
        {"stereo": True, "direction": "speak"},
        {"stereo": True, "direction": "both"},
        {"stereo": True, "direction": "listen"},
    ],
    ids=str,
)
def test_its_speech_is_that_of_a_live_recording(
    bench: Callable[..., Bench], params: dict[str, Any], pauses: tuple[PauseBehavior, ...], ends_paused: bool
) -> None:
    made = []
    for dies in (False, True):
        one = bench(**params).begin()
        rest = SAID
        for behavior in pauses:
            one.hear(rest[: 3 * RATE + 1000])
            one.recorder.pause(behavior).wait(LIMIT)
            one.hear(rest[3 * RATE + 1000 : 4 * RATE])
            one.recorder.resume().wait(LIMIT)
            rest = rest[4 * RATE :]
        one.hear(rest)
        if ends_paused:
            one.recorder.pause(PauseBehavior.SILENCE).wait(LIMIT)
            one.hear(voice.say(1.0))
        if dies:
            one.die()
            one.session.close()
            made.append(recovered(one.storage))
        else:
            one.session.hang_up()
            one.session.record_stop()
            made.append(one.result())
    live, found = made
    assert (live.end_reason, found.end_reason) == (EndReason.HANGUP, EndReason.RECOVERED)
    assert found.state is State.FINISHED
    assert found.duration == live.duration
    assert found.speech == live.speech
    assert bool(found.speech) is (params.get("input_sensitivity") != 0 and params.get("direction") != "listen")


def left_behind(storage: Storage, samples: Samples, **changed: Any) -> Recording:
    """A spool as a killed service has left it."""
    from test_storage import begun

    recording = begun().model_copy(update={"sample_rate": RATE, **changed})
    storage.prepare()
    storage.announce(recording)
    storage.spool_path(recording.recording_id).write_bytes(samples.astype("<i2").tobytes())
    return recording


@pytest.mark.slow
def test_a_hold_is_heard_as_silence(tmp_path: Path) -> None:
    held = np.concatenate([SAID[: 4 * RATE], np.zeros(7 * RATE, np.int16), SAID[4 * RATE :]])
    whole, gapped = Storage(tmp_path / "whole"), Storage(tmp_path / "gapped")
    spans = [Span(), Span(start=4 * RATE, segment=None), Span(start=11 * RATE, offset=4 * RATE)]
    left_behind(whole, held)
    left_behind(gapped, SAID, spans=spans)
    found = recovered(gapped)
    assert found.speech == recovered(whole).speech
    assert found.speech[-1][1] > 20


def test_calls_run_on_while_a_long_spool_is_heard(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    left_behind(storage, np.tile(SAID, 40))
    stretches, ended = 0, Flag()

    def live() -> None:
        nonlocal stretches
        while not ended.is_set():
            stretches += 1
            gevent.sleep(0)

    beside = gevent.spawn(live)
    done = recovered(storage)
    ended.set()
    beside.get(timeout=LIMIT)
    assert stretches > done.duration / STRETCH


@pytest.mark.parametrize("changed", [{"parameters": {"stereo": "perhaps"}}, {"sample_rate": 4000}], ids=str)
def test_what_cannot_be_heard_is_completed_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, Any]
) -> None:
    storage = Storage(tmp_path)
    left_behind(storage, SAID, **changed)
    done = recovered(storage)
    assert (done.end_reason, done.speech) == (EndReason.RECOVERED, [])
    assert "its speech is not noted" in caplog.text

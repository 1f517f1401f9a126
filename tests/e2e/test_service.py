"""The service as a whole: what it does with calls it cannot serve, and when it is stopped or killed."""

import numpy as np
import pytest
from phones import Dialled, Phone
from running import RunningService
from test_record import LIMITS, end_in, likeness
from test_record import said as a_voice

from esl_record.recording.machine import EndReason, State
from esl_record.standin import voice


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (["answer", {"record": {"format": "ogg"}}], "record: format = 'ogg'"),
        (["answer", {"record": {"end_silence": 3}}], "unknown parameter 'end_silence'"),
        (["answer", {"recrod": {}}], "no method 'recrod'"),
        (["answer", {"play": "spotify:track"}], "play: url = 'spotify:track'"),
    ],
    ids=["format", "parameter", "method", "url"],
)
def test_a_wrong_document_leaves_the_call_to_the_dialplan(phone: Phone, steps: list[object], told: str) -> None:
    before = len(phone.service.log)
    ended = phone.call(Dialled(phone.service.document("wrong", *steps)))
    assert ended.went_on
    assert ended.recordings == []
    assert ended.variables["script_error"].startswith("relay_script_method_")
    errors = [line for line in phone.service.log[before:].splitlines() if " ERROR " in line]
    assert len(errors) == 1
    assert told in errors[0]


@pytest.mark.parametrize("path", ["nowhere", "..", "a/../b", ""])
def test_an_unknown_document_leaves_the_call_to_the_dialplan(phone: Phone, path: str) -> None:
    ended = phone.call(Dialled(path))
    assert ended.went_on
    assert "no document" in phone.service.log


def test_without_a_service_the_dialplan_goes_on(phone: Phone, own_service: RunningService) -> None:
    phone.service = own_service
    assert phone.call(Dialled("voicemail")).went_on


def test_a_call_over_capacity_is_told_and_goes_on(phone: Phone, own_service: RunningService) -> None:
    own_service.settings["capacity"] = 1
    own_service.start()
    phone.service = own_service
    document = own_service.document("full", "answer", {"record": {"initial_timeout": 0}})
    first = phone.dial(Dialled(document))
    own_service.wait(lambda: "begun" in own_service.log, "the first recording")
    second = phone.dial(Dialled(document, hangup_after=5))
    own_service.wait(lambda: "refused: 1 calls is the capacity" in own_service.log, "the refusal")
    first.hang_up()
    assert first.end().recording.state is State.FINISHED
    refused = second.end()
    assert refused.went_on
    assert refused.variables["esl_record_refused"] == "capacity"


def test_a_stopped_service_lets_a_call_end_and_takes_no_more(phone: Phone, own_service: RunningService) -> None:
    own_service.start()
    phone.service = own_service
    live = phone.dial(Dialled(own_service.document("last", "answer", {"record": LIMITS}, "hangup"), a_voice(2)))
    own_service.wait(lambda: "begun" in own_service.log, "the recording")
    assert own_service.stop() == 0
    ended = live.end()
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    assert not ended.went_on
    own_service.process = None
    assert phone.call(Dialled("voicemail")).went_on


def test_a_call_that_outlasts_the_drain_keeps_its_recording_and_goes_on(
    phone: Phone, own_service: RunningService
) -> None:
    own_service.settings["drain_timeout"] = 0.2
    own_service.start()
    phone.service = own_service
    document = own_service.document("long", "answer", {"record": {"initial_timeout": 0}}, "hangup")
    live = phone.dial(Dialled(document, a_voice(60)))
    own_service.wait(lambda: "begun" in own_service.log, "the recording")
    assert own_service.stop() == 0
    own_service.process = None
    ended = live.end()
    assert ended.went_on
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.STOP)


def test_a_killed_service_loses_no_audio(phone: Phone, own_service: RunningService) -> None:
    """The tap goes on; the next start completes the recording once the call has ended."""
    own_service.start()
    phone.service = own_service
    document = own_service.document("killed", "answer", {"record": {"initial_timeout": 0}})
    spoken = voice.say(3.0)
    said = np.concatenate([np.zeros(4000, np.int16), spoken, np.zeros(16000, np.int16)])
    live = phone.dial(Dialled(document, said, hangup_after=5.0, parked=True))
    own_service.wait(lambda: "begun" in own_service.log, "the recording")
    own_service.kill()
    own_service.process = None
    own_service.start()
    ended = live.end()
    recording = ended.recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.RECOVERED)
    assert likeness(ended.samples[:, 0], spoken) > 0.9
    assert end_in(ended.samples[:, 0], said, last=3.0) == pytest.approx(5.0, abs=0.15)


def test_a_restarted_service_takes_calls(phone: Phone, own_service: RunningService) -> None:
    document = own_service.document("again", "answer", {"record": {"initial_timeout": 0.5}}, "hangup")
    phone.service = own_service
    for _ in range(2):
        own_service.start()
        assert phone.call(Dialled(document)).recording.state is State.NO_INPUT
        assert own_service.stop() == 0
    assert own_service.log.count("stopped") == 2

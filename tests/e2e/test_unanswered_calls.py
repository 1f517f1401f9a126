"""Calls that are recorded before they are answered: they ring on, and what is billed is what is recorded."""

from typing import Any

import gevent
import numpy as np
import pytest
from phones import Dialled, Ended, FreeSwitchPhone, Phone
from running import RunningService
from test_bridged_calls import THEIRS, _parties, connect, loud, sounds, speech
from test_control import NO_LIMITS, RATE

from esl_record.recording.machine import EndReason, State

__all__ = ["_parties"]

FIRST_TONE = 1300
"""Hertz of what the party `early-...` plays before it answers."""


def legs(service: RunningService) -> list[dict[str, Any]]:
    """The calls under way."""
    found: list[dict[str, Any]] = service.get("/api/v1/calls").json()["data"]
    return found


def leg(service: RunningService, call_id: str) -> dict[str, Any]:
    return next(one for one in legs(service) if one["id"] == call_id)


def billed(ended: Ended) -> float:
    """Seconds from the answer to the end of the call, by the switch's own books."""
    return int(ended.variables["billmsec"]) / 1000


def was_early(ended: Ended) -> bool:
    """Whether the call had media before its answer: 183 in place of 180."""
    return ended.variables.get("progress_media_uepoch", "0") != "0"


def test_a_ringing_call_is_recorded_from_the_answer_of_the_far_end_on(phone: Phone) -> None:
    document = phone.service.document(
        "rings",
        {"record_call": {"stereo": True}},
        connect(phone, "late-2000", answer_on_bridge=True),
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(8.0), hangup_after=3.0))
    assert not was_early(ended)
    assert ended.recording.end_reason is EndReason.HANGUP
    # The stand-in's calls run faster than real time, and so does what a busy machine takes to start a tap.
    late = 0.3 if isinstance(phone, FreeSwitchPhone) else 1.0
    assert billed(ended) - late < ended.recording.duration < billed(ended) + 0.1
    assert ended.variables["record_call_url"].partition("?")[0].endswith(f"{ended.recording.recording_id}/download")


def test_a_caller_who_hangs_up_while_it_rings_leaves_no_recording_and_no_error(phone: Phone) -> None:
    service = phone.service
    document = service.document(
        "rings-in-vain", {"record_call": {}}, connect(phone, "deaf", answer_on_bridge=True), "hangup"
    )
    before = len(service.log)
    live = phone.dial(Dialled(document))
    service.wait(lambda: "starts at the answer" in service.log[before:], "the recording to wait")
    live.hang_up()
    ended = live.end()
    assert (ended.recordings, was_early(ended)) == ([], False)
    service.wait(lambda: "before the answer" in service.log[before:], "the log line")
    assert "ERROR" not in service.log[before:]


@pytest.mark.parametrize("beep", [False, True])
def test_what_a_document_plays_first_is_in_the_recording(phone: Phone, beep: bool) -> None:
    document = phone.service.document(
        f"answers-by-play-{beep}",
        {"record_call": {"stereo": True, "beep": beep}},
        {"play": f"tone_stream://%(1000,0,{THEIRS})"},
        {"stop_record_call": {}},
        {"sleep": 500},
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(6.0)))
    assert not was_early(ended)
    assert ended.recording.end_reason is EndReason.STOP
    heard = loud(ended.samples[:, 1], THEIRS)
    assert (len(heard), heard.min()) == (pytest.approx(10, abs=1), pytest.approx(0, abs=4))


def test_stopped_before_the_answer_it_is_finished_without_audio(phone: Phone) -> None:
    document = phone.service.document(
        "stopped-early",
        {"record_call": {}},
        {"stop_record_call": {}},
        {"play": "silence:1"},
        "hangup",
    )
    ended = phone.call(Dialled(document))
    assert ended.variables["stop_record_call_result"] == "success"
    recording = ended.recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.STOP)
    assert (recording.duration, recording.file) == (0, "")


def test_early_media_is_recorded_where_a_document_asks_for_it(phone: Phone) -> None:
    document = phone.service.document(
        "early",
        {"record_call": {"stereo": True, "early_media": True}},
        {"play": {"url": f"tone_stream://%(1000,0,{FIRST_TONE})", "auto_answer": False}},
        {"record": {**NO_LIMITS, "control_id": "message", "early_media": True, "max_length": 1.0}},
        {"play": f"tone_stream://%(1000,0,{THEIRS})"},
        "hangup",
    )
    ended = phone.call(Dialled(document, speech(6.0)))
    assert was_early(ended)
    whole = next(one for _, one in ended.recordings if one.control_id != "message")
    assert whole.duration > billed(ended) + 1.9
    heard = sounds(ended)[whole.control_id][:, 1]
    early, later = loud(heard, FIRST_TONE), loud(heard, THEIRS)
    assert (len(early), len(later)) == (pytest.approx(10, abs=1), pytest.approx(10, abs=1))
    assert later.min() - early.max() >= 8


def test_a_pause_before_the_answer_holds_the_recording_back(phone: Phone) -> None:
    service = phone.service
    document = service.document(
        "paused-early",
        {"record_call": {"control_id": "held", "stereo": True}},
        connect(phone, "late-2000", answer_on_bridge=True),
        "hangup",
    )
    live = phone.dial(Dialled(document, speech(8.0), hangup_after=4.0))
    call = service.wait(lambda: next((one for one in legs(service) if one["recordings"]), None), "a recording to wait")
    assert service.command("calling.record.pause", call["id"], control_id="held").status_code == 200
    service.wait(lambda: leg(service, call["id"])["status"] == "answered", "the answer")
    gevent.sleep(0.2)
    assert service.command("calling.record.resume", call["id"], control_id="held").status_code == 200
    ended = live.end()
    assert ended.recording.end_reason is EndReason.HANGUP
    assert 0 < ended.recording.duration < billed(ended)


def test_record_answers_first_and_keeps_its_length(phone: Phone) -> None:
    document = phone.service.document("answers-by-record", {"record": {**NO_LIMITS, "max_length": 2}}, "hangup")
    tone = (9000 * np.sin(2 * np.pi * 400 * np.arange(6 * RATE) / RATE)).astype(np.int16)
    ended = phone.call(Dialled(document, tone))
    assert not was_early(ended)
    assert len(ended.samples) == 2 * RATE
    assert len(loud(ended.samples[:, 0], 400)) >= 17


def test_a_recording_that_waits_for_the_answer_outlives_the_service(phone: Phone, own_service: RunningService) -> None:
    own_service.start()
    phone.service = own_service
    document = own_service.document(
        "rings-and-is-killed",
        {"record_call": {"control_id": "whole"}},
        {"sleep": 3000},
        "answer",
        {"sleep": 2000},
        "hangup",
    )
    call = phone.dial(Dialled(document, speech(60.0), again=True))
    own_service.wait(lambda: "starts at the answer" in own_service.log, "the recording to wait")
    own_service.wait(lambda: list(own_service.data.glob("calls/*.checkpoint")), "the place to be noted")
    own_service.kill()
    own_service.start()
    ended = call.end()
    assert ended.recording.control_id == "whole"
    assert ended.recording.end_reason is EndReason.HANGUP
    assert ended.recording.duration == pytest.approx(2.0, abs=0.3 if isinstance(phone, FreeSwitchPhone) else 1.0)
    assert own_service.log.count("starts at the answer") == 2

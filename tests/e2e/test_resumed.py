"""What a call does behind a recording that outlived its service: its document goes on, or its handler is told."""

import pytest
from phones import Dialled, Phone
from running import RunningService
from test_control import NO_LIMITS, live

from esl_record.recording.machine import EndReason, State
from esl_record.standin import voice


@pytest.fixture
def taken(phone: Phone, own_service: RunningService) -> RunningService:
    host, port = phone.event_socket
    own_service.settings["event_socket"] = f"{host}:{port}"
    phone.service = own_service
    return own_service


def killed_and_back(service: RunningService) -> None:
    service.kill()
    service.process = None
    service.start()
    service.wait(lambda: live(service), "the call to come back")


def recorded(service: RunningService, control_id: str) -> bool:
    return any(one["control_id"] == control_id and one["duration"] > 0.5 for one in live(service))


def test_a_document_goes_on(phone: Phone, taken: RunningService) -> None:
    """In a section it had called, with its variables, and while another recording runs beside it."""
    taken.start()
    take = {"execute": {"dest": "take", "params": {"name": "second"}}}
    document = taken.document(
        "going",
        "answer",
        {"record_call": {"control_id": "whole"}},
        {"set": {"count": 1}},
        {"execute": {"dest": "take", "params": {"name": "first"}, "on_return": [{"set": {"count": "${count + 1}"}}]}},
        {"cond": [{"when": "count == 2", "then": [take]}]},
        "hangup",
        take=[{"record": {**NO_LIMITS, "control_id": "${params.name}"}}, {"return": "${record_result}"}],
    )
    call = phone.dial(Dialled(document, voice.say(90.0), parked=True))
    for name in ("first", "second"):
        taken.wait(lambda name=name: recorded(taken, name), f"the {name}")
        killed_and_back(taken)
        taken.wait(lambda name=name: recorded(taken, name), f"the {name} to go on")
        assert taken.command("calling.record.stop", live(taken)[0]["call_id"], control_id=name).status_code == 200
    ended = call.end()
    made = {recording.control_id: recording for _, recording in ended.recordings}
    assert {name: (one.state, one.end_reason) for name, one in made.items()} == {
        "whole": (State.FINISHED, EndReason.HANGUP),
        "first": (State.FINISHED, EndReason.STOP),
        "second": (State.FINISHED, EndReason.STOP),
    }
    assert made["whole"].duration > made["first"].duration + made["second"].duration
    assert not ended.went_on
    assert ended.variables["record_result"] == "success"
    assert list((taken.data / "calls").iterdir()) == []


def test_a_handler_is_told(phone: Phone, taken: RunningService) -> None:
    taken.start()
    # What is pressed while nobody is there is lost.
    digits = tuple((at, "#") for at in (10.0, 20.0, 40.0, 60.0))
    call = phone.dial(Dialled("python/voicemail", voice.say(90.0), digits=digits, parked=True))
    taken.wait(lambda: any(one["duration"] > 0.5 for one in live(taken)), "the message")
    killed_and_back(taken)
    ended = call.end()
    assert (ended.recording.end_reason, ended.recording.terminator) == (EndReason.TERMINATOR, "#")
    assert ended.variables["voicemail_id"] == ended.recording.recording_id
    assert not ended.went_on

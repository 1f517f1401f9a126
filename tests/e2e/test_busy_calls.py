"""A call that is busy when its killed service starts again: it is waited for, however still its spool is."""

from phones import Dialled, Phone
from running import RunningService
from test_control import NO_LIMITS, live

from esl_record.recording.machine import EndReason, State
from esl_record.standin import voice


def test_a_paused_recording_waits_for_its_call(phone: Phone, own_service: RunningService) -> None:
    """What the call is busy with ends by itself; then it parks, and is asked back."""
    service = own_service
    service.settings |= {"event_socket": "{}:{}".format(*phone.event_socket), "stall_timeout": 0.5}
    service.start()
    phone.service = service
    steps = ["answer", {"record_call": {**NO_LIMITS, "control_id": "r"}}, {"play": "silence:8"}]
    call = phone.dial(Dialled(service.document("busy", *steps), voice.say(60.0), parked=True))
    service.wait(lambda: any(one["duration"] > 1.0 for one in live(service)), "a second of audio")
    (one,) = live(service)
    tell = {"call_id": one["call_id"], "control_id": "r"}
    assert service.command("calling.record.pause", **tell, behavior="skip").status_code == 200
    service.kill()
    service.process = None
    service.start()
    service.wait(lambda: "goes on" in service.log, "the call to come back")
    assert [one["state"] for one in live(service)] == ["paused"]
    assert service.command("calling.record.resume", **tell).status_code == 200
    service.wait(lambda: any(one["duration"] > 2.5 for one in live(service)), "more audio")
    assert service.command("calling.record.stop", **tell).status_code == 200
    call.hang_up()
    recording = call.end().recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.STOP)
    (pause,) = recording.pauses
    assert pause.end - pause.start < 0.2

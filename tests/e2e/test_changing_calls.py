"""Calls that do not stay as they began: held, transferred, of another codec. Each 20 ms said is looked for in the file.

They are the stand-in's; `test_phone_calls` has those of SIP phones to a real switch.
"""

import math
from typing import Any

import numpy as np
import phones
import pytest
from alignment import RATE, Comparison, compare, spoken, tone
from numpy.typing import NDArray
from phones import Dialled, Ended, StandInPhone
from running import RunningService
from scipy.signal import resample_poly
from test_control import NO_LIMITS, live

from esl_record.esl.inbound import Inbound
from esl_record.recording.machine import EndReason, State

pytestmark = pytest.mark.slow

if phones.placed_by != "standin":
    pytest.skip("the stand-in's calls, which change when they are told to", allow_module_level=True)

LATE = 0.5
"""Seconds of the call by which a busy machine is late to begin a recording, or to notice what happens."""

APART = 250.0
"""Milliseconds that may be missing or too many where a segment begins; the call's clock is four times the wall's."""

ANN = spoken(12)
"""What the caller says."""

HEARD = 700
"""Hertz of what the caller hears behind a transfer."""

ELSEWHERE = "5556"


def ann(rate: int) -> NDArray[np.int16]:
    return np.round(resample_poly(ANN.astype(float), rate // RATE, 1)).clip(-32768, 32767).astype(np.int16)


def begun(ended: Ended) -> float:
    """Seconds after the answer at which the recording began, by what is heard first."""
    (first, *_) = comparison(ended).heard
    assert first.offset is not None
    return first.offset / 1000


def comparison(ended: Ended, channel: int = 0) -> Comparison:
    return compare(ANN, ended.samples[:, channel], ended.recording.sample_rate)


def check(phone: StandInPhone, ended: Ended, *, until: float, reason: EndReason = EndReason.HANGUP) -> Comparison:
    """What holds of each of these recordings, which lasted until so many seconds after the answer."""
    recording, found = ended.recording, comparison(ended)
    assert (recording.state, recording.end_reason, recording.error) == (State.FINISHED, reason, "")
    assert recording.duration == pytest.approx(until - begun(ended), abs=LATE)
    assert len(ended.samples) == round(recording.duration * recording.sample_rate)
    assert (recording.segments, recording.spans) == ([], [])
    assert phone.service.spooled() == []
    assert found.missing <= APART, found
    assert found.extra <= APART, found
    assert found.other <= APART, found
    return found


@pytest.fixture
def standin(phone: StandInPhone) -> StandInPhone:
    phone.switch.extensions[ELSEWHERE] = [("answer", ""), ("playback", f"tone_stream://L=100;%(1000,0,{HEARD})")]
    return phone


@pytest.mark.parametrize("stereo", [False, True])
def test_a_hold_is_silence_of_its_length(standin: StandInPhone, stereo: bool) -> None:
    document = standin.service.document("held", "answer", {"record": {**NO_LIMITS, "stereo": stereo}})
    ended = standin.call(Dialled(document, ANN, holds=((3.0, 7.0),), hangup_after=10.0))
    found = check(standin, ended, until=10.0)
    (hold,), (gap,) = ended.recording.holds, ended.recording.gaps
    start = 3.0 - begun(ended)
    assert (hold.start, hold.end) == (pytest.approx(start, abs=LATE), pytest.approx(start + 4.0, abs=LATE))
    assert not hold.far
    assert gap == (pytest.approx(start, abs=0.1), pytest.approx(start + 4.0, abs=APART / 1000))
    (silence,) = found.silences(1000)
    assert silence == (pytest.approx(gap[0] * 1000, abs=60), pytest.approx(gap[1] * 1000, abs=60))
    assert found.said == pytest.approx(1000 * (ended.recording.duration - 4.0), abs=APART)


def test_short_holds_have_their_length_too(standin: StandInPhone) -> None:
    """Nobody has asked the switch after the tap by then."""
    document = standin.service.document("held-short", "answer", {"record": NO_LIMITS})
    ended = standin.call(Dialled(document, ANN, holds=((2.0, 2.6), (4.0, 5.0)), hangup_after=7.0))
    check(standin, ended, until=7.0)
    assert [hold.end - hold.start for hold in ended.recording.holds] == [
        pytest.approx(0.6, abs=LATE),
        pytest.approx(1.0, abs=LATE),
    ]
    assert [end - start for start, end in ended.recording.gaps] == [
        pytest.approx(0.6, abs=APART / 1000),
        pytest.approx(1.0, abs=APART / 1000),
    ]


def test_a_hold_to_the_end_of_the_call_is_in_the_recording(standin: StandInPhone) -> None:
    document = standin.service.document("held-on", "answer", {"record": NO_LIMITS})
    ended = standin.call(Dialled(document, ANN, holds=((3.0, math.inf),), hangup_after=8.0))
    check(standin, ended, until=8.0)
    (hold,) = ended.recording.holds
    assert hold.end == pytest.approx(ended.recording.duration, abs=0.1)
    assert hold.end - hold.start == pytest.approx(5.0, abs=LATE)


def test_the_end_of_silence_and_the_maximum_length_count_a_hold(standin: StandInPhone) -> None:
    """To the timers a hold is silence like any other."""
    document = standin.service.document("held-long", "answer", {"record": {**NO_LIMITS, "max_length": 6.0}}, "hangup")
    ended = standin.call(Dialled(document, ANN, holds=((2.0, 4.0),)))
    check(standin, ended, until=6.0 + begun(ended), reason=EndReason.MAX_LENGTH)
    assert ended.recording.duration == 6.0


@pytest.mark.parametrize("rates", [(16000, 8000, 16000), (8000, 16000, 8000)], ids=str)
def test_a_change_of_codec_changes_neither_speed_nor_pitch(standin: StandInPhone, rates: tuple[int, int, int]) -> None:
    document = standin.service.document("codecs", "answer", {"record": {**NO_LIMITS, "stereo": True}})
    first, second, third = rates
    dialled = Dialled(document, ann(first), first, codecs=((3.0, second), (6.0, third)), hangup_after=9.0)
    ended = standin.call(dialled)
    found = check(standin, ended, until=9.0)
    assert ended.recording.sample_rate == first
    assert found.said == pytest.approx(1000 * ended.recording.duration, abs=2 * APART)
    assert ended.recording.holds == []


def test_a_codec_that_comes_with_the_end_of_a_hold_is_followed(standin: StandInPhone) -> None:
    document = standin.service.document("held-codec", "answer", {"record": NO_LIMITS})
    dialled = Dialled(document, ann(16000), 16000, holds=((2.0, 5.0),), codecs=((5.02, 8000),), hangup_after=8.0)
    ended = standin.call(dialled)
    found = check(standin, ended, until=8.0)
    assert found.said == pytest.approx(1000 * (ended.recording.duration - 3.0), abs=2 * APART)


@pytest.mark.parametrize("stereo", [False, True])
def test_a_leg_of_two_channels_is_recorded_as_any_other(standin: StandInPhone, stereo: bool) -> None:
    document = standin.service.document(
        "opus",
        "answer",
        {"record_call": {"stereo": stereo, "direction": "both" if stereo else "speak"}},
        {"play": f"tone_stream://%(1000,0,{HEARD})"},
        {"sleep": 2000},
        "hangup",
    )
    ended = standin.call(Dialled(document, ann(48000), 48000, channels=2))
    check(standin, ended, until=3.0)
    assert ended.samples.shape[1] == 1 + stereo
    if stereo:
        assert len(tone(ended.samples[:, 1], HEARD, 48000)) == pytest.approx(10, abs=2)
        assert not len(tone(ended.samples[:, 1], 1000, 48000))


def test_a_hold_of_the_far_end_is_noted_and_the_caller_recorded(
    standin: StandInPhone, own_service: RunningService
) -> None:
    host, port = standin.event_socket
    own_service.settings["event_socket"] = f"{host}:{port}"
    own_service.start()
    own_service.wait(lambda: "connected" in own_service.log, "the link")
    standin.service = own_service
    parties: dict[str, Any] = {"connect": {"to": "sip:holds-2000-5000@127.0.0.1:5080", "from": "+15550123"}}
    document = own_service.document("far-held", "answer", {"record_call": {"stereo": True}}, parties)
    ended = standin.call(Dialled(document, ANN, hangup_after=8.0))
    found = check(standin, ended, until=8.0)
    (hold,) = ended.recording.holds
    assert hold.far
    assert hold.start == pytest.approx(2.0, abs=2 * LATE)
    assert hold.end - hold.start == pytest.approx(3.0, abs=LATE)
    assert ended.recording.gaps == []
    assert found.silences(500) == []


def transfer(phone: StandInPhone, call_id: str) -> None:
    with Inbound(phone.event_socket, "ClueCon") as switch:
        assert switch.api(f"uuid_transfer {call_id} {ELSEWHERE}").startswith("+OK")


def recorded(phone: StandInPhone, seconds: float) -> dict[str, Any]:
    """The live recording, once it has so many seconds."""

    def found() -> dict[str, Any] | None:
        return next((one for one in live(phone.service) if one["duration"] >= seconds), None)

    one: dict[str, Any] = phone.service.wait(found, f"{seconds} s of the recording")
    return one


def test_a_background_recording_goes_on_behind_a_transfer(standin: StandInPhone) -> None:
    document = standin.service.document(
        "transferred", "answer", {"record_call": {"stereo": True, "control_id": "r"}}, {"sleep": 60000}
    )
    call = standin.dial(Dialled(document, ANN))
    one = recorded(standin, 1.0)
    transfer(standin, one["call_id"])
    at = recorded(standin, one["duration"] + 2.0)["duration"]
    call.hang_up()
    ended = call.end()
    recording, found = ended.recording, comparison(ended)
    assert (recording.state, recording.end_reason, recording.error) == (State.FINISHED, EndReason.HANGUP, "")
    assert recording.duration >= at
    assert (found.missing, found.extra) == (pytest.approx(0, abs=60), pytest.approx(0, abs=60)), found
    assert found.said == pytest.approx(1000 * recording.duration, abs=100)
    heard = tone(ended.samples[:, 1], HEARD)
    assert len(heard) == pytest.approx(10 * (recording.duration - heard.min() / 10), abs=2)
    assert one["duration"] <= heard.min() / 10 <= at
    assert standin.service.spooled() == []


def test_behind_a_transfer_a_recording_is_still_controlled(standin: StandInPhone) -> None:
    document = standin.service.document(
        "controlled", "answer", {"record_call": {"control_id": "r", "direction": "speak"}}, {"sleep": 60000}
    )
    service, call = standin.service, standin.dial(Dialled(document, ANN))
    one = recorded(standin, 1.0)
    call_id = one["call_id"]
    transfer(standin, call_id)
    recorded(standin, one["duration"] + 0.5)
    assert service.command("calling.record.pause", call_id, control_id="r", behavior="skip").status_code == 200
    service.wait(lambda: live(service)[0]["state"] == "paused", "the pause")
    paused = live(service)[0]["duration"]
    assert service.command("calling.record.resume", call_id, control_id="r").status_code == 200
    recorded(standin, paused + 1.0)
    assert service.command("calling.record.stop", call_id, control_id="r").status_code == 200
    service.wait(lambda: service.recordings(call_id), "the recording")
    call.hang_up()
    ended = call.end()
    recording = ended.recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.STOP)
    (pause,) = recording.pauses
    assert pause.start == pytest.approx(paused, abs=0.1)
    assert recording.duration >= paused + 1.0
    assert comparison(ended).extra <= 60
    assert service.spooled() == []


def test_a_transfer_ends_what_a_document_waits_for(standin: StandInPhone) -> None:
    document = standin.service.document("waiting", "answer", {"record": {**NO_LIMITS, "control_id": "r"}}, "hangup")
    call = standin.dial(Dialled(document, ANN))
    one = recorded(standin, 1.5)
    transfer(standin, one["call_id"])
    standin.service.wait(lambda: standin.service.recordings(one["call_id"]), "the recording")
    # The document is over with it: nobody hangs up the call that is elsewhere.
    assert isinstance(call, phones._StandInCall)
    at = call.call.position
    standin.service.wait(lambda: call.call.position >= at + 2.0, "the call to go on elsewhere")
    call.hang_up()
    ended = call.end()
    recording = ended.recording
    assert (recording.state, recording.end_reason, recording.error) == (State.FINISHED, EndReason.TRANSFER, "")
    assert one["duration"] <= recording.duration <= at
    assert tone(np.array(call.call.heard), HEARD).size >= 15
    assert standin.service.spooled() == []


VARIABLES = {
    "RECORD_STEREO": "true",
    "RECORD_STEREO_SWAP": "true",
    "RECORD_READ_ONLY": "true",
    "RECORD_WRITE_ONLY": "true",
    "RECORD_ANSWER_REQ": "true",
    "RECORD_BRIDGE_REQ": "true",
    "RECORD_MIN_SEC": "30",
    "RECORD_APPEND": "true",
    "RECORD_TOGGLE_ON_REPEAT": "true",
    "RECORD_PRE_BUFFER_FRAMES": "50",
    "enable_file_write_buffering": "true",
    "record_sample_rate": "16000",
}
"""What dialplans set on every leg, each of which once spoilt or delayed what was recorded."""


@pytest.mark.parametrize("chosen", [*((name,) for name in VARIABLES), tuple(VARIABLES)], ids="+".join)
def test_no_variable_of_the_dialplan_changes_what_is_recorded(standin: StandInPhone, chosen: tuple[str, ...]) -> None:
    document = standin.service.document(
        "variables", "answer", {"record": {**NO_LIMITS, "max_length": 1.5, "direction": "speak"}}, "hangup"
    )
    before = tuple(("set", f"{name}={VARIABLES[name]}") for name in chosen)
    ended = standin.call(Dialled(document, ANN, before=before))
    found = check(standin, ended, until=1.5 + begun(ended), reason=EndReason.MAX_LENGTH)
    assert (ended.recording.duration, ended.recording.sample_rate, ended.samples.shape[1]) == (1.5, RATE, 1)
    assert found.said == 1500

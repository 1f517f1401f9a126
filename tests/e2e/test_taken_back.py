"""A service that is killed while calls are recorded takes them back when it starts again, and the recordings go on."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from phones import Dialled, Phone
from running import RunningService
from test_control import NO_LIMITS, live

from esl_record.recording.machine import EndReason, State
from esl_record.standin import voice

pytestmark = pytest.mark.slow

FRAME = 160
LOST = 6
"""Frames that may be touched each time the switch moves a call: it gives up two, which lie across three of ours, and a
busy one another packet."""


@pytest.fixture
def taken(phone: Phone, own_service: RunningService) -> RunningService:
    host, port = phone.event_socket
    own_service.settings["event_socket"] = f"{host}:{port}"
    own_service.start()
    phone.service = own_service
    return own_service


def killed_and_back(service: RunningService, seconds: float) -> None:
    """Killed, dead for ``seconds`` of the call, and started again."""
    service.kill()
    service.process = None
    (spool,) = (service.data / "spool").glob("*.raw")
    size = spool.stat().st_size
    service.wait(lambda: spool.stat().st_size >= size + seconds * 16000, "the call to go on")
    before = service.log.count("goes on")
    service.start()
    service.wait(lambda: service.log.count("goes on") > before, "the call to come back")


def recorded(service: RunningService) -> list[dict[str, Any]]:
    return [one for one in live(service) if one["duration"] > 0]


def heard_from(kept: NDArray[np.int16]) -> int:
    """The sample from which on the caller is heard: a real switch gives up what is first to come from the other leg."""
    return int(np.argmax(np.abs(kept.astype(int)) > 500)) + 10 * FRAME


def frames_apart(kept: NDArray[np.int16], said: NDArray[np.int16]) -> int:
    """Frames in which what was kept is not what was said, once the caller is heard."""
    sound = heard_from(kept)
    probe = kept[sound : sound + 50 * FRAME].astype(float)
    begin = int(np.argmax(np.correlate(said[: 10 * 8000].astype(float), probe)))
    length = min(len(kept) - sound, len(said) - begin) // FRAME * FRAME
    apart = np.abs(kept[sound : sound + length].astype(int) - said[begin : begin + length])
    return int((apart.reshape(-1, FRAME).max(axis=1) > 1500).sum())


@pytest.mark.parametrize("kills", [1, 3])
def test_a_killed_service_goes_on_recording(phone: Phone, taken: RunningService, kills: int) -> None:
    document = taken.document("long", "answer", {"record": {**NO_LIMITS, "control_id": "r"}})
    said = voice.say(90.0)
    call = phone.dial(Dialled(document, said, parked=True))
    taken.wait(lambda: any(one["duration"] > 2.0 for one in live(taken)), "two seconds of audio")
    for _ in range(kills):
        killed_and_back(taken, 1.0)
    before = recorded(taken) and recorded(taken)[0]["duration"]
    taken.wait(lambda: recorded(taken) and recorded(taken)[0]["duration"] > before + 1.0, "it to go on")
    (one,) = live(taken)
    assert one["control_id"] == "r"
    assert taken.command("calling.record.stop", one["call_id"], control_id="r").status_code == 200
    ended = call.end()
    recording = ended.recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.STOP)
    assert recording.duration > 4.0 + kills
    assert frames_apart(ended.samples[:, 0], said) <= kills * LOST
    assert taken.log.count("goes on") == kills
    assert not ended.went_on


def test_the_end_of_the_message_is_found_in_what_was_said_meanwhile(phone: Phone, taken: RunningService) -> None:
    """The caller falls silent while there is no service: the recording ends where it would have ended."""
    document = taken.document("message", "answer", {"record": {"end_silence_timeout": 3, "initial_timeout": 0}})
    said = np.concatenate([voice.say(6.0), np.zeros(8000 * 60, np.int16)])
    call = phone.dial(Dialled(document, said, parked=True))
    taken.wait(lambda: any(one["duration"] > 2.0 for one in live(taken)), "two seconds of audio")
    taken.kill()
    taken.process = None
    (spool,) = (taken.data / "spool").glob("*.raw")
    taken.wait(lambda: spool.stat().st_size >= 11 * 16000, "the silence")
    taken.start()
    recording = call.end().recording
    assert (recording.state, recording.end_reason) == (State.FINISHED, EndReason.END_SILENCE)
    assert 8.0 < recording.duration < 10.5

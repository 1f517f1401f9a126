"""Digits that a caller sends as tones in the audio."""

import numpy as np
import pytest
from numpy.typing import NDArray
from phones import Dialled, Phone
from running import RunningService
from test_bridged_calls import _parties, connect
from test_control import NO_LIMITS, RATE

from esl_record.recording.machine import EndReason

pytestmark = pytest.mark.slow

__all__ = ["_parties"]

KEYS = {"5": (770, 1336), "#": (941, 1477)}


def pressing(*keys: tuple[float, str]) -> NDArray[np.int16]:
    """What a caller says who presses keys at these seconds; 10 s in all."""
    samples, at = np.zeros(10 * RATE), np.arange(RATE // 5) / RATE
    for second, key in keys:
        start = round(second * RATE)
        samples[start : start + len(at)] = 6000 * sum(np.sin(2 * np.pi * hertz * at) for hertz in KEYS[key])
    return samples.astype(np.int16)


@pytest.fixture
def detecting(own_service: RunningService, phone: Phone, request: pytest.FixtureRequest) -> RunningService:
    own_service.settings["inband_dtmf"] = request.param
    own_service.start()
    phone.service = own_service
    return own_service


@pytest.mark.parametrize(
    ("detecting", "reason"),
    [
        ("off", EndReason.MAX_LENGTH),
        ("start_dtmf", EndReason.TERMINATOR),
        ("spandsp", EndReason.TERMINATOR),
    ],
    indirect=["detecting"],
)
@pytest.mark.parametrize("answers", [True, False])
def test_a_tone_ends_a_recording_where_a_detector_runs(
    phone: Phone, detecting: RunningService, reason: EndReason, answers: bool
) -> None:
    steps = ["answer"] if answers else []
    record = {"record": {**NO_LIMITS, "terminators": "#", "max_length": 6}}
    document = detecting.document("tones", *steps, record, "hangup")
    ended = phone.call(Dialled(document, pressing((1.5, "5"), (3.0, "#"))))
    assert ended.recording.end_reason is reason
    if reason is EndReason.TERMINATOR:
        assert ended.recording.terminator == "#"
        assert 1.5 < ended.recording.duration < 4.5


@pytest.mark.parametrize("detecting", ["start_dtmf", "spandsp"], indirect=True)
def test_a_tone_is_heard_in_a_bridge_that_answered_the_call(phone: Phone, detecting: RunningService) -> None:
    document = detecting.document(
        "tones-bridged",
        {"record_call": {"control_id": "until", "stereo": True, "terminators": "#"}},
        {"record_call": {"control_id": "all", "stereo": True}},
        connect(phone, "late-1000", answer_on_bridge=True),
        "hangup",
    )
    ended = phone.call(Dialled(document, pressing((3.0, "#")), hangup_after=6.0))
    reasons = {one.control_id: (one.end_reason, one.terminator) for _, one in ended.recordings}
    assert reasons == {"until": (EndReason.TERMINATOR, "#"), "all": (EndReason.HANGUP, "")}
    whole = {one.control_id: one.duration for _, one in ended.recordings}
    assert whole["until"] < whole["all"] == pytest.approx(6.0, abs=1.0)

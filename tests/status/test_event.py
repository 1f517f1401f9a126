"""A status event: the contract's keys, in both places, for every state."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esl_record.cipher import Cipher
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.status.event import Identity, digits, payload, renewed, sealed, unsealed

WHO = Identity("project", "space", "node")
URL = "https://pbx.example.com/r/1?signature=a"
ENDED = {"end_reason": EndReason.STOP, "duration": 1.5, "size": 24044, "file": "a.wav", "end_time": 102.0}


def recording(state: State, **changed: Any) -> Recording:
    params = RecordParams(control_id="c1", stereo=True)
    one = Recording.begun("r1", Party(call_id="call-1"), params, 100.25)
    return one.model_copy(update={"state": state, **changed})


def test_a_finished_one_is_as_the_contract_has_it() -> None:
    ended = {"duration": 1.5, "size": 24044}
    assert payload(recording(State.FINISHED, **ENDED), WHO, 103.5, url=URL) == {
        "event_type": "calling.call.record",
        "event_channel": "swml:call-1",
        "timestamp": 103.5,
        "project_id": "project",
        "space_id": "space",
        "params": {
            "call_id": "call-1",
            "node_id": "node",
            "control_id": "c1",
            "recording_id": "r1",
            "state": "finished",
            "url": URL,
            "start_time": 100.25,
            "end_time": 102.0,
            "end_reason": "stop",
            **ended,
            "record": {
                "audio": {"format": "wav", "direction": "speak", "stereo": True},
                "url": URL,
                "format": "wav",
                **ended,
            },
        },
    }


@pytest.mark.parametrize(
    ("state", "changed", "present"),
    [
        (State.RECORDING, {}, set()),
        (State.PAUSED, {}, {"pause_behavior"}),
        (State.FINISHED, ENDED, {"duration", "size", "start_time", "end_time", "end_reason"}),
        (State.NO_INPUT, ENDED, {"duration", "size", "start_time", "end_time", "end_reason"}),
        (State.ERROR, ENDED, {"duration", "size", "start_time", "end_time", "end_reason"}),
        (State.ERROR, {**ENDED, "file": ""}, {"start_time", "end_time", "end_reason"}),
    ],
)
def test_each_state_has_its_own_keys(state: State, changed: dict[str, Any], present: set[str]) -> None:
    pausing = PauseBehavior.SILENCE if state is State.PAUSED else None
    params = payload(recording(state, **changed), WHO, 1.0, url=URL, pausing=pausing)["params"]
    always = {"call_id", "node_id", "control_id", "recording_id", "state", "url", "record"}
    assert set(params) == always | present
    assert set(params["record"]) == {"audio", "url", "format"} | (present & {"duration", "size"})
    assert params.get("pause_behavior") == (pausing and "silence")


@given(st.sampled_from(list(State)), st.text(max_size=20), st.text(min_size=1, max_size=20))
def test_a_new_url_stands_in_both_places_and_nothing_else_changes(state: State, old: str, new: str) -> None:
    body = payload(recording(state, **(ENDED if state.final else {})), WHO, 1.0, url=old)
    before = json.dumps(body)
    told = renewed(body, lambda suffix: f"{new}.{suffix}")
    assert json.dumps(body) == before
    fresh = f"{new}.wav" if old else ""
    assert told == payload(recording(state, **(ENDED if state.final else {})), WHO, 1.0, url=fresh)


def test_an_event_that_is_no_recordings_has_no_url_to_renew() -> None:
    body = {"event_type": "calling.call.play", "params": {"state": "finished", "control_id": "p"}}
    assert renewed(body, lambda suffix: "http://new/") == body


def test_what_a_party_pressed_is_sealed_and_comes_back_with_the_key_alone() -> None:
    cipher = Cipher.with_new_key()
    result = {"type": "digit", "params": {"digits": "4539148803436467", "terminator": "#"}}
    body = {"event_type": "calling.call.collect", "params": {"call_id": "call-1", "result": result}}
    kept = sealed(body, cipher)
    assert "4539" not in json.dumps(kept)
    assert kept["params"]["call_id"] == "call-1"
    assert sealed(kept, cipher) == kept
    assert unsealed(kept, cipher) == unsealed(body, cipher) == body
    assert digits(body) == ("4539148803436467",)
    with pytest.raises(ValueError, match="cannot be decrypted"):
        unsealed(kept, Cipher.with_new_key())


def test_what_nobody_pressed_is_left_as_it_is() -> None:
    cipher = Cipher.with_new_key()
    body = payload(recording(State.FINISHED, **ENDED), WHO, 103.5, url=URL)
    assert sealed(body, cipher) == unsealed(body, cipher) == body
    assert digits(body) == ()

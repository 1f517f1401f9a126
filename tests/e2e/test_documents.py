"""Documents that branch, loop and record in the background, on whole calls."""

import numpy as np
import soundfile
from phones import Dialled, Phone
from test_control import NO_LIMITS, OPEN, SECRET, level, tone

from esl_record.recording.machine import EndReason, State


def test_background_recordings_go_on_while_the_call_does_other_things(phone: Phone) -> None:
    document = phone.service.document(
        "background",
        "answer",
        {"record_call": {"control_id": "whole", "stereo": True}},
        {"record_call": {"control_id": "part", "direction": "listen"}},
        {"play": "tone_stream://%(1500,0,1300)"},
        {"stop_record_call": {"control_id": "part"}},
        {"record": {**NO_LIMITS, "max_length": 1.0, "control_id": "message"}},
        {"play": "silence:0.5"},
        "hangup",
    )
    ended = phone.call(Dialled(document, tone(OPEN, 10.0)))
    files = {one.control_id: (one, path) for path, one in ended.recordings}
    assert set(files) == {"whole", "part", "message"}
    reasons = {name: (one.state, one.end_reason) for name, (one, _) in files.items()}
    assert reasons == {
        "whole": (State.FINISHED, EndReason.HANGUP),
        "part": (State.FINISHED, EndReason.STOP),
        "message": (State.FINISHED, EndReason.MAX_LENGTH),
    }
    sounds = {
        name: soundfile.read(one.audio(path), dtype="int16", always_2d=True)[0] for name, (one, path) in files.items()
    }
    assert level(sounds["part"][:, 0], SECRET) > 500
    assert level(sounds["part"][:, 0], OPEN) < 100
    assert level(sounds["whole"][:, 0], OPEN) > 2000
    assert level(sounds["whole"][:, 1], SECRET) > 500
    assert len(sounds["whole"]) > len(sounds["part"]) + len(sounds["message"])
    assert np.all(np.abs(len(sounds["message"]) - 8000) == 0)
    assert ended.variables["record_control_id"] == "part"
    assert ended.variables["stop_record_call_result"] == "success"
    assert ended.variables["record_call_result"] == "success"


def test_a_document_loops_branches_and_returns(phone: Phone) -> None:
    service = phone.service
    (service.documents / "loops.yaml").write_text(
        """
version: 1.0.0
sections:
  main:
    - answer
    - set: {n: 0}
    - label: again
    - set: {n: "${n + 1}"}
    - record: {initial_timeout: 0, max_length: 0.5, control_id: "take-${n}"}
    - goto: {label: again, when: "n < 3 && record_result == 'success'", max: 5}
    - execute:
        dest: decide
        params: {takes: "${n}"}
        on_return:
          - switch:
              variable: return_value
              case:
                "three": [{record: {initial_timeout: 0, max_length: 0.5, control_id: last}}]
              default: [hangup]
  decide:
    - cond:
        - when: params.takes == 3
          then: [{return: three}]
        - else: [{return: other}]
"""
    )
    ended = phone.call(Dialled("loops", tone(OPEN, 10.0)))
    assert sorted(one.control_id for _, one in ended.recordings) == ["last", "take-1", "take-2", "take-3"]
    assert {one.duration for _, one in ended.recordings} == {0.5}

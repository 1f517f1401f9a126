"""Digits of the caller and to the caller, and how loud it is played to, on whole calls."""

from collections import defaultdict

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from phones import Dialled, Ended, Phone
from receivers import Endpoint
from test_control import NO_LIMITS, SECRET, Spools, level, live

from esl_record.recording.machine import EndReason

WHOLE = {"record_call": {"control_id": "whole", "direction": "listen"}}
TONE = "tone_stream://%({},0,1300)"


def heard(ended: Ended) -> NDArray[np.int16]:
    """What the caller heard while ``WHOLE`` was recorded."""
    return ended.samples[:, 0]


def asked(ended: Ended) -> tuple[str, ...]:
    """What came of the prompt; a variable that is empty is none to the switch."""
    names = ("prompt_result", "prompt_value", "prompt_digit_terminator")
    return tuple(ended.variables.get(name, "") for name in names)


def loud(samples: NDArray[np.int16]) -> float:
    """Seconds with something to be heard."""
    return float(np.sum(np.abs(samples.astype(int)) > 300)) / 8000


def test_the_first_digit_ends_the_sounds_and_a_terminator_the_prompt(phone: Phone) -> None:
    prompt = {"play": [TONE.format(15000), TONE.format(15000)], "max_digits": 4, "terminators": "#"}
    document = phone.service.document("barge", "answer", WHOLE, {"prompt": prompt}, "hangup")
    ended = phone.call(Dialled(document, digits=((1.0, "1"), (2.0, "2"), (3.0, "#"))))
    assert asked(ended) == ("match_digits", "12", "#")
    # The stand-in runs fast, so that a digit's way through a busy machine is long in its time.
    assert 0.5 < loud(heard(ended)) < 5.0
    assert len(heard(ended)) < 10 * 8000


def test_digits_after_the_sound_are_as_many_as_wanted(phone: Phone) -> None:
    prompt = {"play": "silence:0.2", "max_digits": 3, "initial_timeout": 10, "digit_timeout": 10}
    document = phone.service.document("three", "answer", {"prompt": prompt}, "hangup")
    ended = phone.call(Dialled(document, digits=((1.5, "1"), (2.2, "*"), (2.9, "3"), (3.6, "4"))))
    assert asked(ended) == ("match_digits", "1*3", "")
    assert ended.variables["prompt_value_raw"] == "1*3"


def test_what_was_pressed_before_a_prompt_does_not_count(phone: Phone) -> None:
    steps = [{"sleep": 2000}, {"prompt": {"play": TONE.format(9000)}}]
    document = phone.service.document("before", "answer", *steps, "hangup")
    ended = phone.call(Dialled(document, digits=((0.7, "7"), (4.0, "8"))))
    assert asked(ended) == ("match_digits", "8", "")


def test_nobody_presses_anything(phone: Phone) -> None:
    prompt = {"play": TONE.format(1500), "initial_timeout": 0.3}
    document = phone.service.document("nobody", "answer", WHOLE, {"prompt": prompt}, "hangup")
    ended = phone.call(Dialled(document))
    assert asked(ended) == ("no_input", "", "")
    assert loud(heard(ended)) == pytest.approx(1.5, abs=0.1)


def test_a_digit_without_a_second_is_enough_after_the_digit_timeout(phone: Phone) -> None:
    prompt = {"play": "silence:0.2", "max_digits": 5, "initial_timeout": 10, "digit_timeout": 0.5}
    document = phone.service.document("lonely", "answer", {"prompt": prompt}, "hangup")
    assert asked(phone.call(Dialled(document, digits=((1.5, "5"),)))) == ("match_digits", "5", "")


def test_no_digit_cuts_a_sound_or_a_sleep_short(phone: Phone) -> None:
    steps = [{"play": TONE.format(3000)}, {"sleep": 3000}, {"play": TONE.format(2000)}]
    document = phone.service.document("immune", "answer", WHOLE, *steps, "hangup")
    digits = tuple((0.5 + 0.7 * number, digit) for number, digit in enumerate("*5#*1*2*3*"))
    ended = phone.call(Dialled(document, digits=digits))
    assert loud(heard(ended)) == pytest.approx(5.0, abs=0.2)
    assert len(heard(ended)) > 7.9 * 8000


def test_a_recording_after_a_sound_still_ends_with_its_terminator(phone: Phone) -> None:
    steps = [{"play": TONE.format(500)}, {"record": {**NO_LIMITS, "terminators": "#"}}]
    document = phone.service.document("terminated", "answer", *steps, "hangup")
    ended = phone.call(Dialled(document, digits=((3.0, "5"), (4.0, "#"))))
    assert (ended.recording.end_reason, ended.recording.terminator) == (EndReason.TERMINATOR, "#")


def test_a_sleep_without_end_ends_with_the_call(phone: Phone) -> None:
    document = phone.service.document("forever", "answer", WHOLE, {"sleep": -1}, {"play": TONE.format(500)})
    ended = phone.call(Dialled(document, digits=((0.5, "1"),), hangup_after=2.0))
    assert ended.recording.end_reason is EndReason.HANGUP
    assert loud(heard(ended)) == 0


def test_the_next_step_begins_when_the_digits_are_out(phone: Phone) -> None:
    steps = [WHOLE, {"send_digits": {"digits": "12w345"}}, {"stop_record_call": {"control_id": "whole"}}]
    document = phone.service.document("sent", "answer", *steps, "hangup")
    ended = phone.call(Dialled(document, digits=((0.5, "1"), (1.5, "*"))))
    assert ended.variables["send_digits_result"] == "success"
    # Five digits of a quarter of a second, as much between them, and a wait of half a second.
    assert 3.0 <= ended.recording.duration < 4.5


def test_a_volume_is_heard_by_the_caller_and_recordings_begun_meanwhile(phone: Phone) -> None:
    service = phone.service
    sounds = {"urls": ["silence:6", "tone_stream://v=-20;%(1500,0,1300)"], "volume": 6}
    document = service.document("volume", "answer", WHOLE, {"play": sounds}, "hangup")
    call = phone.dial(Dialled(document))
    (plain,) = service.wait(lambda: live(service), "the recording")
    spools = Spools(service.data / "spool")
    service.wait(lambda: spools.look(plain["recording_id"]) > 1.0, "a second of audio")
    louder = {**NO_LIMITS, "direction": "listen", "format": "wav"}
    assert service.command("calling.record", plain["call_id"], control_id="loud", audio=louder).status_code == 200
    ended = call.end()
    found = {
        recording.control_id: level(soundfile.read(recording.audio(path), dtype="int16")[0], SECRET)
        for path, recording in ended.recordings
    }
    assert 20 * np.log10(found["loud"] / found["whole"]) == pytest.approx(7.2, abs=0.5)


def test_who_wants_to_know_is_told_of_sounds_and_digits(phone: Phone) -> None:
    endpoint = Endpoint()
    told = {"status_url": endpoint.url}
    steps = [
        {"play": {"url": "silence:0.2", **told}},
        {"play": {"url": "/no/such/file.wav", **told}},
        {"prompt": {"play": TONE.format(9000), "terminators": "#", "max_digits": 2, **told}},
    ]
    document = phone.service.document("told", "answer", *steps, "hangup")
    ended = phone.call(Dialled(document, digits=((2.0, "4"), (3.0, "#"))))
    posts = [post.json for post in endpoint.wait(5)]
    endpoint.shut()
    assert {post["event_channel"] for post in posts} == {f"swml:{ended.uuid}"}
    states: dict[str, list[str]] = defaultdict(list)
    for post in posts:
        if post["event_type"] == "calling.call.play":
            states[post["params"]["control_id"]].append(post["params"]["state"])
    assert sorted(states.values()) == [["playing", "error"], ["playing", "finished"]]
    (result,) = [post["params"]["result"] for post in posts if post["event_type"] == "calling.call.collect"]
    assert result == {"type": "digit", "params": {"digits": "4", "terminator": "#"}}

"""How a call's thread carries out what it is told."""

import numpy as np
import pytest

from esl_record.standin.caller import Caller
from esl_record.standin.voice import say

LONG = "tone_stream://%(2000,0,500)"


@pytest.fixture
def call(bench):
    return bench.place(Caller(say(1.0)))


def completed(bench) -> list[tuple[str, str]]:
    done = bench.client.named("CHANNEL_EXECUTE_COMPLETE")
    return [(said["Application"], said["Application-Response"]) for said in done]


def test_an_application_starts_with_the_next_frame(bench, call):
    bench.client.execute("set", "a=1")
    assert "a" not in call.variables
    bench.advance(0.02)
    assert call.variables["a"] == "1"


def test_the_event_uuid_comes_back_as_application_uuid(bench, call):
    bench.client.execute("set", "a=1", Event_UUID="mine")
    bench.advance(0.02)
    assert [said["Application-UUID"] for said in bench.client.events[-2:]] == ["mine", "mine"]


@pytest.mark.parametrize(
    ("application", "argument", "frames"),
    [("sleep", "300", 15), ("playback", "silence_stream://300", 15), ("playback", "tone_stream://%(250,0,1000)", 13)],
)
def test_how_long_an_application_takes_is_counted_in_frames(bench, call, application, argument, frames):
    bench.client.execute(application, argument)
    bench.advance(0.02 * frames)
    assert completed(bench)[-1][0] == "answer"
    bench.advance(0.02)
    assert completed(bench)[-1][0] == application


def test_without_the_event_lock_an_application_runs_inside_another(bench, call):
    bench.client.execute("playback", LONG, Event_UUID="outer")
    bench.advance(0.5)
    bench.client.execute("set", "a=1", Event_UUID="inner")
    bench.advance(0.04)
    assert completed(bench)[-1][0] == "set"
    bench.advance(2.0)
    assert completed(bench)[-1] == ("playback", "FILE PLAYED")


def test_with_the_event_lock_applications_queue(bench, call):
    for number in "12":
        bench.client.execute("playback", "tone_stream://%(400,0,500)", Event_UUID=number, event_lock="true")
    bench.advance(1.0)
    told = [(said.kind, said["Application-UUID"]) for said in bench.client.events if "EXECUTE" in said.kind]
    assert told[-4:] == [
        ("CHANNEL_EXECUTE", "1"),
        ("CHANNEL_EXECUTE_COMPLETE", "1"),
        ("CHANNEL_EXECUTE", "2"),
        ("CHANNEL_EXECUTE_COMPLETE", "2"),
    ]


def test_uuid_break_ends_what_runs_and_all_forgets_what_waits(bench, call):
    for _ in range(3):
        bench.client.execute("playback", LONG, event_lock="true")
    bench.advance(0.5)
    assert bench.api(f"uuid_break {call.uuid}") == "+OK\n"
    bench.advance(0.5)
    assert completed(bench)[1:] == [("playback", "FILE PLAYED")]
    bench.api(f"uuid_break {call.uuid} all")
    bench.advance(3.0)
    assert len(completed(bench)) == 3


def test_a_playback_is_repeated_as_often_as_asked(bench, call):
    bench.client.execute("playback", "tone_stream://%(600,0,500)", loops="3")
    bench.advance(2.0)
    assert len(completed(bench)) == 4
    assert len(bench.client.named("CHANNEL_EXECUTE")) == 4


@pytest.mark.parametrize(("digit", "seconds", "left"), [("5", 1.98, False), ("*", 0.5, True)])
def test_a_digit_stops_a_playback_only_if_it_is_a_terminator(bench, call, digit, seconds, left):
    bench.client.execute("playback", LONG)
    bench.advance(0.5)
    call.press(digit)
    bench.advance(0.04)
    assert bench.client.named("DTMF")[0]["DTMF-Digit"] == digit
    assert (completed(bench)[-1][0] == "playback") is left
    assert call.variables.get("playback_terminator_used") == (digit if left else None)


def test_a_digit_ends_a_sleep_and_stays_to_be_read(bench, call):
    bench.client.execute("sleep", "5000")
    bench.advance(0.1)
    call.press("7")
    bench.advance(0.06)
    assert completed(bench)[-1][0] == "sleep"
    assert bench.client.events[-1]["DTMF-Digit"] == "7"


def test_digits_come_when_the_caller_presses_them(bench):
    bench.place(Caller(say(0.5), digits=((0.5, "1"), (1.0, "2"))))
    bench.advance(0.5)
    assert not bench.client.named("DTMF")
    bench.advance(0.52)
    assert [said["DTMF-Digit"] for said in bench.client.named("DTMF")] == ["1", "2"]


@pytest.mark.parametrize(
    ("pressed", "result", "value", "used"),
    [
        ("42#", "success", "42", "#"),
        ("123", "success", "123", None),
        ("1", "timeout", "1", None),
        ("", "failure", None, None),
    ],
)
def test_play_and_get_digits(bench, call, pressed, result, value, used):
    bench.client.execute("play_and_get_digits", r"1 3 1 2000 # silence_stream://250 silence_stream://250 got \d+")
    bench.advance(0.4)
    for digit in pressed:
        call.press(digit)
        bench.advance(0.02)
    bench.advance(3.0)
    assert completed(bench)[-1][0] == "play_and_get_digits"
    assert call.variables["read_result"] == result
    assert (call.variables.get("got"), call.variables.get("read_terminator_used")) == (value, used)


def test_a_missing_file_is_not_found(bench, call):
    bench.client.execute("playback", "/no/such/file.wav")
    bench.advance(0.02)
    assert completed(bench)[-1] == ("playback", "FILE NOT FOUND")


def test_speaking_takes_as_long_as_the_text(bench, call):
    bench.client.execute("speak", "flite|kal|please leave a message")
    bench.advance(1.4)
    assert completed(bench)[-1][0] == "answer"
    bench.advance(0.3)
    assert completed(bench)[-1] == ("speak", "_none_")
    assert np.sqrt(np.mean(call.heard[-11000:].astype(float) ** 2)) > 1000


def test_digits_are_queued_and_how_long_they_take_is_told(bench, call):
    for digits, told in (("12", "1000"), ("1wW2*", "1500"), ("w", "1500"), ("1" * 100, "1500")):
        bench.client.execute("send_dtmf", digits)
        bench.advance(0.04)
        assert bench.api(f"uuid_getvar {call.uuid} last_dtmf_duration") == told


@pytest.mark.parametrize(("limit", "digit"), [("", "*"), (" 1", "")])
def test_recording_as_an_application_ends_with_a_digit_or_at_its_limit(bench, call, tmp_path, limit, digit):
    path = tmp_path / "a.wav"
    bench.client.execute("record", f"{path}{limit}")
    bench.advance(0.7)
    assert bench.client.kinds[-1] == "EXECUTE"
    for pressed in digit:
        call.press(pressed)
    bench.advance(0.1 if digit else 0.5)
    assert bench.client.kinds[-1] == "EXECUTE_COMPLETE"
    assert path.stat().st_size > 1000
    assert call.alive


def test_an_unknown_application_ends_the_call(bench, call):
    bench.client.execute("no_such_app", "x")
    bench.advance(0.02)
    assert call.hangup_cause == "DESTINATION_OUT_OF_ORDER"
    assert call.finished.is_set()


def test_an_argument_can_be_the_body(bench, call):
    head = "sendmsg\ncall-command: execute\nexecute-app-name: set\ncontent-type: text/plain\ncontent-length: 9"
    bench.client.socket.sendall(f"{head}\n\nbody=a\nb=".encode())
    bench.client.command("getvar body")
    bench.advance(0.02)
    assert call.variables["body"] == "a\nb="


def test_variables_are_expanded_and_api_calls_are_noted_but_not_run(bench):
    call = bench.place(Caller(say(0.1), name="${system(touch /tmp/x)}", number="1000"))
    for argument in ("a=${caller_id_number}!", r"b=\${caller_id_number}", "c=${caller_id_name}", "d=${status}"):
        bench.client.execute("set", argument)
    bench.advance(0.02)
    assert call.variables["a"] == "1000!"
    assert call.variables["b"] == "1000", "set expands its value again"
    assert "c" not in call.variables
    assert set(call.expansions) == {"system touch /tmp/x"}


def test_multiset_export_and_unset(bench, call):
    bench.client.execute("multiset", "^^:a=1:b=2")
    bench.client.execute("export", "c=3")
    bench.client.execute("unset", "a")
    bench.advance(0.02)
    found = call.variables
    assert (found.get("a"), found["b"], found["c"], found["export_vars"]) == (None, "2", "3", "c")


def test_a_bridge_to_the_echo_brings_the_party_its_own_voice(bench):
    caller = Caller(say(2.0))
    call = bench.place(caller)
    bench.client.execute("bridge", "sofia/internal/9196@127.0.0.1:5080")
    bench.advance(1.0)
    assert bench.client.named("CHANNEL_BRIDGE")
    heard = call.heard
    np.testing.assert_array_equal(heard[320:], caller.audio[320 : len(heard)])


def test_the_other_party_can_be_killed_and_the_call_goes_on(bench, call):
    bench.client.execute("bridge", "user/1001")
    bench.advance(0.5)
    (bridged,) = bench.client.named("CHANNEL_BRIDGE")
    assert bench.api(f"uuid_kill {bridged['Bridge-B-Unique-ID']}") == "+OK\n"
    bench.advance(0.1)
    assert bench.client.kinds[-2:] == ["UNBRIDGE", "EXECUTE_COMPLETE"]
    assert call.hangup_cause is None


@pytest.mark.parametrize("go_on", ["true", "NO_ROUTE_DESTINATION", "3"])
def test_a_bridge_that_fails_hangs_up_unless_told_to_continue(bench, call, go_on):
    bench.client.execute("set", f"continue_on_fail={go_on}")
    bench.client.execute("bridge", "sofia/internal/0000@127.0.0.1:5080")
    bench.advance(0.1)
    assert call.hangup_cause is None
    assert call.variables["originate_failed_cause"] == "NO_ROUTE_DESTINATION"
    bench.client.execute("unset", "continue_on_fail")
    bench.client.execute("bridge", "sofia/internal/0000@127.0.0.1:5080")
    bench.advance(0.1)
    assert call.hangup_cause == "NO_ROUTE_DESTINATION"


def test_after_hang_up_nothing_is_executed_any_more(bench, call):
    call.hang_up()
    bench.advance(0.02)
    before = len(bench.client.events)
    assert bench.client.execute("playback", LONG) == "+OK"
    bench.advance(0.5)
    assert len(bench.client.events) == before


def test_the_caller_hangs_up_when_it_is_time(bench):
    call = bench.place(Caller(say(0.5), hangup_after=1.5))
    bench.advance(5.0)
    assert (call.hangup_cause, call.position) == ("NORMAL_CLEARING", 1.5)


@pytest.mark.parametrize(("answer", "cause"), [(True, "NORMAL_CLEARING"), (False, "ORIGINATOR_CANCEL")])
def test_a_caller_gives_up(bench, answer, cause):
    call = bench.place(Caller(say(0.5), gives_up_after=3.0), answer=answer)
    bench.advance(2.8)
    assert call.hangup_cause is None
    bench.advance(0.4)
    assert call.hangup_cause == cause


def test_a_parked_call_can_have_a_timeout(bench, call):
    bench.client.execute("set", "park_timeout=3:USER_BUSY")
    bench.advance(0.02)
    bench.switch.api(f"uuid_transfer {call.uuid} 'park:' inline")
    bench.advance(1.9)
    assert call.hangup_cause is None
    bench.advance(1.2)
    assert call.hangup_cause == "USER_BUSY"


def test_record_events_come_only_when_asked_for(bench, call, tmp_path):
    bench.record(tmp_path / "a.raw")
    bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw")
    assert not bench.client.named("RECORD_START")
    bench.client.command("event plain RECORD_START RECORD_STOP MEDIA_BUG_START MEDIA_BUG_STOP")
    bench.record(tmp_path / "a.raw")
    bench.advance(0.1)
    call.hang_up()
    bench.advance(0.02)
    assert [kind for kind in bench.client.kinds if "ECORD" in kind or "BUG" in kind] == [
        "RECORD_START", "MEDIA_BUG_START", "RECORD_STOP", "MEDIA_BUG_STOP",
    ]  # fmt: skip
    assert bench.client.kinds.index("RECORD_STOP") > bench.client.kinds.index("STATE")

"""API commands, on the connection and at the console."""

import pytest

from esl_record.standin.caller import Caller
from esl_record.standin.voice import say

USAGE = "-USAGE: <uuid> [start|stop|mask|unmask] <path> [<limit>] [<recording_vars>]\n"

AUDIO_USAGE = "-USAGE: <uuid> [start [read|write] [[mute|level] <level>]|stop]\n"


@pytest.fixture
def call(bench):
    return bench.place(Caller(say(0.5)))


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("uuid_exists {uuid}", "true"),
        ("uuid_exists nobody", "false"),
        ("uuid_getvar {uuid} read_codec", "PCMU"),
        ("uuid_getvar {uuid} caller_id_number", "15551230001"),
        ("uuid_getvar {uuid} no_such", "_undef_"),
        ("uuid_getvar nobody x", "-ERR No such channel!\n"),
        ("uuid_setvar {uuid} a one two", "+OK\n"),
        ("uuid_setvar_multi {uuid} a=1;b=2", "+OK\n"),
        ("uuid_setvar nobody a 1", "-ERR No such channel!\n"),
        ("uuid_break nobody", "-ERR No such channel!\n"),
        ("uuid_audio nobody stop", "-ERR No such channel!\n"),
        ("uuid_audio {uuid} start write level 2", "+OK\n"),
        ("uuid_audio {uuid} start write level 9", "+OK\n"),
        ("uuid_audio {uuid} stop", "+OK\n"),
        ("uuid_audio {uuid} start write", AUDIO_USAGE),
        ("uuid_kill nobody", "-ERR No such channel!\n"),
        ("uuid_answer nobody", "-ERROR\n"),
        ("uuid_record {uuid} dance /tmp/x.raw", USAGE),
        ("uuid_record {uuid} start /proc/nope/x.raw", "-ERR Cannot record session!\n"),
        ("uuid_record {uuid} start /tmp/x.zzz", "-ERR Cannot record session!\n"),
        ("uuid_record {uuid} stop /tmp/none.raw", "-ERR Cannot stop record session!\n"),
        ("uuid_record {uuid} mask /tmp/none.raw", "-ERR Cannot mask recording session!\n"),
        ("uuid_record nobody stop /tmp/none.raw", "-ERR Cannot locate session!\n"),
        ("nonsense", "-ERR nonsense Command not found!\n"),
        ("global_getvar hostname", "standin"),
    ],
)  # fmt: skip
def test_answers(bench, call, command, answer):
    assert bench.api(command.format(uuid=call.uuid)) == answer
    assert bench.switch.api(command.format(uuid=call.uuid)) == answer


def test_what_was_set_is_there(bench, call):
    bench.api(f"uuid_setvar {call.uuid} a one two")
    assert bench.api(f"uuid_getvar {call.uuid} A") == "one two"
    assert "variable_a: one%20two\n" in bench.api(f"uuid_dump {call.uuid}")
    bench.api(f"uuid_setvar {call.uuid} a")
    assert bench.api(f"uuid_getvar {call.uuid} a") == "_undef_"


def test_status_and_version(bench, call):
    assert " is ready\n1 session(s) since startup\n1 session(s) - " in bench.api("status")
    assert bench.api("version").startswith("FreeSWITCH Version 1.11.3")


def test_a_call_can_be_answered_from_elsewhere(bench):
    bench.place(Caller(say(0.1)), answer=False)
    assert bench.api(f"uuid_answer {bench.call.uuid}") == "+OK\n"
    assert bench.client.kinds[-1] == "ANSWER"
    assert bench.api(f"uuid_answer {bench.call.uuid}") == "+OK\n"
    assert bench.client.kinds.count("ANSWER") == 1


def test_a_path_in_record_session_is_known_only_by_all_of_it(bench, call, tmp_path):
    path = f"{{RECORD_READ_ONLY=true}}{tmp_path}/a.raw"
    bench.client.execute("record_session", path)
    bench.advance(0.02)
    assert bench.api(f"uuid_record {call.uuid} pause {tmp_path}/a.raw") == "-ERR Cannot pause recording session!\n"
    assert bench.api(f"uuid_record {call.uuid} pause {path}") == "+OK Success\n"


def test_recording_variables_are_told_with_the_recording(bench, call, tmp_path):
    bench.client.command("event plain RECORD_START")
    bench.record(tmp_path / "a.raw", "my_id=x%20y")
    (start,) = bench.client.named("RECORD_START")
    assert start["Recording-Variable-my_id"] == "x y"
    assert start["Record-File-Path"] == f"{tmp_path}/a.raw"


def test_starting_a_path_again_changes_nothing(bench, call, tmp_path):
    bench.record(tmp_path / "a.raw")
    bench.advance(0.2)
    size = (tmp_path / "a.raw").stat().st_size
    assert bench.record(tmp_path / "a.raw") == "+OK Success\n"
    assert (tmp_path / "a.raw").stat().st_size == size


def test_a_background_job_tells_its_result(bench, call):
    bench.client.command("event plain BACKGROUND_JOB")
    assert bench.client.command("bgapi uuid_exists nobody\nJob-UUID: mine") == "+OK Job-UUID: mine"
    assert bench.client.received.endswith(b"Job-Command-Arg: nobody\nContent-Length: 5\n\nfalse")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("myevents", "-ERR aready enabled."),
        ("linger", "+OK will linger"),
        ("nolinger", "+OK will not linger"),
        ("divert_events on", "+OK events diverted"),
        ("filter Unique-ID x", "+OK filter added. [Unique-ID]=[x]"),
        ("event plain", "-ERR no keywords supplied"),
        ("event plain ALL", "+OK event listener enabled plain"),
        ("nixevent DTMF", "+OK events nixed"),
        ("noevents", "+OK no longer listening for events"),
        ("getvar direction", "inbound"),
        ("getvar no_such", "-ERR command not found"),
        ("sendmsg nobody\ncall-command: hangup", "-ERR invalid session id [nobody]"),
        ("nonsense", "-ERR command not found"),
    ],
)
def test_commands_of_the_connection(bench, call, command, answer):
    assert bench.client.command(command) == answer


def test_a_filter_keeps_other_events_away(bench, call):
    bench.client.command("filter Event-Name DTMF")
    before = len(bench.client.events)
    bench.client.execute("set", "a=1")
    call.press("1")
    bench.advance(0.1)
    assert [said.kind for said in bench.client.events[before:]] == ["DTMF"]


def test_events_of_other_calls_do_not_come_with_myevents(bench, call):
    other = bench.switch.call(bench.client.address, "", Caller(say(0.1)))
    before = len(bench.client.events)
    other.kill("NORMAL_CLEARING")
    bench.advance(0.1)
    assert len(bench.client.events) == before


def test_hanging_up_by_message(bench, call):
    bench.client.command("sendmsg\ncall-command: hangup\nhangup-cause: CALL_REJECTED")
    bench.advance(0.02)
    assert call.hangup_cause == "CALL_REJECTED"
    assert bench.client.kinds[-2:] == ["HANGUP_COMPLETE", "text/disconnect-notice"]

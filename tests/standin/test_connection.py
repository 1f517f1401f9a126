"""Connections that linger, end, go on, break, or never were; and switches that have something wrong with them."""

import gevent
import pytest
from gevent import socket
from standin_client import NOON, Bench, Client

from esl_record.standin.caller import Caller
from esl_record.standin.faults import Faults
from esl_record.standin.switch import Switch
from esl_record.standin.voice import say


def settle(bench, seconds=0.1):
    """Let the connection's greenlets see what happened to it, then call time pass."""
    gevent.sleep(0.02)
    bench.switch.advance(seconds)


@pytest.fixture
def call(bench):
    return bench.place(Caller(say(1.0)))


def test_with_nobody_listening_the_dialplan_goes_on():
    nobody = Client()
    nobody.close()
    switch = Switch(speed=50)
    call = switch.call(nobody.address, "voicemail", Caller(say(0.1)))
    call.wait(5.0)
    assert call.went_on
    assert (call.hangup_cause, call.position) == ("NORMAL_CLEARING", 0.0)
    switch.close()


def test_the_path_is_told_as_a_variable(bench):
    bench.place(Caller(say(0.1)), path="voicemail")
    assert bench.client.told[0]["variable_socket_path"] == "voicemail"


def test_a_caller_name_cannot_add_a_header(bench):
    bench.place(Caller(say(0.1), name="Ann\nX-Injected: yes"))
    headers = dict(bench.client.told[0].headers)
    assert headers["Channel-Caller-ID-Name"] == "Ann%0AX-Injected%3A%20yes"
    assert "X-Injected" not in headers


def test_when_the_service_goes_the_dialplan_goes_on(bench, call):
    bench.client.socket.close()
    settle(bench)
    assert (call.went_on, call.hangup_cause) == (True, "NORMAL_CLEARING")


def test_parked_behind_it_the_call_stays_and_its_file_grows(bench, tmp_path):
    call = bench.place(Caller(say(1.0)), behind=[("park", "")])
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.client.socket.close()
    settle(bench, 1.0)
    assert call.alive
    assert not call.went_on
    assert call.variables["current_application"] == "park"
    assert (tmp_path / "a.raw").stat().st_size == 16000


def test_what_runs_when_the_service_goes_runs_to_its_end(bench):
    call = bench.place(Caller(say(1.0)), behind=[("hangup", "USER_BUSY")])
    bench.client.execute("playback", "tone_stream://%(1000,0,500)")
    bench.client.execute("set", "a=b")
    bench.advance(0.1)
    bench.client.socket.close()
    settle(bench, 0.8)
    assert call.alive
    bench.switch.advance(0.2)
    assert (call.hangup_cause, call.variables["a"]) == ("USER_BUSY", "b")


def test_a_service_that_goes_without_a_word_leaves_the_call_parked(bench):
    call = bench.switch.call(bench.client.address, "", Caller(say(0.1)), behind=[("hangup", "USER_BUSY")])
    bench.switch.advance(0.02)
    bench.client.accept()
    bench.client.socket.close()
    settle(bench, 1.0)
    assert call.alive
    assert call.variables["current_application"] == "socket"


@pytest.mark.parametrize("asked", ["resume", "variable"])
def test_with_resume_the_dialplan_goes_on_when_the_connection_ends(bench, call, asked):
    if asked == "resume":
        assert bench.client.command("resume") == "+OK"
    else:
        bench.api(f"uuid_setvar {call.uuid} socket_resume true")
    bench.client.execute("playback", "tone_stream://%(5000,0,500)")
    bench.advance(0.2)
    bench.client.socket.close()
    settle(bench)
    assert call.went_on
    assert call.finished.is_set()


def test_a_hang_up_is_no_going_on(bench, call):
    bench.client.command("resume")
    call.hang_up()
    bench.advance(0.1)
    assert call.finished.is_set()
    assert not call.went_on


def test_a_lingering_connection_stays_as_long_as_asked(bench, call):
    call.hang_up()
    bench.advance(0.02)
    assert bench.client.kinds[-1] == "text/disconnect-notice"
    assert bench.client.told[-1]["Linger-Time"] == "5"
    bench.advance(4.9)
    assert not bench.client.ended
    assert bench.client.command("getvar hangup_cause") == "NORMAL_CLEARING"
    bench.advance(1.5)
    bench.client.hear(0.2)
    assert bench.client.ended
    assert bench.client.told[-1]["Content-Disposition"] == "disconnect"


def test_without_linger_a_kill_loses_the_tail_of_the_events(bench):
    call = bench.place(Caller(say(0.1)), linger=False)
    bench.switch.api(f"uuid_kill {call.uuid}")
    bench.advance(0.2)
    bench.client.hear(0.2)
    assert bench.client.kinds[-2:] == ["HANGUP", "text/disconnect-notice"]
    assert bench.client.ended


def test_a_killed_call_answers_first(bench, call):
    assert bench.api(f"uuid_kill {call.uuid} USER_BUSY") == "+OK\n"
    bench.advance(0.02)
    assert bench.client.kinds[-7:] == [
        "HANGUP", "text/disconnect-notice", "UNPARK", "EXECUTE_COMPLETE", "STATE", "STATE", "HANGUP_COMPLETE",
    ]  # fmt: skip
    assert call.hangup_cause == "USER_BUSY"


def test_a_call_taken_back_loses_two_frames_of_audio(bench, tmp_path):
    caller = Caller(say(4.0))
    call = bench.place(caller, behind=[("park", "")])
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(0.5)
    bench.client.socket.close()
    settle(bench, 0.5)
    lost = int(call.position * 8000)
    host, port = bench.client.address
    assert bench.switch.api(f"uuid_transfer {call.uuid} 'sleep:100,socket:{host}:{port} async full' inline") == "+OK\n"
    bench.switch.advance(0.2)
    bench.client.accept()
    bench.switch.advance(0.3)
    bench.client.command("connect")
    assert bench.client.told[0]["variable_socket_path"] == "voicemail"
    bench.client.command("linger")
    assert bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw") == "+OK Success\n"
    heard = caller.audio[: int(call.position * 8000)].copy()
    heard[lost : lost + 320] = -1
    assert (tmp_path / "a.raw").read_bytes() == heard.tobytes()
    assert call.transferred is not None
    assert not call.went_on


def test_a_destination_that_is_none_ends_the_call(bench, call):
    bench.api(f"uuid_transfer {call.uuid} 7001 XML default")
    settle(bench)
    assert (call.transferred, call.went_on, call.finished.is_set()) == ("7001", False, True)
    assert call.hangup_cause == "NO_ROUTE_DESTINATION"


def test_a_connection_stays_with_a_call_that_is_sent_elsewhere(bench, call):
    bench.client.execute("playback", "tone_stream://%(9000,0,500)")
    bench.advance(0.1)
    before = len(bench.client.events)
    assert bench.api(f"uuid_transfer {call.uuid} 'sleep:300,hangup:USER_BUSY' inline") == "+OK\n"
    bench.advance(0.5)
    assert [(said.kind, dict(said.headers).get("Application")) for said in bench.client.events[before:]] == [
        ("CHANNEL_EXECUTE_COMPLETE", "playback"),
        ("CHANNEL_UNPARK", None),
        ("CHANNEL_EXECUTE_COMPLETE", "socket"),
        ("CHANNEL_STATE", None),
        ("CHANNEL_STATE", None),
        ("CHANNEL_EXECUTE", "sleep"),
        ("CHANNEL_EXECUTE_COMPLETE", "sleep"),
        ("CHANNEL_EXECUTE", "hangup"),
        ("CHANNEL_HANGUP", None),
        ("CHANNEL_EXECUTE_COMPLETE", "hangup"),
        ("CHANNEL_STATE", None),
        ("CHANNEL_STATE", None),
        ("CHANNEL_HANGUP_COMPLETE", None),
    ]
    assert bench.client.told[-1]["Content-Disposition"] == "linger"
    assert bench.client.events[before]["Application-Response"] == "PLAYBACK ERROR"


@pytest.mark.parametrize(("sleep", "alive"), [("", False), ("sleep:200,", True)])
def test_an_old_connection_that_ends_takes_the_call_out_of_its_new_park(bench, call, sleep, alive):
    """But not out of another application."""
    bench.api(f"uuid_transfer {call.uuid} '{sleep}park' inline")
    bench.advance(0.1)
    bench.client.socket.close()
    settle(bench, 0.5)
    assert call.alive == alive


def test_a_call_that_is_recorded_by_an_application_does_not_survive_a_transfer(bench, tmp_path):
    call = bench.place(Caller(say(0.5)), behind=[("record", f"{tmp_path}/a.wav 20")])
    bench.client.socket.close()
    settle(bench, 0.5)
    assert (tmp_path / "a.wav").exists()
    assert bench.switch.api(f"uuid_transfer {call.uuid} park inline") == "+OK\n"
    settle(bench)
    assert call.hangup_cause == "DESTINATION_OUT_OF_ORDER"


def test_a_call_is_not_sent_elsewhere_for_ever(bench, call):
    bench.api(f"uuid_setvar {call.uuid} max_forwards 1")
    assert bench.api(f"uuid_transfer {call.uuid} park inline") == "-ERR\n"
    settle(bench)
    assert call.hangup_cause == "EXCHANGE_ROUTING_ERROR"


def test_a_dead_switch_resets_and_says_nothing_more(bench, call, tmp_path):
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(0.2)
    size = (tmp_path / "a.raw").stat().st_size
    call.die()
    bench.switch.advance(1.0)
    assert (tmp_path / "a.raw").stat().st_size == size
    bench.client.socket.settimeout(1.0)
    with pytest.raises(ConnectionResetError):
        bench.client.socket.recv(100)
    assert call.finished.is_set()


def test_a_stalled_tap_does_not_grow_while_the_call_lives(bench, call, tmp_path):
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(0.2)
    call.stall_tap()
    size = (tmp_path / "a.raw").stat().st_size
    bench.advance(1.0)
    assert (tmp_path / "a.raw").stat().st_size == size
    assert call.alive


def faulty(faults: Faults) -> Bench:
    return Bench(Switch(speed=0, faults=faults, began_us=NOON))


def test_a_switch_that_refuses_to_record(tmp_path):
    bench = faulty(Faults(refuse_record="-ERR Cannot record session!"))
    bench.place(Caller(say(0.1)))
    assert bench.record(tmp_path / "a.raw") == "-ERR Cannot record session!\n"
    assert not (tmp_path / "a.raw").exists()
    bench.close()


def test_a_tap_that_never_grows(tmp_path):
    bench = faulty(Faults(never_grow_tap=True))
    bench.place(Caller(say(0.1)))
    assert bench.record(tmp_path / "a.raw") == "+OK Success\n"
    bench.advance(1.0)
    assert (tmp_path / "a.raw").stat().st_size == 0
    bench.close()


def connected(bench: Bench) -> socket.socket:
    bench.call = bench.switch.call(bench.client.address, "", Caller(say(0.1)))
    bench.switch.advance(0.02)
    bench.client.accept()
    bench.client.send("connect")
    bench.switch.advance(0.04)
    bench.client.hear(0.1)
    return bench.client.socket


def test_a_deaf_switch():
    bench = faulty(Faults(deaf=True))
    connected(bench)
    bench.advance(40.0)
    assert (bench.client.received, bench.client.ended) == (b"", False)
    bench.close()


def test_a_switch_that_talks_garbage():
    bench = faulty(Faults(garbage=b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    connected(bench)
    assert bench.client.received == b"HTTP/1.1 400 Bad Request\r\n\r\n"
    bench.close()


def test_a_connection_cut_off():
    bench = faulty(Faults(truncate_after=1000))
    connected(bench)
    assert (len(bench.client.received), bench.client.ended) == (1000, True)
    bench.close()


def test_a_wrong_content_length():
    bench = faulty(Faults(wrong_content_length=True))
    connected(bench)
    bench.client.command("myevents")
    before = len(bench.client.received)
    bench.client.execute("answer")
    bench.advance(0.02)
    data = bench.client.received[before:].partition(b"\n\n")[2]
    head, _, rest = data.partition(b"\n\n")
    announced = int(head.split(b"\n")[0].split()[1])
    assert rest[announced + 10 :].startswith(b"Content-Length: ")
    assert rest[:announced].startswith(b"Event-Name: CHANNEL_EXECUTE\n")
    bench.close()


def test_a_connection_that_sends_nothing_is_closed():
    bench = faulty(Faults())
    bench.call = bench.switch.call(bench.client.address, "", Caller(say(0.1)))
    bench.switch.advance(0.02)
    bench.client.accept()
    bench.advance(24.0)
    assert not bench.client.ended
    bench.advance(3.0)
    bench.client.hear(0.2)
    assert bench.client.ended
    bench.close()


def test_closing_the_switch_hangs_up_and_says_so(bench, call):
    bench.switch.close()
    bench.client.hear(0.2)
    assert call.hangup_cause == "MANAGER_REQUEST"
    assert bench.client.ended
    assert bench.client.named("CHANNEL_HANGUP_COMPLETE")
    with pytest.raises(RuntimeError):
        bench.switch.call(bench.client.address, "", Caller(say(0.1)))

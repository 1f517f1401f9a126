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


def test_when_the_service_goes_the_call_stays_parked_and_its_file_grows(bench, call, tmp_path):
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.client.socket.close()
    settle(bench, 1.0)
    assert call.alive
    assert not call.went_on
    assert (tmp_path / "a.raw").stat().st_size == 16000


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


def test_a_call_taken_back_loses_no_audio(bench, tmp_path):
    caller = Caller(say(4.0))
    call = bench.place(caller)
    bench.record(tmp_path / "a.raw", "RECORD_READ_ONLY=true")
    bench.advance(0.5)
    bench.client.socket.close()
    settle(bench, 0.5)
    host, port = bench.client.address
    assert bench.switch.api(f"uuid_transfer {call.uuid} 'sleep:100,socket:{host}:{port} async full' inline") == "+OK\n"
    bench.switch.advance(0.2)
    bench.client.accept()
    bench.switch.advance(0.3)
    bench.client.command("connect")
    assert bench.client.told[0]["variable_socket_path"] == "voicemail"
    bench.client.command("linger")
    assert bench.api(f"uuid_record {call.uuid} stop {tmp_path}/a.raw") == "+OK Success\n"
    assert (tmp_path / "a.raw").read_bytes() == caller.audio[: int(call.position * 8000)].tobytes()
    assert call.transferred is not None
    assert not call.went_on


def test_another_destination_takes_the_call_away(bench, call):
    bench.api(f"uuid_transfer {call.uuid} 7001 XML default")
    settle(bench)
    assert (call.transferred, call.went_on, call.finished.is_set()) == ("7001", False, True)


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

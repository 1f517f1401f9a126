"""Call time against wall time, with many calls at once."""

import time

import gevent
import numpy as np
import pytest
from standin_client import Client, frames

from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch
from esl_record.standin.voice import say

CALLS = 50


def serve(client: Client, spool) -> None:
    """Answer every call and record what its party says, as quickly as one greenlet can."""
    while True:
        accepted, _ = client._listening.accept()
        gevent.spawn(record, accepted, spool)


def record(accepted, spool) -> None:
    with accepted:
        talk(accepted, spool)


def talk(accepted, spool) -> None:
    accepted.sendall(b"connect\n\n")
    reply = b""
    while not reply.endswith(b"\n\n"):
        reply += accepted.recv(65536)
    uuid = frames(reply)[0]["Unique-ID"]
    options = "{enable_file_write_buffering=false,RECORD_PRE_BUFFER_FRAMES=1,RECORD_READ_ONLY=true}"
    accepted.sendall(f"api uuid_record {uuid} start {spool}/{uuid}.raw 0 {options}\n\n".encode())
    accepted.sendall(b"sendmsg\ncall-command: execute\nexecute-app-name: answer\n\n")
    while accepted.recv(65536):
        pass


def test_fifty_calls_at_once_lose_no_frame_and_keep_time(tmp_path):
    client = Client()
    client._listening.settimeout(None)
    server = gevent.spawn(serve, client, tmp_path)
    voices = [say(6.0, seed=seed) for seed in range(3)]
    switch = Switch(speed=20)
    began = time.monotonic()
    callers = [Caller(voices[number % 3], hangup_after=6.0 + 0.1 * number) for number in range(CALLS)]
    calls = [switch.call(client.address, "", caller) for caller in callers]
    for call in calls:
        call.wait(60.0)
    # The longest call takes 10.9 s of call time, at least 0.545 s of wall time.
    assert time.monotonic() - began >= 0.5
    for call, caller in zip(calls, callers, strict=True):
        assert call.hangup_cause == "NORMAL_CLEARING"
        assert call.position == pytest.approx(caller.hangup_after)
        recorded = np.fromfile(tmp_path / f"{call.uuid}.raw", "<i2")
        said = recorded[len(recorded) - round(call.position * 8000) :]
        np.testing.assert_array_equal(said[: len(caller.audio)], caller.audio)
        assert not said[len(caller.audio) :].any()
    switch.close()
    server.kill()
    client.close()


@pytest.mark.parametrize("idle", [0, 3600])
def test_call_time_runs_at_the_speed_asked_for_however_long_nobody_had_called(idle):
    client = Client()
    switch = Switch(speed=40)
    switch._started -= idle
    call = switch.call(client.address, "", Caller(say(0.1), gives_up_after=12.0))
    began = time.monotonic()
    client.accept()
    client.send("connect")
    # It takes twelve seconds of call time; how much longer than 0.3 s is up to the machine.
    call.wait(10.0)
    assert time.monotonic() - began >= 0.29
    switch.close()
    client.close()


def test_waiting_for_a_call_that_does_not_end():
    client = Client()
    switch = Switch(speed=1)
    call = switch.call(client.address, "", Caller(say(0.1)))
    with pytest.raises(TimeoutError, match=call.uuid):
        call.wait(0.05)
    switch.close()
    client.close()

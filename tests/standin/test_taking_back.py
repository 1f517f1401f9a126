"""What it takes to get back the calls of a service that has died."""

import json

import gevent
import pytest
from standin_client import Bench, Console, Said

from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.voice import say

PARKED = [("park", "")]


@pytest.fixture
def orphan(bench, console):
    """A call whose service has died, parked by its dialplan."""
    call = bench.place(Caller(say(4.0)), behind=PARKED)
    die(bench)
    return call


def die(bench: Bench) -> None:
    assert bench.client.socket is not None
    bench.client.socket.close()
    gevent.sleep(0.02)
    bench.switch.advance(0.1)


def take_back(bench: Bench, console: Console, how: str = "sleep:100,socket:{}:{}/again async full,park") -> str:
    destination = how.format(*bench.client.address)
    return console.api(f"uuid_transfer {bench.call.uuid} '{destination}' inline")


def connect(bench: Bench) -> Said:
    """The call comes back; what it says of itself."""
    bench.switch.advance(0.14)
    bench.client.accept()
    bench.client.send("connect")
    go_on(bench, 0.1)
    bench.client.hear()
    return bench.client.told[0]


def go_on(bench: Bench, seconds: float) -> None:
    """Call time passes, a frame at a time, so that connections are served in between."""
    for _ in range(round(seconds * 50)):
        gevent.sleep(0.002)
        bench.switch.advance(0.02)


def test_an_orphan_is_found_and_comes_back(bench, console, orphan):
    assert console.api(f"uuid_exists {orphan.uuid}") == "true"
    (row,) = json.loads(console.api("show channels as json"))["rows"]
    assert (row["application"], row["application_data"], row["dialplan"]) == ("park", "", "XML")
    console.api(f"uuid_setvar {orphan.uuid} mine kept")
    assert take_back(bench, console) == "+OK\n"
    told = connect(bench)
    assert told["variable_mine"] == "kept"
    assert told["variable_socket_path"] == "again"
    assert told["variable_current_application"] == "socket"
    assert told["variable_max_forwards"] == "69"
    assert told["Caller-Dialplan"] == "inline"
    assert told["Caller-Destination-Number"] == "7000"
    assert told["Unique-ID"] == orphan.uuid
    (row,) = json.loads(console.api("show channels as json"))["rows"]
    assert (row["application"], row["initial_dest"]) == ("socket", "7000")
    assert row["dest"].startswith("sleep:100,socket:")
    bench.client.execute("hangup", "USER_BUSY")
    bench.switch.advance(0.1)
    assert orphan.hangup_cause == "USER_BUSY"


def test_its_recording_goes_on_under_the_same_path(bench, console, tmp_path):
    call = bench.place(Caller(say(4.0)), behind=PARKED)
    path = tmp_path / "a.raw"
    bench.record(path, "RECORD_READ_ONLY=true")
    die(bench)
    take_back(bench, console)
    connect(bench)
    frames = round(call.position * 50)
    assert path.stat().st_size == frames * 320
    assert bench.api(f"uuid_record {call.uuid} pause {path}") == "+OK Success\n"
    bench.advance(0.2)
    assert path.stat().st_size == frames * 320
    assert console.api(f"uuid_record {call.uuid} stop {path}") == "+OK Success\n"


def test_a_call_taken_back_is_an_orphan_again_when_that_service_dies(bench, console, orphan):
    for _ in range(3):
        take_back(bench, console)
        connect(bench)
        die(bench)
        assert console.api(f"uuid_getvar {orphan.uuid} current_application") == "park"
    assert orphan.alive


def test_the_late_end_of_an_old_connection_leaves_the_new_one_in_control(bench, console):
    call = bench.place(Caller(say(4.0)))
    frozen = bench.client.socket
    take_back(bench, console)
    connect(bench)
    frozen.close()
    go_on(bench, 0.1)
    assert console.api(f"uuid_getvar {call.uuid} current_application") == "park"
    assert bench.client.execute("set", "a=b") == "+OK"
    go_on(bench, 0.1)
    assert call.variables["a"] == "b"


def test_an_orphan_waits_as_long_as_it_is_told_to(bench, console, orphan):
    take_back(bench, console, "sleep:100,socket:{}:{} async full,set:park_timeout=3:USER_BUSY,park")
    connect(bench)
    die(bench)
    bench.switch.advance(2.0)
    assert orphan.alive
    bench.switch.advance(1.1)
    assert orphan.hangup_cause == "USER_BUSY"


@pytest.mark.parametrize(("behind", "alive"), [("", False), (",park", True)])
def test_with_nobody_listening_what_stands_behind_decides(bench, console, orphan, behind, alive):
    bench.client.close()
    take_back(bench, console, f"sleep:100,socket:{{}}:{{}} async full{behind}")
    go_on(bench, 0.4)
    assert orphan.alive == alive


def test_an_unanswered_orphan_comes_back_unanswered(bench, console):
    call = bench.place(Caller(say(0.5)), answer=False, behind=PARKED)
    die(bench)
    take_back(bench, console)
    assert connect(bench)["Answer-State"] == "ringing"
    bench.client.execute("answer")
    bench.advance(0.02)
    assert call.channel.answered


def bridged(bench: Bench, behind: list[tuple[str, str]]) -> str:
    """A call in a bridge whose service has died; the other party's uuid."""
    call = bench.place(Caller(say(2.0)), behind=behind)
    bench.client.execute("bridge", "sofia/internal/9196@127.0.0.1")
    bench.advance(0.1)
    die(bench)
    bench.switch.advance(1.0)
    return call.variables["bridge_to"]


def test_a_bridge_survives_the_service(bench, console):
    other = bridged(bench, [])
    assert bench.call.channel.bridged
    assert console.api(f"uuid_kill {other}") == "+OK\n"
    bench.switch.advance(0.1)
    assert bench.call.went_on


def test_taking_a_call_back_ends_its_bridge(bench, console):
    bridged(bench, [])
    console.command("event plain ALL")
    take_back(bench, console)
    connect(bench)
    console.hear()
    assert [said.kind for said in console.events][:4] == [
        "CHANNEL_UNBRIDGE", "CHANNEL_EXECUTE_COMPLETE", "CHANNEL_UNPARK", "CHANNEL_EXECUTE_COMPLETE",
    ]  # fmt: skip
    assert bench.call.alive
    assert not bench.call.channel.bridged


def test_a_bridge_can_be_told_to_leave_the_call_parked(bench, console):
    other = bridged(bench, [])
    console.command("event plain ALL")
    console.api(f"uuid_setvar {bench.call.uuid} park_after_bridge true")
    console.api(f"uuid_kill {other}")
    bench.switch.advance(0.2)
    console.hear()
    assert [said.kind for said in console.events] == [
        "CHANNEL_UNBRIDGE", "CHANNEL_EXECUTE_COMPLETE", "CHANNEL_UNPARK", "CHANNEL_EXECUTE_COMPLETE",
        "CHANNEL_STATE", "CHANNEL_PARK",
    ]  # fmt: skip
    assert (console.events[-1]["Channel-State"], console.events[-1]["Channel-State-Number"]) == ("CS_PARK", "6")
    (row,) = json.loads(console.api("show channels as json"))["rows"]
    assert (row["state"], row["application"]) == ("CS_PARK", "bridge")
    take_back(bench, console)
    assert connect(bench)["Channel-State"] == "CS_EXECUTE"


# ---- taking control without a transfer


def test_a_client_that_takes_control_serves_the_call_as_its_own(bench, console, orphan):
    assert console.command(f"myevents {orphan.uuid}") == "+OK Events Enabled"
    assert console.command("myevents") == "-ERR aready enabled."
    console.send("connect")
    console.hear(0.1)
    told = console.told[-1]
    assert (told["Unique-ID"], told["Control"]) == (orphan.uuid, "full")
    assert console.command("linger 5") == "+OK will linger 5 seconds"
    assert console.execute("playback", "tone_stream://%(200,0,500)") == "+OK"
    bench.switch.advance(0.4)
    console.hear()
    assert [said.kind for said in console.events] == ["CHANNEL_EXECUTE", "CHANNEL_EXECUTE_COMPLETE"]
    bench.switch.api(f"uuid_kill {orphan.uuid}")
    bench.switch.advance(0.1)
    console.hear()
    (notice,) = console.named("text/disconnect-notice")
    assert notice["Content-Disposition"] == "linger"
    assert notice["Controlled-Session-UUID"] == orphan.uuid
    bench.switch.advance(7.0)
    console.hear(0.1)
    assert (console.ended, console.told[-1]["Content-Disposition"]) == (True, "disconnect")


def test_when_that_client_goes_the_call_goes_on(bench, console, orphan):
    console.command(f"myevents {orphan.uuid}")
    assert console.command("exit") == "+OK bye"
    bench.switch.advance(0.1)
    assert orphan.went_on


def test_others_may_order_without_control(bench, console, orphan):
    message = f"sendmsg {orphan.uuid}\ncall-command: hangup\nhangup-cause: CALL_REJECTED"
    assert console.command(message) == "+OK"
    bench.switch.advance(0.1)
    assert orphan.hangup_cause == "CALL_REJECTED"


@pytest.fixture
def unconnected(bench):
    """A call whose connection closed before it sent ``connect``."""
    return place_unconnected(bench, [])


def place_unconnected(bench: Bench, before: list[tuple[str, str]]) -> Call:
    behind = [("set", "reached=yes"), ("playback", "silence_stream://5000")]
    call = bench.switch.call(bench.client.address, "", Caller(say(4.0)), before=before, behind=behind)
    bench.switch.advance(0.02)
    bench.client.accept()
    die(bench)
    go_on(bench, 0.2)
    return call


def test_a_connection_that_closes_before_it_connects_leaves_the_call_in_its_socket(bench, console, unconnected):
    go_on(bench, 3.0)
    for command in ("uuid_setvar {} socket_resume true", "uuid_break {}", "uuid_break {} all"):
        console.api(command.format(unconnected.uuid))
        go_on(bench, 0.2)
    assert console.api(f"uuid_getvar {unconnected.uuid} current_application") == "socket"
    assert console.api(f"uuid_getvar {unconnected.uuid} reached") == "_undef_"


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_client_that_takes_control_and_leaves_sends_it_on(bench, console, unconnected, goodbye):
    console.command(f"myevents {unconnected.uuid}")
    if goodbye:
        assert console.command("exit") == "+OK bye"
    else:
        console.close()
    go_on(bench, 0.2)
    assert unconnected.alive
    assert unconnected.variables["reached"] == "yes"
    assert unconnected.variables["current_application"] == "playback"


def test_told_beforehand_to_resume_it_goes_on_by_itself(bench):
    call = place_unconnected(bench, [("set", "socket_resume=true")])
    assert call.variables["reached"] == "yes"

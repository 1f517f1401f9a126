"""The event socket that others connect to, and what it takes to get back the calls of a service that has died."""

import json

import gevent
import pytest
from gevent import socket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin_client import NOON, Bench, Client, Said

from esl_record.errors import CommandRefused
from esl_record.esl.inbound import Inbound, SwitchUnreachable
from esl_record.standin.caller import Caller
from esl_record.standin.faults import Faults
from esl_record.standin.switch import Switch
from esl_record.standin.voice import say

GOODBYE = (
    b"Content-Type: text/disconnect-notice\nContent-Length: 67\n\n"
    b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
)
PARKED = [("park", "")]


class Console(Client):
    """A client of the event socket."""

    def __init__(self, address: tuple[str, int], *, password: str | None = "ClueCon") -> None:
        self.socket = socket.create_connection(address)
        self.received = b""
        self.ended = False
        self.hear(0.1)
        if password is not None:
            assert self.command(f"auth {password}") == "+OK accepted"

    def close(self) -> None:
        self.socket.close()

    def say(self, data: bytes) -> bytes:
        """Send bytes as they are; what comes of it."""
        before = len(self.received)
        self.socket.sendall(data)
        self.hear(0.05)
        return self.received[before:]

    def api(self, command: str) -> str:
        return self.command(f"api {command}")


@pytest.fixture
def address(bench):
    return bench.switch.listen()


@pytest.fixture
def console(address):
    console = Console(address)
    yield console
    console.close()


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


def reply(text: str) -> bytes:
    return f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode()


def response(body: str) -> bytes:
    return f"Content-Type: api/response\nContent-Length: {len(body)}\n\n{body}".encode()


# ---- logging in


def test_who_connects_is_asked_for_a_password(address):
    console = Console(address, password=None)
    assert console.received == b"Content-Type: auth/request\n\n"
    assert console.say(b"auth ClueCon\n\n") == reply("+OK accepted")
    assert console.say(b"api uuid_exists x\n\n") == response("false")
    console.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"auth wrong\n\n", reply("-ERR invalid") + GOODBYE),
        (b"auth ClueCon junk\n\n", reply("-ERR invalid") + GOODBYE),
        (b"auth \n\n", reply("-ERR invalid") + GOODBYE),
        (b"userauth a@b:c\n\n", reply("-ERR invalid") + GOODBYE),
        (b"exit\n\n", reply("+OK bye") + GOODBYE),
        (b"...\n\n", reply("+OK bye") + GOODBYE),
        (b"\0\xff\xfe\n\n", reply("-ERR command parse error.") + GOODBYE),
    ],
)
def test_the_switch_ends_a_connection(address, said, told):
    console = Console(address, password=None)
    assert console.say(said) == told
    assert console.ended
    console.close()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"auth\n\n", reply("-ERR command not found")),
        (b"api status\n\n", reply("-ERR command not found")),
        (b"event plain ALL\n\n", reply("-ERR command not found")),
        (b"myevents nobody\n\n", reply("-ERR command not found")),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", reply("-ERR command not found")),
        (b"AUTH ClueCon\r\n\r\n", reply("+OK accepted")),
        (b"auth ClueCon\nX: y\n\n", reply("+OK accepted")),
        (b"\r\n\r\nauth ClueCon\0junk\n\n", reply("+OK accepted")),
    ],
)
def test_before_the_password_nothing_is_told(address, said, told):
    console = Console(address, password=None)
    assert console.say(said) == told
    accepted = b"accepted" in told
    assert (console.command("auth ClueCon") == "+OK accepted") != accepted
    console.close()


def test_who_does_not_log_in_is_sent_away(bench, address):
    console = Console(address, password=None)
    console.say(b"auth Clue")
    bench.switch.advance(24.0)
    console.hear()
    assert not console.ended
    bench.switch.advance(2.0)
    console.hear(0.1)
    assert console.received == b"Content-Type: auth/request\n\n" + GOODBYE
    assert console.ended
    console.close()


def test_another_password_can_be_set(bench):
    address = bench.switch.listen(password="other")
    with pytest.raises(SwitchUnreachable, match="wrong password"):
        Inbound(address, "ClueCon")
    Console(address, password="other").close()


def test_a_deaf_switch_does_not_answer_the_login():
    switch = Switch(speed=0, faults=Faults(deaf=True))
    with pytest.raises(SwitchUnreachable, match="no answer"):
        Inbound(switch.listen(), "ClueCon", timeout=0.1)
    switch.close()


def test_a_closed_switch_says_goodbye_and_listens_no_more(bench, address, console):
    bench.switch.close()
    console.hear(0.2)
    assert console.ended
    assert console.received.endswith(GOODBYE)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    with pytest.raises(RuntimeError):
        bench.switch.listen()


# ---- commands


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("api uuid_exists nobody", response("false")),
        ("api uuid_exists {uuid}", response("true")),
        ("API uuid_exists {uuid}", response("true")),
        ("api uuid_getvar {uuid} no_such", response("_undef_")),
        ("api", reply("-ERR command not found")),
        ("api ", response("-ERR  Command not found!\n")),
        ("api nonsense x", response("-ERR nonsense Command not found!\n")),
        ("api show calls count", response("\n1 total.\n")),
        ("api show channels count", response("\n1 total.\n")),
        ("api show channels as zzz", response("-ERR Cannot find format zzz\n")),
        ("api uuid_transfer", response("-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n")),
        ("api uuid_transfer {uuid}", response("-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n")),
        ("api uuid_transfer nobody 1", response("-ERR No such channel!\n")),
        ("api uuid_kill", response("-USAGE: <uuid> [cause]\n")),
        ("api uuid_dump", response("-USAGE: <uuid> [format]\n")),
        ("api uuid_dump nobody", response("-ERR No such channel!\n")),
        ("nonsense", reply("-ERR command not found")),
        ("auth ClueCon", reply("-ERR command not found")),
        ("linger", reply("-ERR not controlling a session")),
        ("nolinger", reply("-ERR not controlling a session")),
        ("divert_events on", reply("-ERR not controlling a session.")),
        ("connect", reply("-ERR command not found")),
        ("getvar a", reply("-ERR command not found")),
        ("resume", reply("-ERR command not found")),
        ("myevents", reply("-ERR command not found")),
        ("myevents nobody plain", reply("-ERR invalid uuid")),
        ("myevents nobody", reply("+OK Events Enabled")),
        ("sendmsg", reply("-ERR invalid session id []")),
        ("sendmsg nobody\ncall-command: hangup", reply("-ERR invalid session id [nobody]")),
        ("sendmsg {uuid}\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: a=b", reply("+OK")),
        ("event", reply("-ERR no keywords supplied")),
        ("event plain NOSUCH", reply("-ERR no keywords supplied")),
        ("event plain BACKGROUND_JOB CHANNEL_EXECUTE", reply("+OK event listener enabled plain")),
        ("noevents", reply("-ERR not listening for events")),
        ("nixevent DTMF", reply("+OK events nixed")),
        ("filter delete all", reply("+OK filter deleted. [all][]")),
        ("bgapi uuid_exists x\nJob-UUID: mine", reply("+OK Job-UUID: mine")[:-1] + b"Job-UUID: mine\n\n"),
        ("api uuid_exists x\nContent-Length: -5", response("false")),
        ("api uuid_exists x\n\napi uuid_exists y", response("false") * 2),
    ],
)
def test_commands(bench, console, command, told):
    bench.place(Caller(say(0.1)))
    assert console.say(command.format(uuid=bench.call.uuid).encode() + b"\n\n") == told


def test_the_body_of_a_command_is_no_command(console):
    assert console.say(b"api uuid_exists x\nContent-Length: 5\n\nabcde") == response("false")
    assert console.say(b"exit\n\n") == reply("+OK bye") + GOODBYE


def test_a_background_job_tells_its_result(console):
    console.command("event plain BACKGROUND_JOB")
    console.command("bgapi uuid_exists nobody\nJob-UUID: mine")
    console.hear()
    (job,) = console.named("BACKGROUND_JOB")
    names = [name for name, _ in job.headers if name.startswith(("Job-", "Content-"))]
    assert names == ["Job-UUID", "Job-Command", "Job-Command-Arg", "Content-Length"]
    assert console.received.endswith(b"Content-Length: 5\n\nfalse")


def test_clients_do_not_hear_each_others_events(bench, address, console):
    other, third = Console(address), Console(address)
    console.command("event plain ALL")
    other.command("event plain CHANNEL_ANSWER")
    call = bench.place(Caller(say(0.1)))
    for client in (console, other, third):
        client.hear()
    assert {said.kind for said in console.events} > {"CHANNEL_PARK", "CHANNEL_ANSWER", "CHANNEL_CALLSTATE"}
    assert [said.kind for said in other.events] == ["CHANNEL_ANSWER"]
    assert third.events == []
    assert other.events[0]["Unique-ID"] == call.uuid
    other.close()
    gevent.sleep(0.02)
    bench.api(f"uuid_kill {call.uuid}")
    bench.advance(0.1)
    console.hear()
    assert console.named("CHANNEL_HANGUP_COMPLETE")
    third.close()


def test_the_services_own_client_gets_along_with_it(bench, address):
    call = bench.place(Caller(say(0.1)))
    with Inbound(address, "ClueCon") as switch:
        assert switch.api(f"uuid_exists {call.uuid}") == "true"
        switch.execute(call.uuid, "set", "a=b")
        assert switch.background("status")
        with pytest.raises(CommandRefused):
            switch.api(f"uuid_kill {call.uuid[:-1]}")
        bench.switch.advance(0.02)
        assert call.variables["a"] == "b"


@given(st.binary(max_size=60) | st.from_regex(rb"(api|sendmsg|event|filter|auth|myevents|linger)[ -~]{0,30}\n\n"))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_said_others_are_served(bench, address, console, said):
    """And whoever said it is answered or sent away."""
    stranger = Console(address)
    stranger.socket.sendall(said + b"\n\n")
    stranger.socket.sendall(b"api uuid_exists x\nContent-Length: 0\n\n" * 2 + b"\n\nexit\n\n")
    stranger.hear(0.2)
    assert stranger.ended or b"content-length" in said.lower()
    stranger.close()
    assert console.api("uuid_exists x") == "false"


# ---- what there is


def test_calls_are_listed(bench, console):
    assert console.api("show channels as json") == '{"row_count": 0}\n'
    call = bench.place(Caller(say(0.1), number="1", name='Ann "Q", x'))
    (row,) = json.loads(console.api("show channels as json"))["rows"]
    assert list(row)[:12] == [
        "uuid", "direction", "created", "created_epoch", "name", "state",
        "cid_name", "cid_num", "ip_addr", "dest", "application", "application_data",
    ]  # fmt: skip
    assert list(row)[-1] == "initial_context"
    assert (row["uuid"], row["cid_name"], row["cid_num"]) == (call.uuid, 'Ann "Q", x', "1")
    assert (row["application"], row["state"], row["callstate"]) == ("answer", "CS_EXECUTE", "ACTIVE")
    assert row["created_epoch"] == str(NOON // 1_000_000)
    title, line, empty, total, _ = console.api("show channels").split("\n")
    assert (title.count(","), empty, total) == (len(row) - 1, "", "1 total.")
    assert line.startswith(f"{call.uuid},inbound,")


def test_both_parties_of_a_bridge_are_listed(bench, console):
    call = bench.place(Caller(say(0.1)))
    bench.client.execute("bridge", "sofia/internal/9196@127.0.0.1")
    bench.advance(0.1)
    own, other = json.loads(console.api("show channels as json"))["rows"]
    assert (own["application"], own["call_uuid"]) == ("bridge", call.uuid)
    assert (other["uuid"], other["state"], other["dest"]) == (call.variables["bridge_to"], "CS_EXCHANGE_MEDIA", "9196")
    (pair,) = json.loads(console.api("show calls as json"))["rows"]
    assert (pair["uuid"], pair["b_uuid"]) == (call.uuid, other["uuid"])


def test_a_call_that_is_over_is_listed_as_long_as_a_connection_lingers(bench, console):
    call = bench.place(Caller(say(0.1)))
    bench.api(f"uuid_kill {call.uuid}")
    bench.advance(0.1)
    assert console.api(f"uuid_exists {call.uuid}") == "false"
    (row,) = json.loads(console.api("show channels as json"))["rows"]
    assert (row["state"], row["callstate"]) == ("CS_EXECUTE", "ACTIVE")
    bench.advance(7.0)
    assert json.loads(console.api("show channels as json"))["row_count"] == 0


# ---- taking calls back


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

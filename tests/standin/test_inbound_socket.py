"""The event socket that others connect to: who is let in, what is answered, what is told."""

import json

import gevent
import pytest
from gevent import socket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin_client import NOON, Console

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

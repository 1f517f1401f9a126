"""Logging in to the switch's own event socket, and every way of not getting in."""

import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer
from peer import LIMIT, Peer, event

from esl_record.errors import CallGone, CommandRefused, WireError
from esl_record.esl.inbound import Inbound, SwitchUnreachable

SOON = 0.2
"""Seconds a switch gets that never answers."""

AUTH = b"Content-Type: auth/request\n\n"
REJECTION = (
    b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"
    b"Content-Type: text/disconnect-notice\nContent-Length: 67\n\n"
    b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
)

Script = Callable[[Peer], None]


@pytest.fixture
def listen() -> Iterator[Callable[[Script], tuple[str, int]]]:
    """A listener that plays a script to whoever connects; a script that fails fails the test."""
    servers: list[StreamServer] = []
    failures: list[BaseException] = []

    def listening(script: Script) -> tuple[str, int]:
        def handle(sock: socket.socket, _: object) -> None:
            try:
                script(Peer(sock))
            except (EOFError, OSError):
                pass  # whoever had connected has gone
            except AssertionError as failure:
                failures.append(failure)
            finally:
                sock.close()

        servers.append(StreamServer(("127.0.0.1", 0), handle))
        servers[-1].start()
        return servers[-1].server_host, servers[-1].server_port

    yield listening
    for server in servers:
        server.stop(LIMIT)
    assert failures == []


Listen = Callable[[Script], tuple[str, int]]


def log_in(peer: Peer) -> None:
    peer.send(AUTH)
    assert peer.command() == "auth ClueCon"
    peer.reply("+OK accepted")


def refusal(address: tuple[str, int], password: str = "ClueCon", *, timeout: float = LIMIT) -> str:
    with pytest.raises(SwitchUnreachable) as caught:
        Inbound(address, password, timeout=timeout)
    return str(caught.value)


# ---- getting in


def test_the_right_password_gets_in(listen: Listen) -> None:
    said: list[str] = []

    def script(peer: Peer) -> None:
        log_in(peer)
        said.append(peer.command())
        peer.api("FreeSWITCH Version 1.10\n")
        said.append(peer.command())
        peer.reply("+OK bye")

    address = listen(script)
    with Inbound(address, "ClueCon", timeout=LIMIT) as switch:
        assert switch.label == f"event socket 127.0.0.1:{address[1]}"
        assert switch.api("version") == "FreeSWITCH Version 1.10"
    assert said == ["api version", "exit"]
    assert switch.closed.is_set()


def test_a_login_offered_in_pieces_is_taken(listen: Listen) -> None:
    def script(peer: Peer) -> None:
        peer.send(AUTH[:10])
        gevent.idle()
        peer.send(AUTH[10:])
        assert peer.command() == "auth ClueCon"
        peer.reply("+OK accepted")
        peer.command()

    switch = Inbound(listen(script), "ClueCon", timeout=LIMIT)
    assert switch.connected
    switch.abort()


def test_events_are_heard(listen: Listen) -> None:
    def script(peer: Peer) -> None:
        log_in(peer)
        assert peer.command() == "event plain DTMF"
        peer.reply()
        peer.send(event("DTMF", DTMF_Digit="7"))
        peer.command()

    heard: list[str] = []
    done = gevent.event.Event()
    switch = Inbound(listen(script), "ClueCon", timeout=LIMIT)
    switch.listen(lambda happened: (heard.append(happened.get("DTMF-Digit")), done.set())[0])
    switch.send("event plain DTMF")
    assert done.wait(LIMIT)
    assert heard == ["7"]
    switch.abort()


# ---- not getting in


def test_a_wrong_password_names_the_setting(listen: Listen) -> None:
    def script(peer: Peer) -> None:
        peer.send(AUTH)
        assert peer.command() == "auth wrong"
        peer.reply("-ERR invalid")
        peer.command()

    address = listen(script)
    told = refusal(address, "wrong")
    assert told == f"event socket 127.0.0.1:{address[1]}: wrong password: set event_socket_password"


@pytest.mark.parametrize("end", [True, False], ids=["closing", "staying"])
def test_a_rude_rejection_names_the_switchs_setting(listen: Listen, end: bool) -> None:
    def script(peer: Peer) -> None:
        peer.send(REJECTION)
        if not end:
            peer.command()

    began = time.monotonic()
    told = refusal(listen(script))
    assert "apply-inbound-acl in event_socket.conf.xml" in told
    assert time.monotonic() - began < LIMIT / 2


def test_where_nobody_listens_it_says_what_to_look_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    told = refusal(address)
    assert f"no event socket at 127.0.0.1:{address[1]}" in told
    assert "refused" in told
    assert "is FreeSWITCH running, is mod_event_socket loaded" in told


def test_a_host_without_address_says_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("esl_record.esl.inbound.socket.create_connection", unknown)
    told = refusal(("no-such-host.invalid", 8021))
    assert "no event socket at no-such-host.invalid:8021" in told
    assert "Name or service not known" in told


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "no login offered"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n\n\n", "not a header line"),
        (b"SSH-2.0-OpenSSH_9.2\n\n", "not a header line"),
        (b"Content-Type: auth/req", "inside a frame"),
    ],
    ids=["nothing", "http", "ssh", "truncated"],
)
def test_who_is_no_event_socket_is_found_out(listen: Listen, said: bytes, told: str) -> None:
    began = time.monotonic()
    assert told in refusal(listen(lambda peer: peer.send(said)))
    assert time.monotonic() - began < LIMIT / 2


def test_who_offers_no_login_is_given_up(listen: Listen) -> None:
    assert "no login offered" in refusal(listen(lambda peer: (peer.command(), None)[1]), timeout=SOON)


def test_who_does_not_answer_the_login_is_given_up(listen: Listen) -> None:
    def script(peer: Peer) -> None:
        peer.send(AUTH)
        assert peer.command() == "auth ClueCon"
        peer.command()

    told = refusal(listen(script), timeout=SOON)
    assert "no answer" in told


def test_who_hangs_up_at_the_login_is_told(listen: Listen) -> None:
    def script(peer: Peer) -> None:
        peer.send(AUTH)
        peer.command()

    assert "connection ended" in refusal(listen(script))


def test_a_password_that_would_be_two_commands_is_not_sent(listen: Listen) -> None:
    said: list[str] = []

    def script(peer: Peer) -> None:
        peer.send(AUTH)
        said.append(peer.command())

    with pytest.raises(WireError):
        Inbound(listen(script), "ClueCon\n\napi shutdown", timeout=LIMIT)
    assert said == []


def test_a_password_stands_in_no_message(listen: Listen) -> None:
    def script(peer: Peer) -> None:
        peer.send(AUTH)
        peer.command()
        peer.command()

    assert "s3cret" not in refusal(listen(script), "s3cret", timeout=SOON)


def test_a_password_that_cannot_be_sent_stands_in_no_message(listen: Listen) -> None:
    with pytest.raises(WireError) as caught:
        Inbound(listen(lambda peer: (peer.send(AUTH), peer.command(), None)[2]), "s3cret\n", timeout=LIMIT)
    assert "s3cret" not in str(caught.value)


# ---- what can be asked


def asked(listen: Listen, reply: bytes, ask: Callable[[Inbound], object]) -> tuple[str, object]:
    """The command that ``ask`` is on the wire, answered with ``reply``, and what comes of it."""
    said: list[str] = []

    def script(peer: Peer) -> None:
        log_in(peer)
        said.append(peer.command())
        peer.send(reply)
        peer.command()

    switch = Inbound(listen(script), "ClueCon", timeout=LIMIT)
    try:
        outcome = ask(switch)
    except (CommandRefused, CallGone) as error:
        outcome = error
    finally:
        switch.abort()
    return said[0], outcome


def reply(*lines: str) -> bytes:
    return "\n".join(["Content-Type: command/reply", *lines]).encode() + b"\n\n"


def test_a_background_job_gives_its_uuid(listen: Listen) -> None:
    command, outcome = asked(
        listen, reply("Reply-Text: +OK Job-UUID: j1", "Job-UUID: j1"), lambda switch: switch.background("originate x")
    )
    assert (command, outcome) == ("bgapi originate x", "j1")


def test_a_background_job_refused_is_raised(listen: Listen) -> None:
    _, outcome = asked(listen, reply("Reply-Text: -ERR denied"), lambda switch: switch.background("originate x"))
    assert isinstance(outcome, CommandRefused)
    assert str(outcome) == "-ERR denied"


def test_an_application_runs_on_the_call_named(listen: Listen) -> None:
    command, outcome = asked(
        listen, reply("Reply-Text: +OK"), lambda switch: switch.execute("u1", "playback", "/a b.wav")
    )
    lines = command.splitlines()
    assert lines[:4] == [
        "sendmsg u1",
        "call-command: execute",
        "execute-app-name: playback",
        "execute-app-arg: /a b.wav",
    ]
    assert outcome is None


def test_an_application_refused_is_raised(listen: Listen) -> None:
    _, outcome = asked(listen, reply("Reply-Text: -ERR invalid uuid"), lambda switch: switch.execute("u1", "playback"))
    assert str(outcome) == "playback: -ERR invalid uuid"

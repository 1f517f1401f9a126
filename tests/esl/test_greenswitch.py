"""Why greenswitch is overridden: each scenario holds for our session and fails on greenswitch's own.

When one no longer fails there, its override can go.
"""

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket
from gevent.event import Event as Flag
from greenswitch.esl import OutboundESLServer, OutboundSession
from peer import LIMIT, Peer, completion, event, event_uuid

from esl_record.errors import CallGone, CommandTimeout, EslRecordError, WireError
from esl_record.esl.admission import Admission
from esl_record.esl.server import Server
from esl_record.esl.session import Session

SOON = 0.5
"""Seconds after which a wait on greenswitch's session is taken for a hang."""

OPENED: list[OutboundSession] = []

Scenario = Callable[[type[OutboundSession], Peer, socket.socket], None]


def opened(kind: type[OutboundSession], sock: socket.socket, *, timeout: float = LIMIT) -> OutboundSession:
    address = ("127.0.0.1", 1)
    session = kind(sock, address, timeout=timeout) if issubclass(kind, Session) else kind(address, sock)
    OPENED.append(session)
    return session


def sending(session: OutboundSession, line: str) -> gevent.Greenlet:
    return gevent.spawn(session.send, line)


def result(greenlet: gevent.Greenlet) -> object:
    """What the greenlet gives or raises; AssertionError if it hangs. A hang is what greenswitch is expected to do."""
    greenlet.join(LIMIT if isinstance(OPENED[-1], Session) else SOON)
    assert greenlet.ready(), "it hangs"
    if greenlet.exception is not None:
        raise greenlet.exception
    return greenlet.value


CONNECT = (
    b"Event-Name: CHANNEL_DATA\nUnique-ID: u1\nCaller-Caller-ID-Name: Ann%0AUnique-ID%3A%20forged%0AX-New%3A%20yes\n"
    b"variable_tail: \nContent-Type: command/reply\nReply-Text: %2BOK%0A\nSocket-Mode: async\nvariable_blank: \n\n"
)


def connected(session: OutboundSession, peer: Peer) -> None:
    waiting = gevent.spawn(session.connect)
    assert peer.command() == "connect"
    peer.send(CONNECT)
    result(waiting)


def a_caller_name_cannot_add_or_replace_headers(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    connected(session, peer)
    assert session.session_data["Unique-ID"] == "u1"
    assert "X-New" not in session.session_data
    assert session.session_data["Caller-Caller-ID-Name"] == "Ann\nUnique-ID: forged\nX-New: yes"


def a_blank_last_header_is_blank(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    connected(session, peer)
    assert session.session_data["variable_blank"] == ""
    assert session.session_data["Socket-Mode"] == "async"


def a_body_that_is_no_utf8_is_read(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    waiting = sending(session, "api x")
    peer.command()
    peer.send(b"Content-Type: api/response\nContent-Length: 2\n\n\xff\xfe")
    result(waiting)


def a_frame_without_content_type_ends_the_connection(
    kind: type[OutboundSession], peer: Peer, sock: socket.socket
) -> None:
    session = opened(kind, sock)
    waiting = sending(session, "api x")
    peer.command()
    peer.send(b"Nonsense: yes\n\n")
    with pytest.raises(EslRecordError):
        result(waiting)
    assert not session.connected


def a_surplus_reply_does_no_harm(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    peer.reply("+OK nobody asked")
    gevent.sleep(0)
    waiting = sending(session, "api x")
    peer.command()
    peer.api("fine")
    result(waiting)


def the_end_of_the_connection_ends_every_wait(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    waits = [sending(session, "api x"), gevent.spawn(session.call_command, "playback", "x", block=True)]
    peer.command()
    peer.close()
    for wait in waits:
        with pytest.raises(CallGone):
            result(wait)


def events_before_the_end_are_heard(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    heard: list[str] = []
    session = opened(kind, sock)
    if isinstance(session, Session):
        session.listen(lambda happened: heard.append(happened.name))
    else:
        session.register_handle("CHANNEL_HANGUP_COMPLETE", lambda happened: heard.append("CHANNEL_HANGUP_COMPLETE"))
    peer.send(event("DTMF", DTMF_Digit="1") + event("CHANNEL_HANGUP_COMPLETE"))
    peer.close()
    gevent.sleep(SOON / 5)
    assert "CHANNEL_HANGUP_COMPLETE" in heard


def a_body_cut_off_by_the_end_ends_the_connection(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    if not issubclass(kind, Session):
        # Without a yield: in this process nothing would ever run again.
        pytest.fail("it spins for ever")
    session = opened(kind, sock)
    peer.send(b"Content-Type: text/event-plain\nContent-Length: 100\n\nEvent-Na")
    peer.close()
    assert session.closed.wait(LIMIT)
    assert isinstance(session.fault, WireError)


def a_long_command_is_sent_whole(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    session = opened(kind, sock)
    line = "api " + "x" * 1_000_000
    waiting = sending(session, line)
    reading = gevent.spawn(peer.command)
    assert result(reading) == line
    peer.api("fine")
    result(waiting)


def a_command_without_answer_ends(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock, timeout=SOON / 5)
    with pytest.raises(CommandTimeout):
        result(sending(session, "api x"))
    assert not session.connected


def a_late_answer_is_no_other_commands(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock, timeout=SOON / 5)
    first = sending(session, "api first")
    first.join(SOON)
    second = sending(session, "api second")
    second.join(SOON / 5)
    with contextlib.suppress(BrokenPipeError):  # closed: better than a wrong answer
        peer.api("answer to the first")
    with pytest.raises(CallGone):
        result(second)


def a_newline_in_an_argument_is_no_second_command(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    waiting = gevent.spawn(session.call_command, "playback", "x.wav\n\napi system rm")
    with pytest.raises(WireError):
        result(waiting)


def ones_own_completion_handler_is_in_nobodys_way(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    heard: list[object] = []
    if isinstance(session, Session):
        session.listen(heard.append)
    else:
        session.register_handle("CHANNEL_EXECUTE_COMPLETE", heard.append)
    waiting = gevent.spawn(session.call_command, "playback", "x", block=True)
    command = peer.command()
    peer.reply()
    peer.send(completion("playback", event_uuid(command)))
    result(waiting)
    assert len(heard) == 1


def of_two_playbacks_each_waits_for_its_own_end(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    first, second = (gevent.spawn(session.call_command, "playback", name, block=True) for name in ("a", "b"))
    uuids = []
    for _ in range(2):
        uuids.append(event_uuid(peer.command()))
        peer.reply()
    peer.send(completion("playback", uuids[1]))
    result(second)
    assert not first.ready()
    peer.send(completion("playback", uuids[0]))
    result(first)


def a_wait_given_up_does_not_take_the_next_completion(
    kind: type[OutboundSession], peer: Peer, sock: socket.socket
) -> None:
    session = opened(kind, sock)
    given_up = gevent.spawn(session.call_command, "playback", "a", block=True, response_timeout=0.05)
    peer.command()
    peer.reply()
    given_up.join(SOON)
    waiting = gevent.spawn(session.call_command, "playback", "b", block=True)
    command = peer.command()
    peer.reply()
    peer.send(completion("playback", event_uuid(command)))
    result(waiting)


def a_wait_given_up_is_an_ordinary_error(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    waiting = gevent.spawn(session.call_command, "playback", "a", block=True, response_timeout=0.05)
    peer.command()
    peer.reply()
    waiting.join(SOON)
    assert isinstance(waiting.exception, Exception)


def stopping_is_quick(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock)
    stopping = gevent.spawn(session.stop)
    assert peer.command() == "exit"
    peer.reply("+OK bye")
    peer.close()
    stopping.join(SOON)
    assert stopping.ready()


def stopping_a_deaf_switch_ends(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    session = opened(kind, sock, timeout=SOON / 5)
    result(gevent.spawn(session.stop))


def waits_outlive_the_linger_notice(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    """In a bridge the notice comes before the last events, completions among them."""
    session = opened(kind, sock)
    waiting = gevent.spawn(session.call_command, "bridge", "x", block=True)
    command = peer.command()
    peer.reply()
    peer.send(
        b"Content-Type: text/disconnect-notice\nContent-Disposition: linger\nLinger-Time: 5\nContent-Length: 0\n\n"
    )
    waiting.join(SOON / 10)
    peer.send(completion("bridge", event_uuid(command)))
    result(waiting)


def events_are_not_hoarded(kind: type[OutboundSession], peer: Peer, sock: socket.socket) -> None:
    """A handler that is slow holds back the reading, and the switch, but fills no memory."""
    session = opened(kind, sock)

    done = Flag()

    def slow(_: object) -> None:
        done.wait(SOON)

    if isinstance(session, Session):
        session.listen(slow)
    else:
        session.register_handle("DTMF", slow)
    peer.send(event("DTMF", DTMF_Digit="1") * 1000)
    gevent.sleep(SOON / 5)
    hoarded = session._esl_event_queue.qsize()
    done.set()
    assert hoarded == 0


SCENARIOS: list[Scenario] = [
    a_caller_name_cannot_add_or_replace_headers,
    a_blank_last_header_is_blank,
    a_body_that_is_no_utf8_is_read,
    a_frame_without_content_type_ends_the_connection,
    a_surplus_reply_does_no_harm,
    the_end_of_the_connection_ends_every_wait,
    events_before_the_end_are_heard,
    a_body_cut_off_by_the_end_ends_the_connection,
    a_long_command_is_sent_whole,
    a_command_without_answer_ends,
    a_late_answer_is_no_other_commands,
    a_newline_in_an_argument_is_no_second_command,
    ones_own_completion_handler_is_in_nobodys_way,
    of_two_playbacks_each_waits_for_its_own_end,
    a_wait_given_up_does_not_take_the_next_completion,
    a_wait_given_up_is_an_ordinary_error,
    stopping_is_quick,
    stopping_a_deaf_switch_ends,
    waits_outlive_the_linger_notice,
    events_are_not_hoarded,
]


@pytest.fixture
def wire() -> Iterator[tuple[Peer, socket.socket]]:
    theirs, ours = socket.socketpair()
    yield Peer(theirs), ours
    for session in OPENED:
        # greenswitch's processor catches the kill as an error of its handler, and goes on while _run.
        session._run = False
        gevent.killall([session._receive_events_greenlet, session._process_events_greenlet or gevent.Greenlet()])
        if not isinstance(session, Session):
            session.sock_file.close()
    OPENED.clear()
    theirs.close()
    ours.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_it_holds_for_our_session(scenario: Scenario, wire: tuple[Peer, socket.socket]) -> None:
    scenario(Session, *wire)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_it_fails_on_greenswitch(
    scenario: Scenario, wire: tuple[Peer, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    hub = gevent.get_hub()
    before, hub.NOT_ERROR = hub.NOT_ERROR, (Exception,)  # greenlets that die in greenswitch are the point here
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception, Exception)):
            scenario(OutboundSession, *wire)
    finally:
        hub.NOT_ERROR = before


# ---- the listener


def test_our_listener_accepts_at_once_and_greenswitch_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """greenswitch sleeps 100 ms between looks at the listening socket; ours sleeps not at all."""
    naps: list[float] = []
    server = Server(("127.0.0.1", 0), lambda session: None, Admission(["127.0.0.0/8"], capacity=10))
    server.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    plain = OutboundESLServer("127.0.0.1", port, application=object)
    real = gevent.sleep
    monkeypatch.setattr(gevent, "sleep", lambda seconds=0: (naps.append(seconds), real(0)))
    try:
        with socket.create_connection(server.address) as sock:
            assert Peer(sock).command() == "connect"
        assert naps == []
        listening = gevent.spawn(plain.listen)
        real(0.05)
        assert 0.1 in naps
        listening.kill()
    finally:
        plain.server.close()
        server.stop_accepting()


def test_our_listener_outlives_a_lack_of_descriptors_and_greenswitchs_does_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = OutboundESLServer("127.0.0.1", 1, application=object)

    class Exhausted:
        def __getattr__(self, name: str) -> object:
            return lambda *arguments: None

        def accept(self) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("greenswitch.esl.socket.socket", Exhausted)
    with pytest.raises(OSError, match="Too many open files"):
        plain.listen()
    monkeypatch.undo()

    server = Server(("127.0.0.1", 0), lambda session: None, Admission(["127.0.0.0/8"], capacity=10))
    server.start()
    accept, failures = server._listener.do_read, [OSError(errno.EMFILE, "Too many open files")]

    def failing() -> object:
        if failures:
            raise failures.pop()
        return accept()

    monkeypatch.setattr(server._listener, "do_read", failing)
    try:
        with socket.create_connection(server.address) as sock:
            assert Peer(sock).command() == "connect"
        assert not failures
    finally:
        server.stop_accepting()
        capfd.readouterr()  # gevent tells of the failed accept on stderr


def test_our_listener_counts_a_connection_from_its_accept_on() -> None:
    """greenswitch counts after the reply to ``connect``: peers that never reply are beyond its limit."""
    server = Server(("127.0.0.1", 0), lambda session: None, Admission(["127.0.0.0/8"], capacity=1))
    server.start()
    plain = OutboundESLServer("127.0.0.1", 0, application=object, max_connections=1)
    try:
        with socket.create_connection(server.address) as silent:
            assert Peer(silent).command() == "connect"
            assert server.connections == 1
        theirs, ours = socket.socketpair()
        waiting = gevent.spawn(plain._accept_call, OutboundSession(("127.0.0.1", 1), ours))
        assert Peer(theirs).command() == "connect"
        assert plain.connection_count == 0
        waiting.kill()
        theirs.close()
        ours.close()
    finally:
        server.stop_accepting()

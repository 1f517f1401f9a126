"""A connection answers every wait, with the right reply or with the connection's end."""

import logging
import struct
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket
from peer import LIMIT, Peer, event

from esl_record.errors import CallGone, CommandRefused, CommandTimeout, WireError
from esl_record.esl.connection import Connection
from esl_record.esl.wire import Event

SOON = 0.1
"""Seconds a command may take where the test is about one that is not answered."""


@pytest.fixture
def far() -> Iterator[tuple[Peer, Connection]]:
    """The switch's end of a TCP connection, and ours."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    connection = Connection(ours, timeout=LIMIT)
    yield Peer(theirs), connection
    connection.abort()
    theirs.close()


def result(greenlet: gevent.Greenlet) -> object:
    """What the greenlet gives or raises."""
    return greenlet.get(timeout=LIMIT)


def raised(greenlet: gevent.Greenlet, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        result(greenlet)
    return str(caught.value)


def reset(peer: Peer) -> None:
    """Closes with a TCP reset."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


# ---- ends


def test_an_orderly_end_is_no_fault(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    peer.close()
    assert connection.closed.wait(LIMIT)
    assert (connection.connected, connection.fault) == (False, None)


@pytest.mark.parametrize(
    ("end", "fault", "told"),
    [
        (lambda peer: (peer.send(b"Content-Type: api/res"), peer.close()), WireError, "inside a frame"),
        (lambda peer: peer.send(b"Content-Type: text/html\n\n"), WireError, "unknown Content-Type 'text/html'"),
        (lambda peer: peer.send(b"no header\n\n"), WireError, "not a header line"),
        (lambda peer: peer.send(b"Content-Type: text/rude-rejection\n\n"), WireError, "apply-inbound-acl"),
        (
            lambda peer: peer.send(b"Content-Type: text/event-plain\nContent-Length: 5\n\nno\n\n\n"),
            WireError,
            "not a header line",
        ),
        (reset, ConnectionResetError, "reset"),
    ],
    ids=["truncated", "unknown type", "garbage", "rude", "event", "reset"],
)
def test_a_disorderly_end_is_the_fault_and_every_wait_is_told(
    far: tuple[Peer, Connection], end: Callable[[Peer], object], fault: type[Exception], told: str
) -> None:
    peer, connection = far
    waits = [gevent.spawn(connection.send, f"api {number}") for number in range(3)]
    for _ in waits:
        peer.command()
    end(peer)
    for wait in waits:
        assert told in raised(wait, CallGone)
    assert connection.closed.wait(LIMIT)
    assert isinstance(connection.fault, fault)
    assert not connection.connected


def test_after_the_end_a_command_says_so_at_once(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    peer.close()
    assert connection.closed.wait(LIMIT)
    with pytest.raises(CallGone, match="event socket: connection ended"):
        connection.send("api x")


def test_after_a_broken_wire_a_command_says_what_broke_it(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    peer.send(b"garbage\n\n")
    assert connection.closed.wait(LIMIT)
    with pytest.raises(CallGone, match="not a header line: b'garbage'"):
        connection.send("api x")


def test_what_came_before_a_break_is_heard(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    heard: list[str] = []
    connection.listen(lambda happened: heard.append(happened.get("DTMF-Digit")))
    peer.send(event("DTMF", DTMF_Digit="1") + event("DTMF", DTMF_Digit="2") + b"garbage\n\n")
    assert connection.closed.wait(LIMIT)
    assert heard == ["1", "2"]


def test_aborting_ends_every_wait(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    waits = [gevent.spawn(connection.send, f"api {number}") for number in range(3)]
    for _ in waits:
        peer.command()
    connection.abort()
    for wait in waits:
        raised(wait, CallGone)
    assert connection.closed.is_set()
    assert connection.fault is None
    connection.abort()
    with pytest.raises(EOFError):
        peer.command()


def test_a_listener_may_abort(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    connection.listen(lambda _: connection.abort())
    waiting = gevent.spawn(connection.send, "api x")
    peer.command()
    peer.event("DTMF")
    raised(waiting, CallGone)
    assert connection.closed.wait(LIMIT)


def test_stopping_says_exit_and_closes(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    stopping = gevent.spawn(connection.stop)
    assert peer.command() == "exit"
    peer.reply("+OK bye")
    result(stopping)
    assert connection.closed.is_set()
    with pytest.raises(EOFError):
        peer.command()


def test_stopping_what_has_ended_does_nothing(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    peer.close()
    assert connection.closed.wait(LIMIT)
    connection.stop()
    connection.stop()
    assert connection.fault is None


def test_stopping_a_deaf_switch_takes_a_second(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    began = time.monotonic()
    connection.stop()
    assert 0.5 < time.monotonic() - began < 2.5
    assert peer.command() == "exit"


# ---- replies


def test_each_of_many_senders_gets_its_own_reply(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    waits = [gevent.spawn(connection.api, f"echo {number}") for number in range(200)]

    def answer() -> None:
        for _ in waits:
            peer.api(peer.command().removeprefix("api echo "))

    gevent.spawn(answer)
    assert [result(wait) for wait in waits] == [str(number) for number in range(200)]


def test_replies_find_their_way_between_events(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    heard: list[str] = []
    connection.listen(lambda happened: heard.append(happened.name))
    waits = [gevent.spawn(connection.api, str(number)) for number in range(2)]
    peer.command()
    peer.command()
    peer.event("DTMF")
    peer.api("first")
    peer.send(b"Content-Type: text/disconnect-notice\nContent-Disposition: linger\nContent-Length: 0\n\n")
    peer.event("CHANNEL_ANSWER")
    peer.api("second")
    assert [result(wait) for wait in waits] == ["first", "second"]
    assert heard == ["DTMF", "CHANNEL_ANSWER"]


def test_a_sender_that_is_killed_leaves_the_others_their_replies(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    killed, waiting = gevent.spawn(connection.api, "killed"), gevent.spawn(connection.api, "waiting")
    peer.command()
    peer.command()
    killed.kill()
    peer.api("to the killed")
    peer.api("to the waiting")
    assert result(waiting) == "to the waiting"


def test_a_timeout_of_the_callers_own_is_the_callers(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    own = gevent.Timeout(SOON)
    with pytest.raises(gevent.Timeout) as caught, own:
        connection.send("api slow")
    assert caught.value is own
    assert connection.connected
    waiting = gevent.spawn(connection.api, "next")
    assert [peer.command(), peer.command()] == ["api slow", "api next"]
    peer.api("late")
    peer.api("in time")
    assert result(waiting) == "in time"


def test_a_command_not_answered_ends_the_connection(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    connection.timeout = SOON
    waits = [gevent.spawn(connection.send, f"api {number}") for number in range(2)]
    assert "no answer to 'api 0' within 0.1 s" in raised(waits[0], CommandTimeout)
    with pytest.raises((CallGone, CommandTimeout)):
        result(waits[1])
    assert isinstance(connection.fault, CommandTimeout)
    assert [peer.command(), peer.command()] == ["api 0", "api 1"]
    connection.stop()
    with pytest.raises(EOFError):
        peer.command()


def test_a_switch_that_does_not_read_is_given_up_too(far: tuple[Peer, Connection]) -> None:
    _, connection = far
    connection.timeout = SOON
    with pytest.raises(CommandTimeout, match="no answer to 'api xxxx"):
        connection.send("api " + "x" * 12_000_000)
    assert not connection.connected


@pytest.mark.parametrize("answer", ["-ERR no such thing", "-USAGE: <uuid>\n", "-ERR"])
def test_a_refusal_of_an_api_command_is_raised(far: tuple[Peer, Connection], answer: str) -> None:
    peer, connection = far
    waiting = gevent.spawn(connection.api, "x")
    peer.command()
    peer.api(answer)
    assert raised(waiting, CommandRefused) == answer.strip()
    assert connection.connected


@pytest.mark.parametrize("answer", ["+OK", "", "true", "two\nlines", "not -ERR"])
def test_what_an_api_command_answers_is_given(far: tuple[Peer, Connection], answer: str) -> None:
    peer, connection = far
    waiting = gevent.spawn(connection.api, "x")
    assert peer.command() == "api x"
    peer.api(answer)
    assert result(waiting) == answer


@pytest.mark.parametrize("line", ["api a\n\nexit", "api a\r", "api a\0b"])
def test_what_must_not_be_sent_is_not(far: tuple[Peer, Connection], line: str) -> None:
    peer, connection = far
    with pytest.raises(WireError):
        connection.send(line)
    waiting = gevent.spawn(connection.api, "fine")
    assert peer.command() == "api fine"
    peer.api("+OK")
    assert result(waiting) == "+OK"


# ---- listeners


def test_a_listener_that_fails_stops_no_other_and_is_logged(
    far: tuple[Peer, Connection], caplog: pytest.LogCaptureFixture
) -> None:
    peer, connection = far
    heard: list[str] = []
    done = gevent.event.Event()

    def failing(_: Event) -> None:
        raise ValueError("broken listener")

    connection.listen(failing)
    connection.listen(lambda happened: heard.append(happened.get("DTMF-Digit")))
    connection.listen(lambda happened: done.set() if happened.get("DTMF-Digit") == "2" else None)
    with caplog.at_level(logging.ERROR):
        peer.event("DTMF", DTMF_Digit="1")
        peer.event("DTMF", DTMF_Digit="2")
        assert done.wait(LIMIT)
    assert heard == ["1", "2"]
    assert [record.getMessage() for record in caplog.records] == ["event socket: listener failed at DTMF"] * 2
    assert "broken listener" in caplog.text
    assert connection.connected


def test_a_listener_hears_until_it_is_forgotten(far: tuple[Peer, Connection]) -> None:
    peer, connection = far
    heard: list[str] = []
    always: list[str] = []
    done = gevent.event.Event()
    forget: list[Callable[[], None]] = []

    def once(happened: Event) -> None:
        heard.append(happened.get("DTMF-Digit"))
        forget[0]()
        forget[0]()

    forget.append(connection.listen(once))
    connection.listen(lambda happened: always.append(happened.get("DTMF-Digit")))
    connection.listen(lambda happened: done.set() if happened.get("DTMF-Digit") == "2" else None)
    peer.event("DTMF", DTMF_Digit="1")
    peer.event("DTMF", DTMF_Digit="2")
    assert done.wait(LIMIT)
    assert (heard, always) == (["1"], ["1", "2"])


def test_a_dead_machine_is_found_out_by_tcp(far: tuple[Peer, Connection]) -> None:
    _, connection = far
    option = connection.sock.getsockopt
    assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    waited = option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    waited += option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) * option(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
    assert waited <= 120

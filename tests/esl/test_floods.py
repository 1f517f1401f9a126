"""Peers that send what no switch sends, or more of it than any does: they are cut off, and everybody else goes on."""

import logging
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket
from peer import LIMIT, Peer, event

from esl_record.errors import WireError
from esl_record.esl import allowance
from esl_record.esl.connection import UNASKED, Connection
from esl_record.esl.inbound import Inbound
from esl_record.esl.session import Session
from esl_record.hub import TURN, Reader, Turns
from esl_record.standin.switch import Switch

DATA = b"Event-Name: CHANNEL_DATA\nUnique-ID: u1\nContent-Type: command/reply\nReply-Text: %2BOK%0A\n\n"
DIGIT = event("DTMF", DTMF_Digit="1")
PIECE = 1 << 16
TICK = 0.01


@pytest.fixture
def pair() -> Iterator[tuple[Peer, Session]]:
    """The switch's end of a TCP connection, and the session on ours; the channel's data has come."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, address = listening.accept()
    session, peer = Session(ours, address, timeout=LIMIT), Peer(theirs)
    connecting = gevent.spawn(session.connect)
    assert peer.command() == "connect"
    peer.send(DATA)
    connecting.get(timeout=LIMIT)
    yield peer, session
    session.abort()
    theirs.close()


def flood(peer: Peer, frame: bytes) -> gevent.Greenlet:
    """Sends ``frame`` again and again in the background, until it is cut off."""
    piece = frame * (PIECE // len(frame) + 1)

    def send() -> None:
        try:
            while True:
                peer.send(piece)
                gevent.idle()
        except OSError:
            pass  # cut off

    return gevent.spawn(send)


FLOODS: dict[str, tuple[bytes, str]] = {
    "blank lines": (b"\n", "more than 64 blank lines without a frame"),
    "empty events": (b"Content-Type: text/event-plain\n\n", "event without a name"),
    "events of one blank": (b"Content-Type: text/event-plain\nContent-Length: 2\n\n\n\n", "event without a name"),
    "replies": (
        b"Content-Type: command/reply\nReply-Text: +OK\n\n",
        "more than 10 frames that no command asked for",
    ),
    "answers": (b"Content-Type: api/response\nContent-Length: 3\n\n+OK", "more than 10 frames that no command"),
    "unknown": (b"Content-Type: log/data\nContent-Length: 1\n\nx", "unknown Content-Type 'log/data'"),
    "none": (b"X: y\n\n", "unknown Content-Type ''"),
    "notices": (b"Content-Type: text/disconnect-notice\n\n", "more than 10 frames that no command asked for"),
    "logins": (b"Content-Type: auth/request\n\n", "more than 10 frames that no command asked for"),
    "endless line": (b"x", "header block of more than 262144 bytes"),
    "endless headers": (b"X: y\n", "header block of more than 262144 bytes"),
    "long body": (b"Content-Type: api/response\nContent-Length: 16777216\n\n", "must be 0 to 524288"),
    "negative body": (b"Content-Type: api/response\nContent-Length: -1\n\n", "Content-Length '-1'"),
    "lettered body": (b"Content-Type: api/response\nContent-Length: many\n\n", "Content-Length 'many'"),
    "events of one call": (DIGIT, "more events than the switch sends of one call"),
    "costly events": (event("DTMF", X="%41" * 30_000), "more events than the switch sends of one call"),
    "large events": (event("DTMF", X="y" * 200_000), "more events than the switch sends of one call"),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_what_no_switch_sends_ends_the_connection(
    pair: tuple[Peer, Session], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    peer, session = pair
    frame, told = FLOODS[kind]
    flooding = flood(peer, frame)
    assert session.closed.wait(LIMIT)
    assert isinstance(session.fault, WireError)
    assert told in str(session.fault)
    assert len(str(session.fault)) < 200
    assert len(caplog.records) <= UNASKED + 1
    session.abort()
    flooding.join(LIMIT)


def test_events_before_the_channels_data_end_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ours = socket.create_connection(listening.getsockname())
        theirs, address = listening.accept()
    session, peer = Session(ours, address, timeout=LIMIT), Peer(theirs)
    peer.send(DIGIT * (UNASKED + 1))
    assert session.closed.wait(LIMIT)
    assert "a DTMF before the channel's data" in str(session.fault)
    session.abort()
    theirs.close()


def test_as_many_events_as_a_call_can_have_are_no_flood(pair: tuple[Peer, Session]) -> None:
    """Hundreds at once, of the size they have on a switch, as after a second in which nothing was read."""
    peer, session = pair
    heard: list[str] = []
    done = gevent.event.Event()
    session.listen(lambda happened: heard.append(happened.name))
    session.listen(lambda happened: done.set() if happened.name == "CHANNEL_STATE" else None)
    peer.send(event("DTMF", X="y" * 10_000) * 1000 + event("CHANNEL_STATE"))
    assert done.wait(LIMIT)
    assert len(heard) == 1001
    assert session.connected


def test_what_commands_start_is_no_flood() -> None:
    now = [0.0]
    bucket = allowance.Allowance(lambda: now[0])
    # An application has two events, of some 10 KB each.
    for _ in range(100_000):
        bucket.earn()
        assert bucket.spend(bytes(10_000))
        assert bucket.spend(bytes(10_000))


def test_an_allowance_comes_back_with_time() -> None:
    now = [0.0]
    bucket = allowance.Allowance(lambda: now[0])
    spent = 0
    while bucket.spend(b""):
        spent += 1
    assert spent == allowance.BURST
    now[0] += 1.0
    assert sum(bucket.spend(b"") for _ in range(1000)) == allowance.PER_SECOND - 1


# ---- the others


class Ticks:
    """A timer of 10 ms, and how often something happened at most between two of its ticks."""

    def __init__(self) -> None:
        self.most = self.count = self.total = 0

    def note(self, _: object) -> None:
        """Takes a millisecond."""
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        self.count += 1
        self.total += 1
        self.most = max(self.most, self.count)

    def run(self) -> None:
        while True:
            gevent.sleep(TICK)
            self.count = 0


@pytest.mark.parametrize("connections", [1, 5])
def test_whoever_has_always_more_to_say_starves_no_timer(connections: int) -> None:
    ticks, each = Ticks(), 500 // connections
    ticking = gevent.spawn(ticks.run)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pairs = []
        for _ in range(connections):
            ours = socket.create_connection(listening.getsockname())
            pairs.append((Connection(ours), Peer(listening.accept()[0])))
    for connection, peer in pairs:
        connection.listen(ticks.note)
        peer.send(DIGIT * each)
    with gevent.Timeout(LIMIT):
        while ticks.total < each * connections:
            gevent.sleep(TICK)
    for connection, peer in pairs:
        connection.abort()
        peer.close()
    ticking.kill()
    # A timer that comes in time sees ten of them and the rest of a turn, one that waits for what is there all 500.
    assert ticks.most <= 25


def test_another_calls_command_is_served_between_the_events_of_a_flood(pair: tuple[Peer, Session]) -> None:
    peer, session = pair
    ticks = Ticks()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        flooded = Connection(socket.create_connection(listening.getsockname()))
        flooding = Peer(listening.accept()[0])
    flooded.listen(ticks.note)
    flooding.send(DIGIT * 2000)
    with gevent.Timeout(LIMIT):
        while not ticks.total:
            gevent.sleep(0)
    before = ticks.total
    asking = gevent.spawn(session.api, "status")
    assert peer.command() == "api status"
    peer.api("UP")
    assert asking.get(timeout=LIMIT) == "UP"
    # A few turns, of some five events each; without turns all 2000 come first.
    assert ticks.total - before < 100
    flooded.abort()
    flooding.close()


def test_readers_share_each_round_of_the_loop_and_none_is_left_out() -> None:
    now, loop = [0.0], gevent.get_hub().loop
    steps: dict[int, int] = {}
    did = [0] * 10

    def clock() -> float:
        return now[0]

    def read(number: int) -> None:
        reader = Reader(clock)
        while sum(did) < 2000:
            now[0] += TURN / 5
            did[number] += 1
            steps[loop.iteration] = steps.get(loop.iteration, 0) + 1
            reader.step()

    gevent.idle()  # in this round of the loop others may have read, by another clock
    gevent.joinall([gevent.spawn(read, number) for number in range(10)], timeout=LIMIT, raise_error=True)
    # One each that is no longer in time, for those that have just begun.
    assert max(steps.values()) <= 5 + len(did)
    assert sorted(steps.values())[len(steps) // 2] <= 6
    assert min(did) > 0


def test_readers_that_wait_are_served_in_the_order_in_which_they_came() -> None:
    now, order = [0.0], []

    def read(number: int) -> None:
        reader = Reader(lambda: now[0])
        reader.begin()
        now[0] += TURN / 2
        order.append(number)
        reader.step()

    gevent.idle()
    gevent.joinall([gevent.spawn(read, number) for number in range(100)], timeout=LIMIT, raise_error=True)
    assert order == list(range(100))


def test_whoever_has_little_to_read_at_a_time_never_queues_with_those_that_have_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However much it is in all: a thousand calls that end together are no flood."""
    now = [0.0]
    queued: list[float] = []
    monkeypatch.setattr(Turns, "take", lambda turns, pause=0.0: queued.append(pause))
    reader = Reader(lambda: now[0])
    for _ in range(100):
        gevent.idle()  # as while it waits for its socket
        reader.begin()
        now[0] += TURN / 3
        reader.step()
    assert queued == []
    now[0] += TURN
    reader.step()
    assert len(queued) == 1


# ---- the link


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch()
    yield switch
    switch.close()


def scripted(script: Callable[[Peer], None]) -> tuple[tuple[str, int], socket.socket]:
    """An event socket that logs anybody in and goes on with ``script``."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer = Peer(listening.accept()[0])
        try:
            peer.send(b"Content-Type: auth/request\n\n")
            peer.command()
            peer.reply("+OK accepted")
            script(peer)
            peer.command()
        except (OSError, EOFError):
            pass  # cut off
        finally:
            peer.close()

    gevent.spawn(serve)
    return listening.getsockname(), listening


def test_events_a_link_has_not_asked_for_end_it(caplog: pytest.LogCaptureFixture) -> None:
    def script(peer: Peer) -> None:
        assert peer.command() == "event plain DTMF"
        peer.reply()
        peer.send(DIGIT * 3000)
        peer.send(event("HEARTBEAT") * (UNASKED + 1))

    address, listening = scripted(script)
    link = Inbound(address, "ClueCon", timeout=LIMIT)
    heard: list[str] = []
    link.listen(lambda happened: heard.append(happened.name))
    link.send("event plain DTMF")
    assert link.closed.wait(LIMIT)
    assert heard.count("DTMF") == 3000
    assert "more than 10 frames that no command asked for, the last a HEARTBEAT" in str(link.fault)
    assert caplog.records == []
    link.abort()
    listening.close()


def test_a_list_of_thousands_of_channels_passes() -> None:
    listed = "x" * 12_000_000

    def script(peer: Peer) -> None:
        assert peer.command() == "api show channels as json"
        peer.api(listed)

    address, listening = scripted(script)
    link = Inbound(address, "ClueCon", timeout=LIMIT)
    assert link.api("show channels as json") == listed
    link.abort()
    listening.close()


def test_replies_to_no_command_are_logged_a_few_times_in_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from esl_record.esl import connection as module
    from esl_record.logs import Sparing

    monkeypatch.setattr(module, "_sparing", Sparing(module.log, 5))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(20):
            connection = Connection(socket.create_connection(listening.getsockname()))
            peer = Peer(listening.accept()[0])
            peer.send(b"Content-Type: command/reply\nReply-Text: +OK\n\n" * 20)
            assert connection.closed.wait(LIMIT)
            connection.abort()
            peer.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 5

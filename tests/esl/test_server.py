"""The listener: which calls it takes, what becomes of those it does not, and how it ends."""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence

import gevent
import pytest
from gevent import socket
from gevent.event import Event as Flag
from peer import LIMIT, Peer

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.admission import Admission
from esl_record.esl.server import Server
from esl_record.esl.session import Session

SOON = 0.1
"""Seconds the switch gets for an answer where it gives none."""

DATA = b"Event-Name: CHANNEL_DATA\nUnique-ID: u%d\nContent-Type: command/reply\nReply-Text: %%2BOK%%0A\n\n"
EVENTS = "event plain RECORD_START RECORD_STOP CODEC CHANNEL_HOLD CHANNEL_UNHOLD"
BEGIN = ["connect", "myevents", EVENTS, "linger 5"]

Handler = Callable[[Session], None]


class Switch:
    """Places calls at a server; each is a peer."""

    def __init__(self) -> None:
        self._calls: list[Peer] = []

    def connect(self, server: Server) -> Peer:
        peer = Peer(socket.create_connection(server.address))
        self._calls.append(peer)
        return peer

    def call(self, server: Server) -> Peer:
        """A call whose handler runs."""
        peer = self.connect(server)
        assert self.answer(peer, len(BEGIN)) == BEGIN
        return peer

    def answer(self, peer: Peer, commands: int) -> list[str]:
        """The next commands, each answered ``+OK``."""
        said = []
        for _ in range(commands):
            said.append(peer.command())
            if said[-1] == "connect":
                peer.send(DATA % self._calls.index(peer))
            elif said[-1].startswith("api "):
                peer.api("+OK")
            else:
                peer.reply()
        return said

    def close(self) -> None:
        for peer in self._calls:
            peer.close()


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch()
    yield switch
    switch.close()


@pytest.fixture
def serve(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Server]]:
    caplog.set_level(logging.DEBUG)
    servers: list[Server] = []

    def serving(
        handler: Handler,
        *,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        timeout: float = LIMIT,
        peers: Sequence[str] = ("127.0.0.0/8",),
        secrets: Sequence[str] = (),
        capacity: int = 10,
        peer_capacity: int = 0,
    ) -> Server:
        admission = Admission(peers, secrets, capacity=capacity, peer_capacity=peer_capacity)
        server = Server(listen, handler, admission, timeout=timeout)
        servers.append(server)
        server.start()
        return server

    yield serving
    for server in servers:
        server.stop_accepting()
        server.give_up()


Serve = Callable[..., Server]


class Held:
    """A handler that keeps its calls until ``let_go``."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.let_go = Flag()
        self._came = Flag()

    def __call__(self, session: Session) -> None:
        self.calls.append(session.uuid)
        self._came.set()
        self.let_go.wait()

    def has(self, *calls: str) -> bool:
        """Whether these calls come, in this order and no others."""
        with gevent.Timeout(LIMIT, False):
            while len(self.calls) < len(calls):
                self._came.wait()
                self._came.clear()
        return self.calls == list(calls)


def ended(peer: Peer) -> bool:
    try:
        peer.command()
    except (EOFError, OSError):
        return True
    return False


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# ---- who is let in


def test_a_call_is_begun_handled_and_handed_back(serve: Serve, switch: Switch) -> None:
    handled: list[str] = []
    server = serve(lambda session: handled.append(session.uuid))
    peer = switch.call(server)
    assert switch.answer(peer, 2) == ["resume", "exit"]
    assert ended(peer)
    assert server.drain(LIMIT)
    assert handled == ["u0"]


@pytest.mark.parametrize("peers", [["192.0.2.0/24"], ["127.0.0.2"], ["::1/128"], []])
def test_a_peer_of_no_known_network_gets_its_call_back(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture, peers: list[str]
) -> None:
    held = Held()
    server = serve(held, peers=peers)
    peer = switch.connect(server)
    assert switch.answer(peer, 3) == ["connect", "resume", "exit"]
    assert ended(peer)
    assert held.calls == []
    assert server.connections == 0
    assert "connection from 127.0.0.1 refused: not in the setting peers" in caplog.text


@pytest.mark.parametrize(
    "peers", [["127.0.0.1"], ["127.0.0.7/8"], ["192.0.2.0/24", "127.0.0.0/30"], ["0.0.0.0/0", "::/0"]]
)
def test_a_peer_of_a_known_network_is_served(serve: Serve, switch: Switch, peers: list[str]) -> None:
    held = Held()
    server = serve(held, peers=peers)
    switch.call(server)
    assert held.has("u0")


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize(("listen", "dial"), [("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")])
def test_a_peer_is_known_by_its_address_whatever_socket_it_comes_through(
    serve: Serve, switch: Switch, listen: str, dial: str
) -> None:
    held = Held()
    server = serve(held, listen=(listen, 0), peers=["127.0.0.0/8", "::1/128"])
    peer = Peer(socket.create_connection((dial, server.address[1])))
    try:
        assert peer.command() == "connect"
    finally:
        peer.close()


# ---- capacity


def test_a_call_over_capacity_is_told_why_and_goes_on(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    server = serve(held, capacity=1)
    first = switch.call(server)
    refused = switch.connect(server)
    assert switch.answer(refused, 4) == ["connect", "api uuid_setvar u1 esl_record_refused capacity", "resume", "exit"]
    assert ended(refused)
    assert "call u1 refused: 1 calls is the capacity" in caplog.text
    held.let_go.set()
    assert switch.answer(first, 2) == ["resume", "exit"]
    assert server.drain(LIMIT)
    switch.call(server)
    assert held.has("u0", "u2")


def test_a_refused_call_that_says_nothing_is_let_go(
    serve: Serve, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esl_record.esl.server._REFUSAL_TIMEOUT", SOON)
    held = Held()
    server = serve(held, capacity=1)
    switch.call(server)
    silent = switch.connect(server)
    assert silent.command() == "connect"
    while not ended(silent):
        pass
    assert held.has("u0")


def test_as_many_calls_as_the_capacity_are_served_at_once(serve: Serve, switch: Switch) -> None:
    held = Held()
    server = serve(held, capacity=20)
    for _ in range(20):
        switch.call(server)
    assert held.has(*(f"u{number}" for number in range(20)))
    assert server.connections == 20


# ---- handlers


@pytest.mark.parametrize(
    ("error", "level", "told"),
    [
        (ValueError("broken handler"), logging.ERROR, "call u0: unexpected error"),
        (CommandRefused("-ERR no"), logging.ERROR, "-ERR no"),
        (CommandTimeout("no answer"), logging.ERROR, "no answer"),
        (CallGone("call u0: NORMAL_CLEARING"), logging.DEBUG, "call u0: NORMAL_CLEARING"),
    ],
    ids=["unexpected", "refused", "timeout", "gone"],
)
def test_what_a_handler_raises_is_logged_and_the_call_released(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture, error: Exception, level: int, told: str
) -> None:
    def failing(_: Session) -> None:
        raise error

    server = serve(failing)
    for _ in range(2):
        peer = switch.call(server)
        assert switch.answer(peer, 2) == ["resume", "exit"]
        assert ended(peer)
    assert server.drain(LIMIT)
    told_at = [record.levelno for record in caplog.records if record.getMessage() == told]
    assert told_at[:1] == [level]
    assert ("broken handler" in caplog.text) is isinstance(error, ValueError)
    assert bool(errors(caplog)) is (level == logging.ERROR)


def test_a_broken_wire_is_one_error_line(serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture) -> None:
    server = serve(lambda session: session.playback("x"))
    peer = switch.call(server)
    peer.command()
    peer.send(b"garbage\n\n")
    assert server.drain(LIMIT)
    assert errors(caplog) == ["call u0: not a header line: b'garbage'"]


def test_a_peer_that_leaves_at_once_harms_nothing(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    server = serve(held)
    for _ in range(20):
        switch.connect(server).close()
    switch.call(server)
    assert held.has("u20")
    assert errors(caplog) == []


def test_a_peer_that_never_answers_is_given_up(serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture) -> None:
    held = Held()
    server = serve(held, timeout=SOON)
    silent = switch.connect(server)
    assert silent.command() == "connect"
    assert server.drain(LIMIT)
    assert held.calls == []
    assert errors(caplog) == ["connection from 127.0.0.1: no answer to 'connect' within 0.1 s"]


# ---- the end


def test_a_server_without_calls_is_drained(serve: Serve) -> None:
    server = serve(Held())
    assert server.drain(0)


def test_draining_ends_with_the_last_call(serve: Serve, switch: Switch) -> None:
    held = Held()
    server = serve(held)
    peers = [switch.call(server) for _ in range(3)]
    assert not server.drain(0.01)
    draining = gevent.spawn(server.drain, LIMIT)
    for peer in peers[:2]:
        peer.close()
    held.let_go.set()
    assert switch.answer(peers[2], 1) == ["resume"]
    assert not draining.ready()
    assert switch.answer(peers[2], 1) == ["exit"]
    assert draining.get(timeout=LIMIT) is True
    assert server.connections == 0


def test_calls_given_up_are_handed_back_to_the_dialplan(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(Held())
    peers = [switch.call(server) for _ in range(3)]
    giving_up = gevent.spawn(server.give_up)
    said = [gevent.spawn(switch.answer, peer, 2) for peer in peers]
    assert [one.get(timeout=LIMIT) for one in said] == [["resume", "exit"]] * 3
    giving_up.get(timeout=LIMIT)
    assert server.drain(LIMIT)
    assert caplog.text.count("given up at shutdown") == 3
    assert errors(caplog) == []


def test_a_call_given_up_while_a_command_waits_is_handed_back(serve: Serve, switch: Switch) -> None:
    server = serve(lambda session: session.playback("x"))
    peer = switch.call(server)
    assert "execute-app-name: playback" in peer.command()
    giving_up = gevent.spawn(server.give_up)
    peer.reply()
    assert switch.answer(peer, 2) == ["resume", "exit"]
    giving_up.get(timeout=LIMIT)
    assert server.drain(LIMIT)


def test_who_no_longer_accepts_is_not_found(serve: Serve, switch: Switch) -> None:
    held = Held()
    server = serve(held)
    address = server.address
    peer = switch.call(server)
    server.stop_accepting()
    server.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    held.let_go.set()
    assert switch.answer(peer, 2) == ["resume", "exit"]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # gevent leaves the socket it could not bind
def test_an_address_in_use_is_an_error_of_the_start(serve: Serve) -> None:
    first = serve(Held())
    second = Server(first.address, Held(), Admission([], capacity=1))
    with pytest.raises(OSError, match="in use"):
        second.start()
    gc.collect()

"""The listener: which calls it takes, what becomes of those it does not, and how it ends."""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event as Flag
from peer import LIMIT, Peer

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.admission import Admission
from esl_record.esl.server import Server
from esl_record.esl.session import Session
from esl_record.esl.stranger import FEW, PATIENCE, STRANGERS, Stranger, Strangers
from esl_record.logs import FIRST

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

    def connect(self, server: Server, source: str = "127.0.0.1") -> Peer:
        peer = Peer(socket.create_connection(server.address, source_address=(source, 0)))
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


def test_one_peer_has_no_more_calls_than_peer_capacity(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    server = serve(held, peer_capacity=1)
    switch.call(server)
    refused = switch.connect(server)
    assert switch.answer(refused, 4) == ["connect", "api uuid_setvar u1 esl_record_refused capacity", "resume", "exit"]
    assert "call u1 refused: 1 calls is the peer_capacity" in caplog.text
    other = switch.connect(server, "127.0.0.2")
    assert switch.answer(other, len(BEGIN)) == BEGIN
    assert held.has("u0", "u2")


def test_by_itself_one_peer_may_have_all_calls(serve: Serve, switch: Switch) -> None:
    held = Held()
    server = serve(held, capacity=3)
    for _ in range(3):
        switch.call(server)
    assert held.has("u0", "u1", "u2")


@pytest.mark.parametrize("said", [b"", (DATA % 0)[:-1]], ids=["nothing", "half"])
def test_connections_that_say_nothing_take_no_calls_place(serve: Serve, switch: Switch, said: bytes) -> None:
    held = Held()
    server = serve(held, capacity=2)
    silent = [switch.connect(server) for _ in range(10)]
    for peer in silent:
        assert peer.command() == "connect"
        peer.send(said)
    for _ in range(2):
        switch.call(server)
    assert held.has("u10", "u11")
    # They are still there, and get their calls back as soon as they say which these are.
    late = silent[0]
    late.send(b"\n" if said else DATA % 0)
    assert late.command().endswith("esl_record_refused capacity")


def test_where_many_say_nothing_the_oldest_give_way_and_have_their_calls_handed_back(
    serve: Serve, switch: Switch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("esl_record.esl.stranger.FEW", 2)
    monkeypatch.setattr("esl_record.esl.stranger.PATIENCE", 0.0)
    held = Held()
    server = serve(held)
    silent = [switch.connect(server) for _ in range(5)]
    assert [peer.command() for peer in silent] == ["connect"] * 5
    switch.call(server)
    for peer in silent[:4]:
        assert [peer.command(), peer.command()] == ["resume", "exit"]
        assert ended(peer)
    assert held.has("u5")
    assert server.connections == 2
    assert caplog.text.count("gave way to others, as it has not said which call it is of") == 4
    # The last one is served as well, late as it is.
    assert switch.answer(silent[4], 0) == []
    silent[4].send(DATA % 4)
    assert silent[4].command() == "myevents"


def test_the_silent_connections_of_one_peer_give_way_to_those_of_another() -> None:
    now: list[float] = [0.0]
    dropped: list[str] = []
    strangers = Strangers(lambda: now[0])

    class Silent(Stranger):
        def __init__(self, name: str, peer: str) -> None:
            self.name, self.peer = name, peer

        def give_up(self) -> None:
            dropped.append(self.name)

    with ExitStack() as present:
        for number in range(FEW):
            present.enter_context(strangers.present(Silent(f"few {number}", "192.0.2.1")))
        for number in range(STRANGERS):
            present.enter_context(strangers.present(Silent(f"many {number}", "192.0.2.2")))
        assert dropped == [f"many {number}" for number in range(FEW)]
        # After a second none of them is waited for while there are new ones.
        now[0] += PATIENCE
        present.enter_context(strangers.present(Silent("new", "192.0.2.1")))
        assert len(dropped) == FEW + STRANGERS - FEW + 1


SECRETS = ["0123456789abcdef", "fedcba9876543210"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_call_with_a_secret_is_served_and_the_secret_forgotten(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    data: list[Mapping[str, str]] = []
    held = Held()

    def handle(session: Session) -> None:
        data.append({**session.data, **session.session_data, "secret": session.secret})
        held(session)

    server = serve(handle, secrets=SECRETS)
    peer = switch.connect(server)
    assert peer.command() == "connect"
    peer.send(b"variable_esl_record_secret: %b\n" % secret.encode() + DATA % 0)
    assert switch.answer(peer, 3) == BEGIN[1:]
    assert held.has("u0")
    assert secret not in str(data)
    assert secret not in caplog.text


@pytest.mark.parametrize(
    "given",
    ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", ",".join(SECRETS), "%C3%A9", "%FF", "%00"],
)
def test_a_call_without_a_valid_secret_goes_on_in_its_dialplan(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture, given: str
) -> None:
    held = Held()
    server = serve(held, secrets=SECRETS)
    peer = switch.connect(server)
    assert peer.command() == "connect"
    peer.send((f"variable_esl_record_secret: {given}\n".encode() if given else b"") + DATA % 0)
    assert switch.answer(peer, 3) == ["api uuid_setvar u0 esl_record_refused secret", "resume", "exit"]
    assert ended(peer)
    assert held.calls == []
    assert "call u0 refused: no valid secret in its variable esl_record_secret" in caplog.text
    assert not given or given not in caplog.text


def test_without_secrets_whatever_a_call_has_as_such_is_not_kept(serve: Serve, switch: Switch) -> None:
    sessions: list[Session] = []
    server = serve(sessions.append)
    peer = switch.connect(server)
    peer.command()
    peer.send(b"variable_esl_record_secret: of-another-service\n" + DATA % 0)
    assert switch.answer(peer, 5) == [*BEGIN[1:], "resume", "exit"]
    assert "of-another-service" not in f"{sessions[0].data} {sessions[0].secret}"


@pytest.mark.parametrize("settings", [{"peers": []}, {"capacity": 1}], ids=["peer", "capacity"])
def test_many_that_are_refused_are_handed_back_without_waiting_for_them(
    serve: Serve, switch: Switch, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr("esl_record.esl.server._REFUSALS", 2)
    server = serve(Held(), **settings)
    if settings.get("capacity"):
        switch.call(server)
    waited_for = [switch.connect(server) for _ in range(2)]
    assert [peer.command() for peer in waited_for] == ["connect"] * 2
    for _ in range(20):
        more = switch.connect(server)
        assert [more.command(), more.command(), more.command()] == ["connect", "resume", "exit"]
        assert ended(more)


def test_many_with_a_wrong_secret_are_handed_back_without_waiting_for_them(
    serve: Serve, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esl_record.esl.server._REFUSALS", 2)
    server = serve(Held(), secrets=SECRETS)
    for number in range(10):
        peer = switch.connect(server)
        assert peer.command() == "connect"
        peer.send(DATA % number)
        if number < 2:
            assert peer.command().endswith("esl_record_refused secret")
        else:
            assert [peer.command(), peer.command()] == ["resume", "exit"]
            assert ended(peer)


def test_what_many_peers_do_wrong_is_logged_a_few_times(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(Held())
    for _ in range(100):
        peer = switch.connect(server)
        peer.send(b"garbage\n\n")
        while not ended(peer):
            pass
    assert server.drain(LIMIT)
    assert len(errors(caplog)) == FIRST


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


def test_the_connection_of_a_call_that_is_elsewhere_lasts_as_long_as_the_call(serve: Serve, switch: Switch) -> None:
    here, elsewhere = Flag(), Flag()

    def until_it_leaves(session: Session) -> None:
        session.listen(lambda event: elsewhere.set())
        here.set()
        elsewhere.wait()

    server = serve(until_it_leaves)
    peer = switch.call(server)
    assert here.wait(LIMIT)
    peer.event("CHANNEL_EXECUTE_COMPLETE", Application="socket")
    assert server.drain(LIMIT)
    with pytest.raises(gevent.Timeout), gevent.Timeout(SOON):
        peer.command()
    peer.event("CHANNEL_HANGUP", Hangup_Cause="NORMAL_CLEARING")
    assert switch.answer(peer, 1) == ["exit"]


@pytest.mark.parametrize("call_id", ["", "a b", "x" * 257, "a%0Ab"])
def test_a_call_without_a_usable_id_is_handed_back(
    serve: Serve, switch: Switch, caplog: pytest.LogCaptureFixture, call_id: str
) -> None:
    held = Held()
    peer = switch.connect(serve(held))
    assert peer.command() == "connect"
    peer.send(DATA.replace(b"u%d", b"%b") % call_id.encode())
    assert peer.command() == "resume"
    assert held.calls == []
    assert len(errors(caplog)) == 1
    assert "without a usable Unique-ID" in errors(caplog)[0]


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

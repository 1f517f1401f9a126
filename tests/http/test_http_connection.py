"""Connections that have too much to say, or that are too many: everything else goes on."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gevent
import pytest
from gevent import socket
from http_fakes import CALL, LIMIT, Client, Serve, Site, basic

from esl_record.http.clients import share

SHORT = 0.2
TICK = 0.01
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Rounds:
    """Counts what happens between two ticks of a timer of 10 ms."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0
        self.total = 0

    def __iadd__(self, more: int) -> "Rounds":
        self.count += more
        self.total += more
        self.most = max(self.most, self.count)
        return self

    @contextmanager
    def ticking(self) -> Iterator[None]:
        def tick() -> None:
            while True:
                gevent.sleep(TICK)
                self.count = 0

        ticking = gevent.spawn(tick)
        gevent.sleep(0)
        yield
        ticking.kill()


@pytest.fixture
def rounds(site: Site) -> Rounds:
    """How many requests the site has between two ticks; each takes a millisecond at least."""
    counted, app = Rounds(), site.app

    def counting(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        nonlocal counted
        counted += 1
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    site.app = counting  # type: ignore[assignment]
    return counted


@pytest.mark.parametrize("clients", [1, 20])
def test_whoever_sends_requests_without_an_end_starves_no_timer(
    site: Site, serve: Serve, rounds: Rounds, clients: int
) -> None:
    server, each = serve(site), 600 // clients
    with ExitStack() as stack:
        pipes = [stack.enter_context(Client(server)) for _ in range(clients)]
        for pipe in pipes:
            pipe.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            pipe.sock.sendall(HEALTH * each)
        with rounds.ticking(), gevent.Timeout(LIMIT):
            for pipe in pipes:
                for _ in range(each):
                    assert pipe.answer() == (200, b"[]")
    assert rounds.total == each * clients
    # A timer that comes in time sees ten of them, one that waits for what is there all 600.
    assert rounds.most <= 14


def test_whoever_sends_requests_without_an_end_keeps_nobody_out(site: Site, serve: Serve, rounds: Rounds) -> None:
    server = serve(site)
    with Client(server) as pipe, Client(server) as other:
        pipe.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        other.sock.sendall(HEALTH)
        assert other.answer()[0] == 200
        pipe.sock.sendall(HEALTH * 600)
        gevent.sleep(TICK)
        other.sock.sendall(HEALTH)
        assert other.answer() == (200, b"[]")
        assert rounds.total < 300


def test_a_body_of_many_small_chunks_starves_no_timer(site: Site, serve: Serve) -> None:
    body = (b"1;" + b"x" * 8000 + b"\r\n{\r\n") * 150
    with Client(serve(site)) as client:
        head = f"POST /api/calling/calls HTTP/1.1\r\nHost: localhost\r\nAuthorization: {basic()['Authorization']}"
        client.sock.sendall(
            f"{head}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body[:10]
        )
        sending = gevent.spawn(client.sock.sendall, body[10:] + b"0\r\n\r\n")
        answering = gevent.spawn(client.answer)
        ticks = 0
        while not answering.ready():
            gevent.sleep(0.001)
            ticks += 1
        sending.join(LIMIT)
        assert answering.get()[0] == 422
    # A megabyte in pieces of 8 KiB: between any two of them there is a round.
    assert ticks > 20


# ---- too many


def test_one_address_has_its_share_of_the_connections(site: Site, serve: Serve) -> None:
    server = serve(site, connections=8)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(4)]
        for client in clients:
            client.sock.sendall(HEALTH)
            assert client.answer() == (200, b"[]")
        # One more takes the place of the one that has been idle longest.
        clients[0].sock.sendall(HEALTH)
        assert clients[0].answer() == (200, b"[]")
        with Client(server) as more:
            more.sock.sendall(HEALTH)
            assert more.answer() == (200, b"[]")
            assert clients[1].closed()
            for client in (clients[0], *clients[2:]):
                client.sock.sendall(HEALTH)
                assert client.answer() == (200, b"[]")
        with Client(server, "127.0.0.2") as other:
            other.sock.sendall(HEALTH)
            assert other.answer() == (200, b"[]")


def test_whoever_is_being_answered_and_may_be_gives_way_to_nobody(site: Site, serve: Serve) -> None:
    server = serve(site, connections=4)
    command = json.dumps({"command": "calling.end", "id": CALL}).encode()
    site.place()
    with Client(server) as first, Client(server) as second, Client(server, "127.0.0.2") as other:
        for busy in (first, second):
            length = f"Content-Length: {len(command)}"
            busy.send("POST /api/calling/calls HTTP/1.1", "Content-Type: application/json", length)
        # Once one that came later has been answered, the application has the requests of both.
        other.sock.sendall(HEALTH)
        assert other.answer()[0] == 200
        with Client(server) as late:
            assert late.head()[0] == 503
            assert late.closed()
        first.sock.sendall(command)
        assert first.answer()[0] == 200


def test_silent_clients_keep_nobody_out(site: Site, serve: Serve) -> None:
    """Behind a proxy all have one address; whoever has connected without asking waits at the expense of nobody."""
    server = serve(site, connections=8)
    with ExitStack() as stack:
        said = (
            b"",
            b"GET /healthz HTTP/1.1\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
        )
        for number in range(24):
            stack.enter_context(Client(server)).sock.sendall(said[number % 3])
        with Client(server) as client:
            client.sock.sendall(HEALTH)
            assert client.answer() == (200, b"[]")


def test_a_flood_of_requests_does_not_fill_the_log(site: Site, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server, many = serve(site), 400
    with Client(server) as pipe, Client(server) as known:
        pipe.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        pipe.sock.sendall(HEALTH * many)
        for _ in range(many):
            assert pipe.answer()[0] == 200
        known.send("GET /api/v1/calls HTTP/1.1")
        assert known.answer()[0] == 200
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("http: GET")]
    assert sum("/healthz" in line for line in lines) == 120
    # That of one who has shown credentials is there all the same.
    assert sum("/api/v1/calls" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("peer", "connections", "most"),
    [
        ("127.0.0.1", 1000, 500),
        ("::1", 1000, 500),
        ("192.0.2.1", 1000, 250),
        ("2001:db8::1", 1000, 250),
        ("192.0.2.1", 1, 1),
        ("127.0.0.1", 1, 1),
    ],
)
def test_the_share_of_an_address(peer: str, connections: int, most: int) -> None:
    assert share(peer, connections) == most


@pytest.mark.parametrize("said", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ", HEALTH])
def test_whoever_says_nothing_is_let_go_sooner_than_whoever_sends_a_body(site: Site, serve: Serve, said: bytes) -> None:
    site.place()
    server = serve(site, patience=LIMIT, head_patience=SHORT)
    command = json.dumps({"command": "calling.end", "id": CALL}).encode()
    with Client(server) as idle, Client(server) as slow:
        idle.sock.sendall(said)
        slow.send(
            "POST /api/calling/calls HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(command)}"
        )
        began = time.monotonic()
        if said == HEALTH:
            assert idle.answer()[0] == 200
        assert idle.closed()
        assert time.monotonic() - began < LIMIT / 2
        slow.sock.sendall(command)
        assert slow.answer()[0] == 200

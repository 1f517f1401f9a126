"""Heads: those that could be read in two ways are refused, and those that are too large."""

import json
import tracemalloc

import gevent
import pytest
from http_fakes import CALL, Client, Serve, Site, basic

from esl_record.http import head

NEXT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
HOST = b"Host: localhost\r\n"
POST = b"POST /api/calling/calls HTTP/1.1\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(NEXT)
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\r" + LENGTH + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: a\x0bb\r\n\r\n",
        b"GET /healthz HTTP/1.1\n" + HOST + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"\n",
        b"GET\x0b/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /healthz\xa0HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b" GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /healthz HTTP/1.1 \r\n" + HOST + b"\r\n",
        b"G(T /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /healthz\r\n\r\n",
        POST + HOST + b"nocolon\r\n" + LENGTH + b"\r\n",
        POST + HOST + b"X : y\r\n" + LENGTH + b"\r\n",
        POST + HOST + b"Content-Length : 5\r\n\r\n",
        POST + b" X: y\r\n" + HOST + LENGTH + b"\r\n",
        POST + HOST + b"X: y\r\n z\r\n" + LENGTH + b"\r\n",
        POST + HOST + b"X\xff: y\r\n" + LENGTH + b"\r\n",
        POST + HOST + b": y\r\n" + LENGTH + b"\r\n",
        POST + b"From x\r\n" + HOST + LENGTH + b"\r\n",
        POST + HOST + LENGTH + LENGTH + b"\r\n",
        POST + HOST + b"Content-Length: 5, 5\r\n\r\n",
        POST + HOST + b"Content-Length: +5\r\n\r\n",
        POST + HOST + b"Content-Length: \r\n\r\n",
        POST + HOST + b"Content-Length: \xb2\r\n\r\n",
        POST + HOST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        POST + HOST + CHUNKED + LENGTH + b"\r\n",
        POST + HOST + LENGTH + CHUNKED + b"\r\n",
        POST + HOST + CHUNKED + CHUNKED + b"\r\n",
        POST + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: \xa0chunked\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: chunked\x85\r\n\r\n",
        POST + HOST + b"Transfer-Encoding: \r\n\r\n",
        POST + HOST + b"Transfer-Encoding: \r\n" + LENGTH + b"\r\n",
        POST + HOST + b"Transfer-Encoding: identity\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + HOST + CHUNKED + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Host: other\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: evil@localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localh\xf6st\r\n\r\n",
        b"GET http://evil@localhost/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET http://:80/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(
    site: Site, serve: Serve, capfd: pytest.CaptureFixture[str], said: bytes
) -> None:
    with Client(serve(site)) as client:
        client.sock.sendall(said + NEXT)
        status, headers = client.head()
        assert (status, headers["connection"]) == (400, "close")
        assert client.closed()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "said",
    [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHOST: \t[::1]:80\t \r\nX-Y: \xe9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X:\r\nContent-Length: \t0 \r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"X_y: z\r\n" * 90 + b"\r\n",
    ],
)
def test_what_is_only_unusual_is_served(site: Site, serve: Serve, said: bytes) -> None:
    with Client(serve(site)) as client:
        client.sock.sendall(said)
        assert client.answer() == (200, b"[]")


def test_white_space_around_a_coding_is_none_of_it(site: Site, serve: Serve) -> None:
    site.place()
    command = json.dumps({"command": "calling.end", "id": CALL}).encode()
    with Client(serve(site)) as client:
        client.send(
            "POST /api/calling/calls HTTP/1.1",
            "Content-Type: application/json",
            "Transfer-Encoding: \tChunked ",
            body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(command), command),
        )
        assert client.answer()[0] == 200
        client.sock.sendall(NEXT)
        assert client.answer() == (200, b"[]")


# ---- chunks


@pytest.mark.parametrize("size", [b"", b";ext", b" 5", b"5 ", b"-5", b"0x5", b"1_0", b"f" * 17])
@pytest.mark.parametrize("credentials", [True, False])
def test_chunks_without_a_size_are_the_clients_mistake(
    site: Site, serve: Serve, caplog: pytest.LogCaptureFixture, size: bytes, credentials: bool
) -> None:
    authorization = f"Authorization: {basic()['Authorization']}\r\n".encode() if credentials else b""
    said = POST + HOST + authorization + b"Content-Type: application/json\r\n" + CHUNKED + b"\r\n" + size + b"\r\n\r\n"
    with Client(serve(site)) as client:
        client.sock.sendall(said + NEXT)
        assert client.answer()[0] == (422 if credentials else 401)
        assert client.closed()
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


# ---- size


@pytest.mark.parametrize("size", [head.LARGEST, head.LARGEST + 1])
@pytest.mark.parametrize("lines", [1, 8, 98])
def test_a_head_has_a_largest_size(site: Site, serve: Serve, size: int, lines: int) -> None:
    begin, end = b"GET /healthz HTTP/1.1\r\n" + HOST, b"\r\n"
    fields = b"X: y\r\n" * (lines - 1)
    filled = b"X: " + b"a" * (size - len(begin + fields + end) - 5) + b"\r\n"
    with Client(serve(site)) as client:
        client.sock.sendall(begin + fields + filled + end)
        if size <= head.LARGEST:
            assert client.answer() == (200, b"[]")
        else:
            assert client.answer()[0] == 431
            assert client.closed()


def test_whoever_is_refused_may_end_what_it_says(site: Site, serve: Serve) -> None:
    with Client(serve(site)) as client:
        client.sock.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * head.LARGEST)
        for _ in range(3):
            gevent.sleep(0.05)
            client.sock.sendall(b"a" * 4096)
        assert client.answer()[0] == 431
        assert client.closed()


def test_a_head_has_so_many_fields(site: Site, serve: Serve) -> None:
    with Client(serve(site)) as client:
        client.sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * (head.MOST - 1) + b"\r\n")
        assert client.answer()[0] == 200
        client.sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * head.MOST + b"\r\n")
        assert client.answer()[0] == 431
        assert client.closed()


def test_many_unfinished_heads_take_little_memory(site: Site, serve: Serve) -> None:
    """What waits in the kernel does not count: it is what the server holds of each that must stay small."""
    server = serve(site)
    clients: list[Client] = []
    unfinished = b"GET /healthz HTTP/1.1\r\n" + HOST + (b"X: " + b"a" * 1000 + b"\r\n") * 31
    endless = (b"X: " + b"a" * 65000 + b"\r\n") * 8
    tracemalloc.start()
    try:
        for number in range(40):
            clients.append(Client(server))
            clients[-1].sock.sendall(unfinished[: head.LARGEST - 100])
            if number % 2:
                clients[-1].sock.sendall(endless)
        with Client(server) as bystander:
            bystander.sock.sendall(NEXT)
            assert bystander.answer() == (200, b"[]")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        for client in clients:
            client.__exit__()
    assert peak < 40 * 4 * head.LARGEST

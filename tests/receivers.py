"""Receivers of callbacks, good ones and bad ones, on loopback addresses."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event as Flag
from gevent.server import StreamServer

LIMIT = 10.0
"""Seconds a test waits for what must come; only a failing test waits that long."""

SECRETS = ["whsec_" + base64.b64encode(b"n" * 24).decode(), "whsec_" + base64.b64encode(b"o" * 32).decode()]
SIGNING_KEY = "PSK_signing"


@dataclass(frozen=True)
class Post:
    """A request as it came; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def signed(self) -> bool:
        """Whether every secret has signed it, as Standard Webhooks has it."""
        content = b".".join(
            [self.headers["webhook-id"].encode(), self.headers["webhook-timestamp"].encode(), self.body]
        )
        keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in SECRETS]
        wanted = ["v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys]
        return self.headers["webhook-signature"].split(" ") == wanted


Answer = Callable[[socket.socket, Post], bool]
"""Answers on the socket; says whether the connection goes on."""


def says(status: int = 200, body: bytes = b"ok", **headers: str) -> Answer:
    """An orderly answer; an underscore in a header's name stands for a hyphen."""

    def answer(sock: socket.socket, _: Post) -> bool:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return True

    return answer


def sends(data: bytes) -> Answer:
    """Those bytes and then the end of the connection."""

    def answer(sock: socket.socket, _: Post) -> bool:
        sock.sendall(data)
        return False

    return answer


closes = sends(b"")
garbles = sends(b"\x00\x01 this is no HTTP\r\n\r\n")
breaks_off = sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly some")
breaks_off_chunked = sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nonly \r\n")


def drips(sock: socket.socket, _: Post) -> bool:
    """An answer that never ends, a byte at a time, so that no read of it is slow."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    with suppress(OSError):
        while True:
            sock.sendall(b".")
            gevent.sleep(0.02)
    return False


class Hanging:
    """Answers nothing until ``release`` is set, then goes on as ``then`` would."""

    def __init__(self, then: Answer) -> None:
        self.release = Flag()
        self.then = then

    def __call__(self, sock: socket.socket, post: Post) -> bool:
        self.release.wait(6 * LIMIT)
        return self.then(sock, post)


@dataclass
class Endpoint:
    """Listens on ``address`` and keeps what it gets; ``answer`` may be changed at any time."""

    answer: Answer = field(default_factory=says)
    address: str = "127.0.0.1"
    port: int = 0
    posts: list[Post] = field(default_factory=list)
    at_once: int = 0
    """The most posts it has ever had at the same moment."""

    def __post_init__(self) -> None:
        self._now = 0
        self._arrived = Flag()
        self.ended = Flag()
        """One of its connections has ended."""
        self._server = StreamServer((self.address, self.port), self._serve)
        self._server.start()
        self.port = self._server.server_port

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}/status"

    def shut(self) -> None:
        """Connections are refused from now on."""
        self._server.stop(timeout=0)

    def wait(self, count: int) -> list[Post]:
        """What has come, once it is ``count`` posts or more."""
        with gevent.Timeout(LIMIT, AssertionError(f"{count} posts wanted, {len(self.posts)} came")):
            while len(self.posts) < count:
                self._arrived.clear()
                self._arrived.wait()
        return self.posts

    def _serve(self, sock: socket.socket, _: Any) -> None:
        # A client that is killed, and a test that ends, break connections off.
        with suppress(OSError), sock.makefile("rb") as lines:
            while post := _read(lines):
                self.posts.append(post)
                self._now += 1
                self.at_once = max(self.at_once, self._now)
                self._arrived.set()
                try:
                    if not self.answer(sock, post):
                        break
                finally:
                    self._now -= 1
        self.ended.set()


def _read(lines: Any) -> Post | None:
    request = lines.readline().decode().split(" ")
    if len(request) < 2:
        return None
    headers = {}
    while line := lines.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", 0))
    body = lines.read(length)
    # Of a client that was killed.
    return Post(request[1], headers, body, request[0]) if len(body) == length else None

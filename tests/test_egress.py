"""Egress: no request goes where it may not, by no name, number or second answer."""

import functools
import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from gevent.monkey import get_original
from gevent.server import StreamServer
from hypothesis import given
from hypothesis import strategies as st
from peer import LIMIT

from esl_record import egress
from esl_record.egress import AddressPolicy, AddressRefused

LOOPBACK = AddressPolicy(["127.0.0.0/8", "::1/128"])

# fmt: off
REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.8.8.8", "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1",
    "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1",
    "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
]

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "172.15.255.255",
    "172.32.0.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2000::1",
    "2001:200::1", "2606:4700::1111", "2a00:1450:4001::1",
]
# fmt: on


@pytest.mark.parametrize("address", REFUSED)
def test_special_addresses_are_refused(address: str) -> None:
    assert not AddressPolicy().permits(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert AddressPolicy().permits(address)


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_allowed_is_permitted(address: str) -> None:
    assert AddressPolicy(["10.1.0.0/16", address.partition("%")[0]]).permits(address)


@pytest.mark.parametrize(
    "address", ["::ffff:10.0.0.1", "2002:a00:1::1", "64:ff9b::a00:1", "11.0.0.1.", "example.com", ""]
)
def test_a_network_allows_no_disguise_and_no_name(address: str) -> None:
    assert not AddressPolicy(["10.0.0.0/8"]).permits(address)


@given(st.ip_addresses())
def test_nothing_is_permitted_that_python_knows_for_special(address: Any) -> None:
    if address.is_multicast or address.is_loopback or address.is_link_local or address.is_private:
        assert not AddressPolicy().permits(str(address))


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{:x}:{:x}", "2002:{:x}:{:x}::1", "64:ff9b::{:x}:{:x}"]))
def test_no_disguise_of_any_address_is_permitted(address: Any, disguise: str) -> None:
    assert not AddressPolicy().permits(disguise.format(int(address) >> 16, int(address) & 0xFFFF))


# ---- sessions

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers every request with ``answer``; keeps the heads of requests and counts connections."""

    def __init__(self, address: str = "127.0.0.1", answer: bytes = OK, **options: Any) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.connections = 0
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._server = StreamServer(socket.create_server((address, 0), family=family), self._serve, **options)
        self._server.start()
        self.port: int = self._server.server_port

    def _serve(self, sock: Any, _: Any) -> None:
        self.connections += 1
        head = b""
        while data := sock.recv(65536):
            head += data
            while b"\r\n\r\n" in head:
                one, _, head = head.partition(b"\r\n\r\n")
                self.heads.append(one.decode())
                sock.sendall(self.answer)

    def close(self) -> None:
        self._server.stop(timeout=0)


@pytest.fixture
def servers() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*args: Any, **options: Any) -> Server:
        made.append(Server(*args, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(servers: Callable[..., Server]) -> Server:
    return servers()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with egress.session(LOOPBACK) as session:
        yield session


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Has each lookup answered by the next of ``answers``, the last one again and again; gives the names asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: None, *args: Any, **options: Any) -> list[Any]:
        assert port is None
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, 0))
            for family, address in zip(families, addresses, strict=True)
        ]

    monkeypatch.setattr(egress._socket, "getaddrinfo", getaddrinfo)
    return asked


def get(session: requests.Session, url: str) -> requests.Response:
    return session.post(url, data=b"{}", timeout=(LIMIT, LIMIT), allow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433"])
def test_a_permitted_address_is_connected_to(session: requests.Session, server: Server, host: str) -> None:
    assert get(session, f"http://{host}:{server.port}/a?b=c").text == "ok"
    assert server.heads[0].startswith("POST /a?b=c HTTP/1.1\r\n")
    assert f"Host: {host}:{server.port}\r\n" in server.heads[0] + "\r\n"


def test_ipv6_literals(session: requests.Session, servers: Callable[..., Server]) -> None:
    try:
        server = servers("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    assert get(session, f"http://[::1]:{server.port}/").text == "ok"
    with egress.session(AddressPolicy()) as strict, pytest.raises(AddressRefused, match=r"^::1 is refused$"):
        get(strict, f"http://[::1]:{server.port}/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "[::ffff:127.0.0.1]"])
def test_a_refused_address_is_not_connected_to(server: Server, host: str) -> None:
    with egress.session(AddressPolicy()) as session, pytest.raises(AddressRefused):
        get(session, f"http://{host}:{server.port}/")
    assert server.connections == 0


def test_the_error_names_the_address(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, ["10.0.0.1", "169.254.169.254"])
    with pytest.raises(AddressRefused) as refused:
        get(session, "https://inside.example/")
    assert refused.value.address == "10.0.0.1"


def test_of_several_addresses_only_permitted_ones_are_tried(
    session: requests.Session, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second is permitted, but nobody listens there.
    resolve(monkeypatch, ["10.0.0.1", "127.0.0.2", "127.0.0.1"])
    assert get(session, f"http://several.example:{server.port}/").text == "ok"


def test_a_name_that_changes_its_address_between_check_and_connect(
    servers: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, inside = servers("127.0.0.2"), servers("127.0.0.1")
    asked = resolve(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
    with egress.session(AddressPolicy(["127.0.0.2/32"])) as session:
        assert get(session, f"http://rebinding.example:{good.port}/").text == "ok"
        assert len(asked) == 1, "one answer for check and connect"
        session.close()
        with pytest.raises(AddressRefused):
            get(session, f"http://rebinding.example:{good.port}/")
    assert inside.connections == 0


def test_the_peer_is_checked_after_the_connect(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    permitted = iter([True, False])
    policy = AddressPolicy()
    monkeypatch.setattr(policy, "permits", lambda address: next(permitted))
    with egress.session(policy) as session, pytest.raises(AddressRefused):
        get(session, f"http://127.0.0.1:{server.port}/")
    assert server.heads == []


def test_names_in_other_alphabets(session: requests.Session, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve(monkeypatch, ["127.0.0.1"])
    assert get(session, f"http://m\u00fcnchen.example:{server.port}/").text == "ok"
    assert asked == ["xn--mnchen-3ya.example"]
    assert f"Host: xn--mnchen-3ya.example:{server.port}" in server.heads[0]


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example", "a..b"])
def test_a_name_that_is_none(session: requests.Session, host: str) -> None:
    with pytest.raises((requests.ConnectionError, requests.exceptions.InvalidURL)):
        get(session, f"http://{host}/")


def test_nobody_there(session: requests.Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(requests.ConnectionError, match="refused"):
        get(session, f"http://127.0.0.1:{port}/")


def test_only_http(session: requests.Session) -> None:
    with pytest.raises(requests.exceptions.InvalidSchema):
        get(session, "ftp://127.0.0.1/")


def test_the_environment_changes_nothing(
    session: requests.Session, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert get(session, f"http://127.0.0.1:{server.port}/").text == "ok"
    assert "Authorization" not in server.heads[0]


def test_no_redirect_is_followed_even_where_it_is_asked_for(
    session: requests.Session, servers: Callable[..., Server]
) -> None:
    away = servers()
    here = servers(
        answer=f"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:{away.port}/\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert session.get(f"http://127.0.0.1:{here.port}/", timeout=LIMIT).status_code == 302
    assert away.connections == 0


def test_no_cookie_is_kept(session: requests.Session, servers: Callable[..., Server]) -> None:
    server = servers(answer=b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
    for _ in range(2):
        get(session, f"http://127.0.0.1:{server.port}/")
    assert "cookie" not in server.heads[1].lower()
    assert server.connections == 1, "the connection is kept, though"


class Hanging:
    """Name servers: those of names that begin with "slow" answer only once ``release`` has been called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self._released = False
        monkeypatch.setattr(egress._socket, "getaddrinfo", self._getaddrinfo)

    def release(self) -> None:
        self._released = True

    def _getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        until = time.monotonic() + LIMIT
        while host.startswith("slow") and not self._released and time.monotonic() < until:
            # On a thread: not gevent's.
            get_original("time", "sleep")(0.005)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(egress, "_names", functools.cache(egress._Names))
    made = Hanging(monkeypatch)
    yield made
    made.release()
    with gevent.Timeout(LIMIT):
        while egress._names()._asked:
            gevent.sleep(0.005)
    egress._names()._threads.kill()


def test_a_name_is_looked_up_once_however_many_ask(session: requests.Session, server: Server, hanging: Hanging) -> None:
    url = f"http://slow.example:{server.port}/"
    gone = gevent.spawn(session.post, url, timeout=(0.05, 1))
    others = [gevent.spawn(get, session, url) for _ in range(4)]
    with egress.session(LOOPBACK) as another:
        others.append(gevent.spawn(get, another, url))
        gone.join(LIMIT)
        assert isinstance(gone.exception, requests.ConnectTimeout)
        hanging.release()
        gevent.joinall(others, LIMIT, raise_error=True)
    assert hanging.asked == ["slow.example"]


def test_names_that_hang_leave_threads_for_others(server: Server, hanging: Hanging) -> None:
    def post(host: str) -> None:
        with egress.session(LOOPBACK) as session:
            get(session, f"http://{host}:{server.port}/")

    slow = [gevent.spawn(post, f"slow-{number}.example") for number in range(egress._LOOKUPS - 1)]
    with gevent.Timeout(LIMIT / 2):
        post("quick.example")
        assert socket.gethostbyname("127.0.0.1") == "127.0.0.1"
    hanging.release()
    gevent.joinall(slow, LIMIT, raise_error=True)


def test_names_that_were_slow_wait_behind_each_other_and_no_other(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "_LOOKUPS", 4)
    monkeypatch.setattr(egress, "_RETRIES", 2)
    monkeypatch.setattr(egress, "_SLOW", 0.02)
    names = egress._names()
    found = [gevent.spawn(names.find, f"slow-{number}", 80, LIMIT) for number in range(8)]
    with pytest.raises(TimeoutError):
        names.find("slow-0", 80, 0.1)
    assert len(hanging.asked) == 4
    hanging.release()
    gevent.joinall(found, LIMIT, raise_error=True)
    assert {"slow-0", "slow-3"} <= set(names._slow)
    hanging._released = False
    del hanging.asked[:]
    again = [gevent.spawn(names.find, f"slow-{number}", 80, LIMIT) for number in range(4)]
    for _ in range(3):
        assert names.find("quick", 443, LIMIT)[0][4] == ("127.0.0.1", 443)
    assert [host for host in hanging.asked if host != "quick"] == ["slow-0", "slow-1"]
    hanging.release()
    gevent.joinall(again, LIMIT, raise_error=True)


def test_what_answers_quickly_is_not_slow_any_more(hanging: Hanging) -> None:
    names = egress._names()
    names._slow["quick"] = None
    names.find("quick", 80, LIMIT)
    assert not names._slow


# ---- floods

FLOOD = """
import os, signal, socket, ssl, sys, time

head, block, certificate = sys.argv[1].encode(), sys.argv[2].encode() * 4000, sys.argv[3]
listener = socket.create_server(("127.0.0.1", 0))
# A flood that nobody breaks off would hold up this very test.
signal.alarm(10)
if os.fork() == 0:
    signal.alarm(10)
    sock = listener.accept()[0]
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        sock = context.wrap_socket(sock, server_side=True)
    sock.recv(65536)
    sock.sendall(head)
    try:
        while True:
            sock.sendall(block)
    except OSError:
        os._exit(0)

from gevent import monkey

monkey.patch_all()

import _socket
import gevent
from esl_record import egress

real = _socket.getaddrinfo
_socket.getaddrinfo = lambda host, *args, **options: real("127.0.0.1", *args, **options)
worst = 0.0


def watch():
    global worst
    while True:
        began = time.monotonic()
        gevent.sleep(0.01)
        worst = max(worst, time.monotonic() - began - 0.01)


trust = ssl.create_default_context(cafile=certificate.replace(".pem", ".crt")) if certificate else None
session = egress.session(egress.AddressPolicy(["127.0.0.0/8"]), trust=trust)
gevent.spawn(watch)
gevent.sleep(0)
scheme = "https" if certificate else "http"
try:
    answer = session.post(f"{scheme}://receiver.example:{listener.getsockname()[1]}/", data=b"{}", timeout=5)
    said = str(answer.status_code)
except Exception as error:
    said = str(error)
gevent.sleep(0.02)
print(f"{worst:.3f} {said}")
"""

CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("head", "block"),
    [
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + "0\r\n", "a: b\r\n"),
    ],
    ids=["heads", "trailers"],
)
def test_a_flood_is_broken_off_and_others_go_on(
    scheme: str, head: str, block: str, request: pytest.FixtureRequest
) -> None:
    certificate = str(request.getfixturevalue("certificate")) if scheme == "https" else ""
    ran = subprocess.run(
        [sys.executable, "-c", FLOOD, head, block, certificate],
        env={**os.environ, "PYTHONPATH": str(Path(egress.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=3 * LIMIT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr or "frozen"
    worst, _, said = ran.stdout.partition(" ")
    assert "an answer of more than 256 KiB" in said
    assert float(worst) < 0.5


def test_a_long_answer_is_read_as_far_as_it_may_go(session: requests.Session, servers: Callable[..., Server]) -> None:
    fits, long = (servers(answer=OK.replace(b": 2", b": %d" % size) + b"x" * size) for size in (200_000, 300_000))
    assert len(get(session, f"http://127.0.0.1:{fits.port}/").content) == 200_000
    with pytest.raises(requests.RequestException, match="more than 256 KiB"):
        get(session, f"http://127.0.0.1:{long.port}/")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with its key for receiver.example, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=receiver.example"
    extension = ["-addext", "subjectAltName=DNS:receiver.example"]
    made = subprocess.run(
        [*command.split(), *extension, "-keyout", str(path), "-out", str(path.with_suffix(".crt"))],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


@pytest.fixture
def tls(certificate: Path, servers: Callable[..., Server]) -> tuple[Server, list[str | None]]:
    """A server with that certificate, and the names it is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, _: names.append(name)  # type: ignore[assignment,func-returns-value]
    return servers(ssl_context=context), names


def test_tls_verifies_the_name_and_not_the_address(
    tls: tuple[Server, list[str | None]], certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, names = tls
    resolve(monkeypatch, ["127.0.0.1"])
    trust = ssl.create_default_context(cafile=str(certificate.with_suffix(".crt")))
    with egress.session(LOOPBACK, trust=trust) as session:
        assert get(session, f"https://receiver.example:{server.port}/").text == "ok"
        for other in ("other.example", "127.0.0.1"):
            with pytest.raises(requests.exceptions.SSLError):
                get(session, f"https://{other}:{server.port}/")
    assert names[:2] == ["receiver.example", "other.example"]


@pytest.mark.parametrize("verify", [True, False])
def test_a_certificate_nobody_has_signed(
    tls: tuple[Server, list[str | None]], monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    server, _ = tls
    resolve(monkeypatch, ["127.0.0.1"])
    with (
        egress.session(LOOPBACK) as session,
        pytest.raises(requests.exceptions.SSLError, match=r"self.signed"),
    ):
        session.post(f"https://receiver.example:{server.port}/", timeout=LIMIT, verify=verify)
    assert server.heads == []


def broken_off(session: requests.Session, url: str, limit: gevent.Timeout | None) -> str:
    """What a request ends with, by its name: an error would keep its sockets as long as it is looked at."""
    try:
        with limit or nullcontext():
            session.post(url, timeout=(0.2, LIMIT) if limit is None else LIMIT)
    except (gevent.Timeout, requests.RequestException) as error:
        return type(error).__name__
    return "nothing"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # gevent leaves such a socket to the collector
def test_a_handshake_that_hangs_is_broken_off(servers: Callable[..., Server]) -> None:
    silent = servers(answer=b"")
    with egress.session(LOOPBACK) as session:
        for limit in (gevent.Timeout(0.2), None):
            assert broken_off(session, f"https://127.0.0.1:{silent.port}/", limit) in (
                "Timeout",
                "ConnectTimeout",
                "ReadTimeout",
            )
    gc.collect()

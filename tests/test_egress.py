"""Egress: no request goes where it may not, by no name, number or second answer."""

import gc
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gevent
import pytest
import requests
from gevent.event import Event as Flag
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

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, addresses, strict=True)
        ]

    monkeypatch.setattr(egress.socket, "getaddrinfo", getaddrinfo)
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


def test_a_name_is_looked_up_once_however_many_ask(
    session: requests.Session, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    answered = Flag()

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        answered.wait(LIMIT)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(egress.socket, "getaddrinfo", getaddrinfo)
    url = f"http://slow.example:{server.port}/"
    gone = gevent.spawn(session.post, url, timeout=(0.05, 1))
    others = [gevent.spawn(get, session, url) for _ in range(4)]
    gone.join(LIMIT)
    assert isinstance(gone.exception, requests.ConnectTimeout)
    answered.set()
    gevent.joinall(others, LIMIT, raise_error=True)
    assert len(asked) == 1


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

"""Attempt: what of all a receiver may answer is a delivery, and what is said of the rest."""

import base64
from collections.abc import Callable, Iterator

import gevent
import pytest
import requests
from gevent import socket
from receivers import LIMIT, Answer, Endpoint, breaks_off, breaks_off_chunked, closes, drips, garbles, says, sends

from esl_record import __version__, egress
from esl_record.egress import AddressPolicy
from esl_record.status.attempt import Outcome, Verdict, post
from esl_record.status.receiver import Receiver


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.shut()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with egress.session(AddressPolicy(["127.0.0.0/8"])) as session:
        yield session


@pytest.fixture
def outcome(endpoint: Endpoint, session: requests.Session) -> Callable[..., Outcome]:
    def attempt(answer: Answer, *, userinfo: str = "", fragment: str = "") -> Outcome:
        endpoint.answer = answer
        url = f"http://{userinfo}127.0.0.1:{endpoint.port}/status?a=b#{fragment}"
        with gevent.Timeout(LIMIT):
            return post(session, Receiver.of(url), b'{"a": 1}', lambda url: {"X-Signed": url})

    return attempt


def test_what_is_posted(endpoint: Endpoint, outcome: Callable[..., Outcome]) -> None:
    assert outcome(says(), userinfo="ann:s%C3%A9cret@") == Outcome(Verdict.DELIVERED, "200")
    (got,) = endpoint.posts
    assert (got.path, got.body) == ("/status?a=b", b'{"a": 1}')
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == f"esl-record/{__version__}"
    assert got.headers["x-signed"] == f"http://127.0.0.1:{endpoint.port}/status?a=b", "as it is on the wire"
    assert base64.b64decode(got.headers["authorization"].removeprefix("Basic ")) == "ann:s\u00e9cret".encode()


LONG = b"x" * 200_000


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (says(200), "200"),
        (says(204, b""), "204"),
        (says(299), "299"),
        (says(200, LONG), "200"),
        (sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "200"),
        (sends(b"HTTP/1.0 200 OK\r\n\r\nas long as it is"), "200"),
        (sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone"), "200"),
    ],
)
def test_deliveries(outcome: Callable[..., Outcome], answer: Answer, text: str) -> None:
    assert outcome(answer) == Outcome(Verdict.DELIVERED, text)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (says(500, b"  no\r\n\x1b[31mdatabase  "), "500: no \\x1b[31mdatabase"),
        (says(500, LONG), "500: " + "x" * 100),
        (says(503, b""), "503"),
        (says(404, b"\xff\xfe"), "404: \ufffd\ufffd"),
        (
            says(302, Location="https://u:secret@other.example/a"),
            "302: redirect to https://***@other.example/a not followed",
        ),
        (says(301, Location="/elsewhere"), "301: redirect to /elsewhere not followed"),
        (says(301, Location="/else?token=secret#s"), "301: redirect to /else?*** not followed"),
        (says(302, Location="http://a.example/b?token=secret"), "302: redirect to http://a.example/b?*** not followed"),
        (says(307, Location="//u:secret@other.example"), "307: redirect to an unreadable address not followed"),
        (says(308), "308: redirect to nowhere not followed"),
        (says(304, b""), "304: redirect to nowhere not followed"),
        (closes, "remote end closed connection without response"),
        (sends(b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\ncut"), "500"),
    ],
)
def test_failures(outcome: Callable[..., Outcome], answer: Answer, text: str) -> None:
    assert outcome(answer) == Outcome(Verdict.FAILED, text)


@pytest.mark.parametrize("answer", [breaks_off, breaks_off_chunked])
def test_a_success_that_is_cut_off_is_none(outcome: Callable[..., Outcome], answer: Answer) -> None:
    assert outcome(answer) == Outcome(Verdict.FAILED, "200, but the answer broke off")


def test_garbage(outcome: Callable[..., Outcome]) -> None:
    assert outcome(garbles) == Outcome(Verdict.FAILED, "no HTTP answer: \\x00\\x01 this is no HTTP\\x0d\\x0a")


def test_gone(outcome: Callable[..., Outcome]) -> None:
    assert outcome(says(410)) == Outcome(Verdict.GONE, "410")


def test_what_the_receiver_asks_for_is_passed_on(outcome: Callable[..., Outcome]) -> None:
    assert outcome(says(429, b"", Retry_After="120")) == Outcome(Verdict.FAILED, "429", "120")


def test_an_answer_that_drips(outcome: Callable[..., Outcome]) -> None:
    assert outcome(drips, fragment="tt=200") == Outcome(Verdict.FAILED, "timed out after 0.2 s")


def test_no_answer(outcome: Callable[..., Outcome]) -> None:
    def hang(sock: socket.socket, _: object) -> bool:
        sock.recv(1)
        return False

    assert outcome(hang, fragment="rt=150").result == "timed out after 0.15 s"
    assert outcome(hang, fragment="rt=9000&tt=100").result == "timed out after 0.1 s"


def test_nobody_there(endpoint: Endpoint, outcome: Callable[..., Outcome]) -> None:
    endpoint.shut()
    assert outcome(says()) == Outcome(Verdict.FAILED, "connection refused")


def test_an_unknown_name(session: requests.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(egress._socket, "getaddrinfo", getaddrinfo)
    unknown = post(session, Receiver.of("http://nowhere.example/"), b"", lambda url: {})
    assert unknown == Outcome(Verdict.FAILED, "name or service not known")


def test_a_refused_address(session: requests.Session) -> None:
    refused = post(session, Receiver.of("http://10.0.0.1/"), b"", lambda url: {})
    assert refused == Outcome(Verdict.REFUSED, "10.0.0.1 is refused: not in the setting callback_networks")


@pytest.mark.parametrize(
    "answer",
    [
        says(401, b"wrong password s3cret"),
        says(401, b"Authorization: Basic YW5uOnMzY3JldA=="),
        says(401, b"x" * 97 + b"s3cret"),
        says(302, Location="/?from=s3cret"),
        sends(b"Authorization: Basic YW5uOnMzY3JldA==\r\n\r\n"),
    ],
)
def test_a_password_the_receiver_repeats_is_not_kept(outcome: Callable[..., Outcome], answer: Answer) -> None:
    said = outcome(answer, userinfo="ann:s3cret@").result
    assert "***" in said
    assert "s3c" not in said
    assert "s3cret" not in said
    assert "YW5u" not in said


@pytest.mark.parametrize("body", [b"no such token: s3cret+token", b"POST /status?a=b&token=s3cret%2Btoken"])
def test_a_token_in_the_query_is_not_kept(endpoint: Endpoint, session: requests.Session, body: bytes) -> None:
    endpoint.answer = says(401, body)
    said = post(session, Receiver.of(f"{endpoint.url}?a=b&token=s3cret%2Btoken"), b"", lambda url: {}).result
    assert "***" in said
    assert "s3cret" not in said


def test_connections_are_kept_and_cut_ones_are_not(outcome: Callable[..., Outcome], endpoint: Endpoint) -> None:
    ports = []

    def note(then: Answer) -> Answer:
        def answer(sock: socket.socket, post: object) -> bool:
            ports.append(sock.getpeername()[1])
            return then(sock, post)  # type: ignore[arg-type]

        return answer

    for then in (says(), says(500), says(200, LONG), says()):
        outcome(note(then))
    assert ports[0] == ports[1] == ports[2] != ports[3]


def test_another_timeout_passes_through(outcome: Callable[..., Outcome]) -> None:
    with pytest.raises(gevent.Timeout) as expired, gevent.Timeout(0.1) as mine:
        outcome(drips)
    assert expired.value is mine

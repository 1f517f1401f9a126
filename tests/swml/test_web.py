"""The web as documents reach it: what is asked, what is taken for an answer, and what a bad server can do to a call."""

import base64
import gzip
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from receivers import (
    LIMIT,
    Answer,
    Endpoint,
    Hanging,
    Post,
    breaks_off,
    breaks_off_chunked,
    closes,
    drips,
    garbles,
    says,
    sends,
)
from test_document import LEAST, PARSE_ERROR

from esl_record import egress
from esl_record.cipher import Cipher
from esl_record.egress import AddressPolicy
from esl_record.errors import DocumentError, WebError
from esl_record.swml.copies import Copies
from esl_record.swml.document import SIZE_LIMIT
from esl_record.swml.web import BODY_LIMIT, HEADERS, LONGEST, PAYLOAD_LIMIT, Web

TIMEOUT = 0.3
PAYLOAD: dict[str, Any] = {"call": {"call_id": "u1"}, "vars": {"a": 1}, "params": {}, "envs": {}}


def web_of(timeout: float = LIMIT, **named: Any) -> Web:
    return Web(AddressPolicy(["127.0.0.0/8"]), timeout=timeout, **named)


@pytest.fixture(autouse=True)
def _authorities() -> None:
    egress.authorities()


@pytest.fixture
def server() -> Iterator[Endpoint]:
    endpoint = Endpoint(says(200, LEAST.encode()))
    yield endpoint
    endpoint.shut()


# ---- documents


def test_a_server_is_told_of_the_call_and_its_answer_is_the_document(server: Endpoint) -> None:
    document = web_of().document(server.url, PAYLOAD)
    assert [step.method for step in document.sections["main"]] == ["answer"]
    assert document.checked
    assert document.name == server.url
    (post,) = server.posts
    assert (post.method, post.path) == ("POST", "/status")
    assert post.json == PAYLOAD
    assert post.headers["content-type"] == "application/json"
    assert "yaml" in post.headers["accept"]
    assert post.headers["accept-encoding"] == "identity"
    assert "authorization" not in post.headers


@pytest.mark.parametrize("kind", ["application/json", "text/x-yaml", "text/html", "nonsense"])
@pytest.mark.parametrize("status", [200, 201, 203])
def test_json_is_read_as_well_whatever_the_server_calls_it(server: Endpoint, status: int, kind: str) -> None:
    tree = {"version": "1.0.0", "sections": {"main": ["hangup"]}}
    server.answer = says(status, json.dumps(tree).encode(), Content_Type=kind)
    assert web_of().document(server.url, PAYLOAD).sections["main"][0].method == "hangup"


def test_a_chunked_answer_is_put_together(server: Endpoint) -> None:
    half = len(LEAST) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part.encode()) for part in (LEAST[:half], LEAST[half:]))
    server.answer = sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert web_of().document(server.url, PAYLOAD).checked


def test_user_and_password_are_told_the_server_alone(server: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.answer = says(401, b"who is user:p\xc3\xa4ss@word?")
    url = server.url.replace("//", "//user:p%C3%A4ss%40word@") + "?token=supersecret"
    with pytest.raises(WebError) as caught:
        web_of().document(url, PAYLOAD)
    (post,) = server.posts
    assert base64.b64decode(post.headers["authorization"].removeprefix("Basic ")) == "user:päss@word".encode()
    assert "host" in post.headers
    assert "user" not in post.headers["host"]
    for text in (str(caught.value), *(record.getMessage() for record in caplog.records if record.name != "urllib3")):
        assert "ss@word" not in text
        assert "%40word" not in text
    assert "supersecret" not in str(caught.value)
    assert f"http://***@127.0.0.1:{server.port}/status?***: 401" in str(caught.value)


def test_a_connection_of_an_earlier_call_is_not_used_again(server: Endpoint) -> None:
    # A server that closes it just then would fail a call.
    for _ in range(2):
        web_of().document(server.url, PAYLOAD)
    assert [post.headers["connection"] for post in server.posts] == ["close", "close"]


ENDLESS = b"HTTP/1.1 200 OK\r\n"


def floods(head: bytes, more: bytes) -> Answer:
    """Sends and sends."""

    def answer(sock: socket.socket, _: Post) -> bool:
        sock.sendall(head)
        while True:
            sock.sendall(more)

    return answer


HOSTILE: list[Any] = [
    pytest.param(says(500, b"oops"), WebError, "500", id="an error"),
    pytest.param(says(404, LEAST.encode()), WebError, "404", id="not found, with a document"),
    pytest.param(says(301, LEAST.encode()), WebError, "301: redirect to nowhere not followed", id="no redirect"),
    pytest.param(closes, WebError, "", id="closes"),
    pytest.param(garbles, WebError, "no HTTP answer", id="no HTTP"),
    pytest.param(breaks_off, WebError, "", id="breaks off"),
    pytest.param(breaks_off_chunked, WebError, "", id="breaks off in a chunk"),
    pytest.param(drips, WebError, f"no whole answer within {TIMEOUT:g} s", id="drips"),
    pytest.param(Hanging(closes), WebError, f"no whole answer within {TIMEOUT:g} s", id="hangs"),
    pytest.param(floods(ENDLESS + b"\r\n", b"x" * 65536), DocumentError, f"larger than {SIZE_LIMIT}", id="endless"),
    pytest.param(
        floods(ENDLESS + b"Transfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"),
        DocumentError,
        f"larger than {SIZE_LIMIT}",
        id="endless chunks",
    ),
    pytest.param(floods(ENDLESS, b"X-A: b\r\n" * 1000), WebError, "", id="endless headers"),
    pytest.param(
        floods(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 \r\n\r\n" * 1000), WebError, "", id="continue"
    ),
    pytest.param(says(200, b"x" * (SIZE_LIMIT + 1)), DocumentError, f"larger than {SIZE_LIMIT}", id="too large"),
    pytest.param(
        says(200, gzip.compress(b"#" * 10_000_000), Content_Encoding="gzip"),
        WebError,
        "Content-Encoding gzip",
        id="gzip",
    ),
    pytest.param(says(200, gzip.compress(LEAST.encode())), DocumentError, "UTF-8", id="gzip untold"),
    pytest.param(says(200, b"<!DOCTYPE html><html><body>It works!</body></html>"), DocumentError, "", id="HTML"),
    pytest.param(says(200, b""), DocumentError, "version and sections", id="nothing"),
    pytest.param(says(204, b""), DocumentError, "version and sections", id="no content"),
    pytest.param(says(200, b"version: 1.0.0\nsections: {main: [recrod]}"), DocumentError, "recrod", id="a mistake"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), HOSTILE)
def test_a_bad_server_is_an_error_that_names_it(
    server: Endpoint, answer: Answer, kind: type[Exception], words: str
) -> None:
    server.answer = answer
    began = time.monotonic()
    with gevent.Timeout(LIMIT), pytest.raises(kind) as caught:
        web_of(TIMEOUT if "within" in words else LIMIT).document(server.url, PAYLOAD)
    assert words in str(caught.value)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    if "within" in words:
        assert time.monotonic() - began < 10 * TIMEOUT


def test_a_redirect_is_not_followed_and_told_without_its_secrets(server: Endpoint) -> None:
    inner = Endpoint(says(200, LEAST.encode()), "127.0.0.2")
    server.answer = says(302, Location=inner.url.replace("//", "//me:hidden@") + "?key=hidden")
    with pytest.raises(WebError) as caught:
        web_of().document(server.url, PAYLOAD)
    assert f"302: redirect to http://***@127.0.0.2:{inner.port}/status?*** not followed" in str(caught.value)
    assert inner.posts == []
    inner.shut()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"])
def test_an_address_that_is_not_allowed_is_refused(server: Endpoint, host: str) -> None:
    web = Web(AddressPolicy(), timeout=LIMIT)
    with pytest.raises(WebError) as caught:
        web.document(f"http://{host}:{server.port}/", PAYLOAD)
    assert "callback_networks" in str(caught.value) or "not known" in str(caught.value)
    assert server.posts == []


def test_nobody_there_is_told(server: Endpoint) -> None:
    server.shut()
    with pytest.raises(WebError, match="refused"):
        web_of().document(server.url, PAYLOAD)


@pytest.mark.parametrize("url", ["http://", "https:///path", "http://[::1", "http://a:b/", "ftp://example.com/"])
def test_what_is_no_url_is_a_parse_error(url: str) -> None:
    with pytest.raises(DocumentError) as caught:
        web_of().document(url, PAYLOAD)
    assert caught.value.code == PARSE_ERROR


@pytest.mark.parametrize("url", ["http://exa mple.com/", "http://\udc80.example/", "http://" + "a" * 300 + "/"])
def test_a_url_that_leads_nowhere_is_an_error(url: str) -> None:
    with pytest.raises((WebError, DocumentError)):
        web_of(TIMEOUT).document(url, PAYLOAD)


@pytest.mark.parametrize("value", [float("nan"), b"bytes", "x" * PAYLOAD_LIMIT], ids=["nan", "bytes", "large"])
def test_variables_that_cannot_be_sent_are_an_error(server: Endpoint, value: object) -> None:
    with pytest.raises(WebError, match="not asked"):
        web_of().document(server.url, {**PAYLOAD, "vars": {"a": value}})
    assert server.posts == []


# ---- where a server fails


@pytest.fixture
def copies(tmp_path: Path) -> Callable[[], Copies]:
    """Copies as a service begun anew finds them."""
    cipher = Cipher.with_new_key()
    return lambda: Copies(tmp_path / "copies", cipher)


FAILURES = [
    pytest.param(says(503, b""), id="an error"),
    pytest.param(says(200, b"<html>Sorry</html>"), id="no document"),
    pytest.param(says(200, b"version: 1.0.0\nsections: {main: [recrod]}"), id="a wrong one"),
    pytest.param(closes, id="closes"),
]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("answer", FAILURES)
def test_what_a_server_gave_last_is_run_where_it_fails(
    server: Endpoint, copies: Callable[[], Copies], answer: Answer, restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    web = web_of(copies=copies())
    good = web.document(server.url, PAYLOAD)
    server.answer = answer
    if restarted:
        web = web_of(copies=copies())
    assert web.document(server.url, PAYLOAD).sections == good.sections
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert server.url in record.message
    assert "what it gave 0:00:0" in record.message


def test_without_copies_or_with_none_of_it_a_failure_is_one(server: Endpoint, copies: Callable[[], Copies]) -> None:
    server.answer = says(503)
    for web in (web_of(), web_of(copies=copies())):
        with pytest.raises(WebError, match="503"):
            web.document(server.url, PAYLOAD)


def test_the_newest_is_kept_and_never_a_wrong_one(server: Endpoint, copies: Callable[[], Copies]) -> None:
    web = web_of(copies=copies())
    for answer in (LEAST, LEAST.replace("answer", "hangup"), LEAST.replace("answer", "recrod")):
        server.answer = says(200, answer.encode())
        try:
            document = web.document(server.url, PAYLOAD)
        except DocumentError:
            raise AssertionError("the copy was to be run") from None
    assert document.sections["main"][0].method == "hangup"


# ---- requests


def asked(url: str, method: str = "GET", **named: Any) -> Any:
    given = {"headers": {}, "body": None, "timeout": 0.0, "connect_timeout": 0.0, **named}
    return web_of(TIMEOUT).request(method, url, **given)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("body", [None, b"", b"a=b", "ä€".encode()])
def test_a_request_goes_as_it_is(server: Endpoint, method: str, body: bytes | None) -> None:
    server.answer = says(201, b"made", X_Id="7", Content_Type=" text/plain ")
    answer = asked(server.url, method, headers={"X-Who": "Ann ä€", "Range": "bytes=0-5"}, body=body)
    assert (answer.status, answer.body) == (201, b"made")
    assert answer.headers == {"content-length": "4", "x-id": "7", "content-type": "text/plain"}
    (post,) = server.posts
    assert (post.method, post.body) == (method, body or b"")
    assert post.headers["x-who"].encode("latin-1").decode() == "Ann ä€"
    assert post.headers["range"] == "bytes=0-5"


def test_a_header_of_the_documents_goes_before_the_urls_password(server: Endpoint) -> None:
    url = server.url.replace("//", "//user:word@")
    asked(url)
    asked(url, headers={"authorization": "Bearer x"})
    assert [post.headers["authorization"] for post in server.posts] == ["Basic dXNlcjp3b3Jk", "Bearer x"]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_any_status_is_an_answer(server: Endpoint, status: int) -> None:
    server.answer = says(status, b"no", Location="http://127.0.0.1/")
    assert (asked(server.url).status, asked(server.url).body) == (status, b"no")


def test_of_a_long_answer_the_beginning_is_kept(server: Endpoint) -> None:
    server.answer = floods(ENDLESS + b"\r\n", b"x" * 65536)
    with gevent.Timeout(LIMIT):
        assert asked(server.url).body == b"x" * BODY_LIMIT


def test_only_so_many_headers_are_kept(server: Endpoint) -> None:
    server.answer = says(200, b"", **{f"X_{number}": "v" for number in range(HEADERS)})
    headers = asked(server.url).headers
    assert len(headers) == HEADERS
    assert f"x-{HEADERS - 1}" not in headers


def test_a_timeout_is_that_of_the_whole_exchange(server: Endpoint) -> None:
    server.answer = drips
    with gevent.Timeout(LIMIT), pytest.raises(WebError, match=r"no whole answer within 0\.2 s"):
        asked(server.url, timeout=0.2)


@pytest.mark.parametrize("given", [0.0, 1e9])
def test_no_request_waits_for_ever(server: Endpoint, given: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LONGEST <= 60
    monkeypatch.setattr("esl_record.swml.web.LONGEST", 0.2)
    server.answer = Hanging(closes)
    with gevent.Timeout(LIMIT), pytest.raises(WebError, match=r"no whole answer within 0\.2 s"):
        asked(server.url, timeout=given, connect_timeout=given)


def test_a_connection_has_a_timeout_of_its_own() -> None:
    # A full backlog: further connections are neither taken nor refused.
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(8):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    with gevent.Timeout(LIMIT), pytest.raises(WebError, match=r"no connection within 0\.2 s"):
        asked(f"http://127.0.0.1:{listener.getsockname()[1]}/", connect_timeout=0.2, timeout=5)
    for one in (*fillers, listener):
        one.close()


def test_a_packed_answer_is_none(server: Endpoint) -> None:
    server.answer = says(200, gzip.compress(b"x" * 10_000_000), Content_Encoding="gzip")
    with pytest.raises(WebError, match="Content-Encoding gzip"):
        asked(server.url)

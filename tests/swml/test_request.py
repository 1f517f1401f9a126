"""request: what it asks for, what it refuses, and the variables it leaves."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest
from gevent.event import Event as Flag
from hypothesis import given
from hypothesis import strategies as st
from receivers import LIMIT, Endpoint, Hanging, closes, says
from test_calls import FakeSession, call_on

from esl_record import egress
from esl_record.egress import AddressPolicy
from esl_record.errors import CallGone, DocumentError, WebError
from esl_record.recording.params import ParameterError
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.document import Document, parse
from esl_record.swml.expressions import substitute
from esl_record.swml.methods.request import REQUEST
from esl_record.swml.runner import run
from esl_record.swml.site import Answer, Site
from esl_record.swml.web import Web

URL = "https://api.example.com/v1/todos?id=1"


@dataclass
class FakeWeb:
    """Answers with ``answer`` and keeps what it was asked."""

    answer: Answer | Exception = field(default_factory=lambda: Answer(200, {"content-type": "text/plain"}, b"hi"))
    asked: list[tuple[str, str, Mapping[str, str], bytes | None, float, float]] = field(default_factory=list)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        timeout: float,
        connect_timeout: float,
    ) -> Answer:
        self.asked.append((method, url, headers, body, timeout, connect_timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def document(self, url: str, payload: Mapping[str, Any], *_: object) -> Document:
        raise AssertionError("no document was to be fetched")


def calling(web: FakeWeb | Web | None, **variables: object) -> Call:
    call = call_on(FakeSession(), **variables)
    call.site = Site(web=web)
    return call


def left(answer: Answer | Exception, **params: object) -> dict[str, Any]:
    """The variables a request leaves."""
    call = calling(FakeWeb(answer))
    REQUEST(call, {"url": URL, "method": "GET", **params})
    assert call.session.variables == {}  # type: ignore[attr-defined]
    return call.vars


def asked(**params: object) -> tuple[str, str, Mapping[str, str], bytes | None, float, float]:
    web = FakeWeb()
    REQUEST(calling(web), {"url": URL, "method": "GET", **params})
    (one,) = web.asked
    return one


# ---- what is asked


def test_what_is_asked_is_what_is_given() -> None:
    given = {"method": "PUT", "headers": {"X-Id": 7, "accept": "text/plain"}, "timeout": "2.5", "connect_timeout": 1}
    assert asked(**given) == ("PUT", URL, {"X-Id": "7", "accept": "text/plain"}, None, 2.5, 1.0)
    assert asked() == ("GET", URL, {}, None, 0.0, 0.0)


BODIES = [
    ({"a": [1, "ä"]}, b'{"a": [1, "\\u00e4"]}', "application/json"),
    ({}, b"{}", "application/json"),
    (' \n{"a": 1}', b' \n{"a": 1}', "application/json"),
    ("[1]", b"[1]", "application/json"),
    ("  <a/>", b"  <a/>", "application/xml"),
    ("a=ä&b=2", "a=ä&b=2".encode(), "application/x-www-form-urlencoded"),
    ("", b"", "application/x-www-form-urlencoded"),
]


@pytest.mark.parametrize(("body", "sent", "kind"), BODIES)
def test_the_first_character_tells_what_a_body_is(body: object, sent: bytes, kind: str) -> None:
    _, _, headers, content, _, _ = asked(body=body)
    assert (content, headers) == (sent, {"Content-Type": kind})


@pytest.mark.parametrize("name", ["Content-Type", "content-type"])
def test_a_document_may_tell_it_itself(name: str) -> None:
    assert asked(body="{}", headers={name: "text/csv"})[2] == {name: "text/csv"}


@given(st.text())
def test_no_value_of_a_header_makes_another_header(text: str) -> None:
    value = asked(headers={"X-Name": text})[2]["X-Name"]
    assert value == value.strip()
    assert not set(value) & set("\r\n\0\x0b\x0c\x85\u2028")


# ---- what is refused

REFUSED = [
    ({"url": None}, "missing"),
    ({"method": None}, "missing"),
    ({"method": "get"}, "invalid_value"),
    ({"method": "PATCH"}, "invalid_value"),
    ({"url": "example.com"}, "invalid_value"),
    ({"url": "ftp://example.com/"}, "invalid_value"),
    ({"url": "file:///etc/passwd"}, "invalid_value"),
    ({"url": "http://"}, "invalid_value"),
    ({"headers": {"Host": "internal"}}, "invalid_value"),
    ({"headers": {"Cookie": "a"}}, "invalid_value"),
    ({"headers": {"Content-Length": "5"}}, "invalid_value"),
    ({"headers": {"Transfer-Encoding": "chunked"}}, "invalid_value"),
    ({"headers": {"X-A\r\nHost": "internal"}}, "invalid_value"),
    ({"headers": {"X-": "a"}}, "invalid_value"),
    ({"headers": {"X-A B": "a"}}, "invalid_value"),
    ({"headers": {"X-A": ["a"]}}, "invalid_value"),
    ({"headers": {"X-A": True}}, "invalid_value"),
    ({"headers": "X-A: b"}, "invalid_value"),
    ({"body": 5}, "invalid_value"),
    ({"body": ["a"]}, "invalid_value"),
    ({"timeout": -1}, "invalid_value"),
    ({"timeout": "soon"}, "invalid_value"),
    ({"connect_timeout": -1}, "invalid_value"),
    ({"save_variables": "perhaps"}, "invalid_value"),
    ({"follow": True}, "undefined"),
]


@pytest.mark.parametrize(("params", "code"), REFUSED)
def test_a_wrong_parameter_is_refused_before_the_first_step(params: dict[str, object], code: str) -> None:
    given = {name: value for name, value in {"url": URL, "method": "GET", **params}.items() if value is not None}
    web = FakeWeb()
    with pytest.raises(ParameterError) as caught:
        REQUEST(calling(web), given)
    assert caught.value.code == code
    assert "request" in str(caught.value)
    document = parse(json.dumps({"version": "1.0.0", "sections": {"main": ["answer", {"request": given}]}}), "asking")
    with pytest.raises(DocumentError) as refused:
        check(document)
    assert refused.value.code == f"relay_script_method_parameter_{code}"
    assert "section main, step 2: request" in str(refused.value)
    assert web.asked == []


def test_a_password_is_not_in_what_is_told() -> None:
    with pytest.raises(ParameterError) as caught:
        REQUEST(calling(FakeWeb()), {"url": "ftp://user:secret@example.com/", "method": "GET"})
    assert "secret" not in str(caught.value)


def test_references_are_no_mistakes() -> None:
    step = {
        "url": "${vars.base}/todos",
        "method": "${how}",
        "headers": {"X-From": "${call.from}"},
        "body": "${vars.all}",
        "timeout": "${wait}",
        "save_variables": "${saves}",
    }
    tree = {"version": "1.0.0", "sections": {"main": [{"request": step}]}}
    assert check(parse(json.dumps(tree), "asking")).checked
    web = FakeWeb()
    call = calling(web, base="http://x", how="POST", all={"a": 1}, wait=5, saves="true")
    run(parse(json.dumps(tree), "asking"), call)
    assert web.asked == [
        ("POST", "http://x/todos", {"X-From": "", "Content-Type": "application/json"}, b'{"a": 1}', 5.0, 0.0)
    ]


# ---- what it leaves


def test_an_answer_is_left_in_variables() -> None:
    assert left(Answer(201, {"content-type": "text/plain", "x-id": "7"}, "mäde".encode())) == {
        "request_url": URL,
        "request_result": "success",
        "return_value": "success",
        "request_response_code": 201,
        "request_response_headers": {"content-type": "text/plain", "x-id": "7"},
        "request_response_body": "mäde",
    }


@pytest.mark.parametrize(("status", "result"), [(200, "success"), (204, "success"), (302, "failed"), (404, "failed")])
def test_success_is_a_status_that_says_so(status: int, result: str) -> None:
    variables = left(Answer(status, {}, b"no"))
    assert (variables["request_result"], variables["return_value"]) == (result, result)
    assert (variables["request_response_code"], variables["request_response_body"]) == (status, "no")


def test_a_failure_leaves_nothing_of_an_earlier_answer(caplog: pytest.LogCaptureFixture) -> None:
    web = FakeWeb(Answer(200, {"a": "b"}, b'{"a": 1}'))
    call = calling(web)
    REQUEST(call, {"url": URL, "method": "GET", "save_variables": True})
    assert call.vars["request_response"] == {"a": 1}
    web.answer = WebError("http://x: no whole answer within 1 s")
    REQUEST(call, {"url": URL + "0", "method": "GET"})
    assert call.vars == {"request_url": URL + "0", "request_result": "failed", "return_value": "failed"}
    (record,) = caplog.records
    assert (record.levelno, "no whole answer within 1 s" in record.message) == (logging.WARNING, True)


def test_a_call_without_a_web_fails_and_goes_on() -> None:
    call = calling(None)
    REQUEST(call, {"url": URL, "method": "GET"})
    assert call.vars["request_result"] == "failed"


def test_the_password_is_in_no_variable() -> None:
    web = FakeWeb()
    call = calling(web)
    REQUEST(call, {"url": "https://user:secret@example.com/a?b=c#d", "method": "GET"})
    assert call.vars["request_url"] == "https://example.com/a?b=c"
    assert web.asked[0][1] == "https://user:secret@example.com/a?b=c#d"


def test_what_the_server_sends_is_reached_as_the_reference_says() -> None:
    body = b'{"status": "created", "time": "2 seconds ago", "number": {"home": "n/a"}, "list": [1]}'
    call = calling(FakeWeb(Answer(200, {"content-type": "application/json"}, body)))
    REQUEST(call, {"url": URL, "method": "GET", "save_variables": "true"})
    for reference, expected in {
        "${request_response.status}": "created",
        "${request_response.number.home}": "n/a",
        "${vars.request_response.list[0]}": 1,
        "${request_response_headers.content-type}": "application/json",
        "%{request_response_code}": 200,
        "${request_response_code === 200}": True,
    }.items():
        assert substitute(reference, call.scopes) == expected


NOT_SAVED = [
    b"",
    b"hello",
    b"5",
    b'"text"',
    b"null",
    b'{"a": 1',
    b"[" * 60_000,
    b"[" * 200 + b"]" * 200,
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a": NaN}',
    b'{"a": "\\ud800"}',
    b"\xff\xfe{}",
]


@pytest.mark.parametrize("body", NOT_SAVED, ids=lambda body: repr(body[:20]))
def test_what_is_no_json_is_not_saved(body: bytes) -> None:
    variables = left(Answer(200, {}, body), save_variables=True)
    assert "request_response" not in variables
    assert variables["request_result"] == "success"
    assert variables["request_response_body"].isprintable() or body


def test_json_is_saved_only_where_it_is_asked_for() -> None:
    assert "request_response" not in left(Answer(200, {}, b"{}"))
    assert left(Answer(200, {}, b"[1, 2]"), save_variables=True)["request_response"] == [1, 2]


# ---- over the wire


@pytest.fixture
def server() -> Iterator[Endpoint]:
    egress.authorities()
    endpoint = Endpoint(says(200, b'{"a": 1}', Content_Type="application/json"))
    yield endpoint
    endpoint.shut()


def test_a_whole_document_asks_and_branches(server: Endpoint) -> None:
    session = FakeSession()
    call = call_on(session)
    call.site = Site(web=Web(AddressPolicy(["127.0.0.0/8"]), timeout=LIMIT))
    steps: list[object] = [
        {"request": {"url": server.url, "method": "POST", "body": {"from": "${call.from}"}, "save_variables": True}},
        {
            "cond": [
                {"when": "request_result == 'success' && request_response.a == 1", "then": [{"play": "say:one"}]},
                {"else": [{"play": "say:other"}]},
            ]
        },
    ]
    run(parse(json.dumps({"version": "1.0.0", "sections": {"main": steps}}), "asking"), call)
    assert ("speak", "one") in session.verbs
    assert server.posts[0].json == {"from": ""}


def test_an_address_that_is_not_allowed_is_a_failure(server: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    call = calling(Web(AddressPolicy(), timeout=LIMIT))
    REQUEST(call, {"url": server.url, "method": "GET"})
    assert call.vars["request_result"] == "failed"
    assert "request_response_code" not in call.vars
    assert server.posts == []
    assert "callback_networks" in caplog.messages[0]


def test_a_caller_who_hangs_up_ends_the_waiting(server: Endpoint) -> None:
    server.answer = hanging = Hanging(closes)
    call = calling(Web(AddressPolicy(["127.0.0.0/8"]), timeout=LIMIT))
    ended = Flag()

    def ask() -> None:
        try:
            REQUEST(call, {"url": server.url, "method": "GET"})
        except CallGone:
            ended.set()

    gevent.spawn(ask)
    server.wait(1)
    call.session.hangup()
    assert ended.wait(LIMIT)
    assert "request_result" not in call.vars
    hanging.release.set()

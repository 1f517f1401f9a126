"""Documents of web servers and requests of documents, on whole calls."""

import gzip
import json
import time
from collections.abc import Iterator

import gevent
import pytest
from phones import Dialled, Phone
from receivers import LIMIT, Answer, Endpoint, Hanging, Post, breaks_off, closes, drips, garbles, says
from running import RunningService
from test_control import OPEN, tone

from esl_record.swml.document import SIZE_LIMIT

RECORDS = {"record": {"initial_timeout": 0, "end_silence_timeout": 0, "max_length": 0.5}}


def text(*steps: object) -> bytes:
    return json.dumps({"version": "1.0.0", "sections": {"main": list(steps)}}).encode()


@pytest.fixture
def server() -> Iterator[Endpoint]:
    endpoint = Endpoint(says(200, text("answer", RECORDS)))
    yield endpoint
    endpoint.shut()


class Site:
    """Answers by path."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers

    def __call__(self, sock: gevent.socket.socket, post: Post) -> bool:
        return self.answers[post.path.removeprefix("/")](sock, post)


def by_url(url: str, document: str = "", **named: object) -> Dialled:
    return Dialled(document, tone(OPEN, 5.0), url=url, **named)  # type: ignore[arg-type]


def test_a_call_runs_what_the_server_of_swml_url_gives(phone: Phone, server: Endpoint) -> None:
    server.answer = says(200, b"version: 1.0.0\nsections:\n  main:\n    - record: {max_length: 0.5}\n    - hangup\n")
    url = server.url.replace("//", "//user:secret@") + "?key=hidden"
    ended = phone.call(by_url(url))
    assert ended.recording.duration == 0.5
    assert ended.recording.document == f"http://***@127.0.0.1:{server.port}/status?***"
    (post,) = server.posts
    assert post.headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert post.json["call"]["call_id"] == ended.uuid
    assert post.json["call"]["call_state"] == "created"
    assert (post.json["vars"], post.json["params"]) == ({}, {})
    assert "secret" not in phone.service.log
    assert "hidden" not in phone.service.log


def test_the_path_of_the_dialplan_goes_before_the_variable(phone: Phone, server: Endpoint) -> None:
    document = phone.service.document("by_path", RECORDS)
    assert phone.call(by_url(server.url, document)).recording.document == "by_path"
    assert server.posts == []
    by_name = phone.call(by_url("by_path"))
    assert by_name.recording.document == "by_path"


def test_a_document_asks_executes_and_transfers_over_the_web(phone: Phone, server: Endpoint) -> None:
    base = server.url.removesuffix("/status")
    server.answer = Site(
        who=says(200, b'{"name": "ann", "visits": [1, 2]}', Content_Type="application/json"),
        sub=says(200, text({"return": "${params.name + vars.request_response.visits.length}"})),
        next=says(200, text({"record": {**RECORDS["record"], "control_id": "${params.id}"}}, "hangup")),
    )
    document = phone.service.document(
        "over_the_web",
        "answer",
        {
            "request": {
                "url": f"{base}/who",
                "method": "POST",
                "headers": {"X-Caller": "${call.from_name}"},
                "body": {"to": "${call.to}"},
                "save_variables": True,
                "timeout": 5,
            }
        },
        {"execute": {"dest": f"{base}/sub", "params": {"name": "${request_response.name}"}}},
        {
            "cond": [
                {
                    "when": "${request_response_headers.content-type} == 'application/json' && return_value == 'ann2'",
                    "then": [{"transfer": {"dest": f"{base}/next", "params": {"id": "${return_value}"}}}],
                }
            ]
        },
    )
    ended = phone.call(Dialled(document, tone(OPEN, 5.0), name="Ann\nX-Evil: yes"))
    assert ended.recording.control_id == "ann2"
    asked, executed, transferred = server.posts
    assert "x-evil" not in asked.headers
    assert asked.headers["x-caller"].startswith("Ann")
    assert asked.headers["content-type"] == "application/json"
    assert executed.json["params"] == {"name": "ann"}
    assert executed.json["call"]["call_state"] == "answered"
    assert transferred.json["params"] == {"id": "ann2"}
    assert transferred.json["vars"]["request_response"]["name"] == "ann"


def test_a_request_that_fails_ends_no_document(phone: Phone, server: Endpoint) -> None:
    server.answer = drips
    document = phone.service.document(
        "asks_in_vain",
        {"request": {"url": server.url, "method": "GET", "timeout": 0.3}},
        {"request": {"url": "http://10.255.255.1/", "method": "GET"}},
        {"record": {**RECORDS["record"], "control_id": "${request_result}"}},
    )
    assert phone.call(Dialled(document, tone(OPEN, 5.0))).recording.control_id == "failed"
    assert "no whole answer within 0.3 s" in phone.service.log
    assert "http://10.255.255.1/: 10.255.255.1 is refused: not in the setting callback_networks" in phone.service.log


HOSTILE: dict[str, Answer] = {
    "an error": says(500, b"oops"),
    "nothing": closes,
    "no HTTP": garbles,
    "half of one": breaks_off,
    "a drip": drips,
    "too large": says(200, b"#" * (SIZE_LIMIT + 1)),
    "HTML": says(200, b"<html><body>It works!</body></html>"),
    "gzip": says(200, gzip.compress(b"#" * 10_000_000), Content_Encoding="gzip"),
    "a redirect": says(302, Location="http://127.0.0.1:9/"),
    "a bomb of aliases": says(
        200, "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)).encode()
    ),
    "nested": says(200, b"[" * 500_000),
    "a mistake": says(200, text("answer", "recrod")),
}


def test_no_server_keeps_a_call_from_its_dialplan(
    own_service: RunningService, exchange: Phone, server: Endpoint
) -> None:
    own_service.settings["document-timeout"] = 0.5
    own_service.start()
    exchange.service = own_service
    for words, answer in HOSTILE.items():
        server.answer = answer
        ended = exchange.call(by_url(server.url))
        assert ended.went_on, words
        assert ended.variables["script_error"].startswith("relay_script_"), words
        assert ended.recordings == [], words
    assert len(server.posts) == len(HOSTILE)
    server.answer = says(200, text(RECORDS))
    assert exchange.call(by_url(server.url)).recording.duration == 0.5


def test_a_server_that_is_down_is_a_failure_unless_there_is_a_copy(
    own_service: RunningService, exchange: Phone, server: Endpoint
) -> None:
    own_service.start()
    exchange.service = own_service
    assert exchange.call(by_url(server.url)).recording.duration == 0.5
    server.answer = says(503)
    ended = exchange.call(by_url(server.url))
    assert (ended.went_on, ended.variables["script_error"]) == (True, "relay_script_parse_error")
    assert own_service.stop() == 0

    own_service.settings["document-fallback"] = "true"
    own_service.start()
    server.answer = says(200, text(RECORDS))
    assert exchange.call(by_url(server.url)).recording.duration == 0.5
    server.shut()
    assert exchange.call(by_url(server.url)).recording.duration == 0.5
    own_service.kill()
    own_service.start()
    assert exchange.call(by_url(server.url)).recording.duration == 0.5
    assert own_service.log.count("ago (h:mm:ss) is run") == 2


def test_a_caller_who_hangs_up_meanwhile_is_not_waited_for(phone: Phone, server: Endpoint) -> None:
    server.answer = hanging = Hanging(closes)
    live = phone.dial(by_url(server.url))
    server.wait(1)
    began = time.monotonic()
    live.hang_up()
    assert not live.end().went_on
    # The service has let go of the server, long before a document's time is over.
    hanging.release.set()
    assert server.ended.wait(LIMIT)
    assert time.monotonic() - began < 3.0

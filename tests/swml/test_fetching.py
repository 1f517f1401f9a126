"""Documents of web servers within a call: execute, transfer, the first one, and what ends a chain of them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_calls import FakeSession, call_on
from test_flow import said, say

from esl_record.errors import DocumentError, WebError
from esl_record.swml import check as checking
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.document import Document, parse
from esl_record.swml.library import Library
from esl_record.swml.reading import read
from esl_record.swml.runner import DEEPEST, TRANSFERS, run, start
from esl_record.swml.site import Answer, Site

URL = "https://user:secret@example.com/next"
FAILED = "relay_script_method_execute_failed"


def text(*main: object, **sections: list[object]) -> str:
    return json.dumps({"version": "1.0.0", "sections": {"main": list(main), **sections}})


class FakeWeb:
    """Gives documents by URL, or raises, and keeps what it was sent."""

    def __init__(self, **given: str | Exception) -> None:
        self.given = given
        self.payloads: list[tuple[str, Any]] = []

    def document(self, url: str, payload: Mapping[str, Any], *_: object) -> Document:
        self.payloads.append((url, json.loads(json.dumps(payload))))
        found = self.given[url.rpartition("/")[2]]
        if isinstance(found, Exception):
            raise found
        return read(found.encode(), "https://***@example.com/next")

    def request(self, *_: Any, **__: Any) -> Answer:
        raise AssertionError("nothing was to be asked")


def calling(web: FakeWeb | None, session: FakeSession | None = None, **variables: object) -> Call:
    call = call_on(session or FakeSession(), **variables)
    call.site = Site(web=web, envs={"stage": "test"}, envs_origins=frozenset({("https", "example.com", 443)}))
    return call


def ran(web: FakeWeb | None, *main: object, **sections: list[object]) -> Call:
    call = calling(web)
    run(parse(text(*main, **sections), "first"), call)
    return call


def heard(call: Call) -> list[object]:
    return said(call.session)  # type: ignore[arg-type]


def failure(web: FakeWeb | None, *main: object) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        ran(web, *main)
    return caught.value


# ---- execute and transfer


def test_a_document_of_a_server_is_run_and_the_first_goes_on() -> None:
    web = FakeWeb(next=text(say("${params.who} ${vars.a}"), {"set": {"b": 2}}, {"return": {"c": 3}}))
    step = {"execute": {"dest": URL, "params": {"who": "Ann"}, "on_return": [say("${return_value.c}")]}}
    call = ran(web, {"set": {"a": 1}}, step, say("${b}${params.who}"))
    assert heard(call) == ["Ann 1", "3", "2"]
    ((url, payload),) = web.payloads
    assert url == URL
    assert set(payload) == {"call", "vars", "params", "envs"}
    assert payload["call"] == call.scopes["call"] | {"call_state": "created"}
    assert (payload["vars"], payload["params"], payload["envs"]) == ({"a": 1}, {"who": "Ann"}, {"stage": "test"})


def test_envs_go_only_to_servers_on_the_list_and_only_their_documents_read_them() -> None:
    reads = text({"set": {"seen": "${envs.stage}${stage}${'' + envs.stage}"}}, {"return": 1})
    for origins, seen in (((), "undefined"), ([("https", "example.com", 443)], "testtesttest")):
        web = FakeWeb(next=reads)
        call = calling(web)
        call.site = Site(web=web, envs={"stage": "test"}, envs_origins=frozenset(origins))
        inner = {"execute": {"dest": URL, "on_return": [{"set": {"own": "${envs.stage}"}}]}}
        run(parse(text(inner), "first"), call)
        assert (call.vars["seen"], call.vars["own"]) == (seen, "test")
        assert web.payloads[0][1]["envs"] == ({"stage": "test"} if origins else {})


@pytest.mark.parametrize(
    "origin",
    [("http", "example.com", 443), ("https", "example.com", 8443), ("https", "www.example.com", 443), ("", "", 0)],
)
def test_another_scheme_host_or_port_is_another_server(origin: tuple[str, str, int]) -> None:
    web = FakeWeb(next=text({"set": {"seen": "${envs.stage}"}}))
    call = calling(web)
    call.site = Site(web=web, envs={"stage": "test"}, envs_origins=frozenset({origin}))
    start(URL, Library(None), call)
    assert (web.payloads[0][1]["envs"], call.vars["seen"]) == ({}, "")


def test_a_document_within_one_of_a_server_is_that_servers() -> None:
    inner = text({"set": {"seen": "${envs.stage}"}})
    web = FakeWeb(next=text({"transfer": inner}))
    call = calling(web)
    call.site = Site(web=web, envs={"stage": "test"})
    start(URL, Library(None), call)
    assert call.vars["seen"] == ""


def test_a_transfer_to_a_server_does_not_come_back() -> None:
    web = FakeWeb(next=text(say("${params.foo}"), {"execute": "inner"}, inner=[say("inner")]))
    call = ran(web, {"transfer": {"dest": URL, "params": {"foo": "bar"}}}, say("never"))
    assert heard(call) == ["bar", "inner"]


def test_a_transfer_may_be_a_list_of_mappings() -> None:
    web = FakeWeb(next=text(say("${params.foo} ${params.no}")))
    assert heard(ran(web, {"transfer": [{"dest": URL}, {"params": [{"foo": "bar"}, {"no": 1}]}]})) == ["bar 1"]
    web = FakeWeb(next=text(say("${params.foo}")))
    assert heard(ran(web, {"transfer": {"dest": URL, "params": [{"foo": "bar"}]}})) == ["bar"]


@pytest.mark.parametrize("given", [[{"dest": URL, "params": {}}], [URL], [{"dest": URL}, 5], 5, {"params": []}])
def test_a_transfer_of_anything_else_is_refused(given: object) -> None:
    with pytest.raises(DocumentError, match="transfer"):
        check(parse(text({"transfer": given}), "first"))


def test_a_url_may_come_from_a_variable() -> None:
    web = FakeWeb(next=text(say("here")))
    assert heard(ran(web, {"set": {"to": URL}}, {"execute": "${to}"}, {"transfer": "${to}"})) == ["here", "here"]


def test_a_section_of_that_name_comes_first() -> None:
    assert heard(ran(None, {"execute": URL}, **{URL: [say("a section")]})) == ["a section"]


# ---- what goes wrong


@pytest.mark.parametrize("method", ["execute", "transfer"])
def test_a_server_that_fails_fails_the_step(method: str) -> None:
    error = failure(FakeWeb(next=WebError("https://***@example.com/next: 503")), "answer", {method: URL})
    assert error.code == FAILED
    assert str(error) == "first, section main, step 2: https://***@example.com/next: 503"


def test_a_site_without_a_web_fails_the_step() -> None:
    assert failure(None, {"execute": URL}).code == FAILED


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("<html>", "relay_script_parse_error", "https://***@example.com/next"),
        ("version: 2", "relay_script_version_invalid", "version"),
        (text(say("first"), "recrod"), "relay_script_method_undefined", "section main, step 2: no method 'recrod'"),
    ],
)
def test_what_a_server_gives_is_checked_before_its_first_step(given: str, code: str, words: str) -> None:
    session = FakeSession()
    call = calling(FakeWeb(next=given), session)
    with pytest.raises(DocumentError) as caught:
        run(parse(text("answer", {"execute": URL}), "first"), call)
    assert (caught.value.code, call.vars["script_error"]) == (code, code)
    assert "first, section main, step 2: " in str(caught.value)
    assert words in str(caught.value)
    assert session.verbs == [("answer",)]


@pytest.mark.parametrize("dest", ["http://", "https:///a", "HTTP://[::1", "http://a:b/"])
@pytest.mark.parametrize("method", ["execute", "transfer"])
def test_a_url_that_is_none_is_found_before_the_first_step(method: str, dest: str) -> None:
    with pytest.raises(DocumentError, match=f"section main, step 2: {method}: dest: not a") as caught:
        check(parse(text("answer", {method: dest}), "first"))
    assert caught.value.code == "relay_script_parse_error"


def test_documents_within_documents_are_counted() -> None:
    web = FakeWeb(next=text({"execute": URL}))
    assert failure(web, {"execute": URL}).code == "relay_script_nested_too_deep"
    assert len(web.payloads) == DEEPEST


def test_transfers_between_documents_are_counted() -> None:
    web = FakeWeb(next=text({"transfer": URL}))
    assert failure(web, {"transfer": URL}).code == "relay_script_too_many_transfers"
    assert len(web.payloads) == TRANSFERS + 1


# ---- the first document


def started(name: str, web: FakeWeb | None, folder: Path | None = None, session: FakeSession | None = None) -> Call:
    call = calling(web, session)
    start(name, Library(folder), call)
    return call


def test_a_call_begins_with_the_document_of_a_server() -> None:
    web = FakeWeb(next=text(say("hello")))
    assert heard(started(URL, web)) == ["hello"]
    assert web.payloads[0][1]["params"] == {}


def test_or_with_one_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text(say("hello")))
    assert heard(started("a", None, tmp_path)) == ["hello"]


def test_a_server_that_fails_at_the_beginning_is_a_parse_error() -> None:
    session = FakeSession()
    with pytest.raises(DocumentError, match="503") as caught:
        started(URL, FakeWeb(next=WebError("https://***@example.com/next: 503")), session=session)
    assert caught.value.code == "relay_script_parse_error"
    assert session.verbs == []


@pytest.mark.parametrize("name", ["", "ftp://example.com/a", "//example.com/a", "https:example.com", "http%3A//a"])
def test_what_is_neither_is_no_document(name: str) -> None:
    with pytest.raises(DocumentError, match="swml_url"):
        started(name, FakeWeb())


def test_the_same_document_is_checked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looked: list[str] = []
    really = checking.mistakes
    monkeypatch.setattr(checking, "mistakes", lambda document: looked.append(document.name) or really(document))
    (tmp_path / "once.json").write_text(text(say("checked once")))
    for _ in range(3):
        started("once", None, tmp_path)
    assert looked == ["once"]

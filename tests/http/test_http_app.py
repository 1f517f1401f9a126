"""What holds for every answer: its errors, its line in the log."""

import logging

import pytest
from http_fakes import MakeSite, Site, codes

from esl_record.errors import DatabaseError


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")  # the test client knows fewer than there are
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/v1/calls", "GET, HEAD, OPTIONS"),
        ("DELETE", "/api/relay/rest/recordings", "GET, HEAD, OPTIONS"),
        ("PUT", "/api/relay/rest/recordings/1", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/api/calling/calls", "POST, OPTIONS"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
        ("BREW", "/healthz", "GET, HEAD, OPTIONS"),
        ("QUERY", "/api/relay/rest/recordings/1", "DELETE, GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_is_not_there(site: Site, method: str, path: str, allowed: str) -> None:
    answer = site.ask(method, path)
    assert (answer.status_code, codes(answer)) == (405, [("method_not_allowed", None)])
    assert sorted(answer.headers["allow"].split(", ")) == sorted(allowed.split(", "))


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz/", "/api/v1/calls/", "/api/", "/api/v1/recordings/1"])
def test_a_path_that_is_not_there(site: Site, path: str) -> None:
    answer = site.get(path)
    assert (answer.status_code, codes(answer)) == (404, [("unknown_path", None)])


def test_without_credentials_the_api_has_no_paths(site: Site) -> None:
    for path in ("/api/", "/api/v1/calls", "/api/nothing"):
        assert site.get(path, headers={"Authorization": None}).status_code == 401


def test_what_nobody_expected_is_told_to_the_log_alone(make_site: MakeSite, caplog: pytest.LogCaptureFixture) -> None:
    def ready() -> list[str]:
        raise RuntimeError("the secret cause")

    answer = make_site(ready=ready).get("/readyz")
    assert (answer.status_code, codes(answer)) == (500, [("internal_error", None)])
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "the secret cause" in str(record.exc_info[1])


def test_a_database_that_cannot_be_asked(make_site: MakeSite) -> None:
    def metrics() -> tuple[bytes, str]:
        raise DatabaseError("database: gone")

    answer = make_site(metrics=metrics).get("/metrics")
    assert (answer.status_code, codes(answer)) == (503, [("database_unavailable", None)])


def test_every_answer_has_a_line_in_the_log_without_its_query(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    link = site.links.download(site.keep().recording_id, "wav").removeprefix("http://127.0.0.1:8088")
    path, _, query = link.partition("?")
    site.get(path, query_string=query, headers={"Authorization": None})
    site.get("/nothing")
    lines = [message for message in caplog.messages if message.startswith("http: ")]
    assert [line.rsplit(" ", 2)[0] for line in lines] == [f"http: GET {path} 200", "http: GET /nothing 404"]
    assert not any("signature" in message for message in caplog.messages)

"""What a monitor sees, and needs no credentials for."""

import pytest
from http_fakes import MakeSite, Site, codes

from esl_record.errors import DatabaseError
from esl_record.http.health import Seldom

NOBODY = {"Authorization": None, "Host": "monitor.example.com"}


@pytest.mark.parametrize("guarded", [True, False])
def test_a_process_that_serves_is_alive(make_site: MakeSite, guarded: bool) -> None:
    answer = make_site(guarded=guarded).get("/healthz", headers=NOBODY)
    assert (answer.status_code, answer.json) == (200, [])


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/openapi.json"])
@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.example.com", "127.0.0.1.evil.example.com", ""])
def test_without_credentials_no_other_name_leads_to_what_it_tells(make_site: MakeSite, path: str, host: str) -> None:
    """A page whose name leads to this machine by now would read it."""
    site = make_site(guarded=False)
    assert site.get(path, headers={"Host": host}).status_code == 403
    for own in ("localhost:8088", "127.0.0.1:8088", "[::1]:8088", "pbx.example.com"):
        assert site.get(path, headers={"Host": own}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/readyz", "/metrics", "/openapi.json", "/api/v1/calls", "/api/relay/rest/recordings"]
)
@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "", "http://localhost.evil.example.com", "http://["]
)
def test_without_credentials_no_page_of_another_host_is_answered(make_site: MakeSite, path: str, origin: str) -> None:
    site = make_site(guarded=False)
    assert site.get(path, headers={"Origin": origin}).status_code == 403
    for own in ("http://localhost:3000", "https://pbx.example.com"):
        assert site.get(path, headers={"Origin": own}).status_code == 200


def test_figures_that_take_long_are_computed_seldom() -> None:
    now, computed = [0.0], []

    def compute() -> int:
        now[0] += 0.1
        computed.append(now[0])
        return len(computed)

    seldom = Seldom(compute, lambda: now[0])
    assert [seldom() for _ in range(1000)] == [1] * 1000
    now[0] += 0.99
    assert seldom() == 1
    now[0] += 0.02
    assert seldom() == 2


def test_it_is_ready_until_something_is_wrong(site: Site) -> None:
    assert (site.get("/readyz", headers=NOBODY).status_code, site.get("/readyz").json) == (200, [])
    site.wrong.append("the detector stands still")
    answer = site.get("/readyz", headers=NOBODY)
    assert (answer.status_code, answer.json) == (503, ["the detector stands still"])


def test_its_figures(site: Site) -> None:
    answer = site.get("/metrics", headers=NOBODY)
    assert (answer.status_code, answer.content) == (200, b"esl_record_calls 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(5, "Input/output error"), "figures_unavailable"), (DatabaseError("gone"), "database_unavailable")],
)
def test_figures_that_cannot_be_read(make_site: MakeSite, error: Exception, code: str) -> None:
    def broken() -> tuple[bytes, str]:
        raise error

    site = make_site(metrics=broken)
    answer = site.get("/metrics", headers=NOBODY)
    assert (answer.status_code, codes(answer)) == (503, [(code, None)])
    assert site.ask("HEAD", "/metrics").status_code == 503
    assert "503" in site.get("/openapi.json").json["paths"]["/metrics"]["get"]["responses"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), DatabaseError("gone")])
def test_what_cannot_tell_whether_it_is_ready_is_not(make_site: MakeSite, error: Exception) -> None:
    def broken() -> list[str]:
        raise error

    answer = make_site(ready=broken).get("/readyz", headers=NOBODY)
    assert answer.status_code == 503
    assert answer.json == ["whether it is ready cannot be told; the log has it"]


def test_what_it_does_without_is_told_and_keeps_it_from_nothing(site: Site) -> None:
    site.lacking = ["no event socket"]
    answer = site.get("/readyz", headers=NOBODY)
    assert (answer.status_code, answer.json) == (200, ["no event socket"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/api/v1/calls"])
def test_head_and_options(site: Site, path: str) -> None:
    head, get = site.ask("HEAD", path), site.get(path)
    assert (head.status_code, head.content, head.headers) == (200, b"", get.headers)
    options = site.ask("OPTIONS", path)
    assert (options.status_code, options.headers["allow"]) == (200, "GET, HEAD")

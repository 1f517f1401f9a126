"""What a monitor sees, and needs no credentials for."""

import pytest
from http_fakes import MakeSite, Site

NOBODY = {"Authorization": None, "Host": "monitor.example.com"}


@pytest.mark.parametrize("guarded", [True, False])
def test_a_process_that_serves_is_alive(make_site: MakeSite, guarded: bool) -> None:
    answer = make_site(guarded=guarded).get("/healthz", headers=NOBODY)
    assert (answer.status_code, answer.json) == (200, [])


def test_it_is_ready_until_something_is_wrong(site: Site) -> None:
    assert (site.get("/readyz", headers=NOBODY).status_code, site.get("/readyz").json) == (200, [])
    site.wrong.append("the detector stands still")
    answer = site.get("/readyz", headers=NOBODY)
    assert (answer.status_code, answer.json) == (503, ["the detector stands still"])


def test_its_figures(site: Site) -> None:
    answer = site.get("/metrics", headers=NOBODY)
    assert (answer.status_code, answer.content) == (200, b"esl_record_calls 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/api/v1/calls"])
def test_head_and_options(site: Site, path: str) -> None:
    head, get = site.ask("HEAD", path), site.get(path)
    assert (head.status_code, head.content, head.headers) == (200, b"", get.headers)
    options = site.ask("OPTIONS", path)
    assert (options.status_code, options.headers["allow"]) == (200, "GET, HEAD")

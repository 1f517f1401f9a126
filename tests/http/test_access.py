"""Who is let in, however a path is spelled."""

import json

import pytest
from http_fakes import CALL, PROJECT, UNKNOWN, Client, MakeSite, Serve, Site, basic

from esl_record.recording.recording import Recording

KNOWN = "00000001-0000-4000-8000-000000000000"

ROUTES = [
    ("POST", "/api/calling/calls"),
    ("GET", "/api/v1/calls"),
    ("GET", "/api/v1/recordings/{}/download"),
    ("GET", "/api/v1/recordings/{}/download?expires=9&signature=x.wav"),
    ("GET", "/api/relay/rest/recordings"),
    ("GET", "/api/relay/rest/recordings/{}"),
    ("DELETE", "/api/relay/rest/recordings/{}"),
    ("OPTIONS", "/api/relay/rest/recordings/{}"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
    ("BREW", "/api/v1/calls"),
]

SPELLINGS = {
    "two slashes": lambda path: f"/{path}",
    "three slashes": lambda path: f"//{path}",
    "no slash": lambda path: path[1:],
    "a dot": lambda path: f"/.{path}",
    "two dots": lambda path: f"/healthz/..{path}",
    "an encoded slash": lambda path: f"/%2f{path[1:]}",
    "encoded slashes alone": lambda path: f"%2F{path[1:]}",
    "absolute, two slashes": lambda path: f"http://localhost/{path}",
    "a slash behind": lambda path: f"{path.partition('?')[0]}/",
    "an encoded zero": lambda path: f"{path.partition('?')[0]}%00",
    "a parameter": lambda path: f"{path.partition('?')[0]};x",
    "large letters": lambda path: path.upper(),
    "a fragment": lambda path: f"{path.partition('?')[0]}#/healthz",
}

Answer = tuple[int, dict[str, str], bytes]


def ask(client: Client, method: str, path: str, *headers: str) -> Answer:
    """All there is to see of the answer, but for its time."""
    body = json.dumps({"command": "calling.end", "id": CALL}).encode() if method == "POST" else b""
    more = ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    client.sock.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *headers, *more, "", ""]).encode("latin-1") + body)
    status, told = client.head()
    del told["date"]
    return status, told, client.file.read(int(told.get("content-length", 0)))


@pytest.fixture
def kept(site: Site) -> Recording:
    site.place()
    recording = site.keep(1)
    assert recording.recording_id == KNOWN
    return recording


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_spelling_of_a_path_lets_anybody_in(
    site: Site, serve: Serve, kept: Recording, method: str, path: str, spelling: str
) -> None:
    spelled = SPELLINGS[spelling]
    with Client(serve(site)) as client:
        plain = ask(client, "GET", "/api/v1/calls", "Host: localhost")
        known, unknown = (ask(client, method, spelled(path.format(one)), "Host: localhost") for one in (KNOWN, UNKNOWN))
        assert known == unknown == plain
        assert known[0] == 401
    assert site.session.live
    assert len(site.ledger.catalog.all()) == 1


@pytest.mark.parametrize("spelling", ["two slashes", "three slashes", "no slash", "an encoded slash"])
@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if "signature" not in route[1]])
def test_to_whoever_may_come_in_another_spelling_is_not_there(
    site: Site, serve: Serve, kept: Recording, method: str, path: str, spelling: str
) -> None:
    authorization = f"Authorization: {basic()['Authorization']}"
    with Client(serve(site)) as client:
        for one in (KNOWN, UNKNOWN):
            target = SPELLINGS[spelling](path.format(one))
            status, _, body = ask(client, method, target, "Host: localhost", authorization)
            assert (status, json.loads(body)["errors"][0]["code"]) == (404, "unknown_path")
    assert site.session.live
    assert len(site.ledger.catalog.all()) == 1


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/v1/calls"), ("DELETE", "/api/relay/rest/recordings/{}")])
def test_no_spelling_leads_past_the_name_of_another_host(
    make_site: MakeSite, serve: Serve, method: str, path: str, spelling: str
) -> None:
    site = make_site(guarded=False)
    site.keep(1)
    target = SPELLINGS[spelling](path.format(KNOWN)).replace("//localhost", "//evil.example.com")
    with Client(serve(site)) as client:
        assert ask(client, method, target, "Host: evil.example.com")[0] == 403
    assert len(site.ledger.catalog.all()) == 1


@pytest.mark.parametrize("path", ["/", "/nothing", "/healthz/", "/api", "/metrics/x", "*", "/healthz%00"])
def test_what_is_not_there_is_guarded_too(site: Site, make_site: MakeSite, serve: Serve, path: str) -> None:
    with Client(serve(site)) as client:
        assert ask(client, "GET", path, "Host: localhost")[0] == 401
    with Client(serve(make_site(guarded=False))) as client:
        assert ask(client, "GET", path, "Host: evil.example.com")[0] == 403
        assert ask(client, "GET", path, "Host: localhost")[0] == 404


def test_a_link_is_one_in_its_own_spelling_alone(site: Site, serve: Serve, kept: Recording) -> None:
    link = site.links.download(KNOWN, "wav").removeprefix("http://127.0.0.1:8088")
    with Client(serve(site)) as client:
        assert ask(client, "GET", link, "Host: localhost")[0] == 200
        for spelled in (f"/{link}", f"//{link}", link[1:], f"/%2f{link[1:]}"):
            assert ask(client, "GET", spelled, "Host: localhost")[0] == 401


# ---- targets with a host


def test_a_target_with_a_host_is_what_it_names(site: Site, serve: Serve, kept: Recording) -> None:
    authorization = f"Authorization: {basic(PROJECT)['Authorization']}"
    with Client(serve(site)) as client:
        assert ask(client, "GET", "http://pbx.example.com/healthz", "Host: other")[::2] == (200, b"[]")
        assert ask(client, "GET", "HTTP://[::1]:80/api/v1/calls?x=1", "Host: other", authorization)[0] == 200
        assert ask(client, "GET", "https://h/api/v1/calls", "Host: h")[0] == 401
        assert ask(client, "GET", "http://h", "Host: h", authorization)[0] == 404
        assert ask(client, "GET", "http://h?x", "Host: h", authorization)[0] == 404


def test_its_host_is_the_one_that_counts(make_site: MakeSite, serve: Serve) -> None:
    with Client(serve(make_site(guarded=False))) as client:
        assert ask(client, "GET", "http://evil.example.com/api/v1/calls", "Host: localhost")[0] == 403
        assert ask(client, "GET", "http://localhost/api/v1/calls", "Host: evil.example.com")[0] == 200

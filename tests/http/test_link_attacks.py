"""Attacks on signed links: only the link as it was made opens anything, and only while it is good."""

import hmac
from collections.abc import Callable, Iterator
from types import ModuleType
from urllib.parse import quote

import pytest
from http_fakes import UNKNOWN, Client, MakeSite, Serve, Site, target

from esl_record.http import access, links
from esl_record.http.links import Links
from esl_record.recording.recording import Recording

AUDIO = bytes(range(256)) * 10
Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def kept(site: Site) -> Recording:
    site.keep(2, audio=AUDIO[::-1])
    return site.keep(1, audio=AUDIO)


@pytest.fixture
def ask(site: Site, serve: Serve) -> Iterator[Ask]:
    """Asks over the wire, without credentials; gives status, headers and body."""
    with Client(serve(site)) as client:

        def asking(path: str, method: str = "GET", *headers: str) -> tuple[int, dict[str, str], bytes]:
            client.sock.sendall("\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode())
            status, told = client.head()
            length = 0 if method == "HEAD" or status == 304 else int(told.get("content-length", 0))
            return status, told, client.file.read(length)

        yield asking


def fields(site: Site, recording: Recording) -> tuple[str, str, str]:
    """Path, expiry and signature of a link."""
    path, query = target(site.links.download(recording.recording_id, "wav"))
    expires, signature = (one.partition("=")[2] for one in query.split("&"))
    return path, expires, signature


def test_no_altered_expiry_opens_it(site: Site, kept: Recording, ask: Ask) -> None:
    path, expires, signature = fields(site, kept)
    others = [str(int(expires) + 1), str(int(expires) - 1), f"0{expires}", f"+{expires}", f"%20{expires}", f"{expires}%0a"]  # fmt: skip # noqa: E501
    others += [f"{expires}.0", f"{expires}%00", hex(int(expires)), "99999999999", "-1", "inf", "", "%d9%a1"]
    others += [expires.translate({ord(digit): ord(digit) + 0xFEE0 for digit in "0123456789"})]
    for other in others:
        assert ask(f"{path}?expires={quote(other, safe='%')}&signature={signature}")[0] == 403, other
    assert ask(f"{path}?expires={expires}&signature={signature}")[::2] == (200, AUDIO)


def test_no_altered_signature_opens_it(site: Site, kept: Recording, ask: Ask) -> None:
    path, expires, signature = fields(site, kept)
    digest = signature.removesuffix(".wav")
    others = [digest, f"{digest}.mp3", f"{digest}.", f"{digest}.wav.wav", f"{signature}%00", f"%20{signature}"]
    others += [f"{signature}%0a", signature.upper(), f"{digest.upper()}.wav", f"{digest[:-1]}.wav", ".wav", "", "x"]
    others += [f"{digest[:at]}{(int(one, 16) ^ 1):x}{digest[at + 1 :]}.wav" for at, one in enumerate(digest)]
    for other in others:
        assert ask(f"{path}?expires={expires}&signature={other}")[0] == 403, other


def test_no_altered_recording_is_opened(site: Site, kept: Recording, ask: Ask) -> None:
    path, expires, signature = fields(site, kept)
    query = f"?expires={expires}&signature={signature}"
    for other in (UNKNOWN, kept.recording_id.replace("0001", "0002", 1), f"{kept.recording_id}%20", f"%00{kept.recording_id}"):  # fmt: skip # noqa: E501
        assert ask(path.replace(kept.recording_id, other) + query)[0] == 403, other
    for other in (path.upper(), path.replace("download", "DOWNLOAD"), f"{path}/", path.replace("/v1", "/v1/.")):
        assert ask(other + query)[0] == 401, other


@pytest.mark.parametrize("good_first", [True, False])
@pytest.mark.parametrize("name", ["expires", "signature"])
@pytest.mark.parametrize("value", ["", "same", "1"])
def test_a_parameter_given_twice_opens_nothing(
    site: Site, kept: Recording, ask: Ask, name: str, value: str, good_first: bool
) -> None:
    path, expires, signature = fields(site, kept)
    good = f"expires={expires}&signature={signature}"
    same = {"expires": expires, "signature": signature}
    again = f"{name}={same[name] if value == 'same' else value}"
    assert ask(f"{path}?{f'{good}&{again}' if good_first else f'{again}&{good}'}")[0] == 403


def test_a_parameter_by_another_name_is_none(site: Site, kept: Recording, ask: Ask) -> None:
    path, expires, signature = fields(site, kept)
    assert ask(f"{path}?expires={expires}")[0] == 401
    assert ask(f"{path}?signature={signature}")[0] == 403
    for names in (("Expires", "signature"), ("expires[]", "signature"), ("expires%00", "signature")):
        assert ask(f"{path}?{names[0]}={expires}&{names[1]}={signature}")[0] == 403
    for names in (("expires", "Signature"), ("expires", "signature[]"), ("expires", "%20signature")):
        assert ask(f"{path}?{names[0]}={expires}&{names[1]}={signature}")[0] == 401
    assert ask(f"{path}?expires={expires};signature={signature}")[0] == 401
    assert ask(f"{path}#?expires={expires}&signature={signature}")[0] in (401, 403)


def test_another_encoding_of_a_link_is_the_same_link(site: Site, kept: Recording, ask: Ask) -> None:
    path, expires, signature = fields(site, kept)
    encoded = "".join(f"%{ord(character):02x}" for character in kept.recording_id)
    spelled = f"{path.replace(kept.recording_id, encoded)}?signature=%{ord(signature[0]):02X}{signature[1:]}&expires={expires}"  # fmt: skip # noqa: E501
    assert ask(spelled)[::2] == (200, AUDIO)
    site.now += 3600.0
    assert ask(spelled)[0] == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [(), ("Range: bytes=0-0",), ("If-None-Match: *",), ("Range: bytes=99999-",)])
def test_an_expired_link_says_nothing(
    site: Site, kept: Recording, ask: Ask, method: str, headers: tuple[str, ...]
) -> None:
    link = site.links.download(kept.recording_id, "wav").removeprefix("http://127.0.0.1:8088")
    assert ask(link, method, *headers)[0] in (200, 206, 304, 416)
    site.now += 3600.0
    status, told, body = ask(link, method, *headers)
    assert (status, AUDIO[:8] in body, told["cache-control"]) == (403, False, "no-store")
    assert {"etag", "last-modified", "content-disposition", "content-range", "accept-ranges"} & told.keys() == set()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [(), ("Range: bytes=0-0",), ("If-None-Match: *",)])
def test_after_deletion_there_is_nothing_and_no_copy_is_confirmed(
    site: Site, kept: Recording, ask: Ask, method: str, headers: tuple[str, ...]
) -> None:
    link = site.links.download(kept.recording_id, "wav").removeprefix("http://127.0.0.1:8088")
    status, told, _ = ask(link, "GET", f"If-None-Match: {ask(link)[1]['etag']}")
    # A copy may be kept, but not used without asking here.
    assert (status, told["cache-control"]) == (304, "private, no-cache")
    site.ledger.delete(kept, "a test")
    status, told, _ = ask(link, method, *headers)
    assert (status, told["cache-control"], "etag" in told) == (404, "no-store", False)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
def test_a_link_is_for_reading(site: Site, kept: Recording, ask: Ask, method: str) -> None:
    link = site.links.download(kept.recording_id, "wav").removeprefix("http://127.0.0.1:8088")
    assert ask(link, method, "Content-Length: 0")[0] in (403, 405)
    assert len(site.ledger.catalog.all()) == 2


def test_a_link_of_another_service_opens_nothing(make_site: MakeSite) -> None:
    site = make_site()
    recording = site.keep(audio=AUDIO)
    other = Links(site.links.base_url, b"o" * 32, 3600.0, clock=lambda: site.now)
    for made, status in ((other, 403), (site.links, 200)):
        path, query = target(made.download(recording.recording_id, "wav"))
        assert site.get(path, query_string=query, headers={"Authorization": None}).status_code == status


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("module", [links, access])
def test_nothing_but_a_comparison_in_constant_time_decides(
    site: Site, kept: Recording, monkeypatch: pytest.MonkeyPatch, module: ModuleType, equal: bool
) -> None:
    """How long an answer takes then says nothing of how much of a secret was guessed."""
    path, expires, signature = fields(site, kept)
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return equal

    monkeypatch.setattr(module, "hmac", type("", (), {"new": hmac.new, "compare_digest": staticmethod(compare)}))
    if module is links:
        query = f"expires={expires}&signature={'0' * 64 if equal else signature.removesuffix('.wav')}.wav"
        answer = site.get(path, query_string=query, headers={"Authorization": None})
    else:
        answer = site.get(path, headers={"Authorization": "Basic eDp5"} if equal else {})
    assert answer.status_code == (200 if equal else 403 if module is links else 401)
    assert len(compared) == 1

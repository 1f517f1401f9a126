"""Downloads: who gets the audio, what of it, and what is said to everybody else."""

import errno
import logging
import os
from pathlib import Path
from urllib.parse import quote

import pyrage
import pytest
from falcon import testing
from http_fakes import PROJECT, UNKNOWN, Client, MakeSite, Serve, Site, basic, codes, open_files, target

from esl_record.errors import DatabaseError
from esl_record.recording.machine import State
from esl_record.recording.params import Format
from esl_record.recording.recording import Recording
from esl_record.recording.vault import Vault

NOBODY = {"Authorization": None}
AUDIO = bytes(range(256)) * 1000


def path_of(recording_id: str) -> str:
    return f"/api/v1/recordings/{recording_id}/download"


def linked(site: Site, link: str, method: str = "GET", **headers: str) -> testing.Result:
    path, query = target(link)
    return site.ask(method, path, query_string=query, headers={**NOBODY, **headers})


def same(answer: testing.Result) -> tuple[object, ...]:
    """All there is to see of an answer."""
    return answer.status, sorted(answer.headers.items()), answer.content


# ---- who


def test_a_signed_link_opens_it(site: Site) -> None:
    recording = site.keep(audio=AUDIO)
    answer = linked(site, site.links.download(recording.recording_id, "wav"))
    assert (answer.status_code, answer.content) == (200, AUDIO)


def test_credentials_open_it(site: Site) -> None:
    recording = site.keep(audio=AUDIO)
    assert site.get(path_of(recording.recording_id)).content == AUDIO


@pytest.mark.parametrize(
    "headers",
    [
        NOBODY,
        basic(PROJECT, "wrong"),
        basic("wrong"),
        basic("", ""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic w6k"},
        {"Authorization": "Basic \u00e9"},
        {"Authorization": "Bearer " + basic()["Authorization"][6:]},
        {"Authorization": basic()["Authorization"] + "="},
    ],
)
def test_without_either_nobody_learns_what_there_is(site: Site, headers: dict[str, str]) -> None:
    recording = site.keep()
    known = site.get(path_of(recording.recording_id), headers=headers)
    assert (known.status_code, codes(known)) == (401, [("unauthorized", None)])
    assert known.headers["www-authenticate"] == 'Basic realm="esl-record"'
    for other in (UNKNOWN, "..", "%2e%2e%2f", "a%2fb", "%00", "x" * 3000, "\u00e9"):
        assert same(site.get(path_of(other), headers=headers)) == same(known)


def test_a_link_that_is_not_good_teaches_nobody_what_there_is(site: Site) -> None:
    recording = site.keep()
    site.keep(2, state=State.RECORDING)
    link = site.links.download(recording.recording_id, "wav")
    site.now += 3600.0
    refused = linked(site, link)
    assert (refused.status_code, codes(refused)) == (403, [("link_refused", None)])
    site.now -= 3600.0
    path, query = target(link)
    flipped = query[:-1] + ("0" if query[-1] != "0" else "1")
    for query_string in (flipped, "signature=", "signature=x&signature=y&expires=1", f"{query}&expires=1", "expires=\u0661&signature=1"):  # fmt: skip # noqa: E501
        for there in (path, path_of(UNKNOWN), path_of("%2e%2e%2f"), path_of("a%2fb"), path_of("%00")):
            answer = site.get(there, query_string=query_string, headers=NOBODY)
            assert same(answer) == same(refused)


def test_a_link_of_one_recording_opens_no_other(site: Site) -> None:
    first, second = site.keep(1), site.keep(2)
    _, query = target(site.links.download(first.recording_id, "wav"))
    assert site.get(path_of(second.recording_id), query_string=query, headers=NOBODY).status_code == 403


def test_a_link_opens_nothing_else(site: Site) -> None:
    recording = site.keep()
    path, query = target(site.links.download(recording.recording_id, "wav"))
    assert site.get("/api/relay/rest/recordings", query_string=query, headers=NOBODY).status_code == 401
    assert site.ask("DELETE", path, query_string=query, headers=NOBODY).status_code == 403


def test_credentials_do_where_a_link_does_not(site: Site) -> None:
    recording = site.keep(audio=AUDIO)
    assert site.get(path_of(recording.recording_id), query_string="expires=1&signature=1").content == AUDIO


def test_a_user_without_a_token_is_let_in_nowhere(make_site: MakeSite) -> None:
    site = make_site(token="")
    assert site.get("/api/v1/calls", headers=basic(PROJECT, "")).status_code == 401
    assert site.get("/api/v1/calls", headers=NOBODY).status_code == 401


# ---- an open API


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8088", "127.8.8.8", "[::1]:8088", "localhost", "LOCALHOST:1", "localhost.",
     "PBX.example.com", "pbx.example.com:443"],
)  # fmt: skip
def test_an_open_api_answers_to_its_own_names(make_site: MakeSite, host: str) -> None:
    assert make_site(guarded=False).get("/api/v1/calls", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example.com", "127.0.0.1.evil.com", "localhost.evil.com", "10.0.0.1", "0.0.0.0", "", "[::1", "[]", "@",
     "a b", "127.0.0.1@evil.com", "\u00e9"],
)  # fmt: skip
def test_an_open_api_answers_to_no_other(make_site: MakeSite, host: str) -> None:
    site = make_site(guarded=False)
    recording = site.keep()
    for path in ("/api/v1/calls", path_of(recording.recording_id), path_of(UNKNOWN)):
        answer = site.get(path, headers={"Host": host})
        assert (answer.status_code, codes(answer)) == (403, [("host_refused", None)])


def test_an_open_api_has_no_public_name_where_none_is_set(make_site: MakeSite) -> None:
    assert make_site(guarded=False, public_host="").get("/api/v1/calls", headers={"Host": ""}).status_code == 403


def test_a_bad_link_is_refused_by_an_open_api_too(make_site: MakeSite) -> None:
    site = make_site(guarded=False)
    recording = site.keep(audio=AUDIO)
    path, query = target(site.links.download(recording.recording_id, "wav"))
    assert site.get(path).content == AUDIO
    assert site.get(path, query_string=query).content == AUDIO
    assert site.get(path, query_string=f"{query}0").status_code == 403


# ---- what


def test_the_answer_says_what_it_is(site: Site) -> None:
    recording = site.keep(audio=AUDIO)
    answer = site.get(path_of(recording.recording_id))
    expected = {
        "accept-ranges": "bytes",
        "etag": f'"{recording.sha256}"',
        "content-type": "audio/wav",
        "content-length": str(len(AUDIO)),
        "content-disposition": f'inline; filename="030405-{recording.recording_id}.wav"',
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert answer.headers["last-modified"].endswith(" GMT")


@pytest.mark.parametrize(
    ("form", "media"), [(Format.WAV, "audio/wav"), (Format.MP3, "audio/mpeg"), (Format.MP4, "audio/mp4")]
)
def test_every_format_has_its_type(site: Site, form: Format, media: str) -> None:
    answer = site.get(path_of(site.keep(format=form).recording_id))
    assert answer.headers["content-type"] == media
    assert answer.headers["content-disposition"].endswith(f'.{form}"')


def test_head_says_the_same_and_sends_nothing(site: Site) -> None:
    path = path_of(site.keep(audio=AUDIO).recording_id)
    head, get = site.ask("HEAD", path), site.get(path)
    assert (head.status_code, head.headers, head.content) == (200, get.headers, b"")
    assert site.ask("HEAD", path, headers={"Range": "bytes=0-0"}).headers == get.headers


@pytest.mark.parametrize(
    ("span", "start", "end"),
    [("0-0", 0, 1), ("100-", 100, None), ("-5", -5, None), ("70000-199999", 70000, 200000), ("255999-", 255999, None)],
)
def test_a_part_of_it(site: Site, span: str, start: int, end: int | None) -> None:
    answer = site.get(path_of(site.keep(audio=AUDIO).recording_id), headers={"Range": f"bytes={span}"})
    part = AUDIO[start:end]
    begin = start % len(AUDIO)
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == f"bytes {begin}-{begin + len(part) - 1}/{len(AUDIO)}"
    assert answer.headers["content-length"] == str(len(part))


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "items=0-1", "bytes=9-1", "bytes=x"])
def test_what_is_no_range_is_the_whole_of_it(site: Site, header: str) -> None:
    answer = site.get(path_of(site.keep(audio=AUDIO).recording_id), headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, AUDIO)


def test_a_part_behind_the_end(site: Site) -> None:
    answer = site.get(path_of(site.keep(audio=AUDIO).recording_id), headers={"Range": f"bytes={len(AUDIO)}-"})
    assert (answer.status_code, codes(answer)) == (416, [("range_not_satisfiable", None)])
    assert answer.headers["content-range"] == f"bytes */{len(AUDIO)}"


def test_a_part_is_had_only_of_the_same_file(site: Site) -> None:
    path = path_of(site.keep(audio=AUDIO).recording_id)
    whole = site.get(path)
    for validator, status in [
        (whole.headers["etag"], 206),
        (whole.headers["last-modified"], 206),
        ('"other"', 200),
        ("Tue, 02 Jan 2001 03:04:05 GMT", 200),
    ]:
        answer = site.get(path, headers={"Range": "bytes=0-0", "If-Range": validator})
        assert answer.status_code == status


def test_what_the_client_has_is_not_sent_again(site: Site) -> None:
    path = path_of(site.keep(audio=AUDIO).recording_id)
    whole = site.get(path)
    for headers in (
        {"If-None-Match": whole.headers["etag"]},
        {"If-Modified-Since": whole.headers["last-modified"]},
        {"If-None-Match": "*", "Range": "bytes=0-1"},
    ):
        answer = site.get(path, headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == whole.headers["etag"]
        assert "content-length" not in answer.headers
    assert site.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_only_the_file_that_is_wanted_is_sent(site: Site, method: str) -> None:
    path = path_of(site.keep(audio=AUDIO).recording_id)
    whole = site.get(path)
    tag, date = whole.headers["etag"], whole.headers["last-modified"]
    for headers in (
        {"If-Match": '"other"'},
        {"If-Match": f"W/{tag}"},
        {"If-Match": '"other"', "If-None-Match": tag},
        {"If-Match": '"other"', "Range": "bytes=999999-"},
        {"If-Unmodified-Since": "Tue, 02 Jan 2001 03:04:05 GMT"},
    ):
        answer = site.ask(method, path, headers=headers)
        assert answer.status_code == 412
        if method == "GET":
            assert codes(answer) == [("file_changed", None)]
    for headers in ({"If-Match": tag}, {"If-Match": "*"}, {"If-Unmodified-Since": date}):
        assert site.ask(method, path, headers=headers).status_code == 200
    assert site.ask(method, path, headers={"If-Match": tag, "If-None-Match": tag}).status_code == 304
    assert site.ask(method, path_of(UNKNOWN), headers={"If-Match": '"other"'}).status_code == 404


def test_nothing_stays_open(site: Site) -> None:
    path = path_of(site.keep(audio=AUDIO).recording_id)
    for method, headers in [("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=999999-"}), ("GET", {"If-None-Match": "*"}), ("GET", {"If-Match": "x"})]:  # fmt: skip # noqa: E501
        site.ask(method, path, headers=headers)
    assert open_files(site.storage.recordings) == []


# ---- what there is not


@pytest.mark.parametrize(
    "other",
    [UNKNOWN, "..", "%2e%2e", "%2e%2e%2f", "..%2f..%2fetc%2fpasswd", "%00", "a%2fb", "x" * 3000, "\u00e9",
     "1", "%0d%0a", UNKNOWN.upper(), f"{{{UNKNOWN}}}", f"urn:uuid:{UNKNOWN}", f"{UNKNOWN}%0a"],
)  # fmt: skip
def test_no_such_recording(site: Site, other: str) -> None:
    site.keep()
    answer = site.get(path_of(quote(other, safe="%/")))
    assert answer.status_code == 404
    assert codes(answer) in ([("recording_not_found", "id")], [("unknown_path", None)])


@pytest.mark.parametrize("state", [State.RECORDING, State.PAUSED])
def test_one_that_is_not_complete(site: Site, state: State) -> None:
    answer = site.get(path_of(site.keep(state=state).recording_id))
    assert (answer.status_code, codes(answer)) == (404, [("recording_not_ready", "id")])


def test_one_without_audio(site: Site) -> None:
    answer = site.get(path_of(site.keep(state=State.NO_INPUT, audio=None).recording_id))
    assert (answer.status_code, codes(answer)) == (404, [("recording_without_audio", "id")])


def test_one_whose_file_has_vanished(site: Site) -> None:
    recording = site.keep()
    path = recording.audio(site.storage.document_path(recording))
    assert path is not None
    path.unlink()
    answer = site.get(path_of(recording.recording_id))
    assert (answer.status_code, codes(answer)) == (404, [("file_not_found", "id")])
    path.mkdir()
    assert site.get(path_of(recording.recording_id)).status_code == 404


def test_one_that_cannot_be_read_now(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    recording = site.keep()
    monkeypatch.setattr(site.storage.vault, "open", failing)
    answer = site.get(path_of(recording.recording_id))
    assert (answer.status_code, codes(answer)) == (503, [("storage_unavailable", "id")])


def test_a_catalog_that_cannot_be_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(recording_id: str) -> None:
        raise DatabaseError("database sqlite: disk I/O error")

    monkeypatch.setattr(site.ledger.catalog, "get", broken)
    answer = site.get(path_of(UNKNOWN))
    assert (answer.status_code, codes(answer)) == (503, [("database_unavailable", None)])
    assert "disk" not in answer.text


# ---- what lies encrypted

KEY, OTHER = (pyrage.x25519.Identity.generate() for _ in range(2))


def sealed(site: Site, recording: Recording) -> Path:
    """Has ``recording`` lie encrypted; gives its file."""
    path = site.storage.audio_path(recording)
    encrypted = path.with_name(f"{path.name}.age")
    encrypted.write_bytes(pyrage.encrypt(path.read_bytes(), [KEY.to_public()]))
    os.utime(encrypted, (path.stat().st_mtime,) * 2)
    path.unlink()
    site.ledger.tell(recording.model_copy(update={"file": encrypted.name}))
    site.storage.vault = Vault([str(KEY)])
    return encrypted


ASKED = [
    ("GET", {}),
    ("HEAD", {}),
    *[
        ("GET", {"Range": f"bytes={span}"})
        for span in ("0-0", "65535-65536", "65536-", "-5", "70000-199999", "0-999999")
    ],
    ("GET", {"Range": "bytes=256000-"}),
    ("GET", {"Range": "bytes=0-1,3-4"}),
    ("GET", {"If-None-Match": "*"}),
    ("GET", {"If-Match": '"other"'}),
    ("GET", {"Range": "bytes=9-99", "If-Range": '"other"'}),
]


def test_encrypted_it_is_given_as_if_it_were_not(site: Site) -> None:
    recording = site.keep(audio=AUDIO)
    path = path_of(recording.recording_id)
    tag = {"Range": "bytes=100000-", "If-Range": f'"{recording.sha256}"'}
    plain = [same(site.ask(method, path, headers=headers)) for method, headers in (*ASKED, ("GET", tag))]
    sealed(site, recording)
    assert [same(site.ask(method, path, headers=headers)) for method, headers in (*ASKED, ("GET", tag))] == plain
    assert open_files(site.storage.recordings) == []


def test_a_part_of_it_is_read_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = site.keep(audio=AUDIO * 20)
    sealed(site, recording)
    pread, read = os.pread, []

    def counted(descriptor: int, count: int, at: int) -> bytes:
        data = pread(descriptor, count, at)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    span = {"Range": "bytes=2500000-2500099"}
    assert site.get(path_of(recording.recording_id), headers=span).content == (AUDIO * 20)[2500000:2500100]
    assert sum(read) < 4 * 65536
    read.clear()
    assert site.get(path_of(recording.recording_id)).content == AUDIO * 20
    assert max(read) == 4 * (65536 + 16)


@pytest.mark.parametrize("keys", [[], [str(OTHER)]], ids=["none", "another"])
def test_without_its_key_it_is_not_to_be_had(site: Site, caplog: pytest.LogCaptureFixture, keys: list[str]) -> None:
    recording = site.keep(audio=AUDIO)
    encrypted = sealed(site, recording)
    site.storage.vault = Vault(keys)
    answer = site.get(path_of(recording.recording_id))
    assert (answer.status_code, codes(answer)) == (503, [("recording_locked", "id")])
    assert "etag" not in answer.headers
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert (str(encrypted) in told, "key" in told) == (True, True)
    assert site.ask("HEAD", path_of(recording.recording_id)).status_code == 503
    site.storage.vault = Vault([str(OTHER), str(KEY)])
    assert site.get(path_of(recording.recording_id)).content == AUDIO


@pytest.mark.parametrize("encrypted", [False, True])
def test_another_in_its_place_is_not_given(site: Site, caplog: pytest.LogCaptureFixture, encrypted: bool) -> None:
    recording = site.keep(audio=AUDIO)
    path = sealed(site, recording) if encrypted else site.storage.audio_path(recording)
    path.write_bytes(pyrage.encrypt(AUDIO[1:], [KEY.to_public()]) if encrypted else AUDIO[1:])
    for method in ("GET", "HEAD"):
        answer = site.ask(method, path_of(recording.recording_id))
        assert (answer.status_code, "etag" in answer.headers) == (500, False)
    assert codes(site.get(path_of(recording.recording_id))) == [("recording_damaged", "id")]
    assert f"{path}: it has {len(AUDIO) - 1} bytes of audio, not {len(AUDIO)}" in caplog.text
    assert open_files(site.storage.recordings) == []


@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_one_that_was_cut_off_is_not_begun(site: Site, caplog: pytest.LogCaptureFixture, size: int) -> None:
    recording = site.keep(audio=AUDIO)
    encrypted = sealed(site, recording)
    with encrypted.open("r+b") as file:
        file.truncate(size)
    answer = site.get(path_of(recording.recording_id), headers={"Range": "bytes=0-9"})
    assert (answer.status_code, codes(answer)) == (500, [("recording_damaged", "id")])
    assert str(encrypted) in caplog.text
    assert open_files(site.storage.recordings) == []


def test_where_it_was_changed_the_connection_ends(site: Site, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    recording = site.keep(audio=AUDIO * 4)
    encrypted = sealed(site, recording)
    data = bytearray(encrypted.read_bytes())
    data[-200_000] ^= 1
    encrypted.write_bytes(data)
    with Client(serve(site)) as client:
        client.send(f"GET {path_of(recording.recording_id)} HTTP/1.1")
        _, headers = client.head()
        rest = client.file.read()
    assert headers["content-length"] == str(len(AUDIO * 4))
    assert 0 < len(rest) < len(AUDIO * 4) - 200_000
    assert (AUDIO * 4).startswith(rest)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told.endswith(f"{encrypted.name} cannot be sent whole: from byte 786432 on it is not as it was written")
    assert open_files(site.storage.recordings) == []

"""The server: what goes over a real socket, and who is let go of."""

import json
import logging
import os
import tracemalloc

import gevent
import pytest
import requests
from gevent import monkey, socket
from http_fakes import CALL, LIMIT, PROJECT, TOKEN, Client, MakeSite, Serve, Site, open_files, url

from esl_record.http.server import HttpServer
from esl_record.recording.machine import PauseBehavior, State

SHORT = 0.2
"""Seconds of patience where a test is about its end."""

AUDIO = bytes(range(256)) * 4096

JSON = "Content-Type: application/json"


def download(number: int = 1) -> str:
    return f"/api/v1/recordings/{number:08x}-0000-4000-8000-000000000000/download"


# ---- answers


def test_a_file_whole_and_in_part(site: Site, serve: Serve) -> None:
    site.keep(audio=AUDIO)
    address = url(serve(site), download())
    with requests.Session() as session:
        session.auth = (PROJECT, TOKEN)
        assert session.get(address, timeout=LIMIT).content == AUDIO
        for span, part in [("0-9", AUDIO[:10]), ("1000000-", AUDIO[1000000:]), ("-7", AUDIO[-7:])]:
            answer = session.get(address, headers={"Range": f"bytes={span}"}, timeout=LIMIT)
            assert (answer.status_code, answer.content) == (206, part)
        assert session.head(address, timeout=LIMIT).headers["Content-Length"] == str(len(AUDIO))


def test_a_link_serves_as_it_is(site: Site, serve: Serve) -> None:
    server = serve(site)
    site.links.base_url = url(server, "")
    link = site.links.download(site.keep(audio=AUDIO).recording_id, "wav")
    assert requests.get(link, timeout=LIMIT).content == AUDIO
    assert requests.get(link[:-1] + "x", timeout=LIMIT).status_code == 403


@pytest.mark.parametrize(
    "other", ["..", "%2e%2e%2f", "..%2f..%2f..%2fcatalog.sqlite", "%00", "%252e", "\u00e9", "a%2fb"]
)
def test_a_path_leads_nowhere_else(site: Site, serve: Serve, other: str) -> None:
    known = site.keep().recording_id
    with Client(serve(site)) as client:
        path = f"/api/v1/recordings/{other}/download"
        client.send(f"GET {path} HTTP/1.1")
        assert client.answer()[0] == 404
        answers = []
        for one in (path, f"/api/v1/recordings/{known}/download"):
            client.sock.sendall(f"GET {one} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
            status, headers = client.head()
            del headers["date"]
            answers.append((status, headers, client.file.read(int(headers["content-length"]))))
        assert answers[0] == answers[1]
        assert answers[0][0] == 401


def test_one_connection_serves_many_requests(site: Site, serve: Serve) -> None:
    recording = site.keep(audio=AUDIO)
    item = f"/api/relay/rest/recordings/{recording.recording_id}"
    tag = f'If-None-Match: "{recording.sha256}"'
    with Client(serve(site)) as client:
        for request, header, status, length in [
            ("HEAD", "A: b", 200, 0),
            ("GET", tag, 304, 0),
            ("GET", "Range: bytes=0-9", 206, 10),
            ("GET", f"Range: bytes={len(AUDIO)}-", 416, None),
            ("POST", "Content-Length: 0", 405, None),
        ]:
            client.send(f"{request} {download()} HTTP/1.1", header)
            if request == "HEAD":
                got, headers = client.head()
                assert (got, headers["content-length"]) == (status, str(len(AUDIO)))
                continue
            got, content = client.answer()
            assert got == status
            assert length is None or len(content) == length
        client.send(f"DELETE {item} HTTP/1.1")
        assert client.head()[0] == 204
        client.send(f"GET {item} HTTP/1.1", "Connection: close")
        assert client.answer()[0] == 404
        assert client.closed()


def test_requests_may_be_sent_ahead(site: Site, serve: Serve) -> None:
    site.keep(audio=AUDIO)
    with Client(serve(site)) as client:
        for _ in range(3):
            client.send(f"GET {download()} HTTP/1.1", "Range: bytes=5-6")
        assert [client.answer() for _ in range(3)] == [(206, AUDIO[5:7])] * 3


def test_a_body_in_chunks(site: Site, serve: Serve) -> None:
    site.place()
    command = json.dumps({"command": "calling.record", "id": CALL}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (command[:7], command[7:])) + b"0\r\n\r\n"
    with Client(serve(site)) as client:
        for _ in range(2):
            client.send("POST /api/calling/calls HTTP/1.1", JSON, "Transfer-Encoding: chunked", body=chunks)
            assert client.answer()[0] == 200
        large = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        client.send("POST /api/calling/calls HTTP/1.1", JSON, "Transfer-Encoding: chunked", body=large * 3)
        assert client.answer()[0] == 413
        assert client.closed()


def test_a_body_nobody_wants_does_not_spoil_the_next_request(site: Site, serve: Serve) -> None:
    with Client(serve(site)) as client:
        client.send("POST /api/v1/calls HTTP/1.1", "Content-Length: 5", body=b"GET /")
        assert client.answer()[0] == 405
        client.send("GET /healthz HTTP/1.1")
        assert client.answer() == (200, b"[]")
        client.send("POST /api/calling/calls HTTP/1.1", JSON, "Content-Length: 10000000", body=b" " * 1000)
        assert client.answer()[0] == 413


def test_a_client_that_waits_to_go_on_with_too_much_is_let_go(site: Site, serve: Serve) -> None:
    with Client(serve(site)) as client:
        client.send("POST /api/calling/calls HTTP/1.1", JSON, "Content-Length: 10000000", "Expect: 100-continue")
        assert client.answer()[0] == 413
        assert client.closed()


def test_a_client_that_waits_to_go_on_is_told_to(site: Site, serve: Serve) -> None:
    site.place()
    command = json.dumps({"command": "calling.end", "id": CALL}).encode()
    with Client(serve(site)) as client:
        client.send("POST /api/calling/calls HTTP/1.1", JSON, f"Content-Length: {len(command)}", "Expect: 100-continue")
        assert client.head()[0] == 100
        client.sock.sendall(command)
        assert client.answer()[0] == 200


# ---- limits


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"GET /?signature=abc HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET /?signature=abc HTTP/1.1\r\nA: " + b"b" * 70000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /?signature=abc HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET /?signature=abc" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_quietly(
    site: Site, serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], text: bytes
) -> None:
    caplog.set_level(logging.DEBUG, "esl_record")
    with Client(serve(site)) as client:
        client.sock.sendall(text)
        assert client.head()[0] in (400, 414, 431)
        assert client.closed()
    assert capfd.readouterr() == ("", "")
    assert not any("signature" in message for message in caplog.messages)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /heal",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: ",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_a_client_that_says_nothing_more_is_let_go(
    site: Site, serve: Serve, capfd: pytest.CaptureFixture[str], said: bytes
) -> None:
    with Client(serve(site, patience=SHORT)) as client:
        client.sock.sendall(said)
        if said.endswith(b"\r\n\r\n"):
            assert client.answer()[0] == 200
        assert client.closed()
    assert capfd.readouterr() == ("", "")


def test_a_client_that_says_it_byte_by_byte_is_let_go(site: Site, serve: Serve) -> None:
    with Client(serve(site, patience=SHORT)) as client:

        def drip() -> None:
            client.sock.sendall(b"GET /healthz HTTP/1.1\r\nA: ")
            try:
                while True:
                    gevent.sleep(SHORT / 10)
                    client.sock.sendall(b"x")
            except OSError:
                pass  # let go

        dripping = gevent.spawn(drip)
        assert client.closed()
        dripping.kill()


def test_a_body_that_does_not_come(site: Site, serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    with Client(serve(site, patience=SHORT)) as client:
        client.send("POST /api/calling/calls HTTP/1.1", JSON, "Content-Length: 50", body=b"{")
        assert client.answer()[0] == 408
        assert client.closed()
    assert capfd.readouterr() == ("", "")


def sparse(site: Site, size: int) -> None:
    """A recording of that many bytes that takes no room on the disk."""
    recording = site.keep(audio=b"RIFF")
    path = recording.audio(site.storage.document_path(recording))
    assert path is not None
    with path.open("r+b") as file:
        file.truncate(size)
    site.ledger.tell(recording.model_copy(update={"size": size}))


def test_a_client_that_reads_nothing_is_let_go(
    site: Site, serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    sparse(site, 1 << 30)
    with Client(serve(site, patience=SHORT)) as client:
        client.send(f"GET {download()} HTTP/1.1")
        assert client.head()[0] == 200
        assert len(open_files(site.storage.recordings)) == 1
        with gevent.Timeout(LIMIT):
            while open_files(site.storage.recordings):
                gevent.sleep(SHORT / 10)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_client_that_goes_away_leaves_nothing_open(
    site: Site, serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    sparse(site, 1 << 30)
    server = serve(site)
    with Client(server) as client:
        client.send(f"GET {download()} HTTP/1.1")
        client.head()
    with gevent.Timeout(LIMIT):
        while open_files(site.storage.recordings):
            gevent.sleep(0.001)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_file_that_becomes_shorter_ends_the_connection(site: Site, serve: Serve) -> None:
    sparse(site, 1 << 26)
    recording = site.ledger.catalog.all()[0]
    path = recording.audio(site.storage.document_path(recording))
    assert path is not None
    with Client(serve(site)) as client:
        client.send(f"GET {download()} HTTP/1.1")
        _, headers = client.head()
        with path.open("r+b") as file:
            file.truncate(1000)
        rest = client.file.read()
        assert len(rest) < int(headers["content-length"])


def test_a_large_file_takes_no_memory(site: Site, serve: Serve) -> None:
    size, got, buffer = 100 << 20, 0, bytearray(1 << 16)
    sparse(site, size)
    tracemalloc.start()
    try:
        with Client(serve(site)) as client:
            client.send(f"GET {download()} HTTP/1.1")
            client.head()
            while got < size and (count := client.file.readinto(buffer)):
                got += count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got == size
    assert peak < 4 << 20


def test_a_slow_disk_holds_up_nobody_else(site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    site.keep(audio=AUDIO)
    pread, begun, read = os.pread, [], []
    # One that holds up a thread, not a greenlet.
    disk = monkey.get_original("_thread", "allocate_lock")()

    def slow(*arguments: int) -> bytes:
        begun.append(arguments)
        read.append(disk.acquire(timeout=LIMIT))
        disk.release()
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", slow)
    server = serve(site)
    with Client(server) as slowed, Client(server) as other:
        disk.acquire()
        slowed.send(f"GET {download()} HTTP/1.1")
        with gevent.Timeout(LIMIT):
            while not begun:
                gevent.sleep(0.001)
        other.send("GET /healthz HTTP/1.1")
        assert other.answer()[0] == 200
        assert read == []
        disk.release()
        assert slowed.answer() == (200, AUDIO)
    assert set(read) == {True}


def test_a_disk_that_fails_is_told_to_the_log(
    site: Site, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    recording = site.keep(audio=AUDIO)
    monkeypatch.setattr(os, "pread", broken)
    with Client(serve(site)) as client:
        client.send(f"GET {download()} HTTP/1.1")
        assert client.closed()
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told.endswith(f"{recording.file} cannot be sent whole: Input/output error")


def test_more_connections_than_there_may_be_wait(site: Site, serve: Serve) -> None:
    server = serve(site, connections=1)
    with Client(server) as first, Client(server) as second:
        first.send("GET /healthz HTTP/1.1")
        assert first.answer()[0] == 200
        second.send("GET /healthz HTTP/1.1")
        waiting = gevent.spawn(second.answer)
        gevent.idle()
        assert not waiting.ready()
        first.sock.shutdown(socket.SHUT_RDWR)
        assert waiting.get(timeout=LIMIT)[0] == 200


def test_what_nobody_expected_is_logged_whole(
    make_site: MakeSite, serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    site = make_site()

    def broken(environ: object, start_response: object) -> list[bytes]:
        raise RuntimeError("the cause")

    site.app = broken  # type: ignore[assignment]
    with Client(serve(site)) as client:
        client.send("GET /?signature=abc HTTP/1.1")
        assert client.head()[0] == 500
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the cause"
    assert capfd.readouterr() == ("", "")


# ---- where it listens


def test_an_address_in_use_is_an_error(site: Site, serve: Serve) -> None:
    taken = serve(site)
    with pytest.raises(OSError, match="in use"):
        HttpServer(taken.address, site.app, open_to_all=True).start()


def test_a_stopped_server_listens_no_more(site: Site, serve: Serve) -> None:
    server = serve(site)
    address = server.address
    with Client(server) as idle:
        server.stop()
        assert idle.closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    again = HttpServer(address, site.app, open_to_all=True)
    again.start()
    assert again.address == address
    again.stop()


@pytest.mark.parametrize(
    ("host", "place"), [("0.0.0.0", "127.0.0.1"), ("192.0.2.1", "127.0.0.1"), ("example.com", "127.0.0.1")]
)
def test_what_is_open_to_all_is_so_on_loopback_alone(
    make_site: MakeSite, serve: Serve, caplog: pytest.LogCaptureFixture, host: str, place: str
) -> None:
    server = serve(make_site(guarded=False), host)
    assert server.address[0] == place
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert host in told.getMessage()
    assert requests.get(url(server, "/api/v1/calls"), timeout=LIMIT).status_code == 200
    answer = requests.get(url(server, "/api/v1/calls"), headers={"Host": "evil.example.com"}, timeout=LIMIT)
    assert answer.status_code == 403


def test_on_ipv6_too(make_site: MakeSite) -> None:
    assert HttpServer(("::", 80), make_site().app, open_to_all=False).address == ("::1", 80)
    assert HttpServer(("::", 80), make_site().app, open_to_all=True).address == ("::", 80)


def test_loopback_is_told_of_quietly(make_site: MakeSite, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    serve(make_site(guarded=False))
    (told,) = [record for record in caplog.records if record.name == "esl_record.http.server"]
    assert (told.levelno, "open on 127.0.0.1" in told.getMessage()) == (logging.INFO, True)


def test_with_credentials_it_listens_where_it_is_told_to(site: Site, serve: Serve) -> None:
    assert serve(site, "0.0.0.0").address[0] == "0.0.0.0"


# ---- SignalWire's own client


@pytest.mark.filterwarnings("ignore::DeprecationWarning:signalwire")  # its own imports
def test_signalwires_client_controls_a_call(site: Site, serve: Serve) -> None:
    from signalwire.rest import RestClient

    site.place()
    host, port = serve(site).address
    client = RestClient(project=PROJECT, token=TOKEN, host=f"{host}:{port}")
    told = client.calling.record(CALL, audio={"direction": "both", "end_silence_timeout": 0}, status_url="http://x.y/")
    name = told["control_id"]
    recorder = site.recorders[name]
    assert recorder.params.direction == "both"
    client.calling.record_pause(CALL, control_id=name, extras={"behavior": "silence"})
    client.calling.record_resume(CALL, control_id=name)
    client.calling.record_stop(CALL, control_id=name)
    assert recorder.orders == [("pause", PauseBehavior.SILENCE), "resume", "stop"]
    assert client.calling.end(CALL, reason="busy")["status"] == "ended"
    assert site.session.hangup_cause == "USER_BUSY"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:signalwire")
def test_signalwires_client_lists_and_deletes(site: Site, serve: Serve) -> None:
    from signalwire.rest import RestClient
    from signalwire.rest._base import SignalWireRestError
    from signalwire.rest._pagination import PaginatedIterator

    kept = [site.keep(number, start=1704164645.0 + number).recording_id for number in range(5)]
    live = site.keep(9, state=State.RECORDING, start=1.0).recording_id
    host, port = serve(site).address
    client = RestClient(project=PROJECT, token=TOKEN, host=f"{host}:{port}")
    assert [one["id"] for one in client.recordings.list(page_size=3)["data"]] == kept[:1:-1]
    pages = PaginatedIterator(client._http, "/api/relay/rest/recordings", params={"page_size": 2})
    assert [one["id"] for one in pages] == [*kept[::-1], live]
    assert client.recordings.get(kept[0])["status"] == "completed"
    assert client.recordings.delete(kept[0]) == {}
    for recording_id, status in ((kept[0], 404), (live, 409)):
        with pytest.raises(SignalWireRestError) as refused:
            client.recordings.delete(recording_id)
        assert refused.value.status_code == status
    stranger = RestClient(project=PROJECT, token="wrong", host=f"{host}:{port}")
    with pytest.raises(SignalWireRestError) as refused:
        stranger.recordings.list()
    assert refused.value.status_code == 401

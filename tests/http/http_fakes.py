"""An HTTP side to ask: its catalog and storage are real, its calls are not."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import falcon
import gevent
from falcon import testing
from gevent import socket
from gevent.event import Event as Flag

from esl_record.database import Database
from esl_record.esl.channel import ReachedCall
from esl_record.esl.session import Session
from esl_record.http.app import Parts, build
from esl_record.http.links import Links
from esl_record.http.server import HttpServer
from esl_record.live import LiveCall, LiveCalls
from esl_record.recording.machine import EndReason, PauseBehavior, State
from esl_record.recording.params import Format, RecordParams
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage
from esl_record.status.event import Identity
from esl_record.status.ledger import Ledger

START = 1704164645.25  # 2024-01-02 03:04:05.25 UTC
CALL = "3f5bd4a0-7c8e-4b57-9a53-2f2c1e7a0001"
PROJECT, TOKEN = "0f2d1c3b-project", "PT-s3cret:token"
KEY = b"k" * 32
UNKNOWN = "ffffffff-0000-4000-8000-000000000000"

LIMIT = 10.0
"""Seconds a test waits for what must come."""


class FakeSession:
    """A call's session that keeps what it was told. ``failure`` is what a hang-up raises."""

    def __init__(self, uuid: str = CALL) -> None:
        self.uuid = uuid
        self.label = f"call {uuid}"
        self.data: Mapping[str, str] = {"Call-Direction": "inbound"}
        self.answered = True
        self.hangup_cause: str | None = None
        self.failure: Exception | None = None
        self.deaf = False
        """Whether a hang-up comes to nothing."""

    @property
    def live(self) -> bool:
        return self.hangup_cause is None

    def hold(self, held: bool) -> None:
        pass

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        if self.failure is not None:
            raise self.failure
        if not self.deaf:
            self.hangup_cause = cause


class FakeRecorder:
    """A recorder that runs until it is stopped and does at once what it is told; not while it is ``deaf``."""

    def __init__(self, recording_id: str, party: Party, params: RecordParams) -> None:
        self.params = params
        self.recording = Recording.begun(recording_id, party, params, START)
        self.position = 1.5
        self.orders: list[object] = []
        self.deaf = False
        self.ended = Flag()

    def await_answer(self) -> bool:
        return True

    def record(self) -> Recording:
        self.ended.wait()
        return self.recording

    def become(self, state: State) -> None:
        self.recording = self.recording.model_copy(update={"state": state})

    def pause(self, behavior: PauseBehavior) -> Flag:
        return self._ordered(("pause", behavior), State.PAUSED)

    def resume(self) -> Flag:
        return self._ordered("resume", State.RECORDING)

    def stop(self) -> Flag:
        return self._ordered("stop", State.FINISHED)

    def _ordered(self, order: object, state: State) -> Flag:
        self.orders.append(order)
        done = Flag()
        if self.deaf:
            return done
        if not self.recording.state.final:
            self.become(state)
        done.set()
        return done


class Site:
    """An application with everything behind it. Unless told otherwise it wants credentials and is asked with them."""

    def __init__(self, folder: Path, *, guarded: bool = True, timeout: float = 5.0, **parts: Any) -> None:
        self.now = START + 1000.0
        self.database = Database.in_file(folder / "catalog.sqlite")
        self.storage = Storage(folder / "data")
        self.storage.prepare()
        self.links = Links("http://127.0.0.1:8088", KEY, 3600.0, clock=lambda: self.now)
        self.ledger = Ledger(self.database, self.storage, Identity(), self.links.download, clock=lambda: self.now)
        self.ledger.open()
        self.calls = LiveCalls()
        self.recorders: dict[str, FakeRecorder] = {}
        """By control id."""
        self.session = FakeSession()
        self.wrong: list[str] = []
        self.lacking: list[str] = []
        self.parts = Parts(
            **{
                "ledger": self.ledger,
                "storage": self.storage,
                "calls": self.calls,
                "links": self.links,
                "project_id": PROJECT if guarded else "",
                "token": TOKEN if guarded else "",
                "public_host": "pbx.example.com",
                "command_timeout": timeout,
                "ready": lambda: self.wrong,
                "lacking": lambda: self.lacking,
                "metrics": lambda: (b"esl_record_calls 1\n", "text/plain; version=0.0.4; charset=utf-8"),
                **parts,
            }
        )
        self.app = build(self.parts)
        self.client = testing.TestClient(self.app)
        self.guarded = guarded

    def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **named: Any) -> testing.Result:
        """Asks with credentials where they are wanted; a header of None is left out."""
        given = {"Host": "127.0.0.1:8088", **(basic() if self.guarded else {}), **(headers or {})}
        return self.client.simulate_request(
            method, path, headers={name: value for name, value in given.items() if value is not None}, **named
        )

    def get(self, path: str, **named: Any) -> testing.Result:
        return self.ask("GET", path, **named)

    def tell(self, command: str, params: object = None, call: str = CALL) -> testing.Result:
        sent = {"command": command, "id": call} | ({} if params is None else {"params": params})
        return self.ask("POST", "/api/calling/calls", json=sent)

    def keep(
        self,
        number: int = 1,
        audio: bytes | None = b"RIFF" + bytes(range(256)) * 40,
        state: State = State.FINISHED,
        start: float = START,
        **more: Any,
    ) -> Recording:
        """A recording in catalog and storage; without ``audio`` it has no file."""
        params = RecordParams(control_id=f"control-{number}")
        begun = Recording.begun(f"{number:08x}-0000-4000-8000-000000000000", Party(call_id=CALL), params, start)
        changes: dict[str, Any] = {"state": state, **more}
        if state.final:
            changes |= {"end_reason": EndReason.STOP, "end_time": start + 2.4, "duration": 2.4}
        if audio is not None and state.final:
            form = changes.get("format", Format.WAV)
            path = self.storage.document_path(begun).with_suffix(f".{form}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(audio)
            changes |= {"file": path.name, "size": len(audio), "sha256": hashlib.sha256(audio).hexdigest()}
        recording = begun.model_copy(update=changes)
        if state.final:
            self.storage.file(recording)
        self.ledger.tell(recording)
        return recording

    def place(self, **party: str) -> LiveCall:
        """A live call."""
        told = {"caller_number": "15550100", "caller_name": "Ann", "destination": "7001", **party}
        call = LiveCall(
            cast(Session, self.session), Party(call_id=self.session.uuid, **told), self._recorder, lambda ended: None
        )
        self.calls.add(call)
        return call

    def _recorder(
        self, session: ReachedCall, party: Party, params: RecordParams, left: Recording | None, *, foreground: bool
    ) -> Recorder:
        recorder = FakeRecorder(self.storage.new_id(), party, params)
        self.recorders[params.control_id] = recorder
        return cast(Recorder, recorder)

    def close(self) -> None:
        for recorder in self.recorders.values():
            recorder.ended.set()
        for call in self.calls:
            call.end(5.0)
        self.database.close()


MakeSite = Callable[..., Site]


@contextmanager
def sites(folder: Path) -> Iterator[MakeSite]:
    """Makes sites; all are closed at the end."""
    made: list[Site] = []

    def make(**named: Any) -> Site:
        place = folder / str(len(made))
        place.mkdir()
        made.append(Site(place, **named))
        return made[-1]

    yield make
    for site in made:
        site.close()


def basic(user: str = PROJECT, password: str = TOKEN) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def codes(answer: testing.Result) -> list[tuple[str, str | None]]:
    """The errors of an answer as code and attribute."""
    assert answer.headers["content-type"] == falcon.MEDIA_JSON
    for error in answer.json["errors"]:
        assert set(error) == {"type", "code", "message", "attribute", "url"}
    return [(error["code"], error["attribute"]) for error in answer.json["errors"]]


def open_files(folder: Path) -> list[str]:
    """Which files below ``folder`` this process has open."""
    gevent.idle()  # gevent closes with the next turn of its loop
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:
            pass  # the descriptor of the listing itself
    return sorted(name for name in names if name.startswith(str(folder)))


def target(link: str) -> tuple[str, str]:
    """Path and query of a link to this site."""
    path, _, query = link.removeprefix("http://127.0.0.1:8088").partition("?")
    return path, query


Serve = Callable[..., HttpServer]


class Client:
    """A connection that speaks as it is told."""

    def __init__(self, server: HttpServer, source: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection(server.address, timeout=LIMIT, source_address=(source, 0))
        self.file = self.sock.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def send(self, *lines: str, body: bytes = b"") -> None:
        authorization = f"Authorization: {basic()['Authorization']}"
        head = [lines[0], "Host: localhost", authorization, *lines[1:], "", ""]
        self.sock.sendall("\r\n".join(head).encode("latin-1") + body)

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self.file.readline().split()[1])
        headers = {}
        while (line := self.file.readline().decode().strip()) != "":
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers

    def answer(self) -> tuple[int, bytes]:
        status, headers = self.head()
        return status, self.file.read(int(headers.get("content-length", 0)))

    def closed(self) -> bool:
        """Waits for the server to close; False if it says something instead."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True


def url(server: HttpServer, path: str) -> str:
    return f"http://{server.address[0]}:{server.address[1]}{path}"

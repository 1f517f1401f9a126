"""A service as small as one can be: a raw socket that sends commands and keeps what it is told."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from gevent import socket

from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

# A date in microseconds that begins a second: limits and linger times count whole seconds of the clock.
NOON = 1_800_000_000_000_000

REPLIES = ("command/reply", "api/response")


class Said(NamedTuple):
    """One frame the switch sent: an event's name or a frame's content type, its headers in order, its body."""

    kind: str
    headers: list[tuple[str, str]]
    body: str

    def __getitem__(self, name: str) -> str:  # type: ignore[override]
        return unquote(dict(self.headers)[name])

    @property
    def reply(self) -> str:
        """What a command was answered."""
        return self.body if self.kind == "api/response" else self["Reply-Text"]


def split(text: bytes) -> list[tuple[str, str]]:
    pairs = [line.partition(": ") for line in text.decode().split("\n")]
    return [(name, value) for name, _, value in pairs]


def frames(data: bytes) -> list[Said]:
    """The frames in ``data``; blank lines between them do not count, since the logs have one more here and there."""
    found = []
    while data := data.lstrip(b"\n"):
        text, _, data = data.partition(b"\n\n")
        headers = split(text)
        length = int(dict(headers).get("Content-Length", "0"))
        body, data = data[:length], data[length:]
        content = dict(headers)["Content-Type"]
        if content == "text/event-plain":
            headers = split(body.rstrip(b"\n"))
            found.append(Said(dict(headers)["Event-Name"], headers, ""))
        else:
            found.append(Said(content, headers, body.decode()))
    return found


class Client:
    """Listens where a dialplan's ``socket`` application connects to."""

    def __init__(self) -> None:
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen(200)
        self.address: tuple[str, int] = self._listening.getsockname()
        self.socket: socket.socket | None = None
        self.received = b""
        self.ended = False

    def accept(self, timeout: float = 5.0) -> None:
        self._listening.settimeout(timeout)
        self.socket, _ = self._listening.accept()
        self.received, self.ended = b"", False

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self._listening.close()

    def hear(self, timeout: float = 0.003) -> None:
        """Take in all that comes before ``timeout`` seconds of silence, and what follows on its heels."""
        assert self.socket is not None
        try:
            while not self.ended:
                self.socket.settimeout(timeout)
                data = self.socket.recv(1 << 20)
                self.ended = not data
                self.received += data
                timeout = 0.003
        except TimeoutError:
            # Silence: everything that was said has come.
            pass

    def send(self, command: str) -> None:
        assert self.socket is not None
        self.socket.sendall(command.encode() + b"\n\n")

    def command(self, command: str) -> str:
        """Send a command; its answer."""
        before = len(self.received)
        self.send(command)
        self.hear(2.0)
        return next(said.reply for said in frames(self.received[before:]) if said.kind in REPLIES)

    def execute(self, application: str, argument: str = "", **headers: str) -> str:
        lines = ["sendmsg", "call-command: execute", f"execute-app-name: {application}"]
        if argument:
            lines.append(f"execute-app-arg: {argument}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return self.command("\n".join(lines))

    @property
    def told(self) -> list[Said]:
        return frames(self.received)

    @property
    def events(self) -> list[Said]:
        return [said for said in self.told if said.kind.isupper()]

    def named(self, name: str) -> list[Said]:
        return [said for said in self.told if said.kind == name]

    @property
    def kinds(self) -> list[str]:
        return [
            re.sub("CHANNEL_", "", said.kind) for said in self.told if "/" not in said.kind or "notice" in said.kind
        ]


class Console(Client):
    """A client of the event socket."""

    def __init__(self, address: tuple[str, int], *, password: str | None = "ClueCon") -> None:
        self.socket = socket.create_connection(address)
        self.received = b""
        self.ended = False
        self.hear(0.1)
        if password is not None:
            assert self.command(f"auth {password}") == "+OK accepted"

    def close(self) -> None:
        self.socket.close()

    def say(self, data: bytes) -> bytes:
        """Send bytes as they are; what comes of it."""
        before = len(self.received)
        self.socket.sendall(data)
        self.hear(0.05)
        return self.received[before:]

    def api(self, command: str) -> str:
        return self.command(f"api {command}")


class Bench:
    """A switch whose time stands still but for ``advance``, and one call with its client."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.client = Client()
        self.call: Call

    def place(
        self,
        caller: Caller,
        *,
        path: str = "voicemail",
        answer: bool = True,
        linger: bool = True,
        before: Sequence[tuple[str, str]] = (),
        behind: Sequence[tuple[str, str]] = (),
    ) -> Call:
        """Place a call, connect to it, and ask for its events."""
        self.call = self.switch.call(self.client.address, path, caller, before=before, behind=behind)
        self.switch.advance(0.02)
        self.client.accept()
        self.advance(0.04)
        self.client.command("connect")
        self.client.command("myevents")
        if linger:
            self.client.command("linger 5")
        if answer:
            self.client.execute("answer")
            self.advance(0.02)
        return self.call

    def advance(self, seconds: float) -> None:
        """Let call time pass, then take in what the switch has said."""
        self.switch.advance(seconds)
        self.client.hear()

    def record(self, path: object, *options: str, limit: int = 0) -> str:
        unbuffered = ["enable_file_write_buffering=false", "RECORD_PRE_BUFFER_FRAMES=1"]
        return self.api(f"uuid_record {self.call.uuid} start {path} {limit} {{{','.join([*unbuffered, *options])}}}")

    def api(self, command: str) -> str:
        return self.client.command(f"api {command}")

    def close(self) -> None:
        self.client.close()
        self.switch.close()

"""SIP phones as a test holds them: each is `sip_phone.py` in a process of its own."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import gevent
import gevent.socket
from gevent.event import Event as Flag
from running import PATIENCE

PROGRAM = Path(__file__).with_name("sip_phone.py")


class PhoneError(Exception):
    """The phone could not do what it was told."""


class SipPhone:
    """A phone that is registered nowhere: it is called as `sip:ANY@127.0.0.1:PORT`. See `sip_phone.py` for options."""

    def __init__(self, name: str = "phone", **options: object) -> None:
        self.name = name
        self.port = _free_udp_port()
        self.options = {"user": name, "sip": self.port, "rtp": _free_udp_port(), **options}
        self.events: list[dict[str, Any]] = []
        self._changed = Flag()
        self._number = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, PROGRAM, json.dumps(self.options)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reader = gevent.spawn(self._read)
        self.wait("ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(PATIENCE)

    @property
    def uri(self) -> str:
        return f"sip:{self.name}@127.0.0.1:{self.port}"

    def do(self, verb: str, **arguments: object) -> None:
        """Begin one command of `sip_phone.py`. Wait for the event that it brings to know it done."""
        self._number += 1
        number = self._number
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": verb, **arguments}).encode() + b"\n")
        self._process.stdin.flush()
        reply = self.wait("reply", id=number)
        if reply["error"]:
            raise PhoneError(f"{self.name}: {verb}: {reply['error']}")

    def mark(self) -> int:
        """The place in the events from which `wait` looks with `after`."""
        return len(self.events)

    def wait(self, event: str, after: int = 0, timeout: float = PATIENCE, **fields: object) -> dict[str, Any]:
        """The first such event, which may have come already. Every field given must be equal."""
        with gevent.Timeout(timeout, AssertionError(f"{self.name}: no {event} {fields} in {self.events[after:]}")):
            while True:
                self._changed.clear()
                for one in self.events[after:]:
                    if one["event"] == event and fields.items() <= one.items():
                        return one
                if self._reader_dead():
                    raise PhoneError(f"{self.name}: the phone has died: {self.events[-5:]}")
                self._changed.wait()

    # ---- what takes a command and its event

    def call(self, to: str, call: str = "call", **arguments: object) -> None:
        self.do("call", call=call, to=to, **arguments)

    def answered(self, call: str = "call", timeout: float = PATIENCE) -> None:
        self.wait("state", call=call, state="CONFIRMED", timeout=timeout)

    def gone(self, call: str = "call", timeout: float = PATIENCE) -> dict[str, Any]:
        return self.wait("state", call=call, state="DISCONNECTED", timeout=timeout)

    def reinvite(self, verb: str, call: str = "call", **arguments: object) -> dict[str, Any]:
        """A command that sends a re-INVITE, up to its answer."""
        after = self.mark()
        self.do(verb, call=call, **arguments)
        return self.wait("media", after=after, call=call)

    def hang_up(self, call: str = "call") -> None:
        self.do("hangup", call=call)
        self.gone(call)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The process stands still: nothing is sent, and nothing answered."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _reader_dead(self) -> bool:
        return bool(self._reader.ready())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # pjsua prints some lines of its own.
            if line.startswith(b'{"event"'):
                self.events.append(json.loads(line))
                self._changed.set()
        self._changed.set()


def _free_udp_port() -> int:
    # RTP takes an even port and RTCP the next.
    while True:
        with gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = int(sock.getsockname()[1])
        if port % 2 == 0:
            return port

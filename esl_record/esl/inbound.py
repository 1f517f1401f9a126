"""The switch's own event socket: what ``dial`` and ``doctor`` ask it."""

from uuid import uuid4 as new_uuid

import gevent
from gevent import socket
from greenswitch.esl import InboundESL

from esl_record.errors import CallGone, CommandRefused, CommandTimeout, EslRecordError, WireError
from esl_record.esl import wire
from esl_record.esl.connection import Connection


class SwitchUnreachable(EslRecordError):
    """The switch's event socket cannot be used; the text says why and what to look at."""


class Inbound(Connection, InboundESL):  # type: ignore[misc]  # greenswitch has no types
    """A logged-in connection to the switch's event socket. Use as a context manager."""

    def __init__(self, address: tuple[str, int], password: str, *, timeout: float = 5.0) -> None:
        self.address = address
        self._subscribed: set[str] = set()
        self._has_call = False
        """Whether it listens to a call, whose events have many names."""
        host, port = address
        try:
            sock = socket.create_connection(address, timeout)
        except OSError as error:
            raise SwitchUnreachable(
                f"no event socket at {host}:{port} ({error}): is FreeSWITCH running, is mod_event_socket loaded, "
                "does event_socket.conf.xml listen there?"
            ) from error
        sock.settimeout(None)
        super().__init__(sock, timeout=timeout)
        try:
            self.authenticate(password)
        except EslRecordError:
            self.abort()
            raise

    @property
    def label(self) -> str:
        return f"event socket {self.address[0]}:{self.address[1]}"

    def authenticate(self, password: str) -> None:
        with gevent.Timeout(self.timeout, False):
            gevent.wait([self._auth_request_event, self.closed], count=1)
        if not self._auth_request_event.is_set():
            raise SwitchUnreachable(f"{self.label}: {self.fault or 'no login offered'}")
        try:
            reply = self._request(wire.command(f"auth {password}"), "auth").reply
        except WireError:
            raise WireError("event_socket_password: must be one line without NUL") from None
        except (CallGone, CommandTimeout) as error:
            raise SwitchUnreachable(str(error)) from error
        if not reply.startswith("+OK"):
            raise SwitchUnreachable(f"{self.label}: wrong password: set event_socket_password")

    def send(self, data: str) -> wire.Frame:
        words = data.split()
        if words[:1] == ["event"]:
            self._subscribed.update(words[2:])
        self._has_call = self._has_call or words[:1] == ["myevents"]
        return super().send(data)

    def admit_event(self, event: wire.Event, raw: bytes) -> None:
        # How many there are is for the switch to say: those of all its calls come here.
        if not self._has_call and event.name not in self._subscribed:
            self._count_unasked(event.name[:40])

    def background(self, line: str) -> str:
        """Starts an API command that takes long and gives its job's UUID."""
        reply = self.send(f"bgapi {line}")
        if not reply.reply.startswith("+OK"):
            raise CommandRefused(reply.reply)
        return reply.headers.get("Job-UUID", "")

    def execute(self, uuid: str, application: str, argument: str = "") -> None:
        """Runs a dialplan application on the call ``uuid``; does not wait for its end."""
        reply = self._request(wire.execute(application, argument, str(new_uuid()), uuid), application).reply
        if not reply.startswith("+OK"):
            raise CommandRefused(f"{application}: {reply}")

    def __enter__(self) -> "Inbound":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

"""The far end of a socket pair, playing the switch byte by byte."""

import gevent
from gevent import socket

LIMIT = 5.0
"""Seconds a test waits for what must come; only a failing test waits that long."""


class Peer:
    """Reads commands (blocks up to a blank line) and sends whatever the test wants."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def command(self) -> str:
        """The next command, without its blank line; EOFError at the end of the stream."""
        with gevent.Timeout(LIMIT):
            while b"\n\n" not in self._buffer:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError
                self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\n\n")
        return head.decode()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, text: str = "+OK") -> None:
        self.send(f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode())

    def api(self, text: str) -> None:
        body = text.encode()
        self.send(b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body))

    def event(self, name: str, **headers: str) -> None:
        self.send(event(name, **headers))

    def close(self) -> None:
        self.sock.close()


def event(name: str, **headers: str) -> bytes:
    """A ``text/event-plain`` frame; an underscore in a keyword stands for a hyphen."""
    lines = [f"Event-Name: {name}", *(f"{key.replace('_', '-')}: {value}" for key, value in headers.items())]
    body = ("\n".join(lines) + "\n\n").encode()
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(body), body)


def completion(application: str, event_uuid: str) -> bytes:
    """The switch's word that an application has completed; the application's name as greenswitch looks for it."""
    body = (
        f"Event-Name: CHANNEL_EXECUTE_COMPLETE\nvariable_current_application: {application}\n"
        f"Application: {application}\nApplication-UUID: {event_uuid}\n\n"
    ).encode()
    return b"Content-Length: %d\nContent-Type: text/event-plain\n\n%b" % (len(body), body)


def event_uuid(command: str) -> str:
    """The Event-UUID a ``sendmsg`` asked for, or one of the switch's own where it asked for none."""
    for line in command.splitlines():
        if line.startswith("Event-UUID: "):
            return line.removeprefix("Event-UUID: ")
    return "11111111-2222-3333-4444-555555555555"

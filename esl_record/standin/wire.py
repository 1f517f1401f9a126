"""A TCP connection to who controls the switch: commands in, bytes out, and a log of both."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import gevent
from gevent import socket
from gevent.event import Event as Flag

from esl_record.standin.variables import integer

OnCommand = Callable[[str, dict[str, str], str], None]

_BLANK_LINE = re.compile(rb"\n\r*\n")
_LARGEST_COMMAND = 10 * 1024 * 1024


class Connection:
    """Reads commands and writes in a greenlet of its own, so that nobody who sends waits for the far end.

    ``log`` gets every command (``>>``) and everything sent (``<<``). ``truncate_after`` ends what is sent after so many
    bytes.
    """

    def __init__(self, sock: socket.socket, log: list[tuple[str, bytes]], *, truncate_after: int | None = None) -> None:
        self._socket = sock
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._log = log
        self._room = truncate_after
        self._pending: list[bytes] = []
        self._held: list[bytes] | None = None
        self._wake = Flag()
        self._close_wanted = False
        self._closing = False
        self._greenlets: list[gevent.Greenlet] = []

    @classmethod
    def to(
        cls, address: tuple[str, int], log: list[tuple[str, bytes]], *, truncate_after: int | None = None
    ) -> Connection:
        """Connect; OSError if nobody listens there."""
        return cls(socket.create_connection(address, timeout=5), log, truncate_after=truncate_after)

    def start(self, on_command: OnCommand, on_end: Callable[[], None]) -> None:
        """Begin to read; ``on_end`` is called when the far end closes or resets the connection."""
        self._greenlets = [gevent.spawn(self._read, on_command, on_end), gevent.spawn(self._write)]

    def send(self, data: bytes) -> None:
        """Send, or wait for the reply to the command that is being carried out and send then."""
        if self._held is not None:
            self._held.append(data)
        else:
            self._out(data)

    def reply(self, data: bytes | str) -> None:
        """Send at once, ahead of what a command being carried out has caused."""
        self._out(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))

    def hold(self) -> None:
        """A command is being carried out: its reply goes first."""
        self._held = []

    def release(self) -> None:
        """It has been carried out, and answered: send what it caused."""
        held, self._held = self._held or [], None
        for data in held:
            self._out(data)
        if self._close_wanted:
            self.close()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the connection has been closed and everything sent; give up after ``seconds``."""
        gevent.joinall(self._greenlets, timeout=seconds)
        self._stop()
        self._socket.close()

    def close(self) -> None:
        """Close once everything has been sent."""
        if self._held is not None:
            self._close_wanted = True
            return
        self._closing = True
        self._wake.set()

    def reset(self) -> None:
        """Close at once, with a TCP reset."""
        self._closing = True
        self._pending.clear()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            # The far end was quicker; there is nothing left to reset.
            pass
        self._stop()
        self._socket.close()

    def _stop(self) -> None:
        for greenlet in self._greenlets:
            if greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)

    def _out(self, data: bytes) -> None:
        if self._closing:
            return
        if self._room is not None:
            data = data[: self._room]
            self._room -= len(data)
        self._log.append(("<<", data))
        self._pending.append(data)
        if self._room == 0:
            self._closing = True
        self._wake.set()

    def _write(self) -> None:
        try:
            while self._pending or not self._closing:
                self._wake.wait()
                self._wake.clear()
                data = b"".join(self._pending)
                self._pending.clear()
                if data:
                    self._socket.sendall(data)
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The far end is gone; the reader sees that too and tells.
            pass
        self._socket.close()

    def _read(self, on_command: OnCommand, on_end: Callable[[], None]) -> None:
        buffer = b""
        try:
            while len(buffer) < _LARGEST_COMMAND:
                data = self._socket.recv(65536)
                if not data:
                    break
                buffer = self._commands(buffer + data, on_command)
        except OSError:
            # A reset is the end as well.
            pass
        on_end()

    def _commands(self, buffer: bytes, on_command: OnCommand) -> bytes:
        """Carry out all whole commands; what is left over."""
        while True:
            buffer = buffer.lstrip(b"\r\n")
            end = _BLANK_LINE.search(buffer)
            if end is None:
                return buffer
            # The switch's strings end at a NUL.
            text = buffer[: end.start()].partition(b"\0")[0].decode("utf-8", "surrogateescape")
            command, *lines = [line.strip("\r") for line in text.split("\n")]
            headers: dict[str, str] = {}
            for line in lines:
                name, colon, value = line.partition(":")
                if colon:
                    headers.setdefault(name.lower(), value.lstrip(" "))
            whole = end.end() + max(integer(headers.get("content-length", "")), 0)
            if len(buffer) < whole:
                return buffer
            self._log.append((">>", buffer[:whole]))
            body = buffer[end.end() : whole].decode("utf-8", "surrogateescape")
            buffer = buffer[whole:]
            on_command(command, headers, body)

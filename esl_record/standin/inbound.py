"""The event socket that others connect to: they log in, and then ask of any call, or of the switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gevent import socket
from gevent.server import StreamServer

from esl_record.standin.core import Core
from esl_record.standin.listener import Listener
from esl_record.standin.wire import Connection

if TYPE_CHECKING:
    from esl_record.standin.api import Api

# How long a switch that closes waits for those it is connected with to read what it still says.
_LAST_WORDS_SECONDS = 0.5


class Inbound(Listener):
    """Serves a client that has given the password, and refuses everything before."""

    def __init__(self, core: Core, connection: Connection, api: Api, password: str) -> None:
        self._password = password
        self._authorized = False
        connection.reply("Content-Type: auth/request\n\n")
        super().__init__(core, connection, api)

    def _dispatch(self, command: str, headers: dict[str, str], body: str, *, first: bool) -> None:
        word = command.lower()
        if self._authorized or not command or word.startswith(("exit", "...")):
            super()._dispatch(command, headers, body, first=first)
        elif word.startswith("auth ") and command[5:] == self._password:
            self._authorized = True
            self._reply("+OK accepted")
        elif word.startswith(("auth ", "userauth ")):
            self._reply("-ERR invalid")
            self.disconnect()
        else:
            self._reply("-ERR command not found")


class EventSocket:
    """Listens on ``address`` until it is closed; any number of clients may be connected at once."""

    def __init__(self, core: Core, api: Api, address: tuple[str, int], password: str) -> None:
        self._core = core
        self._api = api
        self._password = password
        self._clients: list[Inbound] = []
        self._server = StreamServer(address, self._serve)
        self._server.start()
        self.address: tuple[str, int] = self._server.address[:2]

    def tick(self) -> None:
        """A frame's time has passed."""
        for client in self._clients:
            client.tick()

    def close(self) -> None:
        """Say goodbye to everybody and stop listening."""
        for client in self._clients:
            client.disconnect()
        self._server.stop(_LAST_WORDS_SECONDS)

    def _serve(self, sock: socket.socket, _: object) -> None:
        client = Inbound(self._core, Connection(sock, []), self._api, self._password)
        self._clients.append(client)
        try:
            client.join()
        finally:
            self._clients.remove(client)

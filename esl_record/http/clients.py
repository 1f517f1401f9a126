"""The connections to the HTTP side by their peers, so that those that only wait give way to new ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from esl_record.http.access import is_loopback


class Client(Protocol):
    """One connection."""

    @property
    def admitted(self) -> bool:
        """Whether it is being answered and has shown that it has a right to that."""

    def drop(self) -> None:
        """End it at once."""


class Clients:
    """Knows the clients of each peer, in the order in which they have begun their latest request."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._of: dict[str, dict[Client, None]] = {}

    def admit(self, peer: str) -> bool:
        """Whether one more client of ``peer`` may be served; the one that has been idle longest may have to go."""
        clients = self._of.get(peer, {})
        if len(clients) < share(peer, self._connections):
            return True
        idle = next((client for client in clients if not client.admitted), None)
        if idle is None:
            return False
        del clients[idle]
        idle.drop()
        return True

    @contextmanager
    def present(self, client: Client, peer: str) -> Iterator[None]:
        """Count ``client`` for as long as the block runs, or until it is dropped."""
        self._of.setdefault(peer, {})[client] = None
        try:
            yield
        finally:
            clients = self._of[peer]
            clients.pop(client, None)
            if not clients:
                del self._of[peer]

    def begins(self, client: Client, peer: str) -> None:
        """Note that ``client`` has begun a request."""
        clients = self._of[peer]
        if client in clients:
            del clients[client]
            clients[client] = None


def share(peer: str, connections: int) -> int:
    """How many of all ``connections`` one peer may have: none can keep the others out.

    Those of this machine may have more, as behind a proxy on it all clients have its address.
    """
    return max(1, connections // (2 if is_loopback(peer) else 4))

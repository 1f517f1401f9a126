"""Which connections are served: by network, by secret, and by how many there are."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from esl_record.esl.channel import SECRET
from esl_record.esl.session import Session
from esl_record.peers import PeerCount, parse_peer

REFUSED = "esl_record_refused"
"""Channel variable that tells a refused call why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not served: ``detail`` for the log, ``reason`` for its dialplan unless it is empty."""

    detail: str
    reason: str = ""

    @property
    def variables(self) -> list[tuple[str, str]]:
        """The channel variables of the refused call."""
        return [(REFUSED, self.reason)] if self.reason else []


UNKNOWN_PEER = Refusal("not in the setting peers")


class Admission:
    """Decides on peers and calls.

    Args:
        networks: Where a peer may connect from.
        secrets: One of them must be in the channel variable ``esl_record_secret``; without any, none is needed.
        capacity: Calls served at once.
        peer_capacity: Of these, calls of one peer; 0 = all.
    """

    def __init__(
        self, networks: Iterable[str], secrets: Sequence[str] = (), *, capacity: int, peer_capacity: int = 0
    ) -> None:
        self.capacity = capacity
        self.peer_capacity = peer_capacity or capacity
        self.served = PeerCount()
        self._networks = [ip_network(network, strict=False) for network in networks]
        self._secrets = [secret.encode() for secret in secrets]

    @property
    def full(self) -> bool:
        return self.served.total >= self.capacity

    def knows(self, host: str) -> bool:
        """Whether a peer may connect from the address ``host``."""
        peer = parse_peer(host)
        return any(peer in network for network in self._networks)

    def over_capacity(self, peer: str) -> Refusal | None:
        """Why no further call of ``peer`` is served, None if one is."""
        if self.full:
            return Refusal(f"{self.capacity} calls is the capacity", "capacity")
        if self.served[peer] >= self.peer_capacity:
            return Refusal(f"{self.peer_capacity} calls is the peer_capacity", "capacity")
        return None

    def refusal(self, session: Session, peer: str) -> Refusal | None:
        """Why a call whose data is there is not served, None if it is. Forgets its secret: nothing else needs it."""
        given, session.secret = session.secret.encode("utf-8", "replace"), ""
        # All of them are compared: how long that takes does not say which is right.
        if self._secrets and not sum(hmac.compare_digest(given, secret) for secret in self._secrets):
            return Refusal(f"no valid secret in its variable {SECRET}", "secret")
        return self.over_capacity(peer)

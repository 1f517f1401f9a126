"""Which connections are served: by network, by secret, by how many there are, and by how long they say nothing."""

import hmac
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from esl_record.errors import CallGone
from esl_record.esl.channel import SECRET
from esl_record.esl.session import Session
from esl_record.peers import PeerCount, parse_peer

REFUSED = "esl_record_refused"
"""Channel variable that tells a refused call why."""

FEW = 64
"""Connections that may take as long as they like, within the timeout of a command, to say which call they are of."""

PATIENCE = 1.0
"""Seconds each has where there are more; a switch takes milliseconds."""

STRANGERS = 512
"""Connections that may be in that state at all; a switch would have to begin so many calls in milliseconds."""


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


@dataclass(frozen=True, slots=True)
class _Stranger:
    peer: str
    since: float


class Strangers:
    """Connections that have not said which call they are of. They take no call's place.

    A switch says it within milliseconds; so the oldest give way to new ones, not the new ones to them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[Session, _Stranger] = {}

    def add(self, session: Session, peer: str) -> None:
        now = self._clock()
        while len(self._waiting) >= FEW and now - self._oldest()[1].since >= PATIENCE:
            self._drop(self._oldest()[0])
        if len(self._waiting) >= STRANGERS:
            ((most, _),) = Counter(stranger.peer for stranger in self._waiting.values()).most_common(1)
            self._drop(next(one for one, stranger in self._waiting.items() if stranger.peer == most))
        self._waiting[session] = _Stranger(peer, now)

    def remove(self, session: Session) -> None:
        self._waiting.pop(session, None)

    def _oldest(self) -> tuple[Session, _Stranger]:
        return next(iter(self._waiting.items()))

    def _drop(self, session: Session) -> None:
        self.remove(session)
        session.give_up(CallGone(f"{session.label}: gives way to others, as it has not said which call it is of"))

"""Peers by their addresses, and how many connections each has."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address

_SUBNET = 64


def parse_peer(host: str) -> IPv4Address | IPv6Address:
    """The address of a peer, as ``getpeername`` names it."""
    address = ip_address(host.partition("%")[0])
    # What an IPv6 socket calls an IPv4 peer.
    return getattr(address, "ipv4_mapped", None) or address


def peer_key(host: str) -> str:
    """What one peer is counted by: its address, of IPv6 the network of 64 bits that every machine may choose from."""
    address = parse_peer(host)
    if isinstance(address, IPv4Address) or address.is_loopback:
        return str(address)
    return str(IPv6Address(int(address) >> (128 - _SUBNET) << (128 - _SUBNET)))


class PeerCount:
    """How many connections each peer has now."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def __getitem__(self, peer: str) -> int:
        return self._open[peer]

    @property
    def total(self) -> int:
        return self._open.total()

    @contextmanager
    def another(self, peer: str) -> Iterator[None]:
        """Count a connection of ``peer`` for as long as the block runs."""
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

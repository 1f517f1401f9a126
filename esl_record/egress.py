"""Where requests of the service may go: public addresses, and what the settings allow besides.

What is refused is IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and its successors), IPv4 in disguise
(mapped, 6to4, Teredo, NAT64), and the addresses at which clouds answer their own machines.
"""

import _socket
import functools
import io
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import gevent
import requests
from gevent.event import AsyncResult
from gevent.lock import Semaphore
from gevent.threadpool import ThreadPool
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.retry import Retry
from urllib3.util.ssl_ import create_urllib3_context

from esl_record.errors import EslRecordError

Network = IPv4Network | IPv6Network
_Found = tuple[int, int, int, str, Any]  # what getaddrinfo gives

ANSWER = 1 << 18
"""Bytes of an answer that are read unless another bound is given, all heads of it included."""

_LOOKUPS, _RETRIES = 32, 8
"""Names looked up at once; of those that were slow the last time."""

_SLOW, _REMEMBERED = 2.0, 4096
"""Seconds after which a lookup is slow; names remembered for that."""

_UNICAST: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("2000::/3"))

# Written out: what Python's is_global says has changed from one release to the next.
# fmt: off
_SPECIAL: tuple[Network, ...] = tuple(map(ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8",
    "168.63.129.16/32",  # Azure, to its own machines
    "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)))
# fmt: on


class AddressRefused(EslRecordError):
    """Where a request would have gone, ``address``, is neither public nor allowed."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is refused")
        self.address = address


class AddressPolicy:
    """Permits public unicast addresses, and those in the networks ``allowed``. Raises ValueError for what is none."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = tuple(ip_network(network, strict=False) for network in allowed)

    def permits(self, address: str) -> bool:
        """Whether a request may go to ``address``; never to what is no address, such as a name."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if any(found in network for network in self._allowed):
            return True
        return any(found in network for network in _UNICAST) and not any(found in network for network in _SPECIAL)


def session(
    policy: AddressPolicy, *, connections: int = 8, trust: ssl.SSLContext | None = None, answer: int = ANSWER
) -> requests.Session:
    """A session whose every connection goes to an address ``policy`` permits; keeps ``connections`` a host, and reads
    ``answer`` bytes of an answer at most.

    Requests raise AddressRefused, as it is, where there is no such address. A name is looked up once for a connection
    and that very address is connected to: a second answer cannot lead elsewhere. Redirects are not followed, nothing
    is tried twice, no cookie is kept, and neither proxies nor passwords come from the environment. Certificates are
    verified for the name in the URL, against ``authorities``, or ``trust``.
    """
    made = _Session()
    made.trust_env = False
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(functools.partial(_Pools, policy, answer), connections, trust or authorities())
    for scheme in ("http://", "https://"):
        made.mount(scheme, adapter)
    return made


@functools.cache
def authorities() -> ssl.SSLContext:
    """Who may vouch for a certificate: the public authorities and those the system trusts.

    Made once, which takes tens of milliseconds in which no call is served: ask for it before there are any.
    """
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    context.load_default_certs()
    return context


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Even of a redirect it does not follow, requests would read the body, however long.
        return None


class _Adapter(HTTPAdapter):
    def __init__(self, pools: Callable[..., "_Pools"], connections: int, trust: ssl.SSLContext) -> None:
        self._pools = pools
        self._trust = trust
        super().__init__(pool_connections=4, pool_maxsize=connections, max_retries=Retry(0, read=False))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:
        self.poolmanager = self._pools(num_pools=connections, maxsize=maxsize, block=block, ssl_context=self._trust)

    def send(  # type: ignore[override]  # fewer options than requests has, see below
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, **_: Any
    ) -> requests.Response:
        # No verify, cert or proxies: the first would change the context that all share, the last the way.
        return super().send(request, stream=stream, timeout=timeout)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the context has its authorities already."""


class _Pools(PoolManager):
    def __init__(self, policy: AddressPolicy, answer: int, **options: Any) -> None:
        super().__init__(**options)
        self._rules = policy, answer

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> HTTPConnectionPool:
        pool = super()._new_pool(scheme, host, port, request_context)
        kind = _TlsConnection if scheme == "https" else _Vetted
        pool.ConnectionCls = functools.partial(kind, *self._rules)  # type: ignore[assignment]  # urllib3 calls it
        return pool


class _Names:
    """Looks up names on threads of its own, a name once however many ask for it meanwhile.

    A name server that hangs takes one thread for a name. The names that were slow the last time share a few threads:
    only so many names as there are others can make the rest wait, and each of them but once in a while.
    """

    def __init__(self) -> None:
        self._asked: dict[str, AsyncResult[list[_Found]]] = {}
        self._slow: dict[str, None] = {}
        self._retries = Semaphore(_RETRIES)
        # Not the hub's own, on which the rest of the service has its names looked up.
        self._threads = ThreadPool(_LOOKUPS)

    def find(self, host: str, port: int, timeout: float | None) -> list[_Found]:
        """Raises OSError: gaierror, or TimeoutError after ``timeout`` seconds."""
        answer = self._asked.get(host)
        if answer is None:
            answer = self._asked[host] = AsyncResult()
            gevent.spawn(self._ask, host, answer)
        answer.wait(timeout)
        if not answer.ready():
            raise TimeoutError(f"{host} not looked up within {timeout:g} s")
        return [(*one[:4], (one[4][0], port, *one[4][2:])) for one in answer.get()]

    def _ask(self, host: str, answer: "AsyncResult[list[_Found]]") -> None:
        try:
            with self._retries if host in self._slow else nullcontext():
                found, took = self._threads.apply(_looked_up, (host,))
            self._slow.pop(host, None)
            if took > _SLOW:
                self._slow[host] = None
            if len(self._slow) > _REMEMBERED:
                del self._slow[next(iter(self._slow))]
        finally:
            del self._asked[host]
        (answer.set_exception if isinstance(found, OSError) else answer.set)(found)


def _looked_up(host: str) -> tuple[list[_Found] | OSError, float]:
    """What ``host`` is, or why not, and the seconds it took. Not what gevent made of it, on the hub's own threads."""
    began = time.monotonic()
    try:
        found: list[_Found] | OSError = _socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        found = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, "not a name")
    return found, time.monotonic() - began


# One for all sessions: else names that hang would be bounded for each, and not for the service.
_names = functools.cache(_Names)


class _Bounded(io.RawIOBase):
    """A socket's ``raw``, read as far as an answer may go. Others run between two reads, as with gevent they do not
    while data is ready: all the service would wait for a peer that floods, and no timeout would ever strike.
    """

    def __init__(self, raw: io.RawIOBase, limit: int) -> None:
        self._raw = raw
        self._limit = self._left = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        gevent.sleep(0)
        if not self._left:
            raise OSError(f"an answer of more than {self._limit >> 10} KiB")
        count: int | None = self._raw.readinto(memoryview(buffer)[: self._left])
        self._left -= count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    """Here, and not where a body is read, as http.client reads heads and the ends of chunks without a bound."""

    def __init__(self, limit: int, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Bounded(self.fp.detach(), limit))


class _Vetted(HTTPConnection):
    """Connects to permitted addresses only."""

    def __init__(self, policy: AddressPolicy, answer: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._policy = policy
        self.response_class = functools.partial(_Answer, answer)  # type: ignore[assignment]  # http.client calls it

    def _new_conn(self) -> socket.socket:
        limit = float(self.timeout) if isinstance(self.timeout, int | float) else None
        try:
            return self._connect(limit)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {self.host} within {limit} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error

    def _connect(self, limit: float | None) -> socket.socket:
        began = time.monotonic()
        found = _names().find(self._dns_host, self.port, limit)
        permitted = [one for one in found if self._policy.permits(one[4][0])]
        if found and not permitted:
            raise AddressRefused(found[0][4][0])
        failure: OSError = OSError("no address")
        for left, (family, kind, protocol, _, address) in zip(range(len(permitted), 0, -1), permitted, strict=True):
            # Each gets its share: an address nobody answers at must not use up the time of the one that would.
            share = None if limit is None else max((limit - (time.monotonic() - began)) / left, 0.001)
            try:
                return self._opened(family, kind, protocol, address, share, limit)
            except OSError as error:
                failure = error
        raise failure

    def _opened(
        self, family: int, kind: int, protocol: int, address: Any, share: float | None, limit: float | None
    ) -> socket.socket:
        sock = socket.socket(family, kind, protocol)
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(share)
            sock.connect(address)
            peer: str = sock.getpeername()[0]
            if not self._policy.permits(peer):
                raise AddressRefused(peer)
            sock.settimeout(limit)
        except BaseException:
            sock.close()
            raise
        return sock


class _TlsConnection(_Vetted, HTTPSConnection):
    pass

"""What a ``status_url`` says: where to post, as whom, and how long to wait. Pure."""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from esl_record.logs import one_line

Origin = tuple[str, str, int]
"""Scheme, host, port: who answers."""

_PORTS = {"http": 80, "https": 443}

_OPEN, _READ, _TOTAL = 5.0, 10.0, 15.0
_SHORTEST, _LONGEST = 0.1, 60.0

_TELLING = 6
"""Characters of a query that are no secret if there are fewer: words of every answer."""

_MILLISECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_TIMEOUTS_ONLY = re.compile(r"(?:[ort]t=[0-9]{1,9}&?)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until connected, between two reads, and for all of an attempt."""

    open: float = _OPEN
    read: float = _READ
    total: float = _TOTAL


@dataclass(frozen=True, slots=True)
class Receiver:
    """``url`` to post to, without userinfo and fragment; ``auth``: user and password.

    ``shown`` is what logs may show: neither userinfo nor query, in which tokens are passed as well.
    """

    url: str = field(repr=False)
    auth: tuple[str, str] | None = field(repr=False)
    origin: Origin
    timeouts: Timeouts
    shown: str
    hidden: tuple[str, ...] = field(default=(), repr=False)
    """Texts of what is posted to it that nothing it answers may bring to a log."""

    @classmethod
    def of(cls, url: str) -> "Receiver":
        """Raises ValueError, without ``url`` in its text, where that is no http(s) URL.

        A fragment ``#ot=2000&rt=5000&tt=8000`` has the timeouts in milliseconds, as SignalWire's URLs may: for
        opening, reading and in total, from 100 to 60000 each. What else it holds means nothing here.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError("not a URL") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("not an http or https URL")
        userinfo, at, place = parts.netloc.rpartition("@")
        user, _, password = userinfo.partition(":")
        return cls(
            url=parts._replace(netloc=place, fragment="").geturl(),
            auth=(unquote(user), unquote(password)) if userinfo else None,
            origin=(parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port),
            timeouts=_timeouts(parts.fragment),
            shown=one_line(
                parts._replace(
                    netloc=f"***@{place}" if at else place,
                    query=parts.query and "***",
                    fragment=parts.fragment if _TIMEOUTS_ONLY.fullmatch(parts.fragment) else "***",
                ).geturl()
            ),
        )

    @property
    def secrets(self) -> list[str]:
        """What a receiver that repeats what it is sent may give away, the longest first."""
        query = urlsplit(self.url).query
        found = {value for _, value in parse_qsl(query) if len(value) >= _TELLING}
        if len(query) >= _TELLING:
            found.add(query)
        if self.auth:
            found |= {self.auth[1], credentials(self.auth)}
        return sorted({*found, *self.hidden} - {""}, key=len, reverse=True)


def credentials(auth: tuple[str, str]) -> str:
    """User and password as they go on the wire."""
    return base64.b64encode(":".join(auth).encode()).decode()


def shown(url: str) -> str:
    """``url`` as logs may show it, whatever it is."""
    try:
        return Receiver.of(url).shown
    except ValueError:
        return "an unreadable address"


def _timeouts(fragment: str) -> Timeouts:
    given = {}
    for part in fragment.split("&"):
        name, _, value = part.partition("=")
        if _MILLISECONDS.fullmatch(value):
            given[name] = min(max(int(value) / 1000, _SHORTEST), _LONGEST)
    opening, reading = given.get("ot", _OPEN), given.get("rt", _READ)
    return Timeouts(opening, reading, given.get("tt", max(_TOTAL, opening + reading)))

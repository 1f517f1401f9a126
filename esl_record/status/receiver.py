"""What a ``status_url`` says: where to post, as whom, and how long to wait. Pure."""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from esl_record.logs import one_line

Origin = tuple[str, str, int]
"""Scheme, host, port: who answers."""

_PORTS = {"http": 80, "https": 443}

_OPEN, _READ, _TOTAL = 5.0, 10.0, 15.0
_SHORTEST, _LONGEST = 0.1, 60.0

_MILLISECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until connected, between two reads, and for all of an attempt."""

    open: float = _OPEN
    read: float = _READ
    total: float = _TOTAL


@dataclass(frozen=True, slots=True)
class Receiver:
    """``url`` to post to, without userinfo and fragment; ``auth``: user and password; ``shown``: what logs may show."""

    url: str
    auth: tuple[str, str] | None = field(repr=False)
    origin: Origin
    timeouts: Timeouts
    shown: str

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
            shown=one_line(parts._replace(netloc=f"***@{place}" if at else place).geturl()),
        )


def _timeouts(fragment: str) -> Timeouts:
    given = {}
    for part in fragment.split("&"):
        name, _, value = part.partition("=")
        if _MILLISECONDS.fullmatch(value):
            given[name] = min(max(int(value) / 1000, _SHORTEST), _LONGEST)
    opening, reading = given.get("ot", _OPEN), given.get("rt", _READ)
    return Timeouts(opening, reading, given.get("tt", max(_TOTAL, opening + reading)))

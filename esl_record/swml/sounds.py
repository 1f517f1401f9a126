"""What a URL of SWML is to the switch."""

import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

from esl_record.swml.rings import RINGS

LONGEST_RING = 300.0
"""Seconds; the switch makes the whole tone in memory before it plays it."""

_STREAM = re.compile(r"(?:tone_stream://(?!(?i:path=))|silence_stream://)[ -~]+\Z")
_PASSWORD = re.compile(r"//[^/\s]*@")
_SECONDS = re.compile(r"(?=\.?[0-9])[0-9]{0,6}(?:\.[0-9]*)?\Z")


def playable(url: str) -> tuple[str, str]:
    """The switch's application for ``url``, ``speak`` or ``playback``, and its argument, empty where there is nothing
    to be heard. Raises ValueError, which says what is wanted.

    ``say:text``, ``silence:seconds``, ``ring:[seconds:]country`` (without seconds one ring), ``tone_stream://`` and
    ``silence_stream://`` as the switch has them, ``file:///path`` or ``/path`` of a file the switch can read, http
    and https where the switch has a module for them.
    """
    kind, _, rest = url.partition(":")
    if kind == "say":
        return "speak", rest.strip()
    if kind == "silence":
        return "playback", _silence(rest.strip())
    if kind == "ring":
        return "playback", _ring(rest)
    if _STREAM.match(url):
        return "playback", url
    path = _path(url)
    if path is not None:
        return "playback", path
    raise ValueError("say:, silence:, ring:, tone_stream://, file:// and http(s):// are understood")


def shown(url: str) -> str:
    """``url`` for a log: without password, and without a query, which may be as secret."""
    return _PASSWORD.sub("//***@", url.partition("?")[0])[:80]


def _checked(url: str) -> str:
    playable(url)
    return url


Playable = Annotated[str, AfterValidator(_checked)]
"""A URL that ``playable`` understands."""


def _silence(seconds: str) -> str:
    if not _SECONDS.match(seconds):
        raise ValueError("silence: and a number of seconds are wanted")
    return f"silence_stream://{round(float(seconds) * 1000)}" if float(seconds) >= 0.001 else ""


def _ring(rest: str) -> str:
    duration, _, country = (part.strip() for part in rest.rpartition(":"))
    cadence = RINGS.get(country.lower())
    if cadence is None:
        raise ValueError(f"ring:[seconds:]country is wanted, country of {', '.join(sorted(RINGS))}")
    if duration and not (_SECONDS.match(duration) and float(duration) <= LONGEST_RING):
        raise ValueError(f"ring:[seconds:]country is wanted, up to {LONGEST_RING:g} s")
    left = round(1000 * float(duration)) if duration else sum(on + off for on, off, _ in cadence)
    tones = []
    while left > 0:
        for on, off, hertz in cadence:
            if left > 0:
                tones.append(f"%({min(on, left)},{max(0, min(off, left - on))},{hertz})")
            left -= on + off
    return f"tone_stream://{';'.join(tones)}" if tones else ""


def _path(url: str) -> str | None:
    """A plain path, or an http address as it is; None where ``url`` is neither."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme in ("http", "https") and parts.hostname and url.isprintable() and " " not in url:
        # The switch takes name and password as they stand, up to the first @.
        user = parts.netloc.rpartition("@")[0]
        plain = unquote(user)
        return url.replace(user, plain, 1) if "@" not in plain and plain.isprintable() else url
    path = unquote(parts.path) if parts.scheme == "file" and not parts.netloc else url
    # The switch takes a leading brace, and "://" anywhere, for more than a file name.
    return path if path.startswith("/") and path.isprintable() and "://" not in path else None

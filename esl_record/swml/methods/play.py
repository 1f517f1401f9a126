"""play: what a URL of SWML is to the switch, and playing it."""

import re
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict

from esl_record.recording.params import Flag, ParameterError
from esl_record.swml.call import Call
from esl_record.swml.methods.parameters import Method

RINGS: dict[str, tuple[tuple[int, int, str], ...]] = {
    "ca": ((2000, 4000, "440,480"),),
    "de": ((1000, 4000, "425"),),
    "es": ((1500, 3000, "425"),),
    "fr": ((1500, 3500, "440"),),
    "gb": ((400, 200, "400,450"), (400, 2000, "400,450")),
    "it": ((1000, 4000, "425"),),
    "uk": ((400, 200, "400,450"), (400, 2000, "400,450")),
    "us": ((2000, 4000, "440,480"),),
}
"""Ring tones by country: (ms of tone, ms of silence, Hz) in turn, after the ITU's list of national tones (E.180)."""

LONGEST_RING = 300.0
"""Seconds; the switch makes the whole tone in memory before it plays it."""

_STREAM = re.compile(r"(?:tone_stream://(?!(?i:path=))|silence_stream://)[ -~]+\Z")
_DURATION = re.compile(r"\d{1,6}(?:\.\d+)?\Z")


class PlayParams(BaseModel):
    """``url``, or several as ``urls``. ``auto_answer``: an unanswered call is answered first, else early media."""

    model_config = ConfigDict(extra="forbid")
    auto_answer: Flag = True
    url: str | None = None
    urls: list[str] | None = None


def _play(call: Call, given: PlayParams) -> None:
    """Plays one URL or several in turn."""
    if (given.url is None) == (given.urls is None):
        raise ParameterError("play: one of url and urls is wanted", "missing" if given.url is None else "invalid_value")
    # All are looked at before the first is heard.
    sounds = [playable(url) for url in given.urls or [given.url or ""]]
    if given.auto_answer:
        call.session.answer()
    for kind, argument in sounds:
        if kind == "speak":
            call.session.speak(argument)
        else:
            call.session.playback(argument)


PLAY = Method("play", PlayParams, _play, short="url")


def playable(url: str) -> tuple[str, str]:
    """The switch's application for ``url``, ``speak`` or ``playback``, and its argument. Raises ParameterError.

    ``say:text``, ``silence:seconds``, ``ring:[seconds:]country`` (without seconds one ring), ``tone_stream://`` and
    ``silence_stream://`` as the switch has them, ``file:///path`` or ``/path`` of a file the switch can read, http
    and https where the switch has a module for them.
    """
    kind, _, rest = url.partition(":")
    if kind == "say" and rest.strip():
        return "speak", rest.strip()
    if kind == "silence" and _DURATION.match(rest):
        return "playback", f"silence_stream://{max(1, round(float(rest) * 1000))}"
    if kind == "ring":
        return "playback", _ring(url, rest)
    if _STREAM.match(url):
        return "playback", url
    path = _path(url)
    if path is not None:
        return "playback", path
    raise ParameterError(
        f"play: url = {url[:80]!r}: say:, silence:, ring:, tone_stream://, file:// and http(s):// are understood"
    )


def _ring(url: str, rest: str) -> str:
    duration, _, country = rest.rpartition(":")
    cadence = RINGS.get(country.lower())
    once = sum(on + off for on, off, _ in cadence or ()) / 1000
    lasts = duration or str(once)
    if cadence is None or not _DURATION.match(lasts) or not 0.001 <= float(lasts) <= LONGEST_RING:
        raise ParameterError(
            f"play: url = {url[:80]!r}: ring:[seconds:]country, up to {LONGEST_RING:g} s, "
            f"country of {', '.join(sorted(RINGS))}"
        )
    left = round(1000 * float(lasts))
    tones = []
    while left > 0:
        for on, off, hertz in cadence:
            if left > 0:
                tones.append(f"%({min(on, left)},{max(0, min(off, left - on))},{hertz})")
            left -= on + off
    return f"tone_stream://{';'.join(tones)}"


def _path(url: str) -> str | None:
    """A plain path, or an http address as it is; None where ``url`` is neither."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme in ("http", "https") and parts.netloc and url.isprintable() and " " not in url:
        return url
    path = unquote(parts.path) if parts.scheme == "file" and not parts.netloc else url
    # The switch takes a leading brace, and "://" anywhere, for more than a file name.
    return path if path.startswith("/") and path.isprintable() and "://" not in path else None

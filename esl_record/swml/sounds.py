"""What a URL of SWML is to the switch."""

import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator

from esl_record.swml import tones
from esl_record.swml.rings import RINGS

LONGEST_RING = 300.0
"""Seconds."""

LONGEST_SILENCE = 12 * 3600
"""Seconds; the switch counts its samples in 31 bits."""

LONGEST_TEXT = 1000
"""Characters that are spoken: mod_flite makes all of the speech in memory before it plays it, some 40 KB for each."""

LONGEST_URL = 4096
"""Characters of any other sound."""

FORMATS = frozenset(
    (
        *("wav", "mp3", "ogg", "oga", "opus", "flac", "au", "snd", "aif", "aiff", "aifc", "caf", "raw", "ul"),
        *("ulaw", "al", "alaw", "gsm", "adpcm", "vox", "r8", "r16", "r24", "r32", "xi", "sln", "pcmu", "pcma"),
        *("g722", "g729", "g723", "l16", "ilbc", "speex", "silk", "amr", "amr-wb", "mp4", "m4a", "mpga"),
    )
)
"""Extensions of files that are played. By it the switch chooses who reads a file, and among those are
``shell_stream``, which runs it as a command, and ``file_string``, which takes it apart."""

_SILENCE_STREAM = re.compile(r"(-1|[0-9]{1,8})(?:,[0-9]{1,6})?\Z")
_OFFSET = re.compile(r"@@[0-9]{1,10}\Z")
_NO_FILE = re.compile(r"\.(?:\w+_(?:stream|string)|vlc|say|phrase|tts|file)(?:[?#]|\Z)", re.IGNORECASE)
_PLACE = re.compile(r"(?:\w[\w.-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z", re.IGNORECASE)
_NO_USER = re.compile(r" *(?:\(|https?://)", re.IGNORECASE)
"""What mod_httapi makes no user of: from brackets at the beginning of an address, or behind a second ``http://``, it
takes settings, among them the extension of the file."""

_PASSWORD = re.compile(r"//[^/\s]*@")
_SECONDS = re.compile(r"(?=\.?[0-9])[0-9]{0,6}(?:\.[0-9]*)?\Z")


def playable(url: str) -> tuple[str, str]:
    """The switch's application for ``url``, ``speak`` or ``playback``, and its argument, empty where there is nothing
    to be heard. Raises ValueError, which says what is wanted.

    ``say:text``, ``silence:seconds``, ``ring:[seconds:]country`` (without seconds one ring), ``tone_stream://`` as
    ``tones`` has it, ``silence_stream://ms[,divisor]``, ``file:///path`` or ``/path`` of a file the switch can read,
    http and https where the switch has a module for them.
    """
    kind, _, rest = url.partition(":")
    if kind == "say":
        if len(rest) > LONGEST_TEXT:
            raise ValueError(f"say: up to {LONGEST_TEXT} characters are spoken at once")
        return "speak", rest.strip()
    if len(url) > LONGEST_URL:
        raise ValueError(f"up to {LONGEST_URL} characters are wanted")
    if kind == "silence":
        return "playback", _silence(rest.strip())
    if kind == "ring":
        return "playback", _ring(rest)
    scheme, _, stream = url.partition("://")
    if scheme == "tone_stream":
        tones.check_tones(stream)
        return "playback", url
    if scheme == "silence_stream":
        _check_silence(stream)
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
    if not (_SECONDS.match(seconds) and float(seconds) <= LONGEST_SILENCE):
        raise ValueError(f"silence: and a number of seconds are wanted, up to {LONGEST_SILENCE}")
    return f"silence_stream://{round(float(seconds) * 1000)}" if float(seconds) >= 0.001 else ""


def _check_silence(stream: str) -> None:
    found = _SILENCE_STREAM.match(stream)
    if not found or not (found[1] == "-1" or 0 < int(found[1]) <= LONGEST_SILENCE * 1000):
        raise ValueError(f"silence_stream:// and 1 to {LONGEST_SILENCE * 1000} ms are wanted, or -1 for ever")


def _ring(rest: str) -> str:
    duration, _, country = (part.strip() for part in rest.rpartition(":"))
    cadence = RINGS.get(country.lower())
    if cadence is None:
        raise ValueError(f"ring:[seconds:]country is wanted, country of {', '.join(sorted(RINGS))}")
    if duration and not (_SECONDS.match(duration) and float(duration) <= LONGEST_RING):
        raise ValueError(f"ring:[seconds:]country is wanted, up to {LONGEST_RING:g} s")
    whole = sum(on + off for on, off, _ in cadence)
    left = round(1000 * float(duration)) if duration else whole
    loops = ""
    if left > tones.LONGEST * 1000:
        # Whole rings, which the switch makes once.
        left, loops = whole, f";loops={-(-left // whole)}"
    rung = []
    while left > 0:
        for on, off, hertz in cadence:
            if left > 0:
                rung.append(f"%({min(on, left)},{max(0, min(off, left - on))},{hertz})")
            left -= on + off
    return f"tone_stream://{';'.join(rung)}{loops}" if rung else ""


def _path(url: str) -> str | None:
    """A plain path, or an http address as it is; None where ``url`` is neither."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme in ("http", "https") and parts.hostname and url.isprintable() and " " not in url:
        # The switch takes name and password as they stand, up to the first @.
        user, _, place = parts.netloc.rpartition("@")
        plain = unquote(user)
        if "@" in plain or not plain.isprintable():
            plain = user
        if _NO_FILE.search(url) or _NO_USER.match(plain) or not _PLACE.match(place):
            raise ValueError("the address of a sound file is wanted")
        return url.replace(user, plain, 1)
    path = unquote(parts.path) if parts.scheme == "file" and not parts.netloc else url
    # The switch takes a leading brace, and "://" anywhere, for more than a file name.
    if not (path.startswith("/") and path.isprintable() and "://" not in path):
        return None
    name = _OFFSET.sub("", path)
    extension = name.rpartition(".")[2].lower() if "." in name.rpartition("/")[2] else ""
    if "@@" in name or (extension and extension not in FORMATS):
        raise ValueError(f"a sound file is wanted, of one of the formats {', '.join(sorted(FORMATS))}")
    return path

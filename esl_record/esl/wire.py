"""The event socket's protocol: bytes in, frames and events out, and commands as bytes. No socket here.

The switch percent-encodes the values of an event and of the reply to ``connect``, and nothing else. A caller's
name may hold an encoded newline, so lines are split first and values decoded after; the other way round a name
could add or replace headers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from esl_record.errors import WireError

HEADER_LIMIT = 1 << 18
"""Bytes a header block may have. The largest a real switch sent in the wire logs of the tests is under 12 KiB."""

HEADERS = 8192
"""Headers a block may have. The channel data of a real switch has some 300."""

ESCAPES = 1 << 16
"""Percent signs an encoded block may have: each costs ten times as much as another byte."""

BODY_LIMIT = 1 << 24
"""Bytes a body may have: a list of 10,000 channels as JSON has some 12 MB."""

BLANK_LINES = 64
"""Blank lines there may be before a frame; a switch sends none or one."""

_FORBIDDEN = re.compile(r"[\r\n\0]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# A table: urllib's way takes twice as long, and much longer for percent signs that escape nothing.
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_HEX = b"0123456789abcdefABCDEF"
_BYTES = {bytes((37, high, low)): bytes((int(bytes((high, low)), 16),)) for high in _HEX for low in _HEX}
_BLANK = re.compile(rb"\n*")
_VARIABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Frame:
    """What lies between two blank lines of the wire, and the body its Content-Length announced."""

    headers: Headers
    body: bytes = b""

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")

    @property
    def reply(self) -> str:
        """The switch's answer: the body of an ``api/response``, the Reply-Text of a ``command/reply``."""
        if self.content_type == "api/response":
            return self.body.decode("utf-8", "replace").rstrip("\n")
        return self.headers.get("Reply-Text", "").rstrip("\n")


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the switch; ``headers`` are decoded, ``headers["variable_x"]`` is the channel variable x."""

    headers: Headers
    body: bytes = b""

    @property
    def name(self) -> str:
        return self.headers.get("Event-Name", "")

    def get(self, header: str, default: str = "") -> str:
        return self.headers.get(header, default)


def parse_headers(block: bytes, *, encoded: bool) -> Headers:
    """Headers of one block (without its closing blank line), percent-decoded if ``encoded``.

    The first of two headers of one name counts. Bytes that are no UTF-8 become U+FFFD. Raises WireError at a line
    that is no header, and where there is more of them than takes a few milliseconds.
    """
    if len(block) > HEADER_LIMIT:
        raise WireError(f"header block of more than {HEADER_LIMIT} bytes")
    if block.count(b"\n") >= HEADERS:
        raise WireError(f"header block of more than {HEADERS} lines")
    if encoded and block.count(b"%") > ESCAPES:
        raise WireError(f"header block of more than {ESCAPES} percent signs")
    headers: dict[str, str] = {}
    # A line end or a colon is in no longer sequence of UTF-8, so that all lines can be decoded at once.
    for line in block.decode("utf-8", "replace").split("\n"):
        if not line:
            continue
        name, colon, value = line.partition(":")
        name = name.strip()
        if not colon or not name:
            raise WireError(f"not a header line: {line.encode()[:80]!r}")
        value = value.strip(" ")
        if encoded and "%" in value:
            value = _ESCAPE.sub(_unescaped, value.encode()).decode("utf-8", "replace")
        headers.setdefault(name, value)
    return MappingProxyType(headers)


def _unescaped(found: re.Match[bytes]) -> bytes:
    return _BYTES[found[0]]


def parse_event(frame: Frame) -> Event:
    """The event in the body of a ``text/event-plain`` frame."""
    block, _, rest = frame.body.partition(b"\n\n")
    return Event(parse_headers(block, encoded=True), rest)


@dataclass(slots=True)
class FrameReader:
    """Cuts a stream of bytes, in pieces of any size, into frames with bodies of up to ``body_limit`` bytes."""

    body_limit: int = BODY_LIMIT
    _buffer: bytearray = field(default_factory=bytearray)
    _headers: Headers | None = None
    _wanted: int = 0
    _blank: int = 0
    """Blank lines since the last frame."""
    _searched: int = 0
    """Bytes of the buffer in which no header block ends."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Every frame that ``data`` completes. Raises WireError where the stream breaks the protocol."""
        self._buffer += data
        while True:
            if self._headers is None and not self._read_headers():
                return
            assert self._headers is not None
            if len(self._buffer) < self._wanted:
                return
            body = bytes(self._buffer[: self._wanted])
            del self._buffer[: self._wanted]
            frame, self._headers = Frame(self._headers, body), None
            yield frame

    def close(self) -> None:
        """The stream has ended. Raises WireError if it ended inside a frame."""
        if self._headers is not None or self._buffer.strip(b"\n"):
            missing = f"{self._wanted - len(self._buffer)} bytes of body missing" if self._headers else "in its headers"
            raise WireError(f"connection ended inside a frame: {missing}")

    def _read_headers(self) -> bool:
        if self._buffer.startswith(b"\n"):
            self._skip_blank_lines()
        # From where the last search ended: a block that comes byte by byte is not searched again for each of them.
        end = self._buffer.find(b"\n\n", max(0, self._searched - 1))
        if end > HEADER_LIMIT or (end < 0 and len(self._buffer) > HEADER_LIMIT):
            raise WireError(f"header block of more than {HEADER_LIMIT} bytes")
        if end < 0:
            self._searched = len(self._buffer)
            return False
        self._blank = self._searched = 0
        block = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        self._headers = parse_headers(block, encoded=block.startswith(b"Event-Name:"))
        self._wanted = _content_length(self._headers, self.body_limit)
        return True

    def _skip_blank_lines(self) -> None:
        found = _BLANK.match(self._buffer)
        assert found is not None
        blank = found.end()
        # A buffer that something refers to cannot shrink.
        del found
        del self._buffer[:blank]
        self._blank += blank
        if self._blank > BLANK_LINES:
            raise WireError(f"more than {BLANK_LINES} blank lines without a frame")


def _content_length(headers: Headers, limit: int) -> int:
    text = headers.get("Content-Length", "0")
    # The reply to `connect` carries the channel's data; a Content-Length among it would be the caller's.
    if "Event-Name" in headers:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 12) or int(text) > limit:
        raise WireError(f"Content-Length {text[:40]!r}: must be 0 to {limit}")
    return int(text)


def clean(text: str) -> str:
    """``text`` on one line: every run of control characters and line separators becomes a space."""
    return _CONTROL.sub(" ", text)


def variable_name(name: str) -> str:
    """``name`` if it can be a channel variable's; WireError otherwise."""
    if not _VARIABLE_NAME.match(name):
        raise WireError(f"channel variable name {name[:40]!r}: letters, digits and _ . - only, 1 to 128 of them")
    return name


def command(line: str) -> bytes:
    """One command. WireError if it would be more than one, or truncated by a NUL."""
    if _FORBIDDEN.search(line):
        raise WireError(f"a command is one line without NUL: {line[:80]!r}")
    return line.encode("utf-8", "replace") + b"\n\n"


def execute(application: str, argument: str, event_uuid: str, uuid: str = "") -> bytes:
    """``sendmsg`` that runs a dialplan application on the call: ``uuid``'s on the switch's own event socket.

    The switch expands ``${...}`` in arguments, API calls such as ``${system ...}`` included, some applications a
    second time, and drops a ``\\'`` on the way, so that no escape survives. An argument with a brace therefore
    loses its dollar signs: nothing of ours needs an expansion by the switch.
    """
    lines = [f"sendmsg {uuid}".rstrip(), "call-command: execute", f"execute-app-name: {application}"]
    if argument:
        lines.append(f"execute-app-arg: {argument.replace('$', '') if '{' in argument else argument}")
    lines.append(f"Event-UUID: {event_uuid}")
    return _message(lines)


def _message(lines: list[str]) -> bytes:
    for line in lines:
        if _FORBIDDEN.search(line):
            raise WireError(f"a header is one line without NUL: {line[:80]!r}")
    return "\n".join(lines).encode("utf-8", "replace") + b"\n\n"

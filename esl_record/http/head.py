"""The head of a request, read in the one way RFC 9112 has it: what a proxy could read otherwise is refused."""

import re
from email.message import Message
from typing import BinaryIO

LARGEST = 32 * 1024
"""Bytes, from the request line to the empty one."""

MOST = 99
"""Fields: no more than Python's own parser takes."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # what HTTP calls a token
_REQUEST_LINE = re.compile(rf"{_TOKEN} ([\x21-\x7e\x80-\xff]+) (HTTP/1\.[01])\r\n")
# No CR, LF or NUL in a value, and a line that begins with a space continues none.
_FIELD = re.compile(rf"{_TOKEN}:[\t\x20-\x7e\x80-\xff]*\r\n".encode("latin-1"))
_AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(?::[0-9]*)?")
_ABSOLUTE = re.compile(r"https?://([^/?#]+)(.*)", re.IGNORECASE)


class TooLarge(ValueError):
    """The head is larger than any client needs."""


def check_line(line: str) -> None:
    """Raises ValueError where ``line`` is no request line."""
    if not _REQUEST_LINE.fullmatch(line):
        raise ValueError("no request line")


def read(stream: BinaryIO, room: int) -> bytes:
    """The lines after the request line, with the empty one. ``room``: bytes. Raises ValueError, or TooLarge."""
    lines: list[bytes] = []
    while True:
        line = stream.readline(room + 1)
        room -= len(line)
        if room < 0 or len(lines) > MOST:
            raise TooLarge("too large a head")
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
        if not _FIELD.fullmatch(line):
            raise ValueError("no header field")


def check(headers: "Message[str, str]", version: str) -> None:
    """Raises ValueError where it is not plain whom the request is for, or where its body ends."""
    if headers.defects:
        raise ValueError("defective headers")
    hosts, coding, lengths = (_values(headers, name) for name in ("Host", "Transfer-Encoding", "Content-Length"))
    if len(hosts) > 1 or (not hosts and version != "HTTP/1.0"):
        raise ValueError("not one host")
    if not all(_AUTHORITY.fullmatch(host) for host in hosts):
        raise ValueError("a host that is none")
    if coding and (lengths or version == "HTTP/1.0" or [value.lower() for value in coding] != ["chunked"]):
        raise ValueError("a transfer coding that is not known, or not here")
    if len(lengths) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
        raise ValueError("not one length of the body")


def split(target: str) -> tuple[str | None, str]:
    """Host and path with query of a request's target; the host is None where the target has none.

    Raises ValueError where it has one that is none.
    """
    found = _ABSOLUTE.fullmatch(target)
    if not found:
        return None, target
    host, rest = found.groups()
    if not _AUTHORITY.fullmatch(host) or host.startswith(":"):
        raise ValueError("a host that is none")
    return host, rest if rest.startswith("/") else f"/{rest}"


def _values(headers: "Message[str, str]", name: str) -> list[str]:
    # Of all there is to Python's own strip, these alone are white space to HTTP.
    return [value.strip(" \t") for value in headers.get_all(name, [])]

"""One range of bytes of a file, as RFC 9110 section 14 has it, and whether what a client has is what there is."""

import re
from email.utils import parsedate_to_datetime

_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", re.IGNORECASE)
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

_DIGITS = 18
"""Of a number of bytes; one with more is beyond every file."""


class Unsatisfiable(Exception):
    """The range is well formed and begins behind the end of the file."""


def part(header: str | None, size: int) -> tuple[int, int] | None:
    """Which bytes, the first and the one after the last, ``Range`` asks for of a file of ``size`` bytes.

    None where the whole file is to be sent: no range, several, another unit, or nothing that makes sense. Raises
    Unsatisfiable.
    """
    found = _RANGE.fullmatch(header or "")
    if not found or not size:
        return None
    first, last, suffix = (_number(digits) for digits in found.groups())
    if first is None:
        if not suffix:
            raise Unsatisfiable
        return max(0, size - suffix), size
    if last is not None and last < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, size if last is None else min(last + 1, size)


def holds(header: str | None, tag: str, changed: float) -> bool:
    """Whether ``If-Range`` allows a part: the file still is the one whose ETag or date, whole unix seconds, it has."""
    if not header:
        return True
    if header.strip().startswith(('"', "W/")):
        return bool(tag) and header.strip() == tag
    return _seconds(header) == int(changed)


def unchanged(none_match: str | None, since: str | None, tag: str, changed: float) -> bool:
    """Whether ``If-None-Match``, or without that ``If-Modified-Since``, says the client has this file already."""
    if none_match is not None:
        return none_match.strip() == "*" or _has(none_match, tag)
    seconds = _seconds(since) if since else None
    return seconds is not None and int(changed) <= seconds


def changed_since(match: str | None, since: str | None, tag: str, changed: float) -> bool:
    """Whether ``If-Match``, or without that ``If-Unmodified-Since``, says the client wants another file than this."""
    if match is not None:
        return match.strip() != "*" and not _has(match, tag, strong=True)
    seconds = _seconds(since) if since else None
    return seconds is not None and int(changed) > seconds


def _has(tags: str, tag: str, *, strong: bool = False) -> bool:
    return bool(tag) and any(one == tag and not (weak and strong) for weak, one in _TAG.findall(tags))


def _number(digits: str | None) -> int | None:
    if not digits:
        return None
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= _DIGITS else 10**_DIGITS


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, IndexError):
        return None

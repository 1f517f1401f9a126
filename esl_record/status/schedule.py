"""When a callback that failed is tried again. Pure."""

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

FIRST = 5.0
"""Seconds from the first failure to the second attempt, unless set otherwise; doubled from there on."""

LONGEST = 4 * 3600.0
"""Seconds between two attempts, at most."""

LIFETIME = 3 * 86400.0
"""Seconds a callback is tried for, from when it was queued."""

LEAST = 5
"""Attempts it has whatever its age: a clock that jumps ahead must not make its first failure the last."""

_JITTER = 0.2
"""Share by which a wait is longer or shorter, so that what failed together does not come back together."""


def next_attempt(
    attempts: int,
    queued_at: float,
    now: float,
    retry_after: str | None,
    random: Callable[[], float],
    *,
    first: float = FIRST,
) -> float | None:
    """The unix time of the attempt after ``attempts``, all of which failed, the last at ``now``; None to give up.

    The last one is at the end of the callback's lifetime, or past it if there have been too few by then.
    ``retry_after`` is the header of that name, if there was one: it can put the attempt off, though not past that end.
    ``random`` gives numbers from 0 to 1; ``first`` is the first wait in seconds.
    """
    end = queued_at + LIFETIME
    over = now >= end - min(first, FIRST)
    if over and attempts >= LEAST:
        return None
    wait = _usual(attempts, first) * (1 - _JITTER + 2 * _JITTER * random())
    due = now + max(wait, asked(retry_after, now))
    return due if over else min(due, end)


def longest(attempts: int, first: float = FIRST) -> float:
    """Seconds after which the attempt after ``attempts`` is made at the latest, if its receiver asks for nothing."""
    return _usual(attempts, first) * (1 + _JITTER)


def asked(retry_after: str | None, now: float) -> float:
    """Seconds from ``now`` that a ``Retry-After`` asks for, delta or date (RFC 9110); 0.0 where it asks for none."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LIFETIME)
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone, or with -0000, is naive and means UTC.
        moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(max(moment - now, 0.0), LIFETIME)


def _usual(attempts: int, first: float) -> float:
    # A larger power would not fit a float.
    return min(first * 2.0 ** min(attempts - 1, 500), LONGEST)

"""Log lines: one a message, whatever a caller's name or a peer's bytes hold."""

import logging
import re
from typing import Any

import gevent

FIRST = 20
"""Lines of one cause that are written in a ``PERIOD``."""

PERIOD = 60.0
"""Seconds."""

_PLACEHOLDER = re.compile(r"%[-+ #0-9.]*[a-z]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """``text`` with its control characters, line ends among them, escaped."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class OneLine(logging.Formatter):
    """Escapes control characters, line ends among them, in the message; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = one_line(record.message)
        return super().formatMessage(record)


class Sparing:
    """Writes the first lines of each cause to ``log`` and counts the others, so that no peer can fill a disk with them.

    A cause is a message before its arguments are put in. How many were left out is logged at the end of a ``period``.
    """

    def __init__(self, log: logging.Logger, first: int = FIRST, period: float = PERIOD) -> None:
        self._log = log
        self._first = first
        self._period = period
        self._counts: dict[str, int] = {}

    def __call__(self, level: int, message: str, *arguments: object, exc_info: Any = None) -> bool:
        """Log ``message`` with its ``arguments`` unless that was done often enough; return whether it was done."""
        if not self._log.isEnabledFor(level):
            return False
        count = self._counts[message] = self._counts.get(message, 0) + 1
        if count == 1:
            gevent.spawn_later(self._period, self._sum_up, level, message)
        if count > self._first:
            return False
        self._log.log(level, message, *arguments, exc_info=exc_info)
        return True

    def _sum_up(self, level: int, message: str) -> None:
        left_out = self._counts.pop(message) - self._first
        if left_out > 0:
            self._log.log(level, "%d more of these were not logged: %s", left_out, _PLACEHOLDER.sub("…", message))


def to_stderr(level: int = logging.INFO) -> None:
    """Sends the log to stderr, for systemd or a terminal to keep."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(message)s"))
    # It tells of every request with its query, which is its owner's secret.
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    logging.basicConfig(level=level, handlers=[handler], force=True)

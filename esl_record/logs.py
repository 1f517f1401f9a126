"""Log lines: one a message, whatever a caller's name or a peer's bytes hold."""

import logging
import re
import sys
import unicodedata
from types import TracebackType
from typing import Any

import gevent

FIRST = 20
"""Lines of one cause that are written in a ``PERIOD``."""

PERIOD = 60.0
"""Seconds."""

_PLACEHOLDER = re.compile(r"%[-+ #0-9.]*[a-z]")

_INDENT = "    "
"""In front of every line of a traceback: its text may hold line ends, and no line of it may pass for a message."""


def one_line(text: str) -> str:
    """Return ``text`` with all escaped that ends a line, moves a cursor, is invisible or changes the reading order."""
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    # All kinds of spaces stay, but for those that separate lines and paragraphs.
    if character == "\t" or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class OneLine(logging.Formatter):
    """Escapes control characters, line ends among them, in the message. A traceback keeps its lines, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: "logging._SysExcInfoType") -> str:  # noqa: N802
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(super().formatStack(stack_info))


class Sparing:
    """Writes the first lines of each cause to ``log`` and counts the others, so that no peer can fill a disk with them.

    A cause is a message before its arguments are put in. How many were left out is logged at the end of a ``period``.
    """

    def __init__(self, log: logging.Logger, first: int = FIRST, period: float = PERIOD) -> None:
        self._log = log
        self._first = first
        self._period = period
        self._counts: dict[str, int] = {}
        self._timers: dict[str, gevent.Greenlet] = {}

    def __call__(self, level: int, message: str, *arguments: object, exc_info: Any = None) -> bool:
        """Log ``message`` with its ``arguments`` unless that was done often enough; return whether it was done."""
        if not self._log.isEnabledFor(level):
            return False
        count = self._counts[message] = self._counts.get(message, 0) + 1
        if count == 1:
            self._timers[message] = gevent.spawn_later(self._period, self._sum_up, level, message)
        if count > self._first:
            return False
        self._log.log(level, message, *arguments, exc_info=exc_info)
        return True

    def forget(self) -> None:
        """Begin anew with every cause."""
        gevent.killall(list(self._timers.values()))
        self._timers.clear()
        self._counts.clear()

    def _sum_up(self, level: int, message: str) -> None:
        del self._timers[message]
        left_out = self._counts.pop(message) - self._first
        if left_out > 0:
            self._log.log(level, "%d more of these were not logged: %s", left_out, _PLACEHOLDER.sub("…", message))


def to_stderr(level: int = logging.INFO) -> None:
    """Sends the log to stderr, for systemd or a terminal to keep."""
    handler = logging.StreamHandler()
    formatter = OneLine("%(asctime)s %(levelname)-7s %(message)s")
    handler.setFormatter(formatter)
    # It tells of every request with its query, which is its owner's secret, and of a head it cannot read with all
    # that is in it, which may be what the server was sent.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)

    def failed(context: object, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        # Not by a logger: its lock may be held, and the hub cannot wait for it.
        record = logging.LogRecord(__name__, logging.ERROR, "", 0, "%s failed", (context,), (kind, error, trace))
        sys.stderr.write(f"{formatter.format(record)}\n")

    # gevent itself would write what a greenlet raises to stderr as it is.
    gevent.get_hub().print_exception = failed


def _indented(text: str) -> str:
    return "\n".join(_INDENT + one_line(line) for line in text.split("\n"))

"""Log lines: one a message, whatever a caller's name or a peer's bytes hold."""

import logging
import re

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """``text`` with its control characters, line ends among them, escaped."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


class OneLine(logging.Formatter):
    """Escapes control characters, line ends among them, in the message; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        record.message = one_line(record.message)
        return super().formatMessage(record)


def to_stderr(level: int = logging.INFO) -> None:
    """Sends the log to stderr, for systemd or a terminal to keep."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(message)s"))
    # It tells of every request with its query, which is its owner's secret.
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    logging.basicConfig(level=level, handlers=[handler], force=True)

"""The errors a caller of this package may see; each says what went wrong, where, and how to mend it."""

from collections.abc import Sequence


class EslRecordError(Exception):
    """Base of every error this package raises on purpose."""


class WireError(EslRecordError):
    """Bytes on an event socket that break its protocol, or text that must not be put on one."""


class CommandTimeout(EslRecordError):
    """The switch did not answer a command in time; the connection cannot be trusted any more and is closed."""


class CallGone(EslRecordError):
    """The call, or the connection that controls it, has ended."""


class CommandRefused(EslRecordError):
    """The switch answered ``-ERR``; the text is its answer."""


class ConfigError(EslRecordError):
    """A setting is missing or wrong; the text names it, where it was set, and what is allowed."""


class DocumentError(EslRecordError):
    """An SWML document cannot be run.

    ``code`` is the ``relay_script_*`` code the contract gives for it, kept in the variable ``script_error``; with
    several mistakes it is the first one's, and ``codes`` has all.
    """

    def __init__(self, code: str, message: str, codes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.codes = tuple(codes) or (code,)
        self.placed = False
        """Whether the message says already in which step."""


class WebError(EslRecordError):
    """A web server could not be asked, or gave no answer that can be used; the text names it, without passwords."""


class SpoolError(EslRecordError):
    """The file the media bug writes is missing, unreadable or has stopped growing."""


class SpoolUnfit(SpoolError):
    """What stands in the spool is not what the switch was asked to write there; trying again is of no use."""


class DatabaseError(EslRecordError):
    """The catalog's database cannot be opened, read or written."""

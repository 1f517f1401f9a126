"""What a recording asks of the channel it is made of, over whichever event socket reaches that."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from gevent.event import Event as Flag

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl import wire

log = logging.getLogger(__name__)

HELD = "esl_record_held"
"""Channel variable: `true` while a recording of the call runs, so that a dialplan that has lost the service waits."""

SECRET = "esl_record_secret"  # noqa: S105 - the name of a variable
"""Channel variable in which the dialplan proves that a call is a switch's own."""

PACE = "standin_pace"
"""Channel variable of the stand-in switch: how many times faster than the clock its calls pass."""


def pace_of(data: Mapping[str, str]) -> float:
    """Return how many seconds of call pass in one second, of the channel with this ``data``."""
    return float(data.get(f"variable_{PACE}", "1"))


def without_secret(data: Mapping[str, str]) -> tuple[Mapping[str, str], str]:
    """Return a channel's ``data`` without the secret, which is to be kept nowhere, and the secret."""
    name = f"variable_{SECRET}"
    return {header: value for header, value in data.items() if header != name}, data.get(name, "")


class ReachedCall(Protocol):
    """A call that can be recorded. See ``esl_record.esl.session`` for what each member says."""

    @property
    def uuid(self) -> str: ...
    @property
    def data(self) -> Mapping[str, str]: ...
    @property
    def label(self) -> str: ...
    @property
    def pace(self) -> float: ...
    @property
    def live(self) -> bool: ...
    @property
    def left(self) -> bool: ...
    @property
    def lost(self) -> bool: ...
    @property
    def connected(self) -> bool: ...
    @property
    def answered(self) -> bool: ...
    @property
    def at_answer(self) -> list[Flag]: ...
    @property
    def over(self) -> Flag: ...
    @property
    def fault(self) -> Exception | None: ...
    @property
    def hangup_cause(self) -> str | None: ...
    def listen(self, listener: Callable[[wire.Event], None]) -> Callable[[], None]: ...
    def raise_if_disconnected(self) -> None: ...
    def playback(self, path: str) -> object: ...
    def hold(self, held: bool) -> None: ...
    def hangup(self, cause: str) -> None: ...
    def exists(self) -> bool: ...
    def leg_channels(self) -> int: ...
    def leg_rate(self) -> str: ...
    def on_hold(self) -> bool: ...
    def bypasses(self) -> bool: ...
    def start_tap(self, path: str, variables: Mapping[str, str]) -> None: ...
    def stop_tap(self, path: str) -> None: ...
    def pause_tap(self, path: str, *, mask: bool) -> None: ...
    def resume_tap(self, path: str, *, mask: bool) -> None: ...


class ChannelCommands:
    """API commands for one channel. Raise CallGone once it has gone, CommandTimeout, CommandRefused.

    They work in a call that was sent elsewhere, too: nobody else would stop its tap.
    """

    data: Mapping[str, str]
    """What is known of the channel: headers as of its events."""

    if TYPE_CHECKING:

        @property
        def uuid(self) -> str: ...
        @property
        def label(self) -> str: ...

    def answer_to(self, line: str) -> str:
        """Return the answer to an API command. Raises CallGone where the channel is out of reach."""
        raise NotImplementedError

    def ask(self, name: str, argument: str = "") -> str:
        """Return the answer to the API command ``name`` with the channel's UUID and ``argument``."""
        try:
            return self.answer_to(f"{name} {self.uuid} {argument}" if argument else f"{name} {self.uuid}")
        except CommandRefused as error:
            if "No such channel" in str(error) or "Cannot locate session" in str(error):
                raise CallGone(f"{self.label}: {error}") from error
            raise

    def mark_held(self, held: bool) -> None:
        """Set the channel variable ``HELD``. Never raises: the recording matters more."""
        try:
            self.ask("uuid_setvar", f"{HELD} true" if held else HELD)
        except (CallGone, CommandTimeout, CommandRefused) as error:
            log.debug("%s: %s: %s", self.label, HELD, error)

    def get_variable(self, name: str) -> str | None:
        """A channel variable as it is now. By API, whose answer has a length: a newline in a value that came back
        in a ``getvar`` reply would be read as headers."""
        value = self.ask("uuid_getvar", wire.variable_name(name))
        return None if value == "_undef_" else value

    def exists(self) -> bool:
        """Whether the switch still knows the call."""
        return self.ask("uuid_exists").strip() == "true"

    def leg_channels(self) -> int:
        """The number of audio channels of the leg's codec: 2 where both sides have agreed on stereo Opus."""
        return 2 if self.ask("uuid_getvar", "rtp_use_codec_channels") == "2" else 1

    def leg_rate(self) -> str:
        """The samples a second of the leg's codec as it is now, empty before there is one.

        The variable ``read_rate`` keeps the value it had before a change of codec.
        """
        return self._header("Channel-Read-Codec-Rate")

    def on_hold(self) -> bool:
        """Whether the leg is on hold: then the switch has nothing to write of either side."""
        return self._header("Channel-Call-State") == "HELD"

    def bypasses(self) -> bool:
        """Whether the leg's media goes past the switch, from phone to phone: then there is nothing to write either."""
        return self._header("Channel-State") == "CS_HIBERNATE"

    def _header(self, name: str) -> str:
        """Return a header of the channel as it is now, empty where it has none."""
        lines = self.ask("uuid_dump").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), "")

    def start_tap(self, path: str, variables: Mapping[str, str]) -> None:
        """Start a media bug that writes to ``path``, which must hold no space."""
        if self.data.get("variable_media_bug_answer_req"):
            # The one setting that cannot be given with the tap: it would wait for an answer.
            self.ask("uuid_setvar", "media_bug_answer_req false")
        settings = ",".join(f"{name}={value}" for name, value in variables.items())
        self.ask("uuid_record", f"start {path} 0 {{{settings}}}")

    def stop_tap(self, path: str) -> None:
        self.ask("uuid_record", f"stop {path}")

    def pause_tap(self, path: str, *, mask: bool) -> None:
        """Stops the spool growing, or with ``mask`` lets it grow with silence."""
        self.ask("uuid_record", f"{'mask' if mask else 'pause'} {path}")

    def resume_tap(self, path: str, *, mask: bool) -> None:
        self.ask("uuid_record", f"{'unmask' if mask else 'resume'} {path}")

"""Calls that outlived a killed service: asked back over the switch's own event socket, and gone on with."""

import logging
import re
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field

from gevent import socket

from esl_record.errors import CommandRefused, EslRecordError
from esl_record.esl.channel import HELD
from esl_record.esl.link import Link
from esl_record.esl.session import Session
from esl_record.live import LiveCall
from esl_record.recording.params import ParameterError
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Recording

log = logging.getLogger(__name__)

LOOK = 2.0
"""Seconds between looks, and at least between the two that find a call with nobody at its `socket`."""

PARKED = 60
"""Seconds a call that was asked back waits if this service dies too, before the switch hangs it up."""

_CALL_ID = re.compile(r"[\w-]{1,64}\Z", re.ASCII)
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
_INLINE = "inline"
_ASKED = "esl_record_asked_back"


@dataclass(frozen=True, slots=True)
class Look:
    """What the switch said of calls, by their ids; of a call in neither ``live`` nor ``ended`` it said nothing."""

    live: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    """Those of the live that were asked back."""


class Returning:
    """Has calls that outlived an earlier run come to the service at ``listen``, where they wait for it.

    Such a call is parked, or in a `socket` that nobody serves any more; ``in_hand`` says whether this service does. One
    that does anything else is left to it: a transfer would cut off who talks in a bridge, and ends the call where the
    dialplan records it by now.
    """

    def __init__(
        self,
        link: Link,
        listen: tuple[str, int],
        in_hand: Callable[[str], bool],
        settle: Callable[[], object] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._listen = listen
        self._in_hand = in_hand
        self._settle = settle
        self._clock = clock
        self._connecting: dict[str, float] = {}
        """When a call was first seen in a `socket` of ours; it may just be on its way."""
        self._strays: dict[str, float] = {}
        """The same of calls of this run, as of the last look for them."""

    def look(self, calls: Iterable[str]) -> Look:
        """Asks after ``calls`` once, and has those that wait come back. Never raises."""
        look = Look()
        try:
            way = self._way()
            for call_id in calls:
                # It was read of a file.
                if _CALL_ID.match(call_id) and not self._in_hand(call_id):
                    self._ask_after(call_id, way, look)
        except EslRecordError as error:
            # The link has told of it.
            log.debug("calls of an earlier run are not asked after: %s", error)
        return look

    def free_stray(self, spared: Container[str]) -> bool:
        """Send on to their dialplan calls that sit in a `socket` of this service which nobody serves: their connection
        ended before it was taken. Never raises. Calls in ``spared`` come back another way.

        Returns:
            Whether there are calls to be looked at again: their connection may be on its way.
        """
        now = self._clock()
        since: dict[str, float] = {}
        try:
            rows = self._link.channels()
            calls = [str(row.get("uuid", "")) for row in rows if row.get("application") == "socket"]
            for call_id in calls:
                if call_id not in spared and self._is_stray(call_id):
                    since[call_id] = self._strays.get(call_id, now)
            self._strays = since
            due = [call_id for call_id, first in since.items() if now - first >= LOOK]
            if due:
                # One of them may be that of a connection which has not said yet what call it is of.
                self._settle()
            for call_id in due:
                del since[call_id]
                if self._is_stray(call_id):
                    self._link.free(call_id)
                    log.warning("call %s was in a socket nobody serves: its dialplan goes on", call_id)
        except EslRecordError as error:
            log.debug("calls that nobody serves are not looked for: %s", error)
        return bool(since)

    def _is_stray(self, call_id: str) -> bool:
        if not _CALL_ID.match(call_id) or self._in_hand(call_id):
            return False
        try:
            application = self._link.api(f"uuid_getvar {call_id} current_application").strip()
            return application == "socket" and self._is_ours(call_id) and not self._is_recorded(call_id)
        except CommandRefused:
            return False  # it has hung up since it was listed

    def _is_recorded(self, call_id: str) -> bool:
        """Whether a service records the call, such as one that has left this port and waits for its calls to end."""
        return self._link.api(f"uuid_getvar {call_id} {HELD}").strip() == "true"

    def _ask_after(self, call_id: str, way: str, look: Look) -> None:
        try:
            application = self._link.api(f"uuid_getvar {call_id} current_application").strip()
            look.live.add(call_id)
            if way and self._waits(call_id, application):
                self._link.api(f"uuid_transfer {call_id} '{way}' inline")
                self._connecting.pop(call_id, None)
                look.asked.add(call_id)
                log.info("call %s waits for a service that was killed: it is asked back", call_id)
        except CommandRefused as error:
            if "No such channel" in str(error):
                self._connecting.pop(call_id, None)
                look.live.discard(call_id)
                look.ended.add(call_id)
            else:
                log.info("call %s: not asked back: %s", call_id, error)

    def _waits(self, call_id: str, application: str) -> bool:
        if application != "socket" or not self._is_ours(call_id):
            self._connecting.pop(call_id, None)
            # What a dialplan parks by itself is none of ours.
            return application == "park" and self._is_recorded(call_id)
        return self._clock() - self._connecting.setdefault(call_id, self._clock()) >= LOOK

    def _is_ours(self, call_id: str) -> bool:
        """Whether the `socket` application that runs has been connected with this service's port on this machine."""
        host = self._link.api(f"uuid_getvar {call_id} socket_host").strip()
        peers = self._link.api(f"uuid_getvar {call_id} current_application_data").split(" ")[0].strip("'").split("|")
        ports = [port.partition("/")[0] for name, _, port in (peer.rpartition(":") for peer in peers) if name == host]
        return str(self._listen[1]) in ports and _is_here(host)

    def _way(self) -> str:
        """Where to send a call, empty where there is no way: an IPv6 address has colons `socket` would split at."""
        host, port = self._listen
        peer = self._link.local_host if host in _EVERYWHERE else "127.0.0.1" if host == "localhost" else host
        # Without the pause the end of the old connection can end this park too.
        way = f"set:{_ASKED}=true,sleep:100,socket:{peer}:{port} async full,set:park_timeout={PARKED},park"
        return "" if ":" in peer else way


def _is_here(host: str) -> bool:
    try:
        socket.create_server((socket.gethostbyname(host), 0)).close()
    except OSError:
        return False
    return True


def go_on(live: LiveCall, left: Iterable[Recording], spare: Callable[[Recording], None]) -> list[Recorder]:
    """Goes on, in the background, with the recordings of a call that has come back; ``spare`` is given what cannot be
    gone on with."""
    session, recorders = live.session, []
    for one in left:
        try:
            recorders.append(live.go_on(one))
        except ParameterError as error:
            log.error("%s: recording %s is completed without its call: %s", session.label, one.recording_id, error)
            spare(one)
    return recorders


def let_go(session: Session, variables: Sequence[tuple[str, str]] = ()) -> None:
    """Hands the call back to its dialplan with channel ``variables``, or hangs it up where it has none any more."""
    if was_asked_back(session) and not session.left:
        session.hangup()
    session.release(variables)


def was_asked_back(session: Session) -> bool:
    """Whether the call is here for what an earlier run has left of it, and has no dialplan behind."""
    # An inline dialplan may be somebody else's, and the variable stays when the call is sent elsewhere.
    return session.data.get("Caller-Dialplan") == _INLINE and f"variable_{_ASKED}" in session.data

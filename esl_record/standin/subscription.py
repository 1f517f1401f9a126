"""Which events a connection has asked for."""

from __future__ import annotations

import re

from esl_record.standin.core import Event

_MYEVENTS = {
    "CHANNEL_ANSWER",
    "CHANNEL_APPLICATION",
    "CHANNEL_BRIDGE",
    "CHANNEL_CREATE",
    "CHANNEL_DATA",
    "CHANNEL_DESTROY",
    "CHANNEL_EXECUTE",
    "CHANNEL_EXECUTE_COMPLETE",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
    "CHANNEL_ORIGINATE",
    "CHANNEL_OUTGOING",
    "CHANNEL_PARK",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_STATE",
    "CHANNEL_UNBRIDGE",
    "CHANNEL_UNPARK",
    "CHANNEL_UUID",
    "DETECTED_SPEECH",
    "DTMF",
    "NOTALK",
    "TALK",
}

# Names the switch knows; it skips others without a word.
_KNOWN = _MYEVENTS | {
    "ALL",
    "API",
    "BACKGROUND_JOB",
    "CALL_UPDATE",
    "CHANNEL_CALLSTATE",
    "CHANNEL_HOLD",
    "CHANNEL_UNHOLD",
    "CODEC",
    "COMMAND",
    "CUSTOM",
    "GENERAL",
    "HEARTBEAT",
    "MEDIA_BUG_START",
    "MEDIA_BUG_STOP",
    "MESSAGE",
    "NOTIFY",
    "PLAYBACK_START",
    "PLAYBACK_STOP",
    "RECORD_START",
    "RECORD_STOP",
    "SESSION_HEARTBEAT",
    "SHUTDOWN",
}


class Subscription:
    """A connection's event list and filters. Only the plain format is spoken.

    ``own_uuid``: the call that ``myevents`` restricts it to; None is any call.
    """

    def __init__(self, own_uuid: str | None) -> None:
        self.own_uuid = own_uuid
        self._only_own = False
        self._names: set[str] = set()
        self._filters: list[tuple[str, str]] = []

    def wants(self, event: Event) -> bool:
        if event.name not in self._names and "ALL" not in self._names:
            return False
        if self._filters and not self._passes(event):
            return False
        if not self._only_own:
            return True
        if self.own_uuid is None:
            return event.get("Unique-ID") is not None
        return self.own_uuid in (event.get("Unique-ID"), event.get("Job-Owner-UUID"))

    def _passes(self, event: Event) -> bool:
        """Any filter that matches lets an event through; one marked ``-`` that matches keeps it back."""
        passes = False
        for name, wanted in self._filters:
            value = event.get(name)
            if value is None:
                continue
            negative = wanted.startswith("-")
            wanted = wanted.lstrip("+- ")
            if wanted.startswith("/"):
                matches = re.search(wanted.strip("/"), value) is not None
            else:
                matches = value.lower() == wanted.lower()
            if matches and negative:
                return False
            passes = passes or matches
        return passes

    def command(self, command: str) -> str | None:
        """Carry out a command about events and give the answer; None if it is no such command."""
        word, _, rest = command.partition(" ")
        carry_out = {
            "myevents": self._myevents,
            "event": self._event,
            "events": self._event,
            "nixevent": self._nixevent,
            "noevents": self._noevents,
            "filter": self._filter,
        }.get(word.lower())
        return carry_out(rest.strip()) if carry_out else None

    def _myevents(self, rest: str) -> str:
        if self._only_own:
            return "-ERR aready enabled."
        self._only_own = True
        self._names |= _MYEVENTS
        return "+OK Events Enabled"

    def _event(self, rest: str) -> str:
        names = rest.upper().split()
        if names and names[0] in ("PLAIN", "XML", "JSON"):
            del names[0]
        known = [name for name in names if name in _KNOWN]
        if not known:
            return "-ERR no keywords supplied"
        self._names.update(known)
        return "+OK event listener enabled plain"

    def _nixevent(self, rest: str) -> str:
        known = [name for name in rest.upper().split() if name in _KNOWN]
        if not known:
            return "-ERR no keywords supplied"
        if "ALL" in known:
            self._names.clear()
        elif "ALL" in self._names:
            self._names = set(_KNOWN) - {"ALL"}
        self._names.difference_update(known)
        return "+OK events nixed"

    def _noevents(self, rest: str) -> str:
        if not self._names:
            return "-ERR not listening for events"
        self._names.clear()
        return "+OK no longer listening for events"

    def _filter(self, rest: str) -> str:
        name, _, value = rest.partition(" ")
        if name.lower() == "delete" and value:
            name, _, value = value.partition(" ")
            self._filters = [
                (header, wanted)
                for header, wanted in self._filters
                if name.lower() not in (header.lower(), "all") or (value and wanted != value)
            ]
            return f"+OK filter deleted. [{name}][{value}]"
        if name.lower() == "add" and value:
            name, _, value = value.partition(" ")
        if not value:
            return "-ERR invalid syntax"
        self._filters.append((name, value))
        return f"+OK filter added. [{name}]=[{value}]"

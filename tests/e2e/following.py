"""Calls followed while they last: which applications the switch runs on them, and what the caller hears."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol

import gevent
import numpy as np
import soundfile
from gevent.event import Event as Flag
from numpy.typing import NDArray
from phones import Dialled, FreeSwitchPhone, Live, Phone, StandInPhone
from running import RunningService

from esl_record.esl import wire
from esl_record.esl.inbound import Inbound


class Executed(NamedTuple):
    """An application with its argument. ``at``: seconds of the switch's clock."""

    application: str
    argument: str
    at: float

    @classmethod
    def of(cls, event: wire.Event) -> "Executed":
        return cls(event.get("Application"), event.get("Application-Data"), _at(event))


def _at(event: wire.Event) -> float:
    return int(event.get("Event-Date-Timestamp")) / 1e6


class Followed(Protocol):
    """A call under way. ``caller``: the caller's name; ``dtmf``: the digits it was sent; ``ended_at``: seconds of the
    switch's clock."""

    live: Live
    over: Flag
    caller: str
    ended_at: float

    @property
    def executed(self) -> list[Executed]: ...
    @property
    def dtmf(self) -> str: ...
    def press(self, digits: str) -> None: ...
    def heard(self) -> NDArray[np.int16]:
        """What the caller has heard, but for the first moments of a call on a real switch; once it is over."""


class Follower(Protocol):
    service: RunningService
    real: bool
    fetches: bool
    """Whether the switch can play what a web server gives."""
    speaks: bool

    def dial(self, dialled: Dialled) -> Followed: ...


@contextmanager
def following(phone: Phone, folder: Path) -> Iterator[Follower]:
    """``folder``: where a real switch puts what callers hear."""
    if isinstance(phone, FreeSwitchPhone):
        with Inbound(phone.event_socket, "ClueCon") as switch:
            yield _FreeSwitchFollower(phone, switch, folder)
    else:
        assert isinstance(phone, StandInPhone)
        yield _StandInFollower(phone)


# ---- the stand-in


class _StandInFollower:
    real, fetches, speaks = False, False, True

    def __init__(self, phone: StandInPhone) -> None:
        self._phone = phone
        self.service = phone.service

    def dial(self, dialled: Dialled) -> Followed:
        return _StandInFollowed(self._phone.dial(dialled), dialled.name)


class _StandInFollowed:
    dtmf = ""

    def __init__(self, live: Live, caller: str) -> None:
        self.live = live
        self.caller = caller
        self.ended_at = 0.0
        self._call = live.call  # type: ignore[attr-defined]  # the stand-in's alone has it
        self.over = self._call.finished
        self._executed: list[Executed] = []
        self._reader = wire.FrameReader()
        self._read = 0

    @property
    def executed(self) -> list[Executed]:
        for direction, data in self._call.wire[self._read :]:
            self._read += 1
            for frame in self._reader.feed(data) if direction == "<<" else ():
                if frame.content_type == "text/event-plain":
                    event = wire.parse_event(frame)
                    if event.name == "CHANNEL_EXECUTE":
                        self._executed.append(Executed.of(event))
                    elif event.name == "CHANNEL_HANGUP":
                        self.ended_at = _at(event)
        return self._executed

    def press(self, digits: str) -> None:
        for digit in digits:
            self._call.press(digit)

    def heard(self) -> NDArray[np.int16]:
        heard: NDArray[np.int16] = self._call.heard
        return heard


# ---- a real one


class _FreeSwitchFollower:
    """Tells the legs of its calls by the caller's name, which the caller's own leg loses after its answer."""

    real = True

    def __init__(self, phone: FreeSwitchPhone, switch: Inbound, folder: Path) -> None:
        self._phone = phone
        self._switch = switch
        self._folder = folder
        self._numbers = count()
        self._calls: dict[str, _FreeSwitchFollowed] = {}
        self._legs: dict[str, _FreeSwitchFollowed] = {}
        self.service = phone.service
        self.fetches = phone.has("mod_httapi")
        self.speaks = phone.has("mod_flite")
        switch.send("event plain CHANNEL_ANSWER CHANNEL_EXECUTE CHANNEL_HANGUP_COMPLETE DTMF")
        switch.listen(self._on_event)

    def dial(self, dialled: Dialled) -> Followed:
        name = f"Follow {next(self._numbers)}"
        self._calls[name] = followed = _FreeSwitchFollowed(self._switch, self._folder, name)
        followed.live = self._phone.dial(replace(dialled, name=name))
        return followed

    def _on_event(self, event: wire.Event) -> None:
        uuid = event.get("Unique-ID")
        call = self._legs.get(uuid) or self._calls.get(event.get("Caller-Caller-ID-Name"))
        if call is not None:
            self._legs[uuid] = call
            call.on_event(event)


class _FreeSwitchFollowed:
    live: Live

    def __init__(self, switch: Inbound, folder: Path, caller: str) -> None:
        self.over = Flag()
        self.caller = caller
        self.ended_at = 0.0
        self.executed: list[Executed] = []
        self.dtmf = ""
        self._switch = switch
        self._path = folder / f"{caller.replace(' ', '')}.wav"
        self._caller = self._called = ""

    def on_event(self, event: wire.Event) -> None:
        uuid, outbound = event.get("Unique-ID"), event.get("Call-Direction") == "outbound"
        if event.name == "CHANNEL_EXECUTE" and not outbound:
            # Those whom the call is connected with may have the caller's name too.
            self._called = self._called or uuid
            if uuid == self._called:
                self.executed.append(Executed.of(event))
        elif event.name == "CHANNEL_ANSWER" and outbound and not self._caller:
            self._caller = uuid
            variables = "{RECORD_READ_ONLY=true,RECORD_PRE_BUFFER_FRAMES=1}"
            # The reader's greenlet, which runs this, must not wait for a reply.
            gevent.spawn(self._switch.api, f"uuid_record {uuid} start {self._path} 0 {variables}")
        elif event.name == "DTMF" and uuid == self._caller:
            self.dtmf += event.get("DTMF-Digit")
        elif event.name == "CHANNEL_HANGUP_COMPLETE" and uuid == self._called:
            self.ended_at = _at(event)
            self.over.set()

    def press(self, digits: str) -> None:
        self._switch.api(f"uuid_send_dtmf {self._caller} {digits}")

    def heard(self) -> NDArray[np.int16]:
        if not self._path.exists():
            return np.zeros(0, np.int16)
        samples: NDArray[np.int16] = soundfile.read(self._path, dtype="int16")[0]
        return samples

"""What all calls of one switch share: its clock, its event numbers, and who hears its events."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from esl_record.standin.clock import Clock
from esl_record.standin.faults import Faults
from esl_record.standin.headers import Header, preamble, serialize


@dataclass(frozen=True)
class Event:
    """One event: its name, its headers in order, and its body if it has one."""

    name: str
    headers: tuple[Header, ...]
    body: str = ""

    def get(self, name: str) -> str | None:
        """The first header of that name, compared without regard to case."""
        return next((value for header, value in self.headers if header.lower() == name.lower()), None)

    def serialize(self) -> bytes:
        """As the event socket sends it in plain format, without the frame around it."""
        text = serialize(self.headers)
        if not self.body:
            return text
        body = self.body.encode("utf-8", "surrogateescape")
        return text[:-1] + b"Content-Length: %d\n\n" % len(body) + body


class Core:
    """The parts of a switch that its calls, recordings and connections need of it."""

    def __init__(self, faults: Faults, began_us: int | None = None) -> None:
        self.faults = faults
        self.clock = Clock(began_us)
        self.uuid = str(uuid.uuid4())
        self.extensions: dict[str, list[tuple[str, str]]] = {}
        """What a call does that is sent to a destination, application and argument each."""
        self.sessions_since_startup = 0
        self._sequence = 100
        self._listeners: list[Callable[[Event], None]] = []

    def fire(self, name: str, headers: Iterable[Header], body: str = "") -> Event:
        """Number and date an event and offer it to every connection."""
        event = Event(name, (*self.preamble(name), *headers), body)
        for listener in list(self._listeners):
            listener(event)
        return event

    def preamble(self, name: str) -> list[Header]:
        self._sequence += 1
        return preamble(name, self.uuid, self.clock.now_us, self._sequence)

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[Event], None]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

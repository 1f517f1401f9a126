"""The digits of one call: as in the switch, one that is pressed waits until somebody asks for it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from gevent.event import Event as Flag

from esl_record.esl.wire import Event
from esl_record.recording.params import DTMF_DIGITS

WAITING = 512
"""Digits kept for whoever asks; more are dropped."""

_DURATION = 2000


@dataclass(frozen=True, slots=True)
class DTMF:
    """A digit, ``0``-``9``, ``A``-``D``, ``*`` or ``#``, and how long it was pressed, in samples of 8 kHz."""

    digit: str
    duration: int = _DURATION


class Keypad:
    """``wake`` is set with every digit, and by whoever else has news for those who wait. ``live`` says whether the
    call is there to be waited for."""

    def __init__(self, live: Callable[[], bool]) -> None:
        self.waiting: list[DTMF] = []
        """In the order they were pressed."""
        self.wake = Flag()
        self._live = live

    def on_event(self, event: Event) -> None:
        """Takes a DTMF event of the switch."""
        digit, duration = event.get("DTMF-Digit").upper(), event.get("DTMF-Duration")
        if digit in DTMF_DIGITS and len(self.waiting) < WAITING:
            lasted = int(duration) if duration.isascii() and duration.isdigit() and len(duration) < 9 else _DURATION
            self.waiting.append(DTMF(digit, lasted))
            self.wake.set()

    def wait(self, until: float = math.inf) -> bool:
        """Waits for news; False where the monotonic clock has come to ``until`` or the call has gone."""
        left = until - time.monotonic()
        if left <= 0 or not self._live():
            return False
        self.wake.wait(None if math.isinf(left) else left)
        self.wake.clear()
        return self._live() and time.monotonic() < until

    def collect(
        self, most: int, terminators: str, *, first: float, between: float, longest: float = math.inf
    ) -> tuple[str, str]:
        """Takes up to ``most`` digits or until one of ``terminators``; gives the digits and the terminator.

        ``first`` seconds are waited for the first digit, ``between`` for every further one, ``longest`` for all.
        """
        began = time.monotonic()
        taken, due = "", began + first
        while len(taken) < most:
            if not self.waiting:
                if self.wait(min(due, began + longest)):
                    continue
                break
            digit = self.waiting.pop(0).digit
            if digit in terminators:
                return taken, digit
            taken, due = taken + digit, time.monotonic() + between
        return taken, ""

    def drop(self, before: int, through: str = "") -> None:
        """Forgets the digits behind the first ``before``, or of these those up to the first ``through``."""
        pressed = [dtmf.digit for dtmf in self.waiting[before:]]
        end = before + pressed.index(through) + 1 if through in pressed else len(self.waiting)
        del self.waiting[before:end]

"""Sequences of DTMF digits that pause and resume the recordings of a call. Pure, with the time from outside."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from esl_record.recording.machine import PauseBehavior

DIGIT_GAP = 3.0
"""Seconds that may pass between two digits of one sequence."""

LONGEST = 16
"""Digits of a sequence, at most."""


class PauseCommand(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class PauseDigits:
    """The sequences, each empty where it is off, and how a recording is paused.

    Raises:
        ValueError: One sequence contains the other: the longer one could never be matched, or would always match both.
    """

    pause: str = ""
    resume: str = ""
    behavior: PauseBehavior = PauseBehavior.SILENCE

    def __post_init__(self) -> None:
        if self.pause and self.resume and (self.pause in self.resume or self.resume in self.pause):
            raise ValueError(
                f"pause_digits = {self.pause!r} and resume_digits = {self.resume!r}: neither may contain the other, "
                "such as *5 and *6"
            )

    @property
    def enabled(self) -> bool:
        """Whether there is a sequence to wait for."""
        return bool(self.pause or self.resume)


class PauseMatcher:
    """Finds the sequences in the digits of one leg.

    A sequence may follow any other digits. Its own must follow each other within ``DIGIT_GAP``, and a digit belongs to
    one match only.
    """

    def __init__(self, digits: PauseDigits, clock: Callable[[], float] = time.monotonic) -> None:
        self._commands = [
            (sequence, command)
            for sequence, command in ((digits.pause, PauseCommand.PAUSE), (digits.resume, PauseCommand.RESUME))
            if sequence
        ]
        self._longest = max((len(sequence) for sequence, _ in self._commands), default=0)
        self._clock = clock
        self._pressed = ""
        self._last = 0.0

    def press(self, digit: str) -> PauseCommand | None:
        """Take the next digit, and return the command that it completes."""
        now = self._clock()
        if now - self._last > DIGIT_GAP:
            self._pressed = ""
        self._last = now
        self._pressed = (self._pressed + digit.upper())[-self._longest :]
        for sequence, command in self._commands:
            if self._pressed.endswith(sequence):
                self._pressed = ""
                return command
        return None

"""Asking the party for digits, with the rules of the switch's own ``read`` and ``play_and_get_digits``."""
# ruff: noqa: N802  # the names are FreeSWITCH's

import math
import re
import time
from collections.abc import Callable
from typing import Literal

from esl_record.esl import wire
from esl_record.handlers.sound import PLAYED, SoundVerbs

_Status = Literal["success", "timeout", "failure", "restart"]


class DigitVerbs(SoundVerbs):
    """A digit nobody has asked for yet waits: what is pressed during ``streamFile`` counts for the next ``getDigits``.

    Times are milliseconds, 0 is for ever.
    """

    def setInputCallback(self, cbfunc: Callable[..., object], funcargs: object = None) -> None:
        """Calls ``cbfunc(session, "dtmf", digit[, funcargs])`` for every digit, a ``DTMF``, while a verb plays, speaks,
        sleeps, records a file or collects digits.

        It goes on at None, True, "" and "true", and where a file is played at "pause", "restart", "seek:+ms",
        "speed:+n" and "volume:+n", which do what they say. Anything else, such as "break" or False, ends it.
        """
        if not callable(cbfunc):
            raise TypeError(f"setInputCallback: {cbfunc!r}: a function is wanted")
        given = () if funcargs is None else (funcargs,)
        self._callback = lambda digit: cbfunc(self, "dtmf", digit, *given)

    def unsetInputCallback(self) -> None:
        self._callback = None

    def collectDigits(self, *timeouts: int) -> int:
        """``collectDigits([digit_timeout,] abs_timeout)``: lets the input callback have the digits for that long."""
        digit_timeout, abs_timeout = timeouts if len(timeouts) == 2 else (0, *timeouts)

        def collect() -> None:
            self._answer_first()
            ends, due = (time.monotonic() + _seconds(timeout) for timeout in (abs_timeout, digit_timeout))
            while self._callback is not None:
                if self._keypad.waiting:
                    due = time.monotonic() + _seconds(digit_timeout)
                if self._hear() or not self._keypad.wait(min(due, ends)):
                    return

        self._verb(collect, None)
        return 0

    def flushDigits(self) -> int:
        """Forgets the digits that wait."""
        self._keypad.drop(0)
        return 0

    def flushEvents(self) -> int:
        """Events are not kept: there is nothing to flush."""
        return 0

    def getDigits(
        self, maxdigits: int, terminators: str, timeout: int, interdigit: int = 0, abstimeout: int = 0
    ) -> str:
        """Up to ``maxdigits`` digits, without the one of ``terminators`` that ended them."""
        first, between = _seconds(timeout or interdigit), _seconds(interdigit or timeout)
        longest = _seconds(abstimeout)

        def collect() -> str:
            self._answer_first()
            return self._keypad.collect(maxdigits, terminators, first=first, between=between, longest=longest)[0]

        return self._verb(collect, "")

    def read(
        self,
        min_digits: int,
        max_digits: int,
        prompt_audio_file: str,
        timeout: int,
        valid_terminators: str,
        digit_timeout: int = 0,
    ) -> str:
        """Plays a prompt, ended by the first digit, and gives the digits; a terminator behind ``+`` is one of them."""
        least = max(min_digits, 1)
        return self._ask(
            least, max(max_digits, least), prompt_audio_file, max(timeout, 1), valid_terminators, digit_timeout
        )[1]

    def playAndGetDigits(
        self,
        min_digits: int,
        max_digits: int,
        max_tries: int,
        timeout: int,
        terminators: str,
        audio_files: str,
        bad_input_audio_files: str,
        digits_regex: str,
        var_name: str | None = None,
        digit_timeout: int = 0,
        transfer_on_failure: str | None = None,
    ) -> str:
        """As ``read``, up to ``max_tries`` times until ``digits_regex`` is found in the digits; "" where it is not."""
        pattern = re.compile(digits_regex or "")
        for _ in range(max_tries):
            if not self._live:
                return ""
            status, digits, terminator = self._ask(
                min_digits, max(max_digits, min_digits), audio_files, timeout, terminators, digit_timeout
            )
            nothing_wanted = not min_digits and not digits and terminator
            enough = status == "success" or (status == "timeout" and len(digits) >= min_digits)
            good = enough and digits and pattern.search(digits)
            if var_name:
                self._tell(var_name, digits if good else "")
                if digits_regex:
                    self._tell(f"{var_name}_invalid", "" if good else digits)
            if good or nothing_wanted or status == "restart":
                return digits
            if bad_input_audio_files:
                self._verb(lambda: self._played(bad_input_audio_files, lambda: False), None)
        if transfer_on_failure:
            self.transfer(*transfer_on_failure.split()[:3])
        return ""

    def _ask(
        self, least: int, most: int, prompt: str, timeout: int, terminators: str, digit_timeout: int
    ) -> tuple[_Status, str, str]:
        """One try: how it went, the digits, and the terminator."""
        asked = self._verb(
            lambda: self._asked(most, prompt, _seconds(timeout), terminators, _seconds(digit_timeout or timeout)), None
        )
        if asked is None:
            return "failure", "", ""
        digits, terminator = asked
        mark = terminators[: terminators.find(terminator)][-1:] if terminator else ""
        status: _Status = "success" if terminator or len(digits) >= most else "timeout"
        if mark in ("+", "x"):
            digits += terminator
        if mark == "x":
            status = "restart"
        elif len(digits) < least or (terminators.startswith("=") and not terminator):
            status = "failure"
        self._tell("read_result", "failure" if status == "restart" else status)
        self._tell("read_terminator_used", terminator)
        return status, digits, terminator

    def _asked(self, most: int, prompt: str, first: float, terminators: str, between: float) -> tuple[str, str] | None:
        self._answer_first()
        if prompt and prompt.lower() != "silence" and not self._played(prompt, lambda: bool(self._keypad.waiting)):
            return None
        return self._keypad.collect(most, terminators, first=first, between=between)

    def _played(self, file: str, ended: Callable[[], bool]) -> bool:
        """Plays a file until, asked at every digit, ``ended`` says so; False where there is no such file."""
        event = self._beside(lambda: self._session.playback(wire.clean(file)), ended)
        return event is None or event.get("Application-Response") == PLAYED

    def _tell(self, variable: str, value: str) -> None:
        self._verb(lambda: self._session.set_variable(variable, value), None)


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000 if milliseconds > 0 else math.inf

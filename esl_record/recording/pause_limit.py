"""How much longer a pause may last. Pure, with the time from outside."""

import math
import time
from collections.abc import Callable

from esl_record.recording.machine import PauseSpan


class PauseLimit:
    """Limits each pause to ``seconds`` of wall time, 0 = no limit: a ``skip`` pause has no samples to count.

    A pause that this process sees begin is timed by the monotonic clock, so that setting the time of day does not
    resume a recording early. One that began in an earlier process has what the Unix time since its request leaves of
    its limit.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._monotonic = monotonic
        self._pause: PauseSpan | None = None
        self._ends = math.inf

    def left(self, pausing: PauseSpan | None) -> float:
        """Return the seconds that are left of the pause that has not ended, infinite without a pause or a limit."""
        if pausing is None or not self.seconds:
            self._pause = None
            return math.inf
        if pausing is not self._pause:
            passed = min(max(self._clock() - pausing.since, 0.0), self.seconds)
            self._pause, self._ends = pausing, self._monotonic() + self.seconds - passed
        return max(self._ends - self._monotonic(), 0.0)

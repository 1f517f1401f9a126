"""How much a peer may send that no command asked for."""

import time
from collections.abc import Callable

BURST = 4000.0
"""Units that may come at once: more than a thousand ordinary events of one call."""

PER_SECOND = 400.0
"""Units that come back each second: some hundred ordinary events."""

FOR_A_COMMAND = 16.0
"""Units that come back for each command sent: what it starts has events."""

UNIT, ESCAPES = 4096, 256
"""Bytes and percent signs of an event that cost a unit each, besides the one that every event costs."""


class Allowance:
    """A bucket of units that fills with time, and with each command."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = BURST
        self._since = clock()

    def spend(self, event: bytes) -> bool:
        """Take what an ``event`` costs, as it is on the wire; return whether it was there."""
        now = self._clock()
        cost = 1 + len(event) // UNIT + event.count(b"%") // ESCAPES
        self._left = min(BURST, self._left + PER_SECOND * (now - self._since)) - cost
        self._since = now
        return self._left >= 0

    def earn(self) -> None:
        """Note that a command is sent."""
        self._left = min(BURST, self._left + FOR_A_COMMAND)

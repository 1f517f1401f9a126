"""Call time: a count of frames. Nothing in the stand-in switch reads a wall clock except the pacing of this count."""

from __future__ import annotations

import time
from email.utils import formatdate

FRAME_MS = 20
FRAME_US = FRAME_MS * 1000
FRAMES_PER_SECOND = 1000 // FRAME_MS


def frames(seconds: float) -> int:
    """How many whole frames ``seconds`` are, rounded to the nearest."""
    return round(seconds * FRAMES_PER_SECOND)


class Clock:
    """Frames since the switch started, and the date that stands for.

    The date starts at ``began_us`` (microseconds since the epoch), or else at the wall clock's, and runs as fast as
    call time does, so a fast switch runs ahead of the wall.
    """

    def __init__(self, began_us: int | None = None) -> None:
        self.frame = 0
        self.started_us = time.time_ns() // 1000 if began_us is None else began_us

    @property
    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return self.started_us + self.frame * FRAME_US

    @property
    def epoch(self) -> int:
        """Whole seconds since the epoch, which is what the switch's own limits and linger times count in."""
        return self.now_us // 1_000_000


def local_stamp(us: int) -> str:
    """``YYYY-MM-DD HH:MM:SS`` in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(us / 1_000_000))


def gmt_stamp(us: int) -> str:
    """As ``Event-Date-GMT`` has it: ``Sun, 22 Nov 2026 10:45:23 GMT``."""
    return formatdate(us / 1_000_000, usegmt=True)

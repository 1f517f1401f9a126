"""The tap of one recording: the media bugs that write its spool, what each is told, and how its files must grow."""

import logging
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from esl_record.audio.spool import Spool
from esl_record.audio.timeline import Segment
from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl.channel import ReachedCall
from esl_record.recording.params import Direction, RecordParams

log = logging.getLogger(__name__)

NARROW_BAND = 8000
"""Samples a second where the switch names no rate."""

EXCESS = 0.3
"""Seconds of audio a tap may be ahead of the clock before that is looked into."""

CONFIRMED_AFTER = 0.4
"""Seconds after which a tap that writes too much is further ahead still; a switch that was late has made up for it."""

_FIRST_LOOK = 0.5

_SETTINGS = {
    "enable_file_write_buffering": "false",
    "RECORD_PRE_BUFFER_FRAMES": "1",
    "RECORD_STEREO_SWAP": "false",
    "RECORD_ANSWER_REQ": "false",
    "RECORD_BRIDGE_REQ": "false",
    "RECORD_APPEND": "false",
    "RECORD_MIN_SEC": "0",
    "RECORD_INITIAL_TIMEOUT_MS": "0",
    "RECORD_FINAL_TIMEOUT_MS": "0",
    # The two timeouts set it to 200 when they are given, 0 included.
    "RECORD_SILENCE_THRESHOLD": "0",
    "RECORD_HANGUP_ON_ERROR": "false",
    "RECORD_TOGGLE_ON_REPEAT": "false",
    "RECORD_CHECK_BRIDGE": "false",
    "RECORD_USE_THREAD": "true",
}
"""Settings of the tap that are the same for every recording."""


def tap_variables(params: RecordParams, rate: int) -> Mapping[str, str]:
    """Return every setting that ``uuid_record`` reads, for a tap that writes ``rate`` samples a second.

    The switch takes what is missing here from the channel variable of the same name (`get_recording_var` in its
    switch_ivr_async.c), and dialplans set several of them on every leg. The file is unbuffered and has no pre-buffer,
    so that it is as far as the call; in stereo the party is on the left.
    """
    one_side = None if params.stereo else params.direction
    return _variables(rate, stereo=params.stereo, side=one_side)


def _variables(rate: int, *, stereo: bool, side: Direction | None) -> Mapping[str, str]:
    return {
        **_SETTINGS,
        "record_sample_rate": str(rate),
        "RECORD_STEREO": _flag(stereo),
        "RECORD_READ_ONLY": _flag(side is Direction.SPEAK),
        "RECORD_WRITE_ONLY": _flag(side is Direction.LISTEN),
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"


class Tap:
    """Writes the segments of ``spool``, one after the other, at one rate whatever the codec of the leg.

    Every verb raises what the session's verbs raise.
    """

    def __init__(self, session: ReachedCall, spool: Spool, params: RecordParams) -> None:
        self.rate = NARROW_BAND
        """Samples a second of the recording."""
        self.session = session
        self._spool = spool
        self._params = params
        self._leg_rate = 0

    def ask_rate(self) -> int:
        """Ask for the rate of the leg, which becomes the recording's."""
        self.rate = _number(self.session.leg_rate()) or NARROW_BAND
        self._leg_rate = self.rate
        return self.rate

    def take_over(self, rate: int) -> None:
        """Go on with a recording of ``rate`` samples a second that an earlier run has begun."""
        self.rate = rate
        self._leg_rate = self._spool.timeline.segments[-1].rate or rate

    def start(self) -> None:
        """Start the first segment."""
        self._spool.begin(self._segment())
        self._start()

    def add(self, not_before: float = 0.0, *, cut: bool = True) -> None:
        """Add a segment to the spool, for ``move`` to start; ``not_before`` and ``cut`` as in Spool. Raises SpoolError
        too."""
        self._spool.add(self._segment(), not_before, cut=cut)

    def move(self) -> None:
        """Start the segment that was added, and stop the one before."""
        try:
            self._start()
        finally:
            self.stop_earlier()

    def stop_earlier(self) -> None:
        """Stop what runs beside the segment that is written, by an earlier run too."""
        self._stop([path for path in self._spool.all_paths if path not in self._spool.paths])

    def stop(self) -> None:
        self._stop(self._spool.paths)

    def pause(self, *, mask: bool) -> None:
        for path in self._spool.paths:
            self.session.pause_tap(str(path), mask=mask)

    def resume(self, *, mask: bool) -> None:
        for path in self._spool.paths:
            self.session.resume_tap(str(path), mask=mask)

    @property
    def started(self) -> bool:
        """Whether the segment that is written has been started."""
        return all(map(os.path.lexists, self._spool.paths))

    def writes(self, path: str) -> bool:
        """Whether ``path`` is a file of the segment that is written."""
        return path in map(str, self._spool.paths)

    def takes_codec(self, told: str) -> bool:
        """Whether a codec of so many samples a second is another one than the running tap was started with."""
        rate = _number(told)
        changed = rate not in (0, self._leg_rate)
        self._leg_rate = rate or self._leg_rate
        return changed

    def fits(self) -> bool:
        """Whether the leg has as many channels as the segment that is written takes it to have."""
        return self._spool.timeline.segments[-1] == self._segment()

    def _segment(self) -> Segment:
        rate = 0 if self._leg_rate == self.rate else self._leg_rate
        if self.session.leg_channels() == 2:
            # The switch writes both channels of such a leg, whatever it is asked for: one side at a time.
            return Segment(channels=2, split=self._params.stereo, rate=rate)
        return Segment(channels=2 if self._params.stereo else 1, rate=rate)

    def _start(self) -> None:
        paths = self._spool.paths
        if len(paths) == 1:
            self.session.start_tap(str(paths[0]), tap_variables(self._params, self.rate))
            return
        for path, side in zip(paths, (Direction.SPEAK, Direction.LISTEN), strict=True):
            self.session.start_tap(str(path), _variables(self.rate, stereo=False, side=side))

    def _stop(self, paths: list[Path]) -> None:
        for path in paths:
            try:
                self.session.stop_tap(str(path))
            except (CallGone, CommandRefused, CommandTimeout) as error:
                log.debug("%s: stopping the tap: %s", self.session.label, error)


class Growth:
    """How the file of a tap grows against the clock; times in seconds of ``time.monotonic``.

    ``pace``: samples a second the tap has to write, 0 where that cannot be said.
    """

    def __init__(self, pace: float = 0.0) -> None:
        self._pace = pace
        self.restart(0, time.monotonic())

    def restart(self, written: int, now: float) -> None:
        """Count anew, as with a new file."""
        self.written = written
        self.since = now
        """When it last grew."""
        self._base = written
        self._began = now
        self._looked = now
        self._stopped: float | None = None
        self._doubted: tuple[float, float] | None = None
        self._restarted = now

    def stop(self, now: float) -> None:
        """Leave out the time from now until it grows again, as in a pause or a hold."""
        if self._stopped is None:
            self._stopped = now

    def look(self, written: int, now: float) -> bool:
        """Take note of the file's size; says whether it has grown since the last look."""
        grown = written > self.written
        if grown:
            if self._stopped is not None:
                # Until the look before it had certainly not gone on.
                self._began += max(0.0, self._looked - self._stopped)
                self._stopped = None
            self.written, self.since = written, now
        self._looked = now
        return grown

    def excess(self, now: float) -> float:
        """Seconds of audio the file has more than time has passed."""
        if not self._pace or self._stopped is not None:
            return 0.0
        return (self.written - self._base) / self._pace - (now - self._began)

    def runs_ahead(self, now: float) -> bool:
        """Whether it keeps growing by half as much again as it has to, or more."""
        excess = self.excess(now)
        if excess <= EXCESS:
            self._doubted = None
        elif self._doubted is None:
            self._doubted = (now, excess)
        elif now - self._doubted[0] >= CONFIRMED_AFTER:
            since, before = self._doubted
            if excess - before >= (now - since) / 2:
                return True
            # The switch was late when the tap was started.
            self._began -= excess
            self._doubted = None
        return False

    def next_look(self, now: float) -> float:
        """Seconds after which it has to be looked at again, whether or not anything else happens."""
        if self._doubted is not None:
            return CONFIRMED_AFTER
        # Most of what can be wrong with a tap is so from its start.
        return _FIRST_LOOK if now - self._restarted < _FIRST_LOOK else math.inf


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0

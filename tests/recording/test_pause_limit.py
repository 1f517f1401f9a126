"""The limit of a pause: which clock it counts by, and what of it is left after a restart."""

import math

import pytest

from esl_record.recording.machine import PauseBehavior, PauseSpan
from esl_record.recording.pause_limit import PauseLimit

SINCE = 1.7e9


class Clocks:
    """The time of day and a monotonic clock, which are set apart."""

    def __init__(self) -> None:
        self.unix = SINCE
        self.monotonic = 50.0

    def limit(self, seconds: float) -> PauseLimit:
        return PauseLimit(seconds, lambda: self.unix, lambda: self.monotonic)

    def pass_(self, seconds: float) -> None:
        self.unix += seconds
        self.monotonic += seconds


def pause(since: float = SINCE) -> PauseSpan:
    return PauseSpan(100, 100, PauseBehavior.SKIP, since=since)


def test_without_a_limit_or_a_pause_there_is_no_end() -> None:
    assert Clocks().limit(0).left(pause()) == math.inf
    assert Clocks().limit(30).left(None) == math.inf


def test_what_is_left_runs_down_to_nothing() -> None:
    clocks, one = Clocks(), pause()
    limit = clocks.limit(30)
    assert limit.left(one) == 30
    clocks.pass_(20)
    assert limit.left(one) == 10
    clocks.pass_(20)
    assert limit.left(one) == 0


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_setting_the_time_of_day_changes_no_pause(step: float) -> None:
    clocks, one = Clocks(), pause()
    limit = clocks.limit(30)
    limit.left(one)
    clocks.unix += step
    clocks.pass_(20)
    assert limit.left(one) == 10


def test_each_pause_has_the_whole_limit() -> None:
    clocks = Clocks()
    limit = clocks.limit(30)
    limit.left(pause())
    clocks.pass_(25)
    assert limit.left(None) == math.inf
    assert limit.left(pause(clocks.unix)) == 30
    clocks.pass_(5)
    # Of two at the same sample, with no look between them.
    assert limit.left(pause(clocks.unix)) == 30


@pytest.mark.parametrize(("since", "left"), [(SINCE - 20, 10), (SINCE - 40, 0), (SINCE + 3600, 30), (SINCE, 30)])
def test_a_pause_of_an_earlier_process_has_what_is_left_of_it(since: float, left: float) -> None:
    assert Clocks().limit(30).left(pause(since)) == left

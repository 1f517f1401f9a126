"""gevent's hub: what must not run on it, and how those that could keep it busy share it."""

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import gevent
from gevent.event import Event as Flag
from gevent.threadpool import ThreadPool

T = TypeVar("T")

TURN = 0.005
"""Seconds of CPU that all readers together may use in one round of gevent's loop before the others are let in."""

_THREADS = 10
_BEFORE_ALL = 2
_WOKEN = 16
_pools: WeakKeyDictionary[object, ThreadPool] = WeakKeyDictionary()
_rounds: WeakKeyDictionary[object, "Round"] = WeakKeyDictionary()


def off_hub(work: Callable[[], T], pool: ThreadPool | None = None) -> T:
    """Runs what waits for a disk on a thread, of ``pool`` if one is given, so that other calls do not wait too; gives
    its result or raises.

    ``work`` must take no lock that greenlets take too: patched locks do not pass between threads. Logging takes one.
    """
    # An idle pool is false, so this asks for None. And gevent prints the traceback of a task that fails, whoever may be
    # there to handle the error.
    threads = _threads() if pool is None else pool
    outcome: tuple[T | None, Exception | None] = threads.apply(_outcome, (work,))
    result, error = outcome
    if error is not None:
        raise error
    return cast(T, result)


def _threads() -> ThreadPool:
    # Not the hub's own threads: names are resolved there, and a name server that hangs must not hold up a recording.
    hub = gevent.get_hub()
    if hub not in _pools:
        _pools[hub] = ThreadPool(_THREADS, hub)
    return _pools[hub]


def _outcome(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


class Turns:
    """Lets everything else run between two steps, however many greenlets have a next step ready.

    A socket that is ready never makes gevent wait, and ``sleep(0)`` keeps timers waiting for many milliseconds. So
    each step has a round of gevent's loop for itself, in which all timers due are run.
    """

    def __init__(self) -> None:
        self._last = Flag()
        self._last.set()

    def take(self, pause: float = 0.0) -> None:
        """Wait until it is the turn of the caller, and ``pause`` seconds that no other in the queue uses."""
        # One after the other: a semaphore would go to whoever has just had it and asks again at once.
        before, mine = self._last, Flag()
        self._last = mine
        try:
            before.wait()
            if pause:
                gevent.sleep(pause)
            # Before all others in its round, or the readers would stand still while there is always another.
            gevent.idle(_BEFORE_ALL)
        finally:
            mine.set()


class Round:
    """The time that the readers of one hub use in one round of its loop, and those that wait for a later one."""

    def __init__(self, hub: Any) -> None:
        self.turns = Turns()
        self._loop = hub.loop
        self._number = -1
        self._until = 0.0
        self._arrivals = count()
        self._waiting: list[tuple[int, Flag]] = []
        """A heap: first come, first served."""

    @property
    def number(self) -> int:
        """Which round of the loop this is."""
        number: int = self._loop.iteration
        return number

    def is_spent(self, now: float) -> bool:
        """Whether the readers have had their part of this round, as of ``now``."""
        if self.number != self._number:
            self._number, self._until = self.number, now + TURN
        return now >= self._until

    def wait(self, clock: Callable[[], float]) -> None:
        """Wait until there is time in a round for one more reader, and all that came before have had some."""
        if not self._waiting and not self.is_spent(clock()):
            return
        arrival = next(self._arrivals)
        while True:
            ready = Flag()
            heappush(self._waiting, (arrival, ready))
            if len(self._waiting) == 1:
                gevent.spawn(self._wake)
            ready.wait()
            # Those woken with this one may have used the time up.
            if not self.is_spent(clock()):
                return

    def _wake(self) -> None:
        while self._waiting:
            gevent.idle(_BEFORE_ALL)
            for _ in range(min(_WOKEN, len(self._waiting))):
                heappop(self._waiting)[1].set()


class Reader:
    """One reader of a socket that may always be ready, and the CPU time it has used in this round of the loop.

    Not by the wall clock: on a busy machine what others use of the CPU would slow the readers down further.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._began = clock()
        self._used = 0.0
        self._number = -1
        hub = gevent.get_hub()
        if hub not in _rounds:
            _rounds[hub] = Round(hub)
        self._round = _rounds[hub]

    def begin(self) -> None:
        """Wait until there is time in this round of the loop; the reader has something to do from now on."""
        self._round.wait(self._clock)
        if self._round.number != self._number:
            self._number, self._used = self._round.number, 0.0
        self._began = self._clock()

    def step(self) -> None:
        """Note the end of a step, and wait where the readers have used up their part of this round.

        Whoever has used up a turn alone queues with others like it, and does not delay those that have little to do.
        All in that queue leave a fifth of the time to others, whose work is often many small steps.
        """
        now = self._clock()
        self._used += now - self._began
        self._began = now
        if self._used >= TURN:
            self._round.turns.take(pause=self._used / 4)
            self.begin()
        elif self._round.is_spent(now):
            self.begin()

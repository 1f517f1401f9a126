"""What documents may spend of the processor: a budget for each call, and turns that are fair between calls.

Expressions and reading are done by threads, one each; steps run on the hub, in slices. Each has its queue, in which
the call that has spent least is served first: however many calls burn what they have, one that has just begun waits
for one piece of work and no more. What the calls spend that have had their ``FREE`` is a share of one processor.
"""

import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from gevent.threadpool import ThreadPool

from esl_record.errors import DocumentError

T = TypeVar("T")

STEP = 5_000_000_000
"""WebAssembly instructions that the expressions of one step may take together: half a second, or some 600 that are
short."""

CALL = 300_000_000_000
"""The same for all steps of a call: half a minute."""

FREE = 0.05
"""Seconds of a processor that a call may spend before it is one of those that share ``SHARE``."""

SHARE = 0.5
"""Of one processor, for the expressions."""

PYTHON_SHARE = 0.2
"""The same for the steps, and for the reading, each: while Python runs for them it runs for nobody else."""

BURST = 0.5
"""Seconds that may be spent at once after a time in which less than the share was."""

SLICE = 0.002
"""Seconds a step may hold the hub; then it waits for a turn."""

_SMALL = 0.0005
"""Seconds up to which a step need not wait for a turn: gevent lets a hundred greenlets go on in one go."""

_TURN = 0.001
"""Seconds in which a step is sure to begin its slice."""

_EVERY = 64
"""Small pieces of a step between two looks at the clock."""


class Ending(Protocol):
    """A call, as far as its end is concerned."""

    @property
    def over(self) -> Flag: ...

    def raise_if_disconnected(self) -> None:
        """Raise CallGone once the call is over."""


class Budget:
    """What one call has spent and may still spend.

    The hub's clock runs from ``begin_step`` on, but for what is done within ``waiting``.
    """

    def __init__(self, call: Ending | None = None) -> None:
        self.seconds = 0.0
        """Of a processor, by expressions, reading and steps together."""
        self._call = call
        self._instructions = self._of_step = 0
        self._since: float | None = None
        self._pieces = 0

    def begin_step(self) -> None:
        """Let others run, and start the clock. Raise CallGone once the call is over."""
        self._of_step = 0
        self._rest()

    def end(self) -> float:
        """Stop the clock; the seconds it ran."""
        if self._since is None:
            return 0.0
        took = time.perf_counter() - self._since
        self._since = None
        self.seconds += took
        hub.spent(took)
        return took

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is done within is not the hub's work, or not this call's."""
        ran = self._since is not None
        self.end()
        try:
            yield
        finally:
            if ran:
                self._since = time.perf_counter()

    def breathe(self) -> None:
        """Let others run if this step has held the hub for long. To be called for every small piece of a step.

        Raise CallGone once the call is over.
        """
        self._pieces += 1
        if self._since is not None and self._pieces % _EVERY == 0 and time.perf_counter() - self._since > SLICE:
            self._rest()

    def check(self) -> None:
        """Raise DocumentError where the expressions of the step or the call have taken all they may."""
        for spent, most, what in ((self._of_step, STEP, "a step"), (self._instructions, CALL, "a call")):
            if spent >= most:
                raise DocumentError(
                    "relay_script_js_eval_error",
                    f"the expressions of {what} take too long: more than {most:.0e} instructions",
                )

    def charge(self, instructions: int) -> None:
        """Note what an expression has taken."""
        self._of_step += instructions
        self._instructions += instructions

    def wait(self, outcome: "AsyncResult[Any]") -> Any:
        """What becomes of ``outcome``. Raise CallGone as soon as the call is over."""
        with self.waiting():
            self.raise_if_over()
            if self._call is not None:
                gevent.wait([outcome, self._call.over], count=1)
                self.raise_if_over()
            return outcome.get()

    def raise_if_over(self) -> None:
        """Raise CallGone once the call is over."""
        if self._call is not None:
            self._call.raise_if_disconnected()

    def _rest(self) -> None:
        took = self.end()
        self.raise_if_over()
        if self.seconds < FREE and took < _SMALL:
            gevent.sleep(0)
        else:
            hub.turn(self)
        self._since = time.perf_counter()


class _Job:
    """One piece of work in a queue; without ``work`` it is a turn on the hub."""

    def __init__(self, budget: Budget, work: Callable[[], object] | None) -> None:
        self.budget = budget
        self.work = work
        self.outcome: AsyncResult[Any] = AsyncResult()
        self.wanted = True


class FairQueue:
    """A queue for a thread, or for the hub: one piece of work at a time, that of the call which has spent least.

    What the thread does must take no lock that greenlets take too.
    """

    def __init__(self, share: float = SHARE, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._queue: list[tuple[float, int, _Job]] = []
        self._numbers = itertools.count()
        self._more = Flag()
        self._server: gevent.Greenlet | None = None
        self._pool: ThreadPool | None = None
        self._busy = False
        self._credit, self._at = BURST, clock()

    def run(self, work: Callable[[], T], budget: Budget) -> T:
        """What ``work`` gives, or raises, done by the thread.

        Raise CallGone as soon as the call of ``budget`` is over; work that has not begun by then is dropped.
        """
        if self._queue or self._busy or not self._may(budget):
            return cast(T, self._run(work, budget))
        # Nobody else wants the thread: the way through the queue would cost a tenth of a short expression.
        with budget.waiting():
            result, error = self._worked(work, budget)
        budget.raise_if_over()
        if error is not None:
            raise error
        return cast(T, result)

    def run_through(self, work: Callable[[], T], budget: Budget) -> T:
        """As ``run``, whatever becomes of the call: others may wait for it as well."""
        return cast(T, self._put(_Job(budget, work)).outcome.get())

    def turn(self, budget: Budget) -> None:
        """Wait until the hub is this call's for a slice. Raise CallGone as soon as the call is over."""
        self._run(None, budget)

    def _run(self, work: Callable[[], object] | None, budget: Budget) -> object:
        job = self._put(_Job(budget, work))
        try:
            return budget.wait(job.outcome)
        finally:
            job.wanted = False

    def spent(self, seconds: float) -> None:
        """Note what a piece of work has taken."""
        now = self._clock()
        self._credit = min(BURST, self._credit + (now - self._at) * self._share) - seconds
        self._at = now

    def _put(self, job: _Job) -> _Job:
        heapq.heappush(self._queue, (job.budget.seconds, next(self._numbers), job))
        self._more.set()
        if self._server is None or self._server.ready():
            self._server = gevent.spawn(self._serve)
        return job

    def _serve(self) -> None:
        while True:
            self._more.clear()
            if not self._queue or self._busy:
                self._more.wait()
            elif not self._may(self._queue[0][2].budget):
                # A call that has just begun does not wait for this.
                self._more.wait(-self._credit / self._share)
            else:
                self._do(heapq.heappop(self._queue)[2])

    def _may(self, budget: Budget) -> bool:
        """Whether work of this call may begin now: those that have had their free share wait for credit."""
        self.spent(0.0)
        return self._credit > 0 or budget.seconds < FREE

    def _worked(self, work: Callable[[], object], budget: Budget) -> tuple[object, Exception | None]:
        """What the thread makes of ``work``, or the error."""
        if self._pool is None:
            self._pool = ThreadPool(1)
        self._busy = True
        try:
            result, error, took = self._pool.apply(_done, (work,))
        finally:
            self._busy = False
            self._more.set()
        budget.seconds += took
        self.spent(took)
        return result, error

    def _do(self, job: _Job) -> None:
        if not job.wanted:
            return
        if job.work is None:
            job.outcome.set(None)
            # It has had its slice when this goes on, and has noted what that took.
            gevent.sleep(_TURN)
            return
        result, error = self._worked(job.work, job.budget)
        if error is None:
            job.outcome.set(result)
        else:
            job.outcome.set_exception(error)


def _done(work: Callable[[], T]) -> tuple[T | None, Exception | None, float]:
    """What ``work`` gives, or its error, and the seconds of the processor that it took."""
    began = time.thread_time()
    try:
        return work(), None, time.thread_time() - began
    except Exception as error:
        return None, error, time.thread_time() - began


hub = FairQueue(PYTHON_SHARE)
"""The turns of steps."""

engine = FairQueue()
"""The thread of expressions."""

reader, small_reader = FairQueue(PYTHON_SHARE), FairQueue(PYTHON_SHARE)
"""The threads that read documents, large ones and small ones: more of them at work would leave less to the hub."""

"""Which callback is posted next: each recording's in order, each receiver's a few at once. Pure."""

import functools
import heapq
import itertools
from collections import deque
from dataclasses import replace
from enum import Enum, auto

from esl_record.status import schedule
from esl_record.status.backlog import Backlog
from esl_record.status.outbox import Callback
from esl_record.status.receiver import Origin, Receiver

_UNREADABLE: Origin = ("", "", 0)


@functools.lru_cache(1024)
def origin_of(url: str) -> Origin:
    """The origin of a receiver; all unreadable URLs have the same."""
    try:
        return Receiver.of(url).origin
    except ValueError:
        return _UNREADABLE


class _Rank(Enum):
    """What the next post to an origin would be, in the order in which they are begun."""

    FIRST = auto()
    PROBE = auto()
    """The only one, to an origin that failed the last time."""
    MORE = auto()


class Line:
    """The recordings with something to post to one origin. ``trouble`` is for who posts to note how that fails: what
    is not None there makes the line wait behind others.

    ``due`` wait for one of the posts ``under_way`` to end; ``failed`` and ``asked`` for their time, the latter for the
    earliest that the receiver has asked for.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.due: deque[Backlog] = deque()
        self.failed: dict[Backlog, None] = {}
        self.asked: dict[Backlog, None] = {}
        self.under_way = 0
        self.rank: _Rank | None = None
        self.trouble: object = None

    @property
    def shown(self) -> str:
        """The origin for a log line."""
        scheme, host, port = self.origin
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" if scheme else "unreadable addresses"

    @property
    def idle(self) -> bool:
        return not (self.due or self.failed or self.asked or self.under_way)

    def forget(self, backlog: Backlog) -> None:
        self.failed.pop(backlog, None)
        self.asked.pop(backlog, None)


class Queue:
    """What waits: ``posts`` at most to one origin at once, ``everywhere`` to all. ``now`` is unix seconds throughout.

    So that origins that hang leave something for the others: one in trouble has one post at a time, and all of those
    half of ``everywhere``; further posts beside an origin's first are begun only while there are fewer than half.
    """

    def __init__(self, posts: int, everywhere: int = 512) -> None:
        self._posts = posts
        self._everywhere = everywhere
        self._under_way = 0
        self._probed: set[Line] = set()
        self._backlogs: dict[str, Backlog] = {}
        self._lines: dict[Origin, Line] = {}
        self._ready: dict[_Rank, dict[Line, None]] = {rank: {} for rank in _Rank}
        self._later: list[tuple[float, int, Backlog]] = []
        self._count = itertools.count()

    @property
    def next_due(self) -> float | None:
        """When there may be something to post that cannot be posted yet, None where nothing waits for its time."""
        return self._later[0][0] if self._later else None

    def take(self, callback: Callback, now: float, asked: float = 0.0) -> bool:
        """Adds ``callback``; what is in the queue already is taken again only where it has been queued again. Returns
        whether it was not in the queue.

        One that has not been tried is due, as is one whose time is farther off than any can be: the clock was wrong.
        ``asked`` is the time its receiver has asked for.
        """
        if callback.next_attempt > now + (schedule.LIFETIME if callback.attempts else 0):
            callback = replace(callback, next_attempt=now)
        key = callback.recording_id
        backlog = self._backlogs.get(key) or self._backlogs.setdefault(key, Backlog(key))
        backlog.asked = max(backlog.asked, asked)
        new = backlog.find(callback.seq) is None
        if backlog.take(callback):
            self._plan(backlog, now)
        return new

    def next(self, now: float) -> tuple[Line, Backlog, Callback] | None:
        """What to post now, of each line in turn; ``done`` is due when that has been settled in the backlog."""
        while self._later and self._later[0][0] <= now:
            due, _, backlog = heapq.heappop(self._later)
            if backlog.due == due:
                self._line_up(backlog)
        while line := self._foremost():
            if line.rank is _Rank.PROBE:
                self._probed.add(line)
            self._unlist(line)
            backlog = line.due.popleft()
            line.under_way += 1
            self._under_way += 1
            self._enlist(line)
            if backlog.waiting:
                return line, backlog, backlog.waiting[0]
            self.done(line, backlog, now)
        return None

    def done(self, line: Line, backlog: Backlog, now: float) -> None:
        """The post of ``next`` has ended; what the backlog then begins with is planned."""
        line.under_way -= 1
        self._under_way -= 1
        self._probed.discard(line)
        backlog.busy = False
        self._plan(backlog, now)
        self._enlist(line)
        if line.idle:
            del self._lines[line.origin]

    def wake(self, line: Line, now: float) -> None:
        """Makes due what has failed before, the oldest first, but nothing before the time its receiver asked for."""
        for backlog in sorted(line.failed, key=lambda one: one.waiting[0].seq):
            first = backlog.waiting[0]
            backlog.replace(first, replace(first, next_attempt=max(now, backlog.asked)))
            self._plan(backlog, now)

    def give_up(self, url: str, now: float) -> int:
        """Drops all that waits for ``url``; says how many."""
        dropped = 0
        for backlog in list(self._backlogs.values()):
            if gone := backlog.drop_all_to(url):
                dropped += gone
                if not backlog.busy:
                    line = self._line(url)
                    line.forget(backlog)
                    backlog.due = None
                    self._plan(backlog, now)
                    if line.idle:
                        del self._lines[line.origin]
        return dropped

    def under_way(self, origin: Origin) -> int:
        """How many posts there are to ``origin`` now."""
        line = self._lines.get(origin)
        return line.under_way if line else 0

    def _plan(self, backlog: Backlog, now: float) -> None:
        if backlog.busy:
            return
        if not backlog.waiting:
            del self._backlogs[backlog.recording_id]
            return
        first = backlog.waiting[0]
        if first.next_attempt <= now:
            self._line_up(backlog)
        elif first.next_attempt != backlog.due:
            backlog.due = first.next_attempt
            heapq.heappush(self._later, (backlog.due, next(self._count), backlog))
            if first.attempts:
                line = self._line(first.url)
                line.forget(backlog)
                (line.asked if backlog.due <= backlog.asked else line.failed)[backlog] = None

    def _line(self, url: str) -> Line:
        origin = origin_of(url)
        return self._lines.get(origin) or self._lines.setdefault(origin, Line(origin))

    def _line_up(self, backlog: Backlog) -> None:
        line = self._line(backlog.waiting[0].url)
        line.forget(backlog)
        backlog.busy, backlog.due = True, None
        line.due.append(backlog)
        self._enlist(line)

    def _foremost(self) -> Line | None:
        """The line whose turn it is."""
        half = self._everywhere // 2
        may = {
            _Rank.FIRST: self._under_way < self._everywhere,
            _Rank.PROBE: self._under_way < self._everywhere and len(self._probed) < half,
            _Rank.MORE: self._under_way < half,
        }
        return next((next(iter(lines)) for rank, lines in self._ready.items() if lines and may[rank]), None)

    def _enlist(self, line: Line) -> None:
        """Puts ``line`` where it belongs now, at the end unless it is there."""
        rank = None
        if line.due and not line.under_way:
            rank = _Rank.FIRST if line.trouble is None else _Rank.PROBE
        elif line.due and line.trouble is None and line.under_way < self._posts:
            rank = _Rank.MORE
        if rank is not line.rank:
            self._unlist(line)
            line.rank = rank
            if rank is not None:
                self._ready[rank][line] = None

    def _unlist(self, line: Line) -> None:
        if line.rank is not None:
            del self._ready[line.rank][line]
        line.rank = None

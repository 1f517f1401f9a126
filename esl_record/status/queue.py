"""Which callback is posted next: each recording's in order, each receiver's a few at once. Pure."""

import heapq
import itertools
from collections import deque
from dataclasses import replace

from esl_record.status.backlog import Backlog
from esl_record.status.outbox import Callback
from esl_record.status.receiver import Origin, Receiver

_UNREADABLE: Origin = ("", "", 0)


class Line:
    """The recordings with something to post to one origin. ``trouble`` is for who posts to note how that fails.

    ``due`` wait for one of the posts ``under_way`` to end; ``failed`` and ``asked`` for their time, the latter for the
    earliest that the receiver has asked for.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.due: deque[Backlog] = deque()
        self.failed: dict[Backlog, None] = {}
        self.asked: dict[Backlog, None] = {}
        self.under_way = 0
        self.ready = False
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
    """What waits, ``posts`` at most to one origin at once. ``now`` is unix seconds throughout."""

    def __init__(self, posts: int) -> None:
        self._posts = posts
        self._backlogs: dict[str, Backlog] = {}
        self._lines: dict[Origin, Line] = {}
        self._ready: deque[Line] = deque()
        self._later: list[tuple[float, int, Backlog]] = []
        self._count = itertools.count()

    @property
    def next_due(self) -> float | None:
        """When there may be something to post that cannot be posted yet, None where nothing waits for its time."""
        return self._later[0][0] if self._later else None

    def take(self, callback: Callback, now: float) -> None:
        """Adds ``callback``; what is in the queue already is taken again only where it has been queued again."""
        key = callback.recording_id
        backlog = self._backlogs.get(key) or self._backlogs.setdefault(key, Backlog(key))
        if backlog.take(callback):
            self._plan(backlog, now)

    def next(self, now: float) -> tuple[Line, Backlog, Callback] | None:
        """What to post now, of each line in turn; ``done`` is due when that has been settled in the backlog."""
        while self._later and self._later[0][0] <= now:
            due, _, backlog = heapq.heappop(self._later)
            if backlog.due == due:
                self._line_up(backlog)
        while self._ready:
            line = self._ready.popleft()
            line.ready = False
            backlog = line.due.popleft()
            line.under_way += 1
            self._enlist(line)
            if backlog.waiting:
                return line, backlog, backlog.waiting[0]
            self.done(line, backlog, now)
        return None

    def done(self, line: Line, backlog: Backlog, now: float) -> None:
        """The post of ``next`` has ended; what the backlog then begins with is planned."""
        line.under_way -= 1
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
        try:
            origin = Receiver.of(url).origin
        except ValueError:
            origin = _UNREADABLE
        return self._lines.get(origin) or self._lines.setdefault(origin, Line(origin))

    def _line_up(self, backlog: Backlog) -> None:
        line = self._line(backlog.waiting[0].url)
        line.forget(backlog)
        backlog.busy, backlog.due = True, None
        line.due.append(backlog)
        self._enlist(line)

    def _enlist(self, line: Line) -> None:
        if line.due and not line.ready and line.under_way < self._posts:
            line.ready = True
            self._ready.append(line)

"""Delivers what the outbox holds: at least once, in order per recording, no receiver waiting for another."""

import json
import logging
import random as _random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import gevent
import requests
from gevent.event import Event as Flag
from gevent.pool import Group

from esl_record import egress
from esl_record.cipher import Cipher
from esl_record.egress import AddressPolicy
from esl_record.errors import DatabaseError
from esl_record.status import attempt, event, receiver, schedule, signature
from esl_record.status.attempt import Outcome, Verdict
from esl_record.status.backlog import Backlog
from esl_record.status.outbox import Callback, Outbox, Status
from esl_record.status.queue import Line, Queue, origin_of
from esl_record.status.receiver import Origin, Receiver

log = logging.getLogger(__name__)

POSTS = 8
"""Posts at once to one origin."""

ALL_POSTS = 512
"""Posts at once, half of them kept for origins that have none and are in no trouble."""

SESSIONS = 64
"""Origins whose connections are kept."""

MOST = 100_000
"""Callbacks that may wait for one origin, in some 400 MB of memory; what comes then is given up at once, and stays in
the database. That many wait where a receiver is down for a day of more than one event a second."""

_MARGIN = 15.0
"""Seconds another process may take from queueing a row to its commit; SQLite may have it wait for ten of them."""

_PAUSE = 2.0
"""Seconds until a result that could not be noted is noted again."""

_SLICE = 100
"""Callbacks taken from the outbox until others have their turn; there may be tens of thousands of them."""

_ODD = 60.0
"""Seconds until what failed by a mistake of the service's own is tried again."""


class Sender:
    """Posts the callbacks of ``outbox`` and of ``offer`` to their receivers, from ``start`` to ``stop``.

    ``link`` gives the URL a recording's file is served at, by its id and format, anew for every attempt: links expire.
    ``secrets`` and ``signing_key`` sign, ``cipher`` decrypts what is encrypted in a body. ``clock`` gives unix seconds;
    ``first_wait`` is the seconds from a first failure to the second attempt; every ``look`` seconds the outbox is asked
    for what another process has queued.
    ``on_result`` is told what came of every attempt: delivered, failed, dead or gone.

    A kill between an answer and the commit of its row sends that one event again, and for each recording one at most:
    the next event of a recording is posted only once it is noted what came of the one before.
    """

    def __init__(
        self,
        outbox: Outbox,
        policy: AddressPolicy,
        secrets: Sequence[str],
        signing_key: str,
        link: Callable[[str, str], str],
        cipher: Cipher,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = _random.random,
        on_result: Callable[[str], None] = lambda result: None,
        first_wait: float = schedule.FIRST,
        look: float = 3.0,
    ) -> None:
        self._outbox = outbox
        self._policy = policy
        self._secrets = secrets
        self._signing_key = signing_key
        self._link = link
        self._cipher = cipher
        self._clock = clock
        self._random = random
        self._on_result = on_result
        self._first_wait = first_wait
        self._look = look
        self._queue = Queue(POSTS, ALL_POSTS)
        self._waiting: Counter[Origin] = Counter()
        self._crowded: set[Origin] = set()
        self._sessions: OrderedDict[Origin, requests.Session] = OrderedDict()
        # By seq or URL, what has come to its end since the outbox was last read: what was read is of before.
        self._over: set[int | str] = set()
        self._posts = Group()
        self._keepers = Group()
        self._wake = Flag()

    def start(self) -> None:
        """Begins with what the outbox holds; until that has been read nothing is posted, so that order is kept."""
        egress.authorities()
        self._keepers.spawn(self._keep_looking)

    def offer(self, callback: Callback) -> None:
        """Takes what has just been queued; never blocks. What is dead already is left alone."""
        if callback.status is Status.PENDING:
            self._enqueue(callback)
            self._wake.set()

    def refusal(self, url: str) -> str:
        """Why no further callback for ``url`` is to wait, empty where it may; a line in the log when that begins."""
        origin = origin_of(url)
        if self._waiting[origin] < MOST:
            self._crowded.discard(origin)
            return ""
        if origin not in self._crowded:
            self._crowded.add(origin)
            shown = Line(origin).shown
            log.error("%d callbacks wait for %s: further ones are given up; `callbacks resend` sends them", MOST, shown)
        return f"given up at once: {MOST} others waited"

    def stop(self, grace: float = 3.0) -> None:
        """Posts nothing more, gives the posts under way ``grace`` seconds and then breaks them off."""
        self._keepers.kill()
        self._posts.join(grace)
        self._posts.kill()
        while self._sessions:
            self._sessions.popitem()[1].close()

    # ---- what is due

    def _keep_looking(self) -> None:
        since, begun, failing = 0.0, False, False
        while True:
            now = self._clock()
            try:
                found = self._outbox.pending(since)
            except Exception as error:
                if not failing:
                    log.error("callbacks cannot be read, trying again: %s", error)
                failing = True
            else:
                since, failing = now - _MARGIN, False
                self._over.clear()
                self._take(found)
                if not begun:
                    self._keepers.spawn(self._keep_posting)
                begun = True
                self._wake.set()
            gevent.sleep(self._look)

    def _take(self, found: list[Callback]) -> None:
        for number, callback in enumerate(found, 1):
            if callback.seq not in self._over and callback.url not in self._over:
                self._enqueue(callback, self._asked(callback))
            if not number % _SLICE:
                gevent.sleep(0)

    def _enqueue(self, callback: Callback, asked: float = 0.0) -> None:
        if self._queue.take(callback, self._clock(), asked):
            self._waiting[origin_of(callback.url)] += 1

    def _forget(self, url: str, count: int) -> None:
        origin = origin_of(url)
        self._waiting[origin] -= count
        if self._waiting[origin] <= 0:
            del self._waiting[origin]

    def _asked(self, callback: Callback) -> float:
        """The time a receiver has asked an earlier run for, as far as a row tells: by a wait longer than is usual."""
        if not callback.attempts or callback.last_attempt is None:
            return 0.0
        usual = schedule.longest(callback.attempts, self._first_wait)
        return callback.next_attempt if callback.next_attempt - callback.last_attempt > usual else 0.0

    def _keep_posting(self) -> None:
        while True:
            self._wake.clear()
            now = self._clock()
            while found := self._queue.next(now):
                self._posts.spawn(self._deliver, *found)
            due = self._queue.next_due
            # Never for long: a clock may be set.
            self._wake.wait(None if due is None else min(max(due - self._clock(), 0.0), self._look))

    def _deliver(self, line: Line, backlog: Backlog, callback: Callback) -> None:
        try:
            self._settle(line, backlog, callback, self._attempt(line.origin, callback))
        except Exception:
            log.exception("%s: failed as it should not", _named(callback))
            backlog.replace(callback, replace(callback, next_attempt=self._clock() + _ODD))
        finally:
            self._queue.done(line, backlog, self._clock())
            self._wake.set()

    # ---- an attempt

    def _attempt(self, origin: Origin, callback: Callback) -> Outcome:
        try:
            unsealed = event.unsealed(callback.body, self._cipher)
            to = replace(Receiver.of(callback.url), hidden=event.digits(unsealed))
        except ValueError as error:
            return Outcome(Verdict.FAILED, str(error))
        told = event.renewed(unsealed, lambda suffix: self._link(callback.recording_id, suffix))
        body = json.dumps(told).encode()

        def sign(url: str) -> dict[str, str]:
            now = int(self._clock())
            return signature.headers(callback.callback_id, now, body, self._secrets, url, self._signing_key)

        return attempt.post(self._session(origin), to, body, sign)

    def _session(self, origin: Origin) -> requests.Session:
        session = self._sessions.pop(origin, None) or egress.session(self._policy, connections=POSTS)
        self._sessions[origin] = session
        if len(self._sessions) > SESSIONS:
            idle = [old for old in self._sessions if not self._queue.under_way(old)]
            for old in idle[: len(self._sessions) - SESSIONS]:
                self._sessions.pop(old).close()
        return session

    # ---- what came of it

    def _settle(self, line: Line, backlog: Backlog, posted: Callback, outcome: Outcome) -> None:
        now = self._clock()
        # It may have been queued again meanwhile, or given up with all else for a receiver that has ended.
        callback = backlog.find(posted.seq)
        if outcome.verdict is Verdict.DELIVERED:
            self._delivered(line, backlog, callback or posted, outcome.result, now)
        elif callback is not None and outcome.verdict is Verdict.GONE:
            self._gone(callback, now)
        elif callback is not None:
            self._failed(line, backlog, callback, outcome, now)

    def _delivered(self, line: Line, backlog: Backlog, callback: Callback, result: str, now: float) -> None:
        self._note(callback, lambda: self._outbox.delivered(callback, now, result))
        self._drop(backlog, callback)
        self._on_result("delivered")
        log.debug("%s: delivered", _named(callback))
        if line.trouble is not None:
            log.info("callbacks to %s are delivered again", line.shown)
            line.trouble = None
        if callback.attempts:
            # It is well again: what it has missed need not wait out hours of back-off.
            self._queue.wake(line, now)

    def _gone(self, callback: Callback, now: float) -> None:
        self._note(callback, lambda: self._outbox.end_receiver(callback, now))
        self._over.add(callback.url)
        given_up = self._queue.give_up(callback.url, now)
        self._forget(callback.url, given_up)
        self._on_result("gone")
        log.error("%s: 410 Gone, nothing more goes there; %d callbacks given up", _named(callback), given_up)

    def _failed(self, line: Line, backlog: Backlog, callback: Callback, outcome: Outcome, now: float) -> None:
        verdict, result = outcome.verdict, outcome.result
        if line.trouble is None or (verdict is Verdict.REFUSED and line.trouble is not verdict):
            log.warning("%s fails and will be tried again, as will others there: %s", _named(callback), result)
            line.trouble = verdict
        else:
            log.debug("%s: %s", _named(callback), result)
        made = callback.attempts + 1
        due = schedule.next_attempt(
            made, callback.queued_at, now, outcome.retry_after, self._random, first=self._first_wait
        )
        if due is None:
            self._note(callback, lambda: self._outbox.died(callback, now, result))
            self._drop(backlog, callback)
            self._on_result("dead")
            log.error("%s: given up after %d attempts: %s", _named(callback), made, result)
        else:
            self._note(callback, lambda: self._outbox.postponed(callback, now, result, due))
            backlog.asked = now + schedule.asked(outcome.retry_after, now)
            backlog.replace(callback, replace(callback, attempts=made, next_attempt=due))
            self._on_result("failed")

    def _drop(self, backlog: Backlog, callback: Callback) -> None:
        self._over.add(callback.seq)
        if backlog.find(callback.seq) is not None:
            self._forget(callback.url, 1)
        backlog.drop(callback.seq)

    def _note(self, callback: Callback, write: Callable[[], None]) -> None:
        """Has ``write`` done, however long the database fails: until then its recording has nothing else posted."""
        failing = False
        while True:
            try:
                return write()
            except DatabaseError as error:
                if not failing:
                    log.error("%s: cannot be noted, trying again: %s", _named(callback), error)
                failing = True
                gevent.sleep(_PAUSE)


def _named(callback: Callback) -> str:
    of = "recording" if "record" in callback.body["params"] else callback.body["event_type"]
    told = f"{callback.state} of {of} {callback.recording_id}"
    return f"callback {callback.callback_id} ({told}) to {receiver.shown(callback.url)}"

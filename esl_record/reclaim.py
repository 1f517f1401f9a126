"""Calls that live without an event socket of their own: reclaimed after a crash, followed where they are, set free."""

import logging
import time
from collections.abc import Callable

import gevent
from gevent.event import Event as Flag

from esl_record.errors import EslRecordError
from esl_record.esl.channel import ReachedCall
from esl_record.esl.link import Link
from esl_record.live import LiveCall, LiveCalls
from esl_record.recording.recording import Party, Recording
from esl_record.recording.recovery import Recovery
from esl_record.returning import LOOK, Returning, go_on
from esl_record.swml.bookmarks import Bookmarks

log = logging.getLogger(__name__)

STRAY_LOOK = 10.0
"""Seconds between two looks for calls in a `socket` that nobody serves: each lists all calls of the switch."""

SETTLES = 2 * LOOK
"""Seconds a call may take to come back by itself before it is followed where it is: its recording is heard anew."""


class Reclaim:
    """Asks the switch, over ``link``, after the calls that ``recovery`` and ``bookmarks`` wait for.

    ``make_live`` makes a live call of a call that the link alone reaches, and of its party.
    """

    def __init__(
        self,
        link: Link,
        returning: Returning,
        recovery: Recovery,
        bookmarks: Bookmarks,
        calls: LiveCalls,
        make_live: Callable[[ReachedCall, Party], LiveCall],
    ) -> None:
        self.asked = Flag()
        """Set once it is known which calls of an earlier run live."""
        self._link = link
        self._returning = returning
        self._recovery = recovery
        self._bookmarks = bookmarks
        self._calls = calls
        self._make_live = make_live
        self._seen: dict[str, float] = {}
        self._lived: set[str] = set()
        """Calls of an earlier run that this switch has known since this one began."""

    def run(self) -> None:
        """Goes on until it is killed."""
        if waiting := self._recovery.waiting():
            log.info("%d calls of an earlier run have left recordings", len(waiting))
        self._link.tried.wait()
        next_stray = 0.0
        while True:
            waiting = self._recovery.waiting() | self._bookmarks.waiting()
            if waiting:
                self._look(waiting)
            self.asked.set()
            if self._link.up and time.monotonic() >= next_stray and not self._returning.free_stray(waiting):
                next_stray = time.monotonic() + STRAY_LOOK
            gevent.sleep(LOOK)

    def _look(self, waiting: set[str]) -> None:
        look = self._returning.look(waiting)
        self._recovery.expect(look.live)
        self._recovery.give_up(look.ended)
        self._bookmarks.ended(look.ended)
        self._lived |= look.live
        for call_id in look.ended & self._lived:
            # One that was never seen may live on another switch.
            self._bookmarks.drop(call_id)
        self._lived -= look.ended
        now = time.monotonic()
        stay = look.live - look.asked
        self._seen = {call_id: self._seen.get(call_id, now) for call_id in stay}
        recorded = self._recovery.waiting()
        for call_id, since in self._seen.items():
            if now - since >= SETTLES and call_id in recorded:
                self._follow(call_id)

    def _follow(self, call_id: str) -> None:
        """Go on with the recordings of a call where it is; another connection of it takes them over."""
        try:
            data = self._link.data(call_id)
        except EslRecordError as error:
            log.debug("call %s is not followed yet: %s", call_id, error)
            return
        left = self._recovery.claim(call_id)
        if not left:
            return
        session = self._link.call(call_id, data)
        live = self._make_live(session, _party(left[0]))
        self._calls.add(live)
        go_on(live, left, self._recovery.add)

        def until_it_ends() -> None:
            live.follow()
            self._calls.remove(live)
            self._link.drop(session)

        gevent.spawn(until_it_ends)
        log.info("call %s lives elsewhere: its recordings go on there", call_id)


def _party(recording: Recording) -> Party:
    return Party.model_validate({name: getattr(recording, name) for name in Party.model_fields})

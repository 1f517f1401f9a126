"""Waiting for the answer of a call.

A media bug opens early media by itself, and then the caller no longer hears the ringing.
"""

from collections.abc import Callable

from gevent.event import Event as Flag

from esl_record.errors import CallGone
from esl_record.esl.channel import ReachedCall


class NeverAnsweredError(CallGone):
    """The call ended before it was answered."""


def await_answer(session: ReachedCall, wake: Flag, wanted: Callable[[], bool | None] = lambda: True) -> bool:
    """Wait until the call is answered and ``wanted`` returns True; return False as soon as it returns False.

    ``wanted`` is asked whenever ``wake`` is set. A bridge whose far end answers, answers the call.

    Raises:
        NeverAnsweredError: The caller hung up first.
        CallGone: The call was sent elsewhere, or the connection ended, first.
    """

    def on_change(_: object) -> None:
        wake.set()

    forget = session.listen(on_change)
    session.over.rawlink(on_change)
    try:
        while True:
            wake.clear()
            if session.hangup_cause is not None:
                raise NeverAnsweredError(f"{session.hangup_cause} before the answer")
            session.raise_if_disconnected()
            record = wanted()
            if record is False or (record and session.answered):
                return record
            wake.wait()
    finally:
        session.over.unlink(on_change)
        forget()

"""Work a call waits for that is not the switch's, such as an answer from the web."""

from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.event import AsyncResult

from esl_record.esl.session import Session

T = TypeVar("T")


def errand(session: Session, work: Callable[[], T]) -> T:
    """Does ``work`` beside the call and gives its result, or raises; CallGone as soon as the call is over, when
    ``work`` is broken off."""
    session.raise_if_disconnected()
    outcome: AsyncResult[T] = AsyncResult()
    task = gevent.spawn(_do, work, outcome)
    try:
        gevent.wait([task, session.over], count=1)
        if not outcome.ready():
            raise session.gone()
        result: T = outcome.get()
        return result
    finally:
        task.kill(block=False)


def _do(work: Callable[[], T], outcome: "AsyncResult[T]") -> None:
    try:
        outcome.set(work())
    except Exception as error:
        outcome.set_exception(error)

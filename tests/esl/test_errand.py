"""Work a call waits for: it ends with the call."""

from typing import cast

import gevent
import pytest
from gevent.event import Event as Flag

from esl_record.errors import CallGone, WebError
from esl_record.esl.errand import errand
from esl_record.esl.session import Session

LIMIT = 10.0


class Ending:
    """As much of a session as an errand needs."""

    def __init__(self) -> None:
        self.over = Flag()

    def raise_if_disconnected(self) -> None:
        if self.over.is_set():
            raise self.gone()

    def gone(self) -> CallGone:
        return CallGone("call u1: ORIGINATOR_CANCEL")


@pytest.fixture
def session() -> Session:
    return cast(Session, Ending())


class Work:
    """Waits until it is let go, and keeps what became of it."""

    def __init__(self) -> None:
        self.begun, self.go, self.broken_off = Flag(), Flag(), Flag()

    def __call__(self) -> str:
        self.begun.set()
        try:
            self.go.wait()
        except gevent.GreenletExit:
            self.broken_off.set()
            raise
        return "done"


def test_the_result_comes_back(session: Session) -> None:
    assert errand(session, lambda: [1, 2]) == [1, 2]


def test_what_is_raised_comes_back(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise WebError("nobody there")

    with pytest.raises(WebError, match="nobody there"):
        errand(session, fails)
    assert capsys.readouterr().err == ""


def test_a_call_that_ends_meanwhile_ends_the_work(session: Session) -> None:
    work = Work()
    waiting = gevent.spawn(_caught, session, work)
    assert work.begun.wait(LIMIT)
    session.over.set()
    assert isinstance(waiting.get(timeout=LIMIT), CallGone)
    assert work.broken_off.wait(LIMIT)


def test_nothing_is_begun_for_a_call_that_is_over(session: Session) -> None:
    session.over.set()
    work = Work()
    assert isinstance(_caught(session, work), CallGone)
    gevent.sleep(0)
    assert not work.begun.is_set()


def test_who_waits_is_ended_and_the_work_with_it(session: Session) -> None:
    work = Work()
    waiting = gevent.spawn(errand, session, work)
    assert work.begun.wait(LIMIT)
    waiting.kill()
    assert work.broken_off.wait(LIMIT)


def test_a_timeout_of_who_waits_ends_the_work(session: Session) -> None:
    work = Work()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        errand(session, work)
    assert work.broken_off.wait(LIMIT)


def _caught(session: Session, work: Work) -> object:
    try:
        return errand(session, work)
    except CallGone as error:
        return error

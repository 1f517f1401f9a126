"""Digits a party presses, collected while a sound plays and after it."""

from collections.abc import Callable
from dataclasses import dataclass

import gevent
from gevent.queue import Empty, SimpleQueue

from esl_record.esl import wire
from esl_record.esl.session import Session

_LOOK = ""
"""Stands among the digits for anything else that has happened."""


@dataclass(frozen=True, slots=True)
class Collected:
    """``digits`` without the ``terminator`` that ended them, empty where none did."""

    digits: str
    terminator: str


def collect(
    session: Session,
    play: Callable[[], None],
    *,
    most: int,
    terminators: str,
    initial_timeout: float,
    digit_timeout: float,
) -> Collected:
    """Runs ``play`` and collects up to ``most`` digits from its beginning on; what was pressed before does not count.

    The first digit ends ``play`` and its sound. ``initial_timeout`` runs from the end of the sound, ``digit_timeout``
    from each digit; both in seconds, 0 waits for nothing. Raises CallGone, and what ``play`` raises.
    """
    heard: SimpleQueue[str] = SimpleQueue()

    def on_event(event: wire.Event) -> None:
        if event.name == "DTMF":
            heard.put(event.get("DTMF-Digit").upper())

    def look(_: object) -> None:
        heard.put(_LOOK)

    forget = session.listen(on_event)
    session.over.rawlink(look)
    player = gevent.spawn(_failure, play)
    player.link(look)
    digits, limit = "", None
    try:
        while len(digits) < most:
            try:
                digit = heard.get(timeout=limit)
            except Empty:
                break
            session.raise_if_disconnected()
            if digit == _LOOK:
                if player.ready() and not digits:
                    if player.value is not None:
                        raise player.value
                    limit = initial_timeout
                continue
            if not player.ready():
                # First what would play on, then what plays: the other way round the next sound could begin.
                player.kill()
                session.uuid_break()
            if digit in terminators:
                return Collected(digits, digit)
            digits, limit = digits + digit, digit_timeout
        return Collected(digits, "")
    finally:
        player.kill()
        session.over.unlink(look)
        forget()


def _failure(play: Callable[[], None]) -> Exception | None:
    # gevent prints the traceback of a greenlet that fails, and that the caller has hung up is no failure.
    try:
        play()
    except Exception as error:
        return error
    return None

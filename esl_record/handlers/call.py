"""A call in the hands of a handler: verbs that end with it, the input callback, the hang-up hook."""

import logging
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import gevent

from esl_record.errors import CallGone, CommandRefused, CommandTimeout
from esl_record.esl import wire
from esl_record.esl.session import Session
from esl_record.handlers.keypad import Keypad
from esl_record.swml.recordings import CallRecordings

log = logging.getLogger(__name__)

T = TypeVar("T")

AFTERLIFE = 100
"""Verbs a handler may still use when its call has gone; the next one raises CallGone."""

OWN_VARIABLES = ("playback_terminators", "sleep_eat_digits")
"""Changed while a handler runs, so that digits come to it and end nothing by themselves."""

_AFTERLIFE_PAUSE = 0.01
_BREAK_WAIT = 1.0
_GOES_ON = ("", "true", "undefined")
_FILE_COMMAND = re.compile(r"(?:(?:speed|volume|seek):[+-]?\d{1,9}|pause|restart|truncate)\Z")
_WORD = re.compile(r"[^\s'\"\\-][^\s'\"\\]*\Z")


class HandledCall:
    """What the verbs have in common. ``begin`` first, ``end`` when the handler is done."""

    def __init__(self, session: Session, recordings: CallRecordings) -> None:
        self._session = session
        self._recordings = recordings
        self._keypad = Keypad(lambda: self._live)
        self._callback: Callable[[object], object] | None = None
        self._hook: Callable[[str], object] | None = None
        self._auto_hangup = False
        self._auto_answer = True
        self._bridged = False
        self._media = session.data.get("Answer-State") in ("answered", "early")
        self._last: Mapping[str, str] = session.data
        self._afterlife = 0
        self._kept: dict[str, str] = {}
        self._forget: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Makes the digits the handler's. Raises CallGone, CommandTimeout."""
        self._forget = self._session.listen(self._on_event)
        self._session.over.rawlink(self._wake)
        self._kept = {name: self._session.data.get(f"variable_{name}", "") for name in OWN_VARIABLES}
        self._session.ignore_digits()

    def end(self) -> None:
        """Leaves the call as it is to be for the dialplan."""
        self._forget()
        self._session.over.unlink(self._wake)
        if self._live and self._auto_hangup:
            self._session.end()
        self._give_back()

    def fail(self, code: str, cause: str) -> None:
        """Hangs up because the handler has failed, with ``code`` in ``script_error``."""
        try:
            if self._live:
                self._session.set_variable("script_error", code)
            self._session.end(cause)
        except (CallGone, CommandRefused, CommandTimeout) as error:
            log.debug("%s: %s", self._session.label, error)

    def tell_hangup(self) -> None:
        """Calls the hang-up hook, once, if the call has gone."""
        hook = self._hook
        if hook is not None and not self._live:
            self._hook = None
            away = self._session.hangup_cause is None and self._session.fault is None
            hook("transfer" if away else "hangup")

    def transfer(self, extension: str, dialplan: str | None = None, context: str | None = None) -> int:
        """Sends the call to another extension once its recordings have ended; then it is no more ``ready``."""
        words = [extension, *([dialplan or "XML"] if dialplan or context else []), *([context] if context else [])]
        if not all(_WORD.match(word) for word in words):
            raise ValueError(
                f"transfer: {words!r}: extension, dialplan and context must have no blank or quote in them"
            )

        def send() -> int:
            self._recordings.end()
            self._give_back()
            self._session.transfer(" ".join(words))
            return 1

        return self._verb(send, 0)

    # ---- for the verbs

    @property
    def _live(self) -> bool:
        return self._session.live and not self._session.left

    def _breathe(self) -> None:
        """Lets the rest of the service go on, whatever loop this is in."""
        if self._live:
            gevent.sleep(0)
            return
        gevent.sleep(_AFTERLIFE_PAUSE)
        self._afterlife += 1
        if self._afterlife > AFTERLIFE:
            raise CallGone(f"{self._session.label}: {AFTERLIFE} verbs since it has gone: ask ready() in every loop")

    def _verb(self, act: Callable[[], T], otherwise: T) -> T:
        """What ``act`` gives; ``otherwise`` where the call has gone or goes meanwhile, or the switch refuses."""
        self._breathe()
        try:
            return act() if self._live else otherwise
        except CallGone:
            if self._live:
                raise  # the service is being stopped
        except CommandRefused as error:
            log.warning("%s: handler: %s", self._session.label, self._session.pressed.redact(error))
        except CommandTimeout as error:
            log.error("%s", error)
        finally:
            self.tell_hangup()
        return otherwise

    def _answer_first(self) -> None:
        """Answer an unanswered call, unless the handler has chosen early media."""
        if self._auto_answer and not self._session.answered:
            self._session.answer()

    def _alone(self, application: str, data: str) -> None:
        """Runs an application that has the digits for itself."""
        before = len(self._keypad.waiting)
        self._beside(lambda: self._session.execute(application, wire.clean(data)), lambda: False)
        self._keypad.drop(before)

    def _heard(self, act: Callable[[], T], *, plays: bool = False) -> T | None:
        """What ``act`` gives while the input callback has the digits; None where that has ended it."""
        return self._beside(act, lambda: self._hear(plays=plays))

    def _beside(self, act: Callable[[], T], ended: Callable[[], bool]) -> T | None:
        """What ``act`` gives; None where it was broken off because, asked at every digit, ``ended`` said so."""
        if ended():
            return None
        task = gevent.spawn(_outcome, act)
        task.rawlink(self._wake)
        try:
            while not task.ready() and self._keypad.wait():
                if not task.ready() and ended():
                    self._break()
                    # What the switch had not begun by then it has dropped, and never completes.
                    task.join(_BREAK_WAIT)
                    return None
        except Exception:
            self._break()
            raise
        finally:
            task.kill(block=False)
        if not task.ready():
            raise self._session.gone()
        result: T | None
        result, error = task.value
        if error is not None:
            raise error
        return result

    def _hear(self, *, plays: bool = False) -> bool:
        """Gives the digits to the input callback, as far as it lets the verb go on; whether it wants it to end."""
        while self._callback is not None and self._keypad.waiting:
            answer = self._callback(self._keypad.waiting.pop(0))
            word = "" if answer is None or answer is True else str(answer)
            if plays and _FILE_COMMAND.match(word):
                self._tell_file(word)
            elif word not in _GOES_ON:
                return True
        return False

    def _tell_file(self, command: str) -> None:
        try:
            self._session.api(f"uuid_fileman {self._session.uuid} {command}")
        except CommandRefused as error:
            log.debug("%s: %s: %s", self._session.label, command, error)

    def _wake(self, _: object) -> None:
        self._keypad.wake.set()

    def _break(self) -> None:
        try:
            self._session.uuid_break()
        except (CallGone, CommandRefused):
            pass  # it has ended by itself

    def _give_back(self) -> None:
        for name, value in self._kept.items() if self._live else ():
            try:
                self._session.set_variable(name, value)
            except (CallGone, CommandRefused, CommandTimeout) as error:
                log.debug("%s: %s: %s", self._session.label, name, error)
        self._kept.clear()

    # ---- what the switch says, in the reader's greenlet

    def _on_event(self, event: wire.Event) -> None:
        if event.name == "DTMF":
            self._keypad.on_event(event)
        elif event.name in ("CHANNEL_BRIDGE", "CHANNEL_UNBRIDGE"):
            self._bridged = event.name == "CHANNEL_BRIDGE"
        elif event.name in ("CHANNEL_ANSWER", "CHANNEL_PROGRESS_MEDIA"):
            self._media = True
        elif event.name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
            self._last = event.headers
        if not self._live:
            self._keypad.wake.set()


def _outcome(act: Callable[[], T]) -> tuple[T, None] | tuple[None, Exception]:
    # gevent prints the traceback of a greenlet that fails, and that the caller has hung up is no failure.
    try:
        return act(), None
    except Exception as error:
        return None, error

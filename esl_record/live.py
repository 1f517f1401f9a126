"""The calls under way, and what is being recorded of each."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import gevent
from gevent.event import Event as Flag

from esl_record.errors import EslRecordError
from esl_record.esl import wire
from esl_record.esl.channel import ReachedCall
from esl_record.esl.unanswered import NeverAnsweredError
from esl_record.recording.machine import PauseCause
from esl_record.recording.params import ParameterError, RecordParams
from esl_record.recording.pause_digits import PauseCommand, PauseDigits, PauseMatcher
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Party, Recording

log = logging.getLogger(__name__)


ListenFar = Callable[[str, Callable[[wire.Event], None]], Callable[[], None]]
"""Calls what it is given with the events of the far end of a call, until the function it returns is called."""


MOST_AT_ONCE = 16
"""Recordings of one call that may run side by side."""

MOST = 1000
"""Recordings of one call, one after the other: no caller is to fill disk and catalog by going round in a document."""


class TooManyRecordings(ParameterError):
    """One recording more than a call may have."""


class MakeRecorder(Protocol):
    """Makes the recorder of a call's session and party, for what is asked for and what an earlier run has left."""

    def __call__(
        self, session: ReachedCall, party: Party, params: RecordParams, left: Recording | None, *, foreground: bool
    ) -> Recorder: ...


class LiveCall:
    """One call. Recordings of it run side by side, each under a ``control_id`` of its own.

    ``on_end`` is given the recorder of each when it is done, however that came about. ``pause_digits`` pause and resume
    all of them.
    """

    def __init__(
        self,
        session: ReachedCall,
        party: Party,
        make_recorder: MakeRecorder,
        on_end: Callable[[Recorder], None],
        pause_digits: PauseDigits | None = None,
        listen_far: ListenFar = lambda call_id, listener: lambda: None,
    ) -> None:
        self.session = session
        self.party = party
        self.since = time.time()
        self.recorders: dict[str, Recorder] = {}
        """By control id; the one started last is the last."""
        self.background: dict[str, Recorder] = {}
        """Those of them that run beside whatever the call does."""
        self._begun = 0
        self._none = Flag()
        self._none.set()
        self.stays = False
        """Whether it can be gone on with after a restart when nothing is recorded of it any more."""
        self._make_recorder = make_recorder
        self._on_end = on_end
        self._greenlets: dict[Recorder, gevent.Greenlet] = {}
        self._pause_digits = pause_digits or PauseDigits()
        self._matchers: dict[str, PauseMatcher] = {}
        """By leg."""
        if self._pause_digits.enabled:
            session.listen(self._on_event)
        self._forget_far = listen_far(session.uuid, self._on_far_event)

    def digit_pressed(self, digit: str, leg: str = "") -> None:
        """Take a digit that somebody on the call has pressed; the pause digits pause and resume its recordings.

        Args:
            digit: One DTMF digit.
            leg: Id of the leg it came from, empty for the recorded one. The digits of two legs make no sequence.
        """
        matcher = self._matchers.setdefault(leg, PauseMatcher(self._pause_digits))
        command = matcher.press(digit)
        if command is None:
            return
        # A digit that ends a recording does not pause it as well.
        recorders = [one for one in self.recorders.values() if leg or digit.upper() not in one.params.terminators]
        for recorder in recorders:
            if command is PauseCommand.PAUSE:
                recorder.pause(self._pause_digits.behavior, PauseCause.DIGITS)
            else:
                recorder.resume(PauseCause.DIGITS)
        log.info("%s: %s digits pressed, recordings: %d", self.session.label, command, len(recorders))

    def record(self, params: RecordParams) -> Recording:
        """Records in the foreground, until something ends it. Raises ParameterError where the control id is taken,
        TooManyRecordings."""
        return self._run(self._recorder(params, foreground=True))

    def start(self, params: RecordParams) -> Recorder:
        """Records in the background, beside whatever the call does. Raises ParameterError where the control id is
        taken, TooManyRecordings; what else goes wrong is an ``error`` of the recording."""
        return self._beside(self._recorder(params))

    def go_on(self, left: Recording) -> Recorder:
        """Goes on, in the background, with a recording an earlier run has begun of this call. Raises ParameterError."""
        return self._beside(self._recorder(RecordParams.of("record", left.parameters), left))

    def _beside(self, recorder: Recorder) -> Recorder:
        self.background[recorder.params.control_id] = recorder
        running = gevent.spawn(self._run_alone, recorder)
        self._greenlets[recorder] = running
        running.rawlink(lambda _: self._greenlets.pop(recorder))
        return recorder

    @property
    def waiting(self) -> list[dict[str, object]]:
        """Parameters of the recordings that are to start when the call is answered."""
        return [one.params.model_dump(mode="json") for one in self.background.values() if one.waits]

    def running(self, recorder: Recorder) -> bool:
        """Whether a background recording is not complete yet."""
        return recorder in self._greenlets and not self._greenlets[recorder].ready()

    def wait(self, recorder: Recorder, timeout: float | None = None) -> None:
        """Waits, up to ``timeout`` seconds, until it is."""
        if self.running(recorder):
            self._greenlets[recorder].join(timeout)

    def end(self, timeout: float) -> None:
        """Ends the background recordings and waits up to ``timeout`` seconds for them to be complete."""
        for recorder in self.recorders.values():
            recorder.stop()
        gevent.joinall(list(self._greenlets.values()), timeout=timeout)

    def hand_over(self, timeout: float) -> None:
        """Lets go of what is recorded, for another connection of the call to go on with; waits up to ``timeout``
        seconds until that is done."""
        for recorder in self.recorders.values():
            recorder.hand_over()
        with gevent.Timeout(timeout, False):
            self._none.wait()

    def follow(self) -> None:
        """Waits for its recordings to end by themselves."""
        self._none.wait()

    def _recorder(self, params: RecordParams, left: Recording | None = None, *, foreground: bool = False) -> Recorder:
        if params.control_id in self.recorders:
            raise ParameterError(f"record: control_id = {params.control_id[:80]!r}: is in use in this call")
        if left is None:
            if len(self.recorders) >= MOST_AT_ONCE:
                raise TooManyRecordings(f"record: at most {MOST_AT_ONCE} recordings of one call at once")
            if self._begun >= MOST:
                raise TooManyRecordings(f"record: at most {MOST} recordings of one call")
            self._begun += 1
        recorder = self._make_recorder(self.session, self.party, params, left, foreground=foreground)
        self.recorders[params.control_id] = recorder
        self._none.clear()
        return recorder

    def _run(self, recorder: Recorder) -> Recording:
        try:
            self.session.hold(True)
            # A step that records in the foreground has answered the call, unless it was to use early media.
            if recorder in self._greenlets and not recorder.await_answer():
                return recorder.cancel()
            return recorder.record()
        finally:
            recorder.begun.set()
            del self.recorders[recorder.params.control_id]
            self.background.pop(recorder.params.control_id, None)
            self._on_end(recorder)
            if not self.recorders:
                self._none.set()
                if not self.stays:
                    self.session.hold(False)

    def close(self) -> None:
        """Listen to the far end no longer."""
        self._forget_far()

    def _on_far_event(self, event: wire.Event) -> None:
        if event.name == "DTMF":
            self.digit_pressed(event.get("DTMF-Digit"), event.get("Unique-ID"))
        elif event.name in ("CHANNEL_HOLD", "CHANNEL_UNHOLD"):
            for recorder in self.recorders.values():
                recorder.far_end_holds(event.name == "CHANNEL_HOLD")

    def _on_event(self, event: wire.Event) -> None:
        if event.name == "DTMF":
            self.digit_pressed(event.get("DTMF-Digit"))

    def _run_alone(self, recorder: Recorder) -> None:
        try:
            self._run(recorder)
        except NeverAnsweredError as error:
            log.info("%s: no recording %s: %s", self.session.label, recorder.params.control_id, error)
        except EslRecordError as error:
            level = logging.DEBUG if recorder.handed_over else logging.ERROR
            log.log(level, "%s: no recording %s: %s", self.session.label, recorder.params.control_id, error)
        except Exception:
            log.exception("%s: unexpected error", self.session.label)


class LiveCalls:
    """The calls this service has in hand, by call id.

    A call that was sent elsewhere while it is recorded may come in again over another connection: then it is there
    once for each of them.
    """

    def __init__(self) -> None:
        self._calls: dict[str, list[LiveCall]] = {}

    def add(self, call: LiveCall) -> None:
        self._calls.setdefault(call.session.uuid, []).append(call)

    def remove(self, call: LiveCall) -> None:
        call.close()
        same = self._calls.get(call.session.uuid, [])
        if call in same:
            same.remove(call)
        if not same:
            self._calls.pop(call.session.uuid, None)

    def get(self, call_id: str) -> LiveCall | None:
        """The connection of a call that came in last."""
        same = self._calls.get(call_id)
        return same[-1] if same else None

    def all(self, call_id: str) -> list[LiveCall]:
        """Every connection of a call, that which came in last at the end."""
        return list(self._calls.get(call_id, ()))

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[LiveCall]:
        return iter([call for same in list(self._calls.values()) for call in same])

    @property
    def recorders(self) -> list[Recorder]:
        return [recorder for call in self for recorder in call.recorders.values()]

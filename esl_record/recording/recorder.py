"""One recording in the greenlet of its call: feeds what happens into the state machine, carries out what it answers."""

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore

from esl_record.audio import formats
from esl_record.errors import CallGone, CommandRefused, CommandTimeout, DatabaseError, SpoolError
from esl_record.esl.channel import ReachedCall
from esl_record.esl.inbound import SwitchUnreachable
from esl_record.esl.unanswered import await_answer
from esl_record.esl.wire import Event as SwitchEvent
from esl_record.hub import off_hub
from esl_record.recording import machine as m
from esl_record.recording.encoding import Encoding, Encodings
from esl_record.recording.params import RecordParams
from esl_record.recording.pause_limit import PauseLimit
from esl_record.recording.recording import HoldTime, Party, PauseTime, Recording
from esl_record.recording.rehearing import legs_of
from esl_record.recording.room import Room
from esl_record.recording.speech import Speech
from esl_record.recording.storage import Storage
from esl_record.recording.tap import NARROW_BAND, Growth, Tap
from esl_record.vad.detector import TAIL
from esl_record.vad.engine import Engine, Track
from esl_record.vad.features import hop_of

log = logging.getLogger(__name__)

FindTapped = Callable[[str, str], ReachedCall | None]
"""Gives the call that a media bug is on, by the path it writes and the call it was started on, None where there is no
such bug. Raises SwitchUnreachable, CallGone, CommandTimeout or CommandRefused where that cannot be found out."""

Tell = Callable[[Recording, m.PauseBehavior | None], None]

BEEP = "tone_stream://%(250,0,1000)"

FIRST_AUDIO = 2.0
"""Seconds within which a tap must have written something; a real one needs 20 ms."""

ASK_AFTER = 1.0
"""Seconds without new audio after which the switch is asked whether the call still is."""

HELD_AFTER = 0.1
"""Seconds without new audio that are enough where the switch has told of a hold: a tap stops within about so many."""

CLOSE_WAIT = 0.5
"""Seconds a hung-up call's spool gets to be closed by the switch."""

AHEAD = 30.0
"""Seconds of audio a spool may be ahead of what a tap can have written: all that may come to be heard at once."""

_REHEARD = 10
"""Seconds of a spool an earlier run has left that are heard at a stretch."""

_REHEARING = BoundedSemaphore(1)
"""Held by the recording that is heard anew."""

_BREATH = 0.001
"""Seconds the live calls have for themselves between two stretches."""

_BYPASS = "no audio: the media bypasses the switch (uuid_media off, bypass_media); silence is recorded until it is back"

_LATE = TAIL + 0.05
"""Seconds by which the end of a voice may be told late, and with it that the recording was to end before."""


_FOLLOWING = ("recording_follow_transfer", "recording_follow_attxfer")
"""Channel variables that have the switch take a media bug along where an attended transfer replaces its channel."""

_ENDS = (m.Stop, m.HangUp, m.Transfer)
"""What ends a recording whether or not anything is written: until then its call lived."""


@dataclass(frozen=True, slots=True)
class _Happening:
    """Something that came in beside the audio, and how much audio there was when it did."""

    at: int
    event: Callable[[int], m.Event] | None
    act: Callable[[], None] | None = None
    """What is to be done in the greenlet of the call, where it is no event of the machine."""
    settles: bool = False
    """The switch is still closing the spool: what it adds belongs to the recording."""
    done: Flag = field(default_factory=Flag)
    """Set once it has been carried out."""


class Recorder:
    """Records one call once. ``record`` blocks; the other methods may be called from any greenlet meanwhile.

    ``tell`` is called with the recording at every state it comes to, and how a paused one is paused; it raises
    DatabaseError where that could not be written down. ``stall_timeout`` is in seconds of wall time, the one thing
    that is: how long a tap may write nothing while its call lives. ``left`` is a recording an earlier run has begun,
    whose tap still writes: what it has written is heard first, and then the recording goes on. Any other is begun only
    where ``room`` has some. One in the ``foreground`` ends when the call leaves for another part of the dialplan.
    ``pause_limit`` is in seconds of wall time, too: a longer pause is resumed. ``find_tapped`` finds the
    tap once its event socket is lost, or where an attended transfer has replaced its channel and taken it along.
    """

    def __init__(
        self,
        session: ReachedCall,
        engine: Engine,
        storage: Storage,
        party: Party,
        params: RecordParams,
        tell: Tell,
        encodings: Encodings,
        room: Room,
        *,
        left: Recording | None = None,
        foreground: bool = False,
        stall_timeout: float = 10.0,
        pause_limit: float = 0.0,
        find_tapped: FindTapped | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.params = params
        self._left = left
        self.track: Track | None = None
        self._session = session
        self._find_tapped = find_tapped
        self.moves = False
        """The channel of the tap has hung up, and the tap goes on, or may, on the one that has replaced it."""
        self._engine = engine
        self._storage = storage
        self._tell_state = tell
        self._encodings = encodings
        self._room = room
        self._encoding: Encoding | None = None
        self._untold: deque[tuple[Recording, m.PauseBehavior | None]] = deque()
        self._clock = clock
        self._stall_timeout = stall_timeout
        self._pause_limit = PauseLimit(pause_limit, clock)
        self._recording = left or Recording.begun(storage.new_id(), party, params, clock())
        self._foreground = foreground
        self._path = storage.spool_path(self._recording.recording_id)
        self._spool = storage.spool(self._recording)
        self._tap = Tap(session, self._spool, params)
        self._growth = Growth()
        self._noted = (len(self._spool.timeline.spans), 0, 0)
        self._hold_told = False
        """The switch has told of the hold, and will of its end."""
        self._stale = False
        """The leg has changed while the recording was paused."""
        self._restarted = False
        """The tap was started anew since it last wrote."""
        self._bypassed = False
        """The log says that the media bypasses the switch."""
        self._flows_since = 0.0
        """The unix time before which the tap was not to write; by the clock of the files it writes."""
        self._suspect = ""
        """What is wrong with audio that is in the recording."""
        self._machine = m.Machine(m.Limits())
        self.begun = Flag()
        """Set when the tap runs, or the recording has ended without it."""
        self._started = Flag()
        self.handed_over = False
        self._inbox: deque[_Happening] = deque()
        self._wake = Flag()
        self._closed = Flag()
        self._speech = Speech(NARROW_BAND)

    @property
    def recording(self) -> Recording:
        """The recording as it is now."""
        if self._recording.state.final:
            return self._recording
        return self._recording.model_copy(update={"state": self._machine.state})

    @property
    def waits(self) -> bool:
        """Whether it is to start when the call is answered."""
        return self.begun.is_set() and not self._started.is_set() and not self._recording.state.final

    @property
    def untold(self) -> list[tuple[Recording, m.PauseBehavior | None]]:
        """The states nobody could be told of yet, in order."""
        return list(self._untold)

    @property
    def position(self) -> float:
        """Seconds of audio so far; at the end, of the recording."""
        at = self._machine.end.at if self._machine.end else self.track.position if self.track else 0
        return at / (self._recording.sample_rate or NARROW_BAND)

    # ---- from outside

    def stop(self) -> Flag:
        """Ends the recording. The flag is set when that is done, as with ``pause`` and ``resume``."""
        return self._post(m.Stop)

    def pause(self, behavior: m.PauseBehavior = m.PauseBehavior.SKIP, by: m.PauseCause = m.PauseCause.API) -> Flag:
        """From when the flag is set, no audio of the call reaches the disk."""
        since = self._clock()
        return self._post(lambda at: m.Pause(at, behavior, by, since))

    def resume(self, by: m.PauseCause = m.PauseCause.API) -> Flag:
        return self._post(lambda at: m.Resume(at, by))

    def far_end_holds(self, held: bool) -> None:
        """Note that the far end holds, or no longer does. The tap writes on meanwhile."""
        self._post(lambda at: (m.Hold if held else m.Unhold)(at, far=True))

    def hand_over(self) -> None:
        """Has ``record`` raise CallGone and leave the recording as it is, for another to go on with."""
        self.handed_over = True
        self._wake.set()

    # ---- the recording's way

    def await_answer(self) -> bool:
        """Wait until the call is answered; return False if the recording was stopped before. Raises CallGone."""
        if self._left or self.params.early_media or self._session.answered or self._room.refusal:
            return True
        self.begun.set()
        self._session.at_answer.append(self._started)
        log.info("%s: recording %s starts at the answer", self._session.label, self._recording.recording_id)
        return await_answer(self._session, self._wake, self._wanted)

    def _wanted(self) -> bool | None:
        """Carry out what was asked of a recording that has not started. Return None while it is paused.

        Raises CallGone where another connection takes over the call.
        """
        if self.handed_over:
            log.warning("%s: recording %s never started", self._session.label, self._recording.recording_id)
            raise CallGone(f"{self._session.label}: another connection has the call")
        while self._inbox:
            happening = self._inbox.popleft()
            if happening.event is not None:
                self._replay(happening.event(0))
            happening.done.set()
        if self._machine.state is not m.State.RECORDING:
            self._started.set()
        return None if self._machine.state is m.State.PAUSED else not self._machine.state.final

    def cancel(self) -> Recording:
        """Complete a recording that was stopped before it started: finished, without audio."""
        self._machine = m.Machine(m.Limits())
        self._feed(m.Stop(0))
        return self._finish()

    def record(self) -> Recording:
        """Beeps if asked to, records until something ends it, and gives the complete recording.

        Raises CallGone if the call ends before the recording has begun.
        """
        failure = "" if self._left else self._prepare()
        self._forget = self._session.listen(self._on_event)
        if self._left and self._session.hangup_cause is not None:
            self._post(m.HangUp, settles=True)
        try:
            failure = failure or ("" if self._left else self._start_tap())
            if self._left:
                self._start_again(self._left)
            self.begun.set()
            self._started.set()
            if failure:
                self._feed(m.TapFailed(0, failure))
            else:
                self._follow()
            return self._finish()
        finally:
            self._forget()
            if self.track is not None:
                self._engine.leave(self.track)
            self._spool.close()
            if self._encoding is not None:
                self._encodings.end(self._encoding)
            while self._inbox:
                self._inbox.popleft().done.set()

    def _prepare(self) -> str:
        """Beeps and asks for what the recording's time is counted in. Why that failed, empty if it did not."""
        if self._room.refusal:
            return f"the recording could not be begun: {self._room.refusal}"
        try:
            if self.params.beep:
                self._session.playback(BEEP)
            self._begin()
        except (CommandRefused, CommandTimeout) as error:
            return f"the recording could not be begun: {error}"
        return ""

    def _begin(self) -> None:
        rate = self._tap.ask_rate()
        self._machine = m.Machine(self.params.limits(rate))
        self._speech = Speech(rate)
        self._recording = self._recording.model_copy(update={"sample_rate": rate, "start_time": self._clock()})
        self._set_pace(rate)
        self._spool.ahead = AHEAD

    def _set_pace(self, rate: int) -> None:
        self._spool.pace = rate * (self._session.pace or 1.0)
        self._spool.began = self._recording.start_time if self._session.pace else None
        self._growth = Growth(rate * self._session.pace)

    def _start_tap(self) -> str:
        """Why the tap could not be started, empty if it was."""
        try:
            hop_of(self._recording.sample_rate)
            formats.check(self._recording.format, self._recording.sample_rate)
            off_hub(lambda: self._storage.announce(self._recording))
            self._growth.restart(0, time.monotonic())
            self._tap.start()
        except (OSError, ValueError, CommandRefused) as error:
            self._room.doubt()
            return f"the tap could not be started: {error}"
        except (CallGone, CommandTimeout):
            # Without an answer, and without a hang-up, the tap may run: then the spool is all there will be of it.
            if self._session.hangup_cause is not None:
                self._drop_spool()
            raise
        self._join()
        log.info("%s: recording %s begun", self._session.label, self._recording.recording_id)
        self._tell()
        return ""

    def _join(self) -> Track:
        rate, legs = self._recording.sample_rate, legs_of(self.params)
        self.track = self._engine.join(self._spool, rate, legs, self.params.input_sensitivity, self._wake.set)
        self._encoding = self._encodings.begin(self._recording, self._certain, self._spool)
        return self.track

    def _start_again(self, left: Recording) -> None:
        """Goes through what there is of a recording as if it were live. Raises SpoolError: then nothing has become of
        it, and it is still to be completed from its spool."""
        rate = left.sample_rate
        try:
            hop_of(rate)
        except ValueError as error:
            raise SpoolError(str(error)) from None
        self._tap.take_over(rate)
        self._set_pace(rate)
        self._spool.size()
        self._growth.restart(self._spool.written(), time.monotonic())
        self._spool.ahead = AHEAD
        self._machine, self._speech = m.Machine(self.params.limits(rate)), Speech(rate)
        track = self._join()
        # A tick would hear beyond a pause that is still to come.
        track.past = True
        for at, event in self._noted_events(left):
            self._rehear(track, at)
            self._replay(event)
            if isinstance(event, m.Pause):
                track.hold(at)
            elif isinstance(event, m.Resume):
                track.release(at)
        skipped = left.pauses and left.pauses[-1].behavior is m.PauseBehavior.SKIP
        if skipped and round(left.pauses[-1].end * rate) >= self._spool.settled():
            # When it was resumed is not noted; the file was last written before the pause.
            self._flows_since = self._spool.now()
        self._rehear(track, self._size())
        track.past = False
        if not self._machine.state.final and not self._taps_on(left):
            self._post(m.Stop)
        if not self._machine.state.final:
            self._check_codec()
        log.info("%s: recording %s goes on", self._session.label, left.recording_id)

    def _check_codec(self) -> None:
        """Find out whether the codec changed while there was no service, and nobody saw when."""
        try:
            changed = self._tap.takes_codec(self._session.leg_rate())
        except (CallGone, CommandRefused, CommandTimeout):
            return  # the hang-up is on its way, or the event socket is lost
        if not changed:
            return
        if not self._skipping:
            rate, start = self._recording.sample_rate, self._spool.timeline.last.start
            where = f"wrong speed from some point after {start / rate:.1f} to {self._size() / rate:.1f} s"
            self._suspect = f"the codec changed while no service followed the call: {where}"
            log.warning("%s: recording %s: %s", self._session.label, self._recording.recording_id, self._suspect)
        self._move_tap()

    def _noted_events(self, left: Recording) -> list[tuple[int, m.Event]]:
        """Return what was noted of holds and pauses, in order of time, each with its sample."""
        size, events = self._spool.size(), list[tuple[int, m.Event]]()
        for hold in left.holds:
            start, end = (min(round(at * left.sample_rate), size) for at in (hold.start, hold.end))
            events.append((start, m.Hold(start, hold.far, hold.since)))
            if end == start and not hold.far:
                # It had not ended when it was noted: it did where the tap wrote on. The tap stops a moment late.
                late = round(ASK_AFTER * left.sample_rate)
                gaps = self._spool.timeline.gaps
                end = next((ends for begins, ends in gaps if begins - late <= start < ends), start)
            if end > start or hold.far:
                events.append((end, m.Unhold(end, hold.far)))
        for number, pause in enumerate(left.pauses, 1):
            start, end = (min(round(at * left.sample_rate), size) for at in (pause.start, pause.end))
            began_by, ended_by = pause.began_by or m.PauseCause.API, pause.ended_by or m.PauseCause.API
            events.append((start, m.Pause(start, pause.behavior, began_by, pause.since or self._clock())))
            if number < len(left.pauses) or left.state is not m.State.PAUSED:
                events.append((end, m.Resume(end, ended_by)))
        return sorted(events, key=lambda one: one[0])

    def _taps_on(self, left: Recording) -> bool:
        """Whether the tap is there: the run that stopped it may have got no further. It is told again what was noted
        last, and so is everybody else."""
        behavior = left.pauses[-1].behavior if left.pauses else m.PauseBehavior.SKIP
        mask, paused = behavior is m.PauseBehavior.SILENCE, left.state is m.State.PAUSED
        self._tap.stop_earlier()
        self._stale = paused and not self._tap.started
        try:
            if not self._stale:
                (self._tap.pause if paused else self._tap.resume)(mask=mask)
            self._tell(behavior if paused else None)
        except CommandRefused:
            if self._tap.started:
                return False
            # Noted, and killed before it was started.
            self._move_tap()
        except (CallGone, CommandTimeout):
            pass  # the hang-up is on its way, or the event socket is lost
        return True

    def _rehear(self, track: Track, upto: int) -> None:
        while track.position < upto and track.error is None and not self._machine.state.final:
            # An hour takes three seconds, and hundreds of calls come back at once: one at a time, and not all the time.
            with _REHEARING:
                track.catch_up(min(upto, track.position + self._recording.sample_rate * _REHEARD))
                self._hear(track)
                gevent.sleep(_BREATH)

    def _replay(self, event: m.Event) -> None:
        """What the switch was told then it is not told again."""
        if not self._machine.state.final:
            self._machine, _ = self._machine.step(event)

    def _follow(self) -> None:
        assert self.track is not None
        self._growth.since = time.monotonic()
        while not self._machine.state.final:
            self.track.deadline = self._machine.deadline()
            due = self._growth.next_look(time.monotonic())
            self._wake.wait(min(self._patience, due, self._pause_limit.left(self._machine.pausing)))
            self._wake.clear()
            if self.handed_over:
                raise CallGone(f"{self._session.label}: another connection has the call")
            self._hear(self.track)
            while self._inbox and not self._machine.state.final:
                happening = self._inbox.popleft()
                self._handle(happening, self.track)
                happening.done.set()
            if self._pause_limit.left(self._machine.pausing) <= 0:
                log.info("%s: recording %s resumes: pause_limit", self._session.label, self._recording.recording_id)
                self._feed(m.Resume(self._size(), m.PauseCause.LIMIT))
            if not self._machine.state.final:
                self._guard(self.track)

    def _hear(self, track: Track) -> None:
        for change in self._speech.changes(track.take_changes()):
            self._feed(change)
        self._feed(m.Audio(track.decided))
        if track.error is not None:
            self._feed(m.TapFailed(max(track.decided, self._size()), str(track.error)))

    def _handle(self, happening: _Happening, track: Track) -> None:
        at = happening.at
        if happening.settles:
            self._closed.wait(CLOSE_WAIT)
            # In stereo what the switch drains into the file at its close can be torn between the channels.
            if not self.params.stereo:
                at = max(at, self._size())
        track.catch_up(at)
        self._hear(track)
        if happening.event is not None:
            self._feed(happening.event(at))
        if happening.act is not None:
            happening.act()

    def _feed(self, event: m.Event) -> None:
        self._machine, actions = self._machine.step(event)
        for action in actions:
            if not isinstance(action, m.End):
                self._switch_tap(action)

    def _switch_tap(self, action: m.PauseTap | m.ResumeTap) -> None:
        assert self.track is not None
        mask = action.behavior is m.PauseBehavior.SILENCE
        try:
            if isinstance(action, m.PauseTap) and not mask:
                # What is skipped of a hold is not in the recording.
                self._spool.close_gap()
            # Before it is done: what was noted and perhaps not done a later start does again.
            self._note()
            if isinstance(action, m.PauseTap):
                self._tap.pause(mask=mask)
                if not mask:
                    self._growth.stop(time.monotonic())
                self.track.hold(self._size())
                self._tell(action.behavior)
            else:
                if not mask:
                    self._flows_since = self._spool.now()
                self._growth.since = time.monotonic()
                if self._stale:
                    self._move_tap()
                else:
                    self._tap.resume(mask=mask)
                self.track.release(self._size())
                self._tell()
        except (CommandRefused, CommandTimeout, SpoolError) as error:
            self._feed(m.TapFailed(self._size(), str(error)))
        except CallGone:
            pass  # the hang-up is on its way

    def _move_tap(self) -> None:
        """Start a new tap behind a change of the leg, which the switch does not pass on to the one that runs."""
        self._stale = self._machine.state is m.State.PAUSED
        began = time.monotonic()
        try:
            self._tap.add(self._flows_since, cut=not self._skipping)
            # First: what a later start does not know of it cannot find.
            self._note()
            if self._stale:
                # A new tap would write before it can be paused: it starts when the recording resumes.
                self._tap.stop_earlier()
                return
            self._tap.move()
        except (CommandRefused, CommandTimeout, SpoolError) as error:
            self._feed(m.TapFailed(self._size(), f"the tap could not be started again: {error}"))
        except CallGone:
            pass  # the hang-up is on its way
        self._growth.restart(0, began)
        log.info("%s: recording %s goes on in another segment", self._session.label, self._recording.recording_id)

    def _follow_media(self) -> None:
        """Go on where the switch has taken the tap; the recording ends with its channel if it has not."""
        if not self._reach_tap():
            self._end_with_channel()
        self.moves = not self._machine.state.final

    def _reach_tap(self) -> bool:
        """Whether the tap was found where its session does not reach it, or it is known that it is over."""
        if self._find_tapped is None:
            return False
        try:
            found = self._find_tapped(str(self._spool.paths[0]), self._session.uuid)
        except (CallGone, CommandRefused, CommandTimeout, SwitchUnreachable) as error:
            log.debug("%s: the tap cannot be looked for: %s", self._session.label, error)
            return False
        if found is None:
            self._end_with_channel()
            return True
        self._forget()
        log.info("%s: recording %s goes on as %s", self._session.label, self._recording.recording_id, found.label)
        self._session = self._tap.session = found
        self._forget = found.listen(self._on_event)
        return True

    def _end_with_channel(self) -> None:
        self._spool.let_pass()
        self._feed(m.HangUp(self._size()))

    def _check_leg(self) -> None:
        try:
            fits = self._tap.fits()
        except (CallGone, CommandRefused, CommandTimeout):
            return  # the next look finds out why
        if not fits:
            self._move_tap()

    def _note(self) -> None:
        """Write down pauses, holds and segments for a later start: it could not see them in the spool."""
        self._noted = self._notable()
        noted = self.recording.model_copy(update=self._facts())
        try:
            off_hub(lambda: self._storage.announce(noted))
        except OSError as error:
            log.error("%s: pause of recording %s: %s", self._session.label, noted.recording_id, error)

    def _notable(self) -> tuple[int, int, int]:
        """Return how many spans, holds and ends of holds there are to be noted."""
        machine = self._machine
        return len(self._spool.timeline.spans), len(machine.holds) + len(machine.on_hold), len(machine.holds)

    def _facts(self, end: int | None = None) -> dict[str, object]:
        """Return what has happened to the recording so far, or before sample ``end``, at which it ended."""
        rate = self._recording.sample_rate
        machine = self._machine
        open_holds = (m.HoldSpan(hold.at, hold.at, hold.far, hold.since) for hold in machine.on_hold)
        holds = [
            HoldTime(start=span.start / rate, end=span.end / rate, far=span.far, since=span.since)
            for span in (*machine.holds, *open_holds)
        ]
        return {"pauses": self._pauses(), "holds": holds, **self._recording.noted(self._spool.timeline, end)}

    def _masked(self) -> list[tuple[int, int]]:
        """Return where the switch wrote silence for what was said."""
        pauses = self._machine.pauses
        return [(one.start, one.end) for one in pauses if one.behavior is m.PauseBehavior.SILENCE]

    def _pauses(self) -> list[PauseTime]:
        rate = self._recording.sample_rate
        spans = [*self._machine.pauses, *([self._machine.pausing] if self._machine.pausing else [])]
        return [
            PauseTime(
                start=span.start / rate,
                end=span.end / rate,
                behavior=span.behavior,
                began_by=span.began_by,
                ended_by=span.ended_by,
                since=span.since,
            )
            for span in spans
        ]

    @property
    def _patience(self) -> float:
        """Seconds the tap may write nothing before that is looked into."""
        return HELD_AFTER if self._hold_told and not self._spool.in_gap and not self._skipping else ASK_AFTER

    def _guard(self, track: Track) -> None:
        """Look after a tap that has fallen silent, or writes what it was not asked for."""
        now, size = time.monotonic(), self._size()
        growth, paused = self._growth, self._machine.state is m.State.PAUSED
        before, since = growth.written, growth.since
        try:
            grown = growth.look(self._spool.written(), now)
        except SpoolError as error:
            self._feed(m.TapFailed(size, str(error)))
            return
        silent = now - since >= self._patience
        if not self._session.connected and (silent or paused):
            # A tap outlives its event socket, so the loss alone ends nothing. That the tap has fallen silent does, or
            # that nobody can resume it any more.
            if not self._reach_tap():
                self._feed(m.TapFailed(size, f"event socket lost: {self._session.fault or 'the switch closed it'}"))
            return
        fault = self._room.fault(self._path.parent)
        due = (now - since) * self._recording.sample_rate / 2
        if fault and not paused and now - since >= ASK_AFTER / 2 and growth.written - before < due:
            # A switch that cannot write goes on trying: it takes what others give up of the disk, with holes between.
            self._feed(m.TapFailed(size, fault))
            return
        if paused and not (self._hold_told and silent and not self._skipping):
            growth.since = now
        elif grown:
            self._restarted = self._bypassed = False
            self._check_growth(now)
            if self._machine.holds_by(False) and not self._hold_told:
                self._feed(m.Unhold(size))
        elif silent:
            self._look_after_silence(size, now - since)
        if self._notable() != self._noted and not self._machine.state.final:
            self._note()

    def _check_growth(self, now: float) -> None:
        if not self._growth.runs_ahead(now):
            return
        what = f"the tap has written {self._growth.excess(now):.1f} s of audio more than time has passed"
        size = self._size()
        if self._suspect:
            self._feed(m.TapFailed(size, what))
            return
        log.warning("%s: recording %s: %s", self._session.label, self._recording.recording_id, what)
        rate = self._recording.sample_rate
        start = self._spool.timeline.last.start / rate
        self._suspect = f"{what}: wrong speed from {start:.1f} to {size / rate:.1f} s"
        self._move_tap()

    def _look_after_silence(self, size: int, silent: float) -> None:
        """Tell a hold from a tap that has died without a word."""
        try:
            if not self._session.exists():
                self._feed(m.HangUp(size))
                return
            held = self._hold_told or self._session.on_hold()
            if held and not self._machine.holds_by(False):
                self._feed(m.Hold(size, since=self._spool.now()))
            passes = held or self._session.bypasses()
        except CallGone:
            return  # the next look finds the event socket lost
        except (CommandTimeout, CommandRefused) as error:
            self._feed(m.TapFailed(size, str(error)))
            return
        try:
            # The switch writes nothing during a hold, or while the media bypasses it: silence stands in the recording
            # for as long as that lasts. Otherwise silence would pass a dead tap off as a party that has fallen silent.
            self._spool.open_gap(self._flows_since, passes=passes)
        except SpoolError as error:
            self._feed(m.TapFailed(size, str(error)))
            return
        if passes:
            if not held and not self._bypassed:
                log.warning("%s: recording %s: %s", self._session.label, self._recording.recording_id, _BYPASS)
            self._bypassed = not held
            self._growth.stop(self._growth.since)
            self._growth.since = time.monotonic()
            return
        self._room.doubt()
        if self._machine.holds_by(False):
            self._feed(m.Unhold(size))
        if silent >= (self._stall_timeout if size else FIRST_AUDIO):
            self._feed(m.TapFailed(size, f"the switch has written nothing for {silent:.1f} s"))
        elif size and not self._restarted:
            self._restart_tap(silent)

    def _restart_tap(self, silent: float) -> None:
        """Start a silent tap anew: what stays of a frame in a media bug that taps the write side holds it up."""
        self._restarted = True
        label, recording_id = self._session.label, self._recording.recording_id
        log.warning("%s: recording %s: nothing written for %.1f s: its tap is restarted", label, recording_id, silent)
        since = self._growth.since
        self._move_tap()
        self._growth.since = since

    def _finish(self) -> Recording:
        try:
            self._spool.close_gap()
        except SpoolError as error:
            log.error("%s: %s", self._session.label, error)
        end = self._machine.end
        assert end is not None
        # A tap that was to start at the end of a pause does not run.
        if self._session.live and self.track is not None and not self._stale:
            self._tap.stop()
        recording = self._recording.model_copy(
            update={
                "state": m.State.ERROR if self._suspect else end.state,
                "end_reason": m.EndReason.ERROR if self._suspect else end.reason,
                "terminator": end.terminator,
                "error": "; ".join(filter(None, (end.detail, self._suspect))),
                "end_time": self._clock(),
                "speech": self._speech.seconds(end.at, self._masked()),
                **self._facts(end.at),
            }
        )
        samples = min(end.at, self._size())
        try:
            self._recording = self._keep(recording, samples)
        except (OSError, SpoolError) as error:
            self._recording = self._unkept(recording, samples, error)
            if not self._storage.announced_path(recording).exists():
                self._tell()
        else:
            # Without its spool a recording can no longer be found by the next start, so it goes last.
            if self._tell():
                self._drop_spool()
        # Where nothing was recorded of a call that lives, whoever asked for the recording tells why.
        failed = self._recording.state is m.State.ERROR and (self._recording.file or not self._session.live)
        level = logging.ERROR if failed else logging.INFO
        log.log(level, "%s: recording %s", self._session.label, summary(self._recording))
        return self._recording

    def _keep(self, recording: Recording, samples: int) -> Recording:
        """The finished recording in place."""
        if self._encoding is not None and samples:
            return self._encoding.finish(recording, samples)
        return off_hub(lambda: self._storage.conclude(recording, 0))

    def _certain(self) -> int:
        """Samples that are in the recording however it ends."""
        return self._machine.at - round(_LATE * self._recording.sample_rate)

    def _unkept(self, recording: Recording, samples: int, error: Exception) -> Recording:
        """A recording that could not be put in place. What was announced is told of once the recovery has done so."""
        kept = f"the audio stays in {self._path}: " if samples and self._path.exists() else ""
        told = f"{recording.error}; " if recording.error else ""
        self._room.doubt()
        failed = {"state": m.State.ERROR, "end_reason": m.EndReason.ERROR, "error": f"{told}{kept}{error}"}
        return recording.model_copy(update=failed)

    def _drop_spool(self) -> None:
        try:
            self._storage.drop_spool(self._recording, self._spool.all_paths)
        except OSError as error:
            log.error("%s: spool of a recording that is complete: %s", self._session.label, error)

    def _tell(self, pausing: m.PauseBehavior | None = None) -> bool:
        """Tells of the state the recording is in; says whether that, and all that came before, is written down."""
        self._untold.append((self.recording, pausing))
        try:
            while self._untold:
                self._tell_state(*self._untold[0])
                self._untold.popleft()
        except DatabaseError as error:
            log.error("%s: recording %s: %s", self._session.label, self._recording.recording_id, error)
        return not self._untold

    # ---- from the switch, in the reader's greenlet

    def _on_event(self, event: SwitchEvent) -> None:
        if event.name == "DTMF":
            digit = event.get("DTMF-Digit")
            self._post(lambda at: m.Digit(at, digit))
        elif event.name in ("CHANNEL_HOLD", "CHANNEL_UNHOLD"):
            self._hold_told = event.name == "CHANNEL_HOLD"
            if not self._hold_told and not self._skipping and self.track is not None:
                # The next thing the tap writes comes behind the hold, however short that was.
                with suppress(SpoolError):
                    self._spool.open_gap(self._flows_since, passes=False)
            # It is compared with the time of the file's last write.
            since = self._spool.now()
            self._post(lambda at: m.Hold(at, since=since) if event.name == "CHANNEL_HOLD" else m.Unhold(at))
        elif event.name == "CODEC":
            self._on_codec(event.get("channel-read-codec-rate") or event.get("Channel-Read-Codec-Rate"))
        elif event.name == "CHANNEL_EXECUTE_COMPLETE" and self._session.left and self._foreground:
            self._post(m.Transfer)
        elif event.name == "CHANNEL_HANGUP":
            if any(event.get(f"variable_{name}") == "true" for name in _FOLLOWING) and not self._foreground:
                self.moves = True
                self._act(self._follow_media)
            else:
                self._post(m.HangUp, settles=True)
        elif event.name == "RECORD_STOP" and self._tap.writes(event.get("Record-File-Path")):
            self._closed.set()
            if self._session.live:
                self._tap_closed(event.get("Record-Completion-Cause"))

    def _tap_closed(self, cause: str) -> None:
        """Somebody else ended the tap: an operator by its path, or the switch, which could not write."""
        if cause == "uri-failure":
            self._post(lambda at: m.TapFailed(at, "the switch could not write the spool: disk full?"))
        else:
            self._post(m.Stop)

    def _on_codec(self, rate: str) -> None:
        changed = self._tap.takes_codec(rate)
        if changed and self.track is not None and not self._skipping:
            # From here on the tap that runs writes at another speed.
            with suppress(SpoolError):
                self._spool.cut(self._flows_since)
        self._act(self._move_tap if changed else self._check_leg)

    @property
    def _skipping(self) -> bool:
        """Whether the recording is paused, and nothing stands in it for what passes."""
        pause = self._machine.pausing
        return pause is not None and pause.behavior is m.PauseBehavior.SKIP

    def _post(self, event: Callable[[int], m.Event], *, settles: bool = False) -> Flag:
        if event in _ENDS:
            self._spool.let_pass()
        return self._put(_Happening(self._size(), event, settles=settles))

    def _act(self, act: Callable[[], None]) -> None:
        self._put(_Happening(self._size(), None, act))

    def _put(self, happening: _Happening) -> Flag:
        if self._machine.state.final:
            happening.done.set()
        else:
            self._inbox.append(happening)
            self._wake.set()
        return happening.done

    def _size(self) -> int:
        try:
            return self._spool.size()
        except SpoolError:
            return self.track.position if self.track else 0


def summary(recording: Recording) -> str:
    """One line for the log."""
    why = recording.end_reason.value if recording.end_reason else "?"
    told = f" ({recording.error})" if recording.error else ""
    return f"{recording.recording_id}: {recording.state.value}, {why}, {recording.duration:.2f} s{told}"

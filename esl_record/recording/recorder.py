"""One recording in the greenlet of its call: feeds what happens into the state machine, carries out what it answers."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import gevent
from gevent.event import Event as Flag
from gevent.lock import BoundedSemaphore

from esl_record.audio import formats
from esl_record.errors import CallGone, CommandRefused, CommandTimeout, DatabaseError, SpoolError
from esl_record.esl.session import Session
from esl_record.esl.wire import Event as SwitchEvent
from esl_record.hub import off_hub
from esl_record.recording import machine as m
from esl_record.recording.encoding import Encoding, Encodings
from esl_record.recording.params import Direction, RecordParams
from esl_record.recording.pause_limit import PauseLimit
from esl_record.recording.recording import HoldTime, Party, PauseTime, Recording
from esl_record.recording.room import Room
from esl_record.recording.speech import Speech
from esl_record.recording.storage import Storage
from esl_record.vad.detector import TAIL
from esl_record.vad.engine import Engine, Track
from esl_record.vad.features import hop_of

log = logging.getLogger(__name__)

Tell = Callable[[Recording, m.PauseBehavior | None], None]

BEEP = "tone_stream://%(250,0,1000)"

NARROW_BAND = 8000
"""Samples a second where the switch names no rate."""

FIRST_AUDIO = 2.0
"""Seconds within which a tap must have written something; a real one needs 20 ms."""

ASK_AFTER = 1.0
"""Seconds without new audio after which the switch is asked whether the call still is."""

CLOSE_WAIT = 0.5
"""Seconds a hung-up call's spool gets to be closed by the switch."""

_REHEARD = 10
"""Seconds of a spool an earlier run has left that are heard at a stretch."""

_REHEARING = BoundedSemaphore(1)
"""Held by the recording that is heard anew."""

_BREATH = 0.001
"""Seconds the live calls have for themselves between two stretches."""

_LATE = TAIL + 0.05
"""Seconds by which the end of a voice may be told late, and with it that the recording was to end before."""

_TAP_DEFAULTS = {
    "enable_file_write_buffering": "false",
    "RECORD_PRE_BUFFER_FRAMES": "1",
    "RECORD_STEREO_SWAP": "false",
    "RECORD_ANSWER_REQ": "false",
    "RECORD_BRIDGE_REQ": "false",
    "RECORD_APPEND": "false",
    "RECORD_MIN_SEC": "0",
    "RECORD_INITIAL_TIMEOUT_MS": "0",
    "RECORD_FINAL_TIMEOUT_MS": "0",
    # The two timeouts set it to 200 when they are given, 0 included.
    "RECORD_SILENCE_THRESHOLD": "0",
    "RECORD_HANGUP_ON_ERROR": "false",
    "RECORD_TOGGLE_ON_REPEAT": "false",
    "RECORD_CHECK_BRIDGE": "false",
    "RECORD_USE_THREAD": "true",
}
"""Settings of the tap that are the same for every recording."""

_LEGS = {Direction.SPEAK: (0,), Direction.LISTEN: (1,), Direction.BOTH: (0, 1)}


@dataclass(frozen=True, slots=True)
class _Happening:
    """Something that came in beside the audio, and how much audio there was when it did."""

    at: int
    event: Callable[[int], m.Event]
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
    where ``room`` has some. ``pause_limit`` is in seconds of wall time, too: a longer pause is resumed.
    """

    def __init__(
        self,
        session: Session,
        engine: Engine,
        storage: Storage,
        party: Party,
        params: RecordParams,
        tell: Tell,
        encodings: Encodings,
        room: Room,
        *,
        left: Recording | None = None,
        stall_timeout: float = 10.0,
        pause_limit: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.params = params
        self._left = left
        self.track: Track | None = None
        self._session = session
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
        self._path = storage.spool_path(self._recording.recording_id)
        self._spool = storage.spool(self._recording)
        self._held_since: float | None = None
        self._holds: list[HoldTime] = list(self._recording.holds)
        self._noted_gaps = len(self._recording.gaps)
        self._machine = m.Machine(m.Limits())
        self.begun = Flag()
        """Set when the tap runs, or the recording has ended without it."""
        self.handed_over = False
        self._inbox: deque[_Happening] = deque()
        self._wake = Flag()
        self._closed = Flag()
        self._speech = Speech(NARROW_BAND)
        self._grown = (0, 0.0)

    @property
    def recording(self) -> Recording:
        """The recording as it is now."""
        if self._recording.state.final:
            return self._recording
        return self._recording.model_copy(update={"state": self._machine.state})

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

    def hand_over(self) -> None:
        """Has ``record`` raise CallGone and leave the recording as it is, for another to go on with."""
        self.handed_over = True
        self._wake.set()

    # ---- the recording's way

    def record(self) -> Recording:
        """Beeps if asked to, records until something ends it, and gives the complete recording.

        Raises CallGone if the call ends before the recording has begun.
        """
        failure = "" if self._left else self._prepare()
        forget = self._session.listen(self._on_event)
        if self._left and self._session.hangup_cause is not None:
            self._post(m.HangUp, settles=True)
        try:
            failure = failure or ("" if self._left else self._start_tap())
            if self._left:
                self._start_again(self._left)
            self.begun.set()
            if failure:
                self._feed(m.TapFailed(0, failure))
            else:
                self._follow()
            return self._finish()
        finally:
            forget()
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
        told = self._session.get_variable("read_rate") or ""
        rate = int(told) if told.isascii() and told.isdigit() and int(told) else NARROW_BAND
        self._machine = m.Machine(self.params.limits(rate))
        self._speech = Speech(rate)
        self._recording = self._recording.model_copy(update={"sample_rate": rate, "start_time": self._clock()})
        self._spool.rate = rate

    def _start_tap(self) -> str:
        """Why the tap could not be started, empty if it was."""
        try:
            hop_of(self._recording.sample_rate)
            formats.check(self._recording.format, self._recording.sample_rate)
            off_hub(lambda: self._storage.announce(self._recording))
            self._session.start_tap(str(self._path), tap_variables(self.params, self._recording.sample_rate))
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
        legs = _LEGS[self.params.direction] if self.params.stereo else (0,)
        rate = self._recording.sample_rate
        self.track = self._engine.join(self._spool, rate, legs, self.params.input_sensitivity, self._wake.set)
        self._encoding = self._encodings.begin(self._recording, self._certain, self._spool.gaps)
        return self.track

    def _start_again(self, left: Recording) -> None:
        """Goes through what there is of a recording as if it were live. Raises SpoolError: then nothing has become of
        it, and it is still to be completed from its spool."""
        rate = left.sample_rate
        try:
            hop_of(rate)
        except ValueError as error:
            raise SpoolError(str(error)) from None
        self._spool.size()
        self._machine, self._speech = m.Machine(self.params.limits(rate)), Speech(rate)
        track = self._join()
        # A tick would hear beyond a pause that is still to come.
        track.past = True
        for number, pause in enumerate(left.pauses, 1):
            start, end = (min(round(at * rate), self._spool.size()) for at in (pause.start, pause.end))
            self._rehear(track, start)
            began_by, ended_by = pause.began_by or m.PauseCause.API, pause.ended_by or m.PauseCause.API
            self._replay(m.Pause(start, pause.behavior, began_by, pause.since or self._clock()))
            track.hold(start)
            if number < len(left.pauses) or left.state is not m.State.PAUSED:
                self._rehear(track, end)
                self._replay(m.Resume(end, ended_by))
                track.release(end)
        self._rehear(track, self._size())
        track.past = False
        if not self._machine.state.final and not self._taps_on(left):
            self._post(m.Stop)
        log.info("%s: recording %s goes on", self._session.label, left.recording_id)

    def _taps_on(self, left: Recording) -> bool:
        """Whether the tap is there: the run that stopped it may have got no further. It is told again what was noted
        last, and so is everybody else."""
        path, behavior = str(self._path), left.pauses[-1].behavior if left.pauses else m.PauseBehavior.SKIP
        mask, paused = behavior is m.PauseBehavior.SILENCE, left.state is m.State.PAUSED
        try:
            (self._session.pause_tap if paused else self._session.resume_tap)(path, mask=mask)
            self._tell(behavior if paused else None)
        except CommandRefused:
            return False
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
        self._grown = (0, time.monotonic())
        while not self._machine.state.final:
            self.track.deadline = self._machine.deadline()
            self._wake.wait(min(ASK_AFTER, self._pause_limit.left(self._machine.pausing)))
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
        self._feed(happening.event(at))

    def _feed(self, event: m.Event) -> None:
        self._machine, actions = self._machine.step(event)
        for action in actions:
            if not isinstance(action, m.End):
                self._switch_tap(action)

    def _switch_tap(self, action: m.PauseTap | m.ResumeTap) -> None:
        assert self.track is not None
        path, mask = str(self._path), action.behavior is m.PauseBehavior.SILENCE
        # First: what was noted and perhaps not done a later start does again.
        self._note_silences()
        try:
            if isinstance(action, m.PauseTap):
                self._session.pause_tap(path, mask=mask)
                self.track.hold(self._size())
                self._tell(action.behavior)
            else:
                self._session.resume_tap(path, mask=mask)
                self.track.release(self._size())
                self._grown = (self._grown[0], time.monotonic())
                self._tell()
        except (CommandRefused, CommandTimeout) as error:
            self._feed(m.TapFailed(self._size(), str(error)))
        except CallGone:
            pass  # the hang-up is on its way

    def _note_silences(self) -> None:
        """Write down pauses, holds and gaps for a later start: none of them can be seen in the spool."""
        noted = self.recording.model_copy(update={"pauses": self._pauses(), **self._silences()})
        try:
            off_hub(lambda: self._storage.announce(noted))
        except OSError as error:
            log.error("%s: pause of recording %s: %s", self._session.label, noted.recording_id, error)

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

    def _silences(self) -> dict[str, object]:
        """Return the holds and the gaps of the recording so far."""
        return {"holds": list(self._holds), "gaps": list(self._spool.gaps.closed)}

    def _on_hold(self, held: bool) -> None:
        at = self._size() / (self._recording.sample_rate or NARROW_BAND)
        if held and self._held_since is None:
            self._held_since = at
        elif not held and self._held_since is not None:
            self._holds.append(HoldTime(start=self._held_since, end=at))
            self._held_since = None
            self._grown = (self._grown[0], time.monotonic())

    def _guard(self, track: Track) -> None:
        """Ends a recording whose tap has died without a word."""
        now, size = time.monotonic(), self._size()
        last, since = self._grown
        paused = self._machine.state is m.State.PAUSED
        silent = now - since >= ASK_AFTER
        if not self._session.connected and (silent or paused):
            # A tap outlives its event socket, so the loss alone ends nothing. That the tap has fallen silent does, or
            # that nobody can resume it any more.
            self._feed(m.TapFailed(size, f"event socket lost: {self._session.fault or 'the switch closed it'}"))
            return
        fault = self._room.fault(self._path.parent)
        due = (now - since) * self._recording.sample_rate / 2
        if fault and not paused and now - since >= ASK_AFTER / 2 and size - last < due:
            # A switch that cannot write goes on trying: it takes what others give up of the disk, with holes between.
            self._feed(m.TapFailed(size, fault))
            return
        if len(self._spool.gaps.closed) != self._noted_gaps:
            self._noted_gaps = len(self._spool.gaps.closed)
            self._note_silences()
        # A gap grows by itself; once the hold is over only the tap's own audio counts.
        grows = size > last and (self._spool.gaps.open is None or self._held_since is not None)
        if grows or paused:
            self._grown = (size, now)
            return
        if not silent:
            return
        if self._held_since is not None:
            # The switch writes nothing during a hold: silence stands in the recording for as long as it lasts.
            try:
                self._spool.open_gap()
            except SpoolError as error:
                self._feed(m.TapFailed(size, str(error)))
            self._grown = (size, now)
            return
        self._room.doubt()
        if now - since >= (self._stall_timeout if size else FIRST_AUDIO):
            self._feed(m.TapFailed(size, f"the switch has written nothing for {now - since:.1f} s"))
            return
        try:
            if not self._session.exists():
                self._feed(m.HangUp(size))
        except CallGone:
            pass  # the next look finds the event socket lost
        except (CommandTimeout, CommandRefused) as error:
            self._feed(m.TapFailed(size, str(error)))

    def _finish(self) -> Recording:
        self._on_hold(False)
        try:
            self._spool.close_gap()
        except SpoolError as error:
            log.error("%s: %s", self._session.label, error)
        end = self._machine.end
        assert end is not None
        if self._session.live and self.track is not None:
            try:
                self._session.stop_tap(str(self._path))
            except (CallGone, CommandRefused, CommandTimeout) as error:
                log.debug("%s: stopping the tap: %s", self._session.label, error)
        recording = self._recording.model_copy(
            update={
                "state": end.state,
                "end_reason": end.reason,
                "terminator": end.terminator,
                "error": end.detail,
                "end_time": self._clock(),
                "speech": self._speech.seconds(end.at),
                "pauses": self._pauses(),
                **self._silences(),
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
            self._storage.drop_spool(self._recording)
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
            self._on_hold(event.name == "CHANNEL_HOLD")
        elif event.name == "CHANNEL_HANGUP":
            self._post(m.HangUp, settles=True)
        elif event.name == "RECORD_STOP" and event.get("Record-File-Path") == str(self._path):
            self._closed.set()
            if self._session.live:
                self._tap_closed(event.get("Record-Completion-Cause"))

    def _tap_closed(self, cause: str) -> None:
        """Somebody else ended the tap: an operator by its path, or the switch, which could not write."""
        if cause == "uri-failure":
            self._post(lambda at: m.TapFailed(at, "the switch could not write the spool: disk full?"))
        else:
            self._post(m.Stop)

    def _post(self, event: Callable[[int], m.Event], *, settles: bool = False) -> Flag:
        happening = _Happening(self._size(), event, settles)
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


def tap_variables(params: RecordParams, rate: int) -> Mapping[str, str]:
    """Return every setting that ``uuid_record`` reads, for a tap that writes ``rate`` samples a second.

    The switch takes what is missing here from the channel variable of the same name (`get_recording_var` in its
    switch_ivr_async.c), and dialplans set several of them on every leg. The file is unbuffered and has no pre-buffer,
    so that it is as far as the call; in stereo the party is on the left.
    """
    one_side = not params.stereo
    return {
        **_TAP_DEFAULTS,
        "record_sample_rate": str(rate),
        "RECORD_STEREO": _flag(params.stereo),
        "RECORD_READ_ONLY": _flag(one_side and params.direction is Direction.SPEAK),
        "RECORD_WRITE_ONLY": _flag(one_side and params.direction is Direction.LISTEN),
    }


def _flag(value: bool) -> str:
    return "true" if value else "false"


def summary(recording: Recording) -> str:
    """One line for the log."""
    why = recording.end_reason.value if recording.end_reason else "?"
    told = f" ({recording.error})" if recording.error else ""
    return f"{recording.recording_id}: {recording.state.value}, {why}, {recording.duration:.2f} s{told}"

"""The state of one recording, pure: an event in, the next state and the actions it asks for out.

Time is the number of samples (of one channel) of the recording's timeline, its gaps included. No socket, file or
clock: a live call and a replay of its spool go through the same states.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum


class State(StrEnum):
    RECORDING = "recording"
    PAUSED = "paused"
    FINISHED = "finished"
    NO_INPUT = "no_input"
    ERROR = "error"

    @property
    def final(self) -> bool:
        return self in (State.FINISHED, State.NO_INPUT, State.ERROR)


class EndReason(StrEnum):
    TERMINATOR = "terminator"
    END_SILENCE = "end_silence"
    INITIAL_TIMEOUT = "initial_timeout"
    MAX_LENGTH = "max_length"
    STOP = "stop"
    HANGUP = "hangup"
    TRANSFER = "transfer"
    ERROR = "error"
    RECOVERED = "recovered"


class PauseBehavior(StrEnum):
    SKIP = "skip"
    SILENCE = "silence"


class PauseCause(StrEnum):
    """What began or ended a pause."""

    API = "api"
    HANDLER = "handler"
    DIGITS = "digits"
    LIMIT = "limit"
    END = "end"
    """The recording ended while it was paused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a recording by itself, in samples; 0 = off. ``terminators`` are DTMF digits."""

    initial_timeout: int = 0
    end_silence: int = 0
    max_length: int = 0
    terminators: frozenset[str] = frozenset()


# ---- events: each carries the sample at which it happened


@dataclass(frozen=True, slots=True)
class Audio:
    """The detector has decided every sample before ``at``."""

    at: int


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    at: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    at: int


@dataclass(frozen=True, slots=True)
class Digit:
    at: int
    digit: str


@dataclass(frozen=True, slots=True)
class Pause:
    """``since`` is the Unix time of the request; it is passed on to the span and decides nothing here."""

    at: int
    behavior: PauseBehavior = PauseBehavior.SKIP
    by: PauseCause = PauseCause.API
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Resume:
    at: int
    by: PauseCause = PauseCause.API


@dataclass(frozen=True, slots=True)
class Hold:
    """The call is on hold, by the recorded leg or the ``far`` end: what is silent then its timers take as such."""

    at: int
    far: bool = False
    since: float = 0.0
    """The unix time at which it began."""


@dataclass(frozen=True, slots=True)
class Unhold:
    at: int
    far: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    at: int


@dataclass(frozen=True, slots=True)
class HangUp:
    at: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """The call has left for another part of the dialplan, and with it whatever waits for the recording."""

    at: int


@dataclass(frozen=True, slots=True)
class TapFailed:
    at: int
    detail: str = ""


Event = (
    Audio | SpeechStarted | SpeechEnded | Digit | Pause | Resume | Hold | Unhold | Stop | HangUp | Transfer | TapFailed
)


# ---- actions


@dataclass(frozen=True, slots=True)
class PauseTap:
    behavior: PauseBehavior


@dataclass(frozen=True, slots=True)
class ResumeTap:
    behavior: PauseBehavior


@dataclass(frozen=True, slots=True)
class End:
    """The recording has ended with the audio before sample ``at``."""

    at: int
    state: State
    reason: EndReason
    terminator: str = ""
    detail: str = ""


Action = PauseTap | ResumeTap | End


@dataclass(frozen=True, slots=True)
class PauseSpan:
    """``ended_by`` is None while the pause lasts."""

    start: int
    end: int
    behavior: PauseBehavior
    began_by: PauseCause = PauseCause.API
    ended_by: PauseCause | None = None
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class HoldSpan:
    start: int
    end: int
    far: bool = False
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """One recording's state. ``step`` gives the next one and leaves this one as it is.

    ``held`` is how much of the tap's time was paused: with ``silence`` the tap grows while paused, and the timers,
    the maximum length among them, stand still all the same.
    """

    limits: Limits
    state: State = State.RECORDING
    at: int = 0
    speaking: bool = False
    heard: bool = False
    silent_since: int = 0
    held: int = 0
    pauses: tuple[PauseSpan, ...] = ()
    holds: tuple[HoldSpan, ...] = ()
    on_hold: tuple[Hold, ...] = ()
    """Holds that have not ended, one of a side."""
    end: End | None = None
    _pause: PauseSpan | None = field(default=None)

    @property
    def pausing(self) -> PauseSpan | None:
        """The pause that has not ended."""
        return self._pause

    def deadline(self) -> int | None:
        """The sample at which the recording ends if nothing happens before, None if it would go on."""
        return min((at for at, _, _ in self._timers()), default=None)

    def step(self, event: Event) -> tuple["Machine", tuple[Action, ...]]:
        """What ``event`` leads to. A timer due before it comes first; after the end nothing leads to anything.

        An event from before the last one counts as happening now.
        """
        if self.state.final:
            return self, ()
        at = max(event.at, self.at)
        due = min(self._timers(), key=lambda timer: timer[0], default=None)
        if due is not None and due[0] <= at:
            return self._ended(End(due[0], due[1], due[2]))
        return replace(self, at=at)._happen(event)

    def _timers(self) -> list[tuple[int, State, EndReason]]:
        # At the same sample the first in this list wins.
        if self.state is not State.RECORDING:
            return []
        limits, timers = self.limits, []
        if limits.initial_timeout and not self.heard:
            timers.append((limits.initial_timeout + self.held, State.NO_INPUT, EndReason.INITIAL_TIMEOUT))
        if limits.end_silence and self.heard and not self.speaking:
            ends = self.silent_since + limits.end_silence + self.held
            timers.append((ends, State.FINISHED, EndReason.END_SILENCE))
        if limits.max_length:
            timers.append((limits.max_length + self.held, State.FINISHED, EndReason.MAX_LENGTH))
        return timers

    def _happen(self, event: Event) -> tuple["Machine", tuple[Action, ...]]:
        match event:
            case SpeechStarted() if self.state is State.RECORDING:
                return replace(self, speaking=True, heard=True), ()
            case SpeechEnded(at=spoken) if self.speaking:
                since = min(max(spoken, 0), self.at) - self.held
                return replace(self, speaking=False, silent_since=max(since, 0)), ()
            case Digit(digit=digit) if digit in self.limits.terminators:
                return self._ended(End(self.at, State.FINISHED, EndReason.TERMINATOR, terminator=digit))
            case Pause(behavior=behavior, by=by, since=since) if self.state is State.RECORDING:
                pause = PauseSpan(self.at, self.at, behavior, by, since=since)
                return replace(self, state=State.PAUSED, _pause=pause), (PauseTap(behavior),)
            case Resume(by=by) if self._pause is not None:
                resumed = replace(self._unpaused(self.at, by), state=State.RECORDING)
                return resumed, (ResumeTap(self._pause.behavior),)
            case Hold(far=far, since=since) if not self.holds_by(far):
                return replace(self, on_hold=(*self.on_hold, Hold(self.at, far, since))), ()
            case Unhold(far=far):
                return self._unheld(self.at, far), ()
            case Stop():
                return self._ended(End(self.at, State.FINISHED, EndReason.STOP))
            case HangUp():
                silent = not self.heard and self.limits.initial_timeout > 0
                return self._ended(End(self.at, State.NO_INPUT if silent else State.FINISHED, EndReason.HANGUP))
            case Transfer():
                return self._ended(End(self.at, State.FINISHED, EndReason.TRANSFER))
            case TapFailed(detail=detail):
                return self._ended(End(self.at, State.ERROR, EndReason.ERROR, detail=detail))
        return self, ()

    def _ended(self, end: End) -> tuple["Machine", tuple[Action, ...]]:
        ended = self._unpaused(end.at, PauseCause.END)._unheld(end.at, True)._unheld(end.at, False)
        return replace(ended, state=end.state, at=end.at, end=end), (end,)

    def holds_by(self, far: bool) -> bool:
        """Whether that side holds now."""
        return any(hold.far is far for hold in self.on_hold)

    def _unheld(self, at: int, far: bool) -> "Machine":
        over = tuple(HoldSpan(hold.at, max(at, hold.at), far, hold.since) for hold in self.on_hold if hold.far is far)
        on_hold = tuple(hold for hold in self.on_hold if hold.far is not far)
        return replace(self, holds=(*self.holds, *over), on_hold=on_hold)

    def _unpaused(self, at: int, by: PauseCause) -> "Machine":
        if self._pause is None:
            return self
        span = replace(self._pause, end=at, ended_by=by)
        return replace(self, held=self.held + span.end - span.start, pauses=(*self.pauses, span), _pause=None)

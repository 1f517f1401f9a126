"""What the tests of Python handlers put in the place of a call, its switch and its recordings."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, cast

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Flag

from esl_record.errors import CallGone, CommandRefused
from esl_record.esl import wire
from esl_record.esl.channel import ReachedCall
from esl_record.esl.pressed import Pressed
from esl_record.esl.session import Session
from esl_record.handlers import run as running
from esl_record.handlers.loader import Called
from esl_record.handlers.session import CallSession
from esl_record.live import LiveCall
from esl_record.recording.machine import EndReason, PauseBehavior, PauseCause, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Party, Recording
from esl_record.swml.recordings import CallRecordings

PATIENCE = 5.0
"""Seconds a test waits for what must come."""

PLAYED = {"Application-Response": "FILE PLAYED"}


class FakeSession:
    """A call's session that keeps what it was told. Applications in ``slow`` last until they are broken off, or
    ``complete`` is called; those in ``refused`` are refused; ``answers`` are the headers others complete with."""

    def __init__(
        self,
        path: str = "python/greeter",
        *,
        slow: Collection[str] = (),
        refused: Collection[str] = (),
        answers: Mapping[str, Mapping[str, str]] | None = None,
        answered: bool = True,
        **variables: str,
    ) -> None:
        self.told: list[tuple[object, ...]] = []
        self.variables = dict(variables)
        self.data = {f"variable_{name}": value for name, value in variables.items()}
        self.path = path
        self.uuid, self.label = "3f5b", "call 3f5b"
        self.answered = answered
        self.pressed = Pressed()
        self.connected = True
        self.fault: Exception | None = None
        self.hangup_cause: str | None = None
        self.left = False
        self.over = Flag()
        self.busy = Flag()
        """Set while an application runs."""
        self.slow = set(slow)
        self._refused = set(refused)
        self._answers = {"playback": PLAYED, **(answers or {})}
        self._running: AsyncResult[wire.Event] | None = None
        self._listeners: list[Callable[[wire.Event], None]] = []

    # ---- what the test does

    def event(self, name: str, **headers: str) -> None:
        event = wire.Event({"Event-Name": name, **{key.replace("_", "-"): value for key, value in headers.items()}})
        for listener in tuple(self._listeners):
            listener(event)

    def press(self, digits: str) -> None:
        for digit in digits:
            self.event("DTMF", DTMF_Digit=digit, DTMF_Duration="1600")

    def caller_hangs_up(self, cause: str = "NORMAL_CLEARING", **variables: str) -> None:
        self.hangup_cause = cause
        self.over.set()
        headers = {f"variable_{name}": value for name, value in variables.items()}
        for listener in tuple(self._listeners):
            listener(wire.Event({"Event-Name": "CHANNEL_HANGUP", **headers}))
        if self._running is not None:
            self._running.set_exception(self.gone())

    def transferred_away(self) -> None:
        self.left = True
        if self._running is not None:
            self._running.set_exception(self.gone())
        self.event("CHANNEL_EXECUTE_COMPLETE", Application="socket")

    def connection_breaks(self) -> None:
        self.connected, self.fault = False, OSError("reset")
        self.over.set()
        if self._running is not None:
            self._running.set_exception(self.gone())

    def complete(self) -> None:
        assert self._running is not None
        self._running.set(wire.Event(PLAYED))

    @property
    def applications(self) -> list[tuple[object, ...]]:
        return [verb for verb in self.told if verb[0] not in ("set", "get", "ignore_digits")]

    # ---- the session

    @property
    def live(self) -> bool:
        return self.connected and self.hangup_cause is None

    def gone(self) -> CallGone:
        return CallGone(f"{self.label}: {self.hangup_cause}")

    def listen(self, listener: Callable[[wire.Event], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def execute(self, application: str, argument: str = "") -> wire.Event:
        return self._tell(application, argument)

    def playback(self, path: str) -> wire.Event:
        return self._tell("playback", path)

    def speak(self, text: str, *, engine: str, voice: str) -> wire.Event:
        return self._tell("speak", f"{engine}|{voice}|{text}")

    def sleep(self, milliseconds: int) -> None:
        self._tell("sleep", milliseconds)

    def answer(self) -> None:
        self._tell("answer")
        self.answered = True

    def end(self, cause: str = "NORMAL_CLEARING") -> None:
        self.hangup(cause)

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        if self.live:
            self._tell("hangup", cause)
            self.caller_hangs_up(cause)

    def api(self, line: str) -> str:
        self._tell("api", line)
        return "+OK"

    def transfer(self, destination: str) -> None:
        self._tell("transfer", destination)
        self.left = True

    def uuid_break(self) -> None:
        self.told.append(("break",))
        if self._running is not None:
            self._running.set(wire.Event(PLAYED))

    def ignore_digits(self) -> None:
        self._tell("ignore_digits")
        self.variables |= {"playback_terminators": "none", "sleep_eat_digits": "true"}

    def get_variable(self, name: str) -> str | None:
        self._tell("get", name)
        return self.variables.get(name)

    def set_variable(self, name: str, value: str) -> None:
        self._tell("set", name, value)
        if value:
            self.variables[name] = value
        else:
            self.variables.pop(name, None)

    def hold(self, held: bool) -> None:
        pass

    def _tell(self, verb: str, *arguments: object) -> wire.Event:
        if not self.live or self.left:
            raise self.gone()
        self.told.append((verb, *arguments))
        if verb in self._refused:
            raise CommandRefused(f"{verb}: -ERR refused")
        if verb not in self.slow:
            return wire.Event(self._answers.get(verb, {}))
        self._running = AsyncResult()
        self.busy.set()
        try:
            done: wire.Event = self._running.get(timeout=PATIENCE)
            return done
        finally:
            self._running = None
            self.busy.clear()


class FakeRecordings:
    """Records what it is asked for; every recording ends in ``ends``."""

    def __init__(self, **ends: Any) -> None:
        self.asked: list[RecordParams] = []
        self.ends = {"state": State.FINISHED, "end_reason": EndReason.TERMINATOR, **ends}
        self.meanwhile: Callable[[], None] = lambda: None
        self.ended = 0

    def record(self, params: RecordParams) -> tuple[Recording, str]:
        self.asked.append(params)
        self.meanwhile()
        recording = Recording.begun("8d1c", Party(call_id="3f5b"), params, 1.7e9)
        return recording.model_copy(update=self.ends), "http://x/8d1c.wav"

    def stop(self, control_id: str | None) -> bool:
        return control_id in (None, "mine")

    def end(self) -> None:
        self.ended += 1


def audio_path(recording: Recording) -> Path:
    return Path("/recordings") / recording.file


def session_on(fake: FakeSession, recordings: object = None) -> CallSession:
    session = CallSession(cast(Session, fake), cast(CallRecordings, recordings or FakeRecordings()), audio_path)
    session.begin()
    fake.told.clear()
    return session


def ran(
    handler: Callable[..., object], fake: FakeSession, *, args: str = "", recordings: object = None
) -> list[tuple[object, ...]]:
    """What ``handler`` has told the switch."""
    with gevent.Timeout(PATIENCE):
        running.run(
            handler,
            Called("greeter", args),
            cast(Session, fake),
            cast(CallRecordings, recordings or FakeRecordings()),
            audio_path,
        )
    return fake.applications


def meanwhile(fake: FakeSession, *acts: Callable[[], None]) -> gevent.Greenlet:
    """Does one thing after the other while the session is busy with an application."""

    def act() -> None:
        for each in acts:
            assert fake.busy.wait(PATIENCE)
            each()
            gevent.sleep(0.01)

    return gevent.spawn(act)


class FakeRecorder:
    """Records until it is stopped, and a moment longer."""

    def __init__(self, params: RecordParams, *, fails: bool = False) -> None:
        self.params = params
        self.begun = Flag()
        self.position = 1.5
        self.recording = Recording.begun("8d1c", Party(call_id="3f5b"), params, 1.7e9)
        self.orders: list[tuple[object, ...]] = []
        self.deaf = False
        """Whether no order is ever carried out."""
        self._fails = fails
        self._stopped = Flag()

    def pause(self, behavior: PauseBehavior, by: PauseCause) -> Flag:
        return self._become(State.PAUSED, behavior, by)

    def resume(self, by: PauseCause) -> Flag:
        return self._become(State.RECORDING, by)

    def _become(self, state: State, *order: object) -> Flag:
        self.orders.append(order)
        done = Flag()
        if not self.deaf:
            if not self.recording.state.final:
                self.recording = self.recording.model_copy(update={"state": state})
            done.set()
        return done

    def stop(self) -> Flag:
        self._stopped.set()
        return self._stopped

    def await_answer(self) -> bool:
        return True

    def record(self) -> Recording:
        if self._fails:
            raise CallGone("call 3f5b: NORMAL_CLEARING")
        self.begun.set()
        self._stopped.wait(PATIENCE)
        gevent.sleep(0.02)
        ends = {"state": State.FINISHED, "end_reason": EndReason.STOP, "duration": 1.5, "file": "8d1c.wav"}
        self.recording = self.recording.model_copy(update=ends)
        return self.recording


def background(
    fake: FakeSession, *, fails: bool = False, patience: float = 1.0, made: list[FakeRecorder] | None = None
) -> CallSession:
    """A session whose background recordings are fakes, which are added to ``made``."""

    def recorder(
        session: ReachedCall, party: Party, params: RecordParams, left: Recording | None, *, foreground: bool
    ) -> Recorder:
        one = FakeRecorder(params, fails=fails)
        if made is not None:
            made.append(one)
        return cast(Recorder, one)

    live = LiveCall(cast(Session, fake), Party(call_id="3f5b"), recorder, lambda _: None)
    recordings = CallRecordings(live, lambda id_, suffix: f"http://x/{id_}.{suffix}", lambda: False, patience=patience)
    return session_on(fake, recordings)

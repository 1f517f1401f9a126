"""A test call through the switch's event socket: the caller speaks a file, presses digits, waits for the hang-up."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gevent
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from rich.console import Console
from rich.markup import escape

from esl_record.config import Settings
from esl_record.errors import CallGone, CommandRefused, CommandTimeout, EslRecordError
from esl_record.esl import wire
from esl_record.esl.inbound import Inbound
from esl_record.recording.params import DTMF_DIGITS

ANSWER_WAIT = 30.0
"""Seconds a call may take to be answered."""

CALLER = "15551230001"


class DialError(EslRecordError):
    """The test call could not be placed as asked."""


@dataclass(frozen=True)
class TestCall:
    """Times are seconds from the answer."""

    __test__ = False  # to pytest this is no test

    extension: str
    dial_string: str
    audio: Path | None = None
    wait: float = 1.0
    digits: str = ""
    after: float = 5.0
    timeout: float = 120.0

    def check(self) -> None:
        """Raises DialError for what cannot be dialled."""
        if not self.extension or not all(c.isalnum() or c in "*#+_.-" for c in self.extension):
            raise DialError(f"extension {self.extension!r}: letters, digits and * # + _ . - only")
        if not set(self.digits.upper()) <= DTMF_DIGITS:
            raise DialError(f"digits {self.digits!r}: 0-9 A-D * # only")
        if self.audio is not None and not self.audio.is_file():
            raise DialError(f"audio {self.audio}: no such file")
        if "{extension}" not in self.dial_string:
            raise DialError(f"dial string {self.dial_string!r}: must hold {{extension}}")


def dial(call: TestCall, settings: Settings, console: Console) -> int:
    """Places the call and follows it to its end. 0 if the other side answered and hung up, 1 otherwise."""
    call.check()
    with Inbound(settings.event_socket, settings.event_socket_password) as switch:
        leg = _Leg(switch, call, console)
        return leg.run()


class _Leg:
    """The caller's leg."""

    def __init__(self, switch: Inbound, call: TestCall, console: Console) -> None:
        self._switch = switch
        self._call = call
        self._console = console
        self._uuid = str(uuid.uuid4())
        self._answered = Flag()
        self._ended: AsyncResult[str] = AsyncResult()
        self._job = ""
        self._outcomes: dict[str, str] = {}

    def run(self) -> int:
        self._switch.send("event plain CHANNEL_ANSWER CHANNEL_HANGUP_COMPLETE BACKGROUND_JOB")
        self._switch.listen(self._on_event)
        target = self._call.dial_string.replace("{extension}", self._call.extension)
        variables = (
            f"origination_uuid={self._uuid},origination_caller_id_number={CALLER},"
            "origination_caller_id_name=esl-record,ignore_early_media=true"
        )
        self._job = self._switch.background(f"originate {{{variables}}}{target} &park()")
        # It may have failed before its name was known.
        self._judge_job()
        gevent.wait([self._answered, self._ended, self._switch.closed], timeout=ANSWER_WAIT, count=1)
        if not self._answered.is_set():
            self._say(f"not answered: {self._ended.value or self._gone() or 'no answer'}")
            self._kill()
            return 1
        began = time.monotonic()
        self._say("answered")
        tasks = [gevent.spawn(self._try, task) for task in (self._speak, self._press)]
        gevent.wait([self._ended, self._switch.closed], timeout=self._call.timeout, count=1)
        gevent.killall(tasks)
        if not self._ended.ready() and self._switch.closed.is_set():
            self._say(self._gone())
            return 1
        if not self._ended.ready():
            self._say(f"still up after {self._call.timeout:g} s: hanging up")
            self._kill()
            return 1
        self._say(f"the other side hung up after {time.monotonic() - began:.1f} s: {self._ended.value}")
        return 0

    def _gone(self) -> str:
        return (
            f"the switch has gone: {self._switch.fault or 'connection ended'}" if self._switch.closed.is_set() else ""
        )

    def _try(self, task: Callable[[], None]) -> None:
        try:
            task()
        except (CommandRefused, CommandTimeout, CallGone) as error:
            self._say(str(error))

    def _speak(self) -> None:
        if self._call.audio is None:
            return
        gevent.sleep(self._call.wait)
        self._say(f"speaking {self._call.audio}")
        self._switch.execute(self._uuid, "playback", str(self._call.audio.absolute()))

    def _press(self) -> None:
        if self._call.digits:
            gevent.sleep(self._call.after)
            self._say(f"pressing {self._call.digits}")
            self._switch.api(f"uuid_send_dtmf {self._uuid} {self._call.digits.upper()}")

    def _kill(self) -> None:
        try:
            self._switch.api(f"uuid_kill {self._uuid}")
        except (CommandRefused, CallGone):
            pass  # it had gone already

    def _on_event(self, event: wire.Event) -> None:
        if event.name == "BACKGROUND_JOB":
            self._outcomes[event.get("Job-UUID")] = event.body.decode("utf-8", "replace").strip()
            self._judge_job()
        elif event.get("Unique-ID") != self._uuid:
            return
        elif event.name == "CHANNEL_ANSWER":
            self._answered.set()
        elif event.name == "CHANNEL_HANGUP_COMPLETE":
            self._ended.set(event.get("Hangup-Cause"))

    def _judge_job(self) -> None:
        outcome = self._outcomes.get(self._job, "")
        if outcome.startswith("-ERR"):
            self._ended.set(outcome)

    def _say(self, text: str) -> None:
        self._console.print(escape(f"{self._call.extension}: {text}"), highlight=False)

"""A call on which everything happens by chance, in a time of its own: nothing in it waits."""

import functools
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gevent
from gevent.queue import Empty, SimpleQueue
from test_calls import FakeRecordings, FakeSession

from esl_record.errors import CommandRefused, WebError
from esl_record.esl.session import Session
from esl_record.esl.wire import Event
from esl_record.recording.machine import State
from esl_record.recording.params import ParameterError, RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.swml.call import Call
from esl_record.swml.check import check
from esl_record.swml.document import Document, parse
from esl_record.swml.site import Answer, Site

DAY = 86_400.0


class ChanceSession(FakeSession):
    """Digits are pressed or not, commands refused, sounds missing; the caller hangs up after a while, at the latest
    after a day, of which each verb takes a second or what it was told to take."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(data={"Caller-Caller-ID-Number": "+15550100", "Caller-Caller-ID-Name": "${vars.a} '\u0085"})
        self.listeners: list[Callable[[Event], None]] = []
        self._chance = chance
        self._seconds = 0.0
        self._left = chance.choice([5, 50, 5000])
        self._refuses = chance.random() < 0.2

    def passes(self, seconds: float) -> None:
        """Lets time go by, and others run."""
        self._seconds += seconds
        if self._seconds > DAY:
            self._end()
        gevent.sleep(0)

    def sleep(self, milliseconds: int) -> None:
        super().sleep(milliseconds)
        self.passes(milliseconds / 1000)

    def playback(self, path: str) -> Event:
        super().playback(path)
        return Event({"Application-Response": self._chance.choice(["FILE PLAYED", "FILE NOT FOUND"])})

    def execute(self, application: str, argument: str = "", *, timeout: float = 0) -> Event:
        self._told(application, argument)
        how = self._chance.choice(["SUCCESS", "USER_BUSY", "NO_ANSWER", ""])
        if how == "SUCCESS" and self._chance.random() < 0.5:
            self._says({"Event-Name": "CHANNEL_BRIDGE", "Bridge-B-Unique-ID": "b"})
        self.passes(min(timeout, self._chance.choice([0, 60, DAY])))
        self.raise_if_disconnected()
        return Event({"variable_originate_disposition": how, "variable_bridge_hangup_cause": "NORMAL_CLEARING"})

    def get_variable(self, name: str) -> str | None:
        self.raise_if_disconnected()
        return self._chance.choice([None, "x"])

    def uuid_break(self) -> None:
        self.raise_if_disconnected()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        for digit in self._chance.choice(["", "1", "12345#", "*" * 50]):
            gevent.spawn(self._says, {"Event-Name": "DTMF", "DTMF-Digit": digit})
        return lambda: self.listeners.remove(listener)

    def _told(self, verb: str, *arguments: object) -> None:
        self.passes(1)
        self.raise_if_disconnected()
        if self._refuses and self._chance.random() < 0.2:
            raise CommandRefused(f"{verb}: -ERR refused")
        self.verbs.append((verb, *arguments))
        self._left -= 1
        if not self._left:
            self._end()

    def _says(self, event: Mapping[str, str]) -> None:
        for listener in list(self.listeners):
            listener(Event(dict(event)))

    def _end(self) -> None:
        self.hangup_cause = self.hangup_cause or "ORIGINATOR_CANCEL"
        self.over.set()


class ChanceQueue(SimpleQueue[str]):
    """Waits in the time of a session."""

    session: ChanceSession

    def get(self, block: bool = True, timeout: float | None = None) -> str:
        for _ in range(3):
            gevent.sleep(0)
        if timeout is not None and self.empty():
            self.session.passes(timeout)
            if self.empty():
                raise Empty
        return cast(str, super().get(block))


class ChanceWeb:
    """Servers that answer any of ``texts``, or not."""

    def __init__(self, chance: random.Random, texts: Sequence[str]) -> None:
        self.asked = 0
        self._chance = chance
        self._texts = texts

    def document(self, url: str, payload: Mapping[str, Any], *_: object) -> Document:
        json.dumps(payload)
        return check(parse(self._answer(), url))

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, **_: float) -> Answer:
        return Answer(self._chance.choice([200, 404]), {"x": "y"}, self._answer().encode())

    def _answer(self) -> str:
        self.asked += 1
        if self._chance.random() < 0.2:
            raise WebError("no answer")
        return self._chance.choice(self._texts)


class ChanceRecordings(FakeRecordings):
    def start(self, params: RecordParams) -> str:
        if params.control_id in self.started:
            raise ParameterError(f"record_call: control_id = {params.control_id!r}: another recording has it")
        return super().start(params)


def _record(chance: random.Random, params: RecordParams) -> tuple[Recording, str]:
    begun = Recording.begun("8d1c", Party(call_id="3f5b"), params, 1.7e9)
    state = chance.choice([State.FINISHED, State.NO_INPUT, State.ERROR])
    return begun.model_copy(update={"state": state, "error": "disk full?"}), chance.choice(["http://x/a.wav", ""])


def chance_call(chance: random.Random, texts: Sequence[str]) -> tuple[Call, Callable[[], list[Any]]]:
    """A call, and what tells all that has been done on it."""
    session, web = ChanceSession(chance), ChanceWeb(chance, texts)
    recordings = ChanceRecordings(functools.partial(_record, chance))
    site = Site(web=web, dial_number="sofia/gateway/g/{number}", dial_sip="sofia/internal/{address}")

    def done() -> list[Any]:
        return [*session.verbs, *session.variables, *recordings.started, *range(web.asked), *session.listeners]

    return Call(cast(Session, session), recordings, {}, site=site), done

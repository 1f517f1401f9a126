"""One connection of the event socket: reads commands, answers them, passes events on."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from esl_record.standin.core import Core, Event
from esl_record.standin.headers import serialize
from esl_record.standin.subscription import Subscription
from esl_record.standin.variables import integer, is_true
from esl_record.standin.wire import Connection

if TYPE_CHECKING:
    from esl_record.standin.api import Api
    from esl_record.standin.call import Call

_GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
# The switch gives up on a connection that sends no first command for so long.
_FIRST_COMMAND_SECONDS = 25
# The switch formats replies into a buffer of 512 bytes.
_REPLY_CHARACTERS = 511


class Listener:
    """Serves whoever is connected: in control of one call, as ``async full`` of ``socket`` has it, or of none.

    One that was in control ends the parking of its call when it ends itself, whoever had it parked, and wherever that
    may be by then.
    """

    def __init__(self, core: Core, connection: Connection, api: Api, call: Call | None = None) -> None:
        self.connected = False
        self.finished = False
        self.resume = False
        self.let_go = False
        self._core = core
        self._call = call
        self._connection = connection
        self._api = api
        self._events = Subscription(None if call is None else call.uuid)
        self._linger: int | None = None
        self._lingers = False
        self._down = False
        self._closes_at: int | None = None
        self._first = True
        self._must_connect = call is not None
        self._gives_up_at = core.clock.epoch + _FIRST_COMMAND_SECONDS
        self._wrong_length = core.faults.wrong_content_length
        core.subscribe(self.offer)
        connection.start(self._command, self._lost)

    def offer(self, event: Event) -> None:
        """Send an event, if it was asked for."""
        if self.finished or not self._events.wants(event):
            return
        body = event.serialize()
        length = len(body)
        if self._wrong_length:
            self._wrong_length = False
            length -= 10
        self._connection.send(b"Content-Length: %d\nContent-Type: text/event-plain\n\n" % length + body)

    def channel_down(self) -> None:
        """The call is over: say goodbye, or linger if that was asked for."""
        if self._down or self.finished or self._call is None:
            return
        self._down = True
        if not self._lingers:
            self.disconnect()
            return
        timeout = -1 if self._linger is None else self._linger
        if self._linger is not None:
            self._closes_at = self._core.clock.epoch + self._linger
        self._connection.send(
            f"Content-Type: text/disconnect-notice\nControlled-Session-UUID: {self._call.uuid}\n"
            f"Content-Disposition: linger\nChannel-Name: {self._call.channel.name}\nLinger-Time: {timeout}\n"
            "Content-Length: 0\n\n".encode("utf-8", "surrogateescape")
        )

    def tick(self) -> None:
        """A frame's time has passed."""
        now = self._core.clock.epoch
        lingered = self._closes_at is not None and now > self._closes_at
        unused = self._first and now > self._gives_up_at and not self._core.faults.deaf
        if lingered or unused:
            self.disconnect()

    def disconnect(self) -> None:
        """Say goodbye and close the connection."""
        if self.finished:
            return
        controlled = ""
        if self._call is not None:
            controlled = f"Controlled-Session-UUID: {self._call.uuid}\nContent-Disposition: disconnect\n"
        self._connection.send(
            f"Content-Type: text/disconnect-notice\n{controlled}Content-Length: {len(_GOODBYE)}\n\n{_GOODBYE}".encode()
        )
        self._finish()
        self._connection.close()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the connection is closed and the far end has what was sent, ``seconds`` at most."""
        self._connection.join(seconds)

    def reset(self) -> None:
        """The switch is gone: nothing more is said, the connection is reset."""
        self.finished = True
        self._core.unsubscribe(self.offer)
        self._connection.reset()

    def _lost(self) -> None:
        if not self.finished:
            self._finish()
            self._connection.close()

    def _finish(self) -> None:
        self.finished = True
        self._core.unsubscribe(self.offer)
        if self._call is None:
            return
        if self.resume or is_true(self._call.channel.variables.get("socket_resume")):
            # What runs is broken off. Without, the dialplan goes on only after it.
            self.let_go = True
            self._call.session.release()
        else:
            self._call.session.controlled = False

    def _reply(self, text: str) -> None:
        self._connection.reply(f"Content-Type: command/reply\nReply-Text: {text[:_REPLY_CHARACTERS]}\n\n")

    def _command(self, command: str, headers: dict[str, str], body: str) -> None:
        if self._core.faults.deaf:
            return
        first, self._first = self._first, False
        self._connection.hold()
        try:
            self._dispatch(command, headers, body, first=first)
        finally:
            self._connection.release()

    def _dispatch(self, command: str, headers: dict[str, str], body: str, *, first: bool) -> None:
        word = command.lower()
        if not command:
            self._reply("-ERR command parse error.")
            self.disconnect()
        elif word.startswith(("exit", "...")):
            self._reply("+OK bye")
            self.disconnect()
        elif self._call is not None and word.startswith("connect"):
            self._connect(self._call)
        elif first and self._must_connect:
            # The switch carries out a first command other than connect, but forgets to answer it.
            return
        elif self._call is not None and word.startswith("resume"):
            self.resume = True
            self._call.channel.set("socket_resume", "true")
            self._reply("+OK")
        elif self._call is not None and word.startswith("getvar"):
            self._reply(self._call.channel.get(command[6:].strip()) or "-ERR command not found")
        elif self._call is None and word.startswith("myevents"):
            self._reply(self._myevents(command[9:]))
        elif word.startswith("sendmsg"):
            self._sendmsg(command[7:].strip() or headers.get("session-id", ""), headers, body)
        elif word.startswith("api "):
            self._answer_api(command[4:])
        elif word.startswith("bgapi "):
            self._bgapi(command[6:], headers)
        elif word.startswith(("linger", "nolinger")):
            self._reply("-ERR not controlling a session" if self._call is None else self._set_linger(word))
        elif word.startswith("divert_events"):
            self._reply("-ERR not controlling a session." if self._call is None else self._divert(word[13:].strip()))
        else:
            self._reply(self._events.command(command) or "-ERR command not found")

    def _connect(self, call: Call) -> None:
        if self._must_connect and not self.connected:
            # The switch looks every millisecond whether it is connected, and parks the channel then.
            call.channel.fire("CHANNEL_PARK")
        self.connected = True
        garbage = self._core.faults.garbage
        if garbage is not None:
            self._connection.send(garbage)
            return
        reply = [
            ("Content-Type", "command/reply"),
            ("Reply-Text", "+OK\n"),
            ("Socket-Mode", "async"),
            ("Control", "full"),
        ]
        # The content type is encoded as well, but has nothing in it that needs it.
        self._connection.reply(serialize([*call.channel.data(), *reply]))

    def _myevents(self, text: str) -> str:
        """Take control of the call named, without being asked by its dialplan."""
        call_uuid, _, form = text.strip().partition(" ")
        if not call_uuid:
            return "-ERR command not found"
        call = self._api.locate(call_uuid)
        if call is None and form:
            return "-ERR invalid uuid"
        if call is not None:
            self._call = call
            self._events.own_uuid = call.uuid
            call.listeners.append(self)
        return self._events.command("myevents") or ""

    def _sendmsg(self, target: str, headers: dict[str, str], body: str) -> None:
        own = self._call is not None and target in ("", self._call.uuid)
        call = self._call if own else self._api.locate(target)
        if call is None:
            self._reply(f"-ERR invalid session id [{target}]")
            return
        message = dict(headers)
        if not message.get("execute-app-arg") and message.get("content-type", "").lower() == "text/plain":
            message["execute-app-arg"] = body
        call.session.messages.append(message)
        self._reply("+OK")

    def _answer_api(self, text: str) -> None:
        answer = (self._api(text) or "-ERR no reply\n").encode("utf-8", "surrogateescape")
        self._connection.reply(b"Content-Type: api/response\nContent-Length: %d\n\n" % len(answer) + answer)

    def _bgapi(self, text: str, headers: dict[str, str]) -> None:
        job = headers.get("job-uuid") or str(uuid.uuid4())
        self._connection.reply(f"Content-Type: command/reply\nReply-Text: +OK Job-UUID: {job}\nJob-UUID: {job}\n\n")
        name, _, argument = text.partition(" ")
        owner = [] if self._call is None else [("Job-Owner-UUID", self._call.uuid)]
        described = [("Job-UUID", job), *owner, ("Job-Command", name)]
        if argument:
            described.append(("Job-Command-Arg", argument))
        self._core.fire("BACKGROUND_JOB", described, self._api(text))

    def _set_linger(self, word: str) -> str:
        if word.startswith("no"):
            self._lingers = False
            return "+OK will not linger"
        self._lingers = True
        seconds = re.match(r"linger (.+)", word)
        if seconds is None:
            self._linger = None
            return "+OK will linger"
        self._linger = integer(seconds[1])
        return f"+OK will linger {self._linger} seconds"

    def _divert(self, switch: str) -> str:
        if not switch:
            return "-ERR missing value."
        return "+OK events diverted" if switch == "on" else "+OK events not diverted"

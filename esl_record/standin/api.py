"""API commands, as ``api`` on an event socket or the console takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from esl_record.standin.channel import cause_named
from esl_record.standin.core import Core
from esl_record.standin.headers import serialize
from esl_record.standin.listing import show
from esl_record.standin.variables import brackets, integer, separate

if TYPE_CHECKING:
    from esl_record.standin.call import Call

VERSION = "1.11.3-dev+git~20260821T141014Z~cc93a683ca~64bit"
_HUMAN = "git cc93a68 2026-08-21 14:10:14Z 64bit"
_NO_CHANNEL = "-ERR No such channel!\n"
_NO_SESSION = "-ERR Cannot locate session!\n"
_RECORD_USAGE = "-USAGE: <uuid> [start|stop|mask|unmask] <path> [<limit>] [<recording_vars>]\n"
_MODULES = {f"mod_{name}" for name in ("commands", "dptools", "event_socket", "sndfile", "spandsp", "tone_stream")}
_GLOBALS = {"hostname": "standin", "local_ip_v4": "127.0.0.1", "domain": "127.0.0.1", "switchname": "standin"}


class Api:
    """Answers API commands about the calls of one switch; each answer is the command's whole output."""

    def __init__(self, core: Core, calls: Mapping[str, Call]) -> None:
        self._core = core
        self._calls = calls
        self._commands: dict[str, Callable[[str], str]] = {
            "module_exists": lambda text: "true" if text in _MODULES else "false",
            "global_getvar": lambda text: _GLOBALS.get(text, ""),
            "show": lambda text: show(text, calls.values()),
            "status": self._status,
            "uuid_answer": self._answer,
            "uuid_audio": self._audio,
            "uuid_break": self._break,
            "uuid_buglist": self._list_bugs,
            "uuid_dump": self._dump,
            "uuid_exists": lambda text: "true" if self.locate(text) or self._bridged_with(text) else "false",
            "uuid_getvar": self._getvar,
            "uuid_hold": self._hold,
            "uuid_kill": self._kill,
            "uuid_record": self._record,
            "uuid_recv_dtmf": self._receive_digits,
            "uuid_setvar": self._setvar,
            "uuid_setvar_multi": self._setvar_multi,
            "uuid_transfer": self._transfer,
            "version": lambda text: f"FreeSWITCH Version {VERSION} ({_HUMAN})\n",
        }

    def __call__(self, text: str) -> str:
        name, _, argument = text.strip("\r\n").partition(" ")
        command = self._commands.get(name)
        return command(argument) if command else f"-ERR {name} Command not found!\n"

    def locate(self, call_uuid: str) -> Call | None:
        """The call of that uuid, if the switch still knows it."""
        call = self._calls.get(call_uuid)
        return call if call is not None and call.alive else None

    def _bridged_with(self, other: str) -> Call | None:
        """The call whose bridge has a far end of that uuid."""
        for call in self._calls.values():
            if call.alive and call.channel.bridged and call.channel.other and call.channel.other.uuid == other:
                return call
        return None

    def _status(self, text: str) -> str:
        up = self._core.clock.frame // 50
        live = sum(call.alive for call in self._calls.values())
        return (
            f"UP 0 years, {up // 86400} days, {up // 3600 % 24} hours, {up // 60 % 60} minutes, {up % 60} seconds, "
            "0 milliseconds, 0 microseconds\n"
            f"FreeSWITCH (Version {_HUMAN}) is ready\n"
            f"{self._core.sessions_since_startup} session(s) since startup\n"
            f"{live} session(s) - peak {live}, last 5min {live} \n"
            "0 session(s) per Sec out of max 30, peak 1, last 5min 1 \n"
            "1000 session(s) max\nmin idle cpu 0.00/100.00\nCurrent Stack Size/Max 240K/8192K\n"
        )

    def _answer(self, text: str) -> str:
        call = self.locate(text)
        if call is None:
            return "-ERROR\n"
        call.channel.answer()
        return "+OK\n"

    def _audio(self, text: str) -> str:
        """How loud the party is played to, and nothing else."""
        call_uuid, *arguments = separate(text, " ", 6)
        call = self.locate(call_uuid)
        if call is None:
            return _NO_CHANNEL
        if arguments[:1] == ["stop"]:
            call.session.amplifier.level = 0
        elif len(arguments) < 4 or arguments[:3] != ["start", "write", "level"]:
            return "-USAGE: <uuid> [start [read|write] [[mute|level] <level>]|stop]\n"
        elif -5 < integer(arguments[3]) < 5:
            call.session.amplify(integer(arguments[3]))
        return "+OK\n"

    def _break(self, text: str) -> str:
        call_uuid, _, flags = text.partition(" ")
        call = self.locate(call_uuid)
        if call is None:
            return _NO_CHANNEL
        call.session.stop_broadcast(flush="all" in flags)
        return "+OK\n"

    def _list_bugs(self, text: str) -> str:
        """The taps alone; of a call that is not there nothing at all."""
        call = self.locate(text)
        if call is None:
            return ""
        bug = " <media-bug>\n  <function>session_record</function>\n  <target>{}</target>\n"
        bug += "  <thread-locked>0</thread-locked>\n </media-bug>\n"
        listed = "".join(bug.format(path) for path in call.session.recordings)
        return f"<media-bugs>\n{listed}</media-bugs>\n"

    def _dump(self, text: str) -> str:
        if not text:
            return "-USAGE: <uuid> [format]\n"
        call_uuid, _, form = text.partition(" ")
        call, near = self.locate(call_uuid), self._bridged_with(call_uuid)
        if call is None and near is None:
            return _NO_CHANNEL
        dumped = call.channel.dump() if call else near.channel.far_end_headers() if near else []
        described = [*self._core.preamble("CHANNEL_DATA"), *dumped]
        return serialize(described, encode=form != "plain").decode("utf-8", "surrogateescape")

    def _getvar(self, text: str) -> str:
        arguments = separate(text, " ", 4)
        if len(arguments) < 2:
            return "-USAGE: <uuid> <var>\n"
        call = self.locate(arguments[0])
        if call is None:
            return _NO_CHANNEL
        value = call.channel.get(arguments[1])
        return "_undef_" if value is None else value

    def _setvar(self, text: str) -> str:
        arguments = separate(text, " ", 3)
        if len(arguments) < 2:
            return "-USAGE: <uuid> <var> [value]\n"
        call = self.locate(arguments[0])
        if call is None:
            return _NO_CHANNEL
        call.channel.set(arguments[1], arguments[2] if len(arguments) > 2 else None, checked=False)
        return "+OK\n"

    def _setvar_multi(self, text: str) -> str:
        call_uuid, _, pairs = text.partition(" ")
        call = self.locate(call_uuid)
        usage = "-USAGE: <uuid> <var>=<value>;<var>=<value>...\n"
        if not pairs:
            return usage
        if call is None:
            return _NO_CHANNEL + usage
        for pair in separate(pairs, ";"):
            name, _, value = pair.partition("=")
            call.channel.set(name, value)
        return "+OK\n"

    def _hold(self, text: str) -> str:
        """``[off|toggle] <uuid>``; of the switch's answers to a wrong uuid only one is known."""
        first, *more = separate(text, " ", 3) or [""]
        how, call_uuid = (first, more[0]) if first in ("off", "toggle") and more else ("on", first)
        call, near = self.locate(call_uuid), self._bridged_with(call_uuid)
        held = call.channel.held if call else near.channel.other_held if near else False
        on = not held if how == "toggle" else how == "on"
        if (call is None and near is None) or on == held:
            return "-ERR Operation failed\n"
        if near is not None:
            near.hold_by_far_end(on=on)
        elif call is not None:
            (call.hold if on else call.unhold)()
        return "+OK Success\n"

    def _kill(self, text: str) -> str:
        if not text:
            return "-USAGE: <uuid> [cause]\n"
        call_uuid, _, cause = text.partition(" ")
        call = self.locate(call_uuid)
        if call is not None:
            call.kill(cause_named(cause))
            return "+OK\n"
        near = self._bridged_with(call_uuid)
        if near is None:
            return _NO_CHANNEL
        near.channel.bridged = False
        return "+OK\n"

    def _receive_digits(self, text: str) -> str:
        call_uuid, _, digits = text.partition(" ")
        call, near = self.locate(call_uuid), self._bridged_with(call_uuid)
        press = call.press if call else near.press_by_far_end if near else None
        if press is None:
            return _NO_CHANNEL
        for digit in digits:
            press(digit)
        return f"+OK {call_uuid} received DTMF {digits}.\n"

    def _transfer(self, text: str) -> str:
        call_uuid, *where = separate(text, " ", 5) or [""]
        call = self.locate(call_uuid)
        if not where:
            return "-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n"
        if call is None:
            return _NO_CHANNEL
        if where[0].lower() == "-bleg" and call.channel.bridged:
            call.channel.bridged = False
            return "+OK\n"
        destination, dialplan, context, *_ = [*where[where[0].startswith("-") :], "", "", ""]
        profile = call.channel.profile
        before = "XML" if profile.dialplan == "inline" else profile.dialplan
        done = call.transfer(destination or "service", dialplan or before, context or profile.context)
        return "+OK\n" if done else "-ERR\n"

    def _record(self, text: str) -> str:
        arguments = separate(text, " ", 5)
        if len(arguments) < 3:
            return _RECORD_USAGE
        call_uuid, action, path, *more = arguments
        call = self.locate(call_uuid)
        if call is None:
            return _NO_SESSION
        recordings = call.session.recordings
        action = action.lower()
        if action == "start":
            if self._core.faults.refuse_record is not None:
                return self._core.faults.refuse_record.rstrip("\n") + "\n"
            variables = brackets(unquote(more[1]))[0] if len(more) > 1 else {}
            try:
                done = recordings.start(path, integer(more[0]) if more else 0, variables)
            except NotImplementedError as error:
                return f"-ERR {error}\n"
            return "+OK Success\n" if done else "-ERR Cannot record session!\n"
        if action == "stop":
            return "+OK Success\n" if recordings.stop(path) else "-ERR Cannot stop record session!\n"
        if action in ("pause", "resume"):
            done = recordings.pause(path, action == "pause")
        elif action in ("mask", "unmask"):
            done = recordings.mask(path, action == "mask")
        else:
            return _RECORD_USAGE
        return "+OK Success\n" if done else f"-ERR Cannot {action} recording session!\n"

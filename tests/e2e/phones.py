"""Who places the calls: the stand-in switch or a real FreeSWITCH, behind one face."""

import subprocess
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from types import TracebackType
from typing import Protocol, Self

import gevent
import numpy as np
import soundfile
from gevent.event import AsyncResult
from gevent.event import Event as Flag
from numpy.typing import NDArray
from running import PATIENCE, RunningService, free_port

from esl_record.errors import CallGone, CommandRefused
from esl_record.esl import wire
from esl_record.esl.inbound import Inbound, SwitchUnreachable
from esl_record.recording.recording import Recording
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

placed_by = "standin"
"""The option `--switch`."""

CONF = Path(__file__).parents[2] / "freeswitch-conf"

SECRET = "b3a1c5d7e9f00112-a-secret"
"""What a dialplan proves with that a call is a switch's own."""

PAUSE, TRIES = 500, 200
"""Milliseconds from one connection that a dialplan tries again and again to the next, and how often it does."""

# A real `sleep` throws away the packet that comes first.
AGAIN = f"""<action application="socket" data="127.0.0.1:$1/$2 async full"/>
            <action application="read" data="1 99 silence unread {PAUSE}"/>"""


@dataclass(frozen=True)
class Dialled:
    """What the caller does; times are seconds of call from the answer."""

    document: str
    audio: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    rate: int = 8000
    digits: tuple[tuple[float, str], ...] = ()
    hangup_after: float | None = None
    name: str = "Ann Caller"
    url: str = ""
    """What the dialplan sets ``swml_url`` to."""
    parked: bool = False
    """The dialplan's next action parks the call, so that it outlives its service."""
    again: bool = False
    """The dialplan's next actions connect it again and again, so that it does."""
    then: str = ""
    """The document of the dialplan's next action."""
    at: tuple[str, int] | None = None
    """What the dialplan connects it with instead of the service."""
    patience: float = 60.0
    """Seconds after which the stand-in's caller hangs up; a real one does only when it is told to."""
    holds: tuple[tuple[float, float], ...] = ()
    codecs: tuple[tuple[float, int], ...] = ()
    channels: int = 1
    """These three as of the stand-in's `Caller`, whom alone they concern."""
    secret: bool = False
    """Whether the dialplan sets ``SECRET``."""
    before: tuple[tuple[str, str], ...] = ()
    """The stand-in's dialplan actions in front of `socket`, application and argument each."""


@dataclass(frozen=True)
class Ended:
    """How the call went. ``went_on``: the dialplan's next action was reached."""

    uuid: str
    went_on: bool
    variables: dict[str, str]
    recordings: list[tuple[Path, Recording]]

    @property
    def recording(self) -> Recording:
        """The one recording of the call."""
        assert len(self.recordings) == 1, self.recordings
        return self.recordings[0][1]

    @property
    def audio(self) -> Path:
        """Its file."""
        path, recording = self.recordings[0]
        audio = recording.audio(path)
        assert audio is not None
        return audio

    @property
    def samples(self) -> NDArray[np.int16]:
        """Its audio, shape (samples, channels)."""
        samples, rate = soundfile.read(self.audio, dtype="int16", always_2d=True)
        assert rate == self.recording.sample_rate
        return samples


class Live(Protocol):
    """A call under way."""

    def end(self) -> Ended: ...
    def hang_up(self) -> None: ...


class Phone(Protocol):
    service: RunningService
    event_socket: tuple[str, int]
    """The switch's own."""

    def dial(self, dialled: Dialled) -> Live: ...
    def call(self, dialled: Dialled) -> Ended: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


# ---- the stand-in


class StandInPhone:
    SPEED = 4.0
    """Times real time: what a busy machine takes to begin a recording is this much longer in the call's time."""
    service: RunningService

    def __init__(self, speed: float = SPEED) -> None:
        self.switch = Switch(speed=speed)
        self.event_socket = self.switch.listen()

    def dial(self, dialled: Dialled) -> Live:
        caller = Caller(
            audio=dialled.audio,
            rate=dialled.rate,
            name=dialled.name,
            digits=dialled.digits,
            hangup_after=dialled.hangup_after,
            gives_up_after=dialled.patience,
            holds=dialled.holds,
            codecs=dialled.codecs,
            channels=dialled.channels,
        )
        return _StandInCall(self.switch, self.service, dialled, caller)

    def call(self, dialled: Dialled) -> Ended:
        return self.dial(dialled).end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.switch.close()


class _StandInCall:
    def __init__(self, switch: Switch, service: RunningService, dialled: Dialled, caller: Caller) -> None:
        self._service = service
        host, port = service.address
        again = [("sleep", str(PAUSE)), ("socket", f"{host}:{port}/{dialled.document} async full")]
        then = [("socket", f"{host}:{port}/{dialled.then} async full")] if dialled.then else []
        behind = [("park", "")] if dialled.parked else again * TRIES if dialled.again else then
        address = dialled.at or service.address
        before = [*dialled.before, *([("set", f"esl_record_secret={SECRET}")] if dialled.secret else [])]
        self.call = switch.call(address, dialled.document, caller, before=before, behind=behind)
        # It connects with its first frame.
        self.call.channel.set("swml_url", dialled.url)

    def hang_up(self) -> None:
        self.call.hang_up()

    def end(self) -> Ended:
        self.call.wait(PATIENCE)
        _settle(self._service)
        return Ended(
            self.call.uuid, self.call.went_on, dict(self.call.variables), self._service.recordings(self.call.uuid)
        )


# ---- a real one

HTTAPI = """<configuration name="httapi.conf"><settings/>
  <profiles><profile name="default"><params><param name="gateway-url" value="http://127.0.0.1:9/"/></params></profile></profiles>
</configuration>
"""

WENT_ON = "SUBSCRIBER_ABSENT"
"""The hang-up cause of the dialplan action after ``socket``."""

CODECS = {8000: "PCMU", 16000: "G722", 48000: "opus"}


class FreeSwitchPhone:
    """A switch of its own from ``freeswitch-conf``, on other ports."""

    service: RunningService

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sip = free_port()
        self.event_socket = ("127.0.0.1", free_port())

    def __enter__(self) -> Self:
        conf = self.folder / "conf"
        copytree(CONF, conf)
        for path, old, new in (
            ("autoload_configs/sofia.conf.xml", "5080", self.sip),
            ("autoload_configs/event_socket.conf.xml", "8021", self.event_socket[1]),
        ):
            (conf / path).write_text((conf / path).read_text().replace(old, str(new)))
        # For documents that play what they have recorded; a switch without the module goes on without it.
        modules = conf / "autoload_configs/modules.conf.xml"
        modules.write_text(modules.read_text().replace("</modules>", '<load module="mod_httapi"/></modules>'))
        (conf / "autoload_configs/httapi.conf.xml").write_text(HTTAPI)
        # The service's port comes with the call: tests start services of their own.
        (conf / "dialplan/default/00_tests.xml").write_text(
            f"""<include>
            <extension name="tests"><condition field="destination_number" expression="^doc-(\\d+)-(.*)$">
              <action application="socket" data="127.0.0.1:$1/$2 async full"/>
              <action application="hangup" data="{WENT_ON}"/>
            </condition></extension>
            <extension name="url"><condition field="destination_number" expression="^url-(\\d+)-(.*)$">
              <action application="set" data="swml_url=${{sip_h_X-Document}}"/>
              <action application="socket" data="127.0.0.1:$1/$2 async full"/>
              <action application="hangup" data="{WENT_ON}"/>
            </condition></extension>
            <extension name="secret"><condition field="destination_number" expression="^secret-(\\d+)-(.*)$">
              <action application="set" data="esl_record_secret={SECRET}"/>
              <action application="socket" data="127.0.0.1:$1/$2 async full"/>
              <action application="hangup" data="{WENT_ON}"/>
            </condition></extension>
            <extension name="then"><condition field="destination_number" expression="^then-(\\d+)-(.*)$">
              <action application="socket" data="127.0.0.1:$1/$2 async full"/>
              <action application="socket" data="127.0.0.1:$1/${{sip_h_X-Then}} async full"/>
              <action application="hangup" data="{WENT_ON}"/>
            </condition></extension>
            <extension name="at"><condition field="destination_number" expression="^at-([\\d.]+)-(\\d+)-(.*)$">
              <action application="socket" data="$1:$2/$3 async full"/>
              <action application="hangup" data="{WENT_ON}"/>
            </condition></extension>
            <extension name="parked"><condition field="destination_number" expression="^parked-(\\d+)-(.*)$">
              <action application="socket" data="127.0.0.1:$1/$2 async full"/>
              <action application="park"/>
            </condition></extension>
            <extension name="again"><condition field="destination_number" expression="^again-(\\d+)-(.*)$">
              {AGAIN * TRIES}
            </condition></extension>
            </include>
            """
        )
        self.configure(conf)
        run = self.folder / "run"
        run.mkdir()
        with (self.folder / "console").open("wb") as console:
            subprocess.run(
                ["freeswitch", "-nonat", "-nc", "-conf", conf, "-log", run, "-db", run, "-run", run],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        with gevent.Timeout(PATIENCE, AssertionError("FreeSWITCH did not start")):
            while not self._ready():
                gevent.sleep(0.2)
        return self

    def configure(self, conf: Path) -> None:
        """Adds what some tests need to the copy of the configuration, before the switch starts."""

    def __exit__(self, *_: object) -> None:
        with Inbound(self.event_socket, "ClueCon") as switch, suppress(CallGone):
            switch.api("fsctl shutdown now")

    @property
    def log(self) -> str:
        return (self.folder / "run" / "freeswitch.log").read_text(errors="replace")

    def dial(self, dialled: Dialled) -> Live:
        return _FreeSwitchCall(self, self.service, dialled)

    def call(self, dialled: Dialled) -> Ended:
        return self.dial(dialled).end()

    def has(self, module: str) -> bool:
        with Inbound(self.event_socket, "ClueCon") as switch:
            return switch.api(f"module_exists {module}").strip() == "true"

    def _ready(self) -> bool:
        try:
            with Inbound(self.event_socket, "ClueCon") as switch:
                return "is ready" in switch.api("status") and "RUNNING" in switch.api("sofia status")
        except (SwitchUnreachable, CommandRefused):
            return False


class _FreeSwitchCall:
    """The caller's leg over SIP; the recorded leg is the other one, which the switch tells apart by its number."""

    def __init__(self, phone: FreeSwitchPhone, service: RunningService, dialled: Dialled) -> None:
        self._service = service
        self._dialled = dialled
        self._uuid = str(uuid.uuid4())
        self._number = str(uuid.uuid4().int)[:15]
        self._answered = Flag()
        self._recorded: dict[str, str] = {}
        self._recorded_gone = Flag()
        self._gone: AsyncResult[str] = AsyncResult()
        self._switch = Inbound(phone.event_socket, "ClueCon")
        self._switch.send("event plain CHANNEL_PARK CHANNEL_HANGUP_COMPLETE")
        self._switch.listen(self._on_event)
        # SIP carries no newline, but the text %0A, which the switch does not encode again for the event socket.
        name = dialled.name.replace("\n", "%250A").replace(":", "%253A")
        variables = ",".join(
            [
                f"origination_uuid={self._uuid}",
                f"origination_caller_id_number={self._number}",
                f"origination_caller_id_name='{name}'",
                f"absolute_codec_string={CODECS[dialled.rate]}",
                "ignore_early_media=true",
                *([f"sip_h_X-Document='{dialled.url}'"] if dialled.url else []),
                *([f"sip_h_X-Then={dialled.then}"] if dialled.then else []),
            ]
        )
        kinds = {"parked": dialled.parked, "again": dialled.again, "url": dialled.url, "then": dialled.then}
        kinds["secret"] = dialled.secret
        context = next((name for name, chosen in kinds.items() if chosen), "doc")
        port: object = service.address[1]
        if dialled.at:
            context, port = "at", "{}-{}".format(*dialled.at)
        target = f"sofia/internal/{context}-{port}-{dialled.document}@127.0.0.1:{phone.sip}"
        self._switch.background(f"originate {{{variables}}}{target} &park()")
        self._script = gevent.spawn(self._act, phone.folder)

    def hang_up(self) -> None:
        try:
            self._switch.api(f"uuid_kill {self._uuid}")
        except (CommandRefused, CallGone):
            pass  # it has gone

    def end(self) -> Ended:
        cause = self._gone.get(timeout=PATIENCE * 2)
        assert self._recorded_gone.wait(PATIENCE)
        self._script.kill()
        self._switch.stop()
        uuid_ = self._recorded["Unique-ID"]
        _settle(self._service)
        variables = {
            name.removeprefix("variable_"): value
            for name, value in self._recorded.items()
            if name.startswith("variable_")
        }
        return Ended(uuid_, cause == WENT_ON, variables, self._service.recordings(uuid_))

    def _act(self, folder: Path) -> None:
        if not self._answered.wait(PATIENCE):
            return
        if len(self._dialled.audio):
            path = folder / f"{self._uuid}.wav"
            soundfile.write(path, self._dialled.audio, self._dialled.rate, "PCM_16")
            self._switch.execute(self._uuid, "playback", str(path))
        passed = 0.0
        for at, digit in self._dialled.digits:
            gevent.sleep(at - passed)
            passed = at
            self._switch.api(f"uuid_send_dtmf {self._uuid} {digit}")
        if self._dialled.hangup_after is not None:
            gevent.sleep(self._dialled.hangup_after - passed)
            self.hang_up()

    def _on_event(self, event: wire.Event) -> None:
        mine = event.get("Unique-ID") == self._uuid
        # What it is told to play between its answer and that comes to nothing.
        if event.name == "CHANNEL_PARK" and mine:
            self._answered.set()
        elif event.name == "CHANNEL_HANGUP_COMPLETE":
            if mine:
                self._gone.set(event.get("Hangup-Cause"))
            elif event.get("Caller-Caller-ID-Number") == self._number:
                self._recorded = dict(event.headers)
                self._recorded_gone.set()


def _settle(service: RunningService) -> None:
    """A call's recording is complete a moment after the call has gone; its spool is dropped last."""
    service.wait(lambda: not service.spooled(), "the spool to be emptied")

"""The demo: the service records one call of the stand-in switch, over the real wire, before the user's eyes."""

import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from esl_record.audio import sound
from esl_record.config import Settings
from esl_record.errors import EslRecordError
from esl_record.recording.machine import State
from esl_record.recording.recorder import Recorder
from esl_record.recording.recording import Recording
from esl_record.service import Service
from esl_record.standin import voice
from esl_record.standin.call import Call
from esl_record.standin.caller import Caller
from esl_record.standin.switch import Switch

RATE = 8000
SPEED = 10.0
"""Times real time, with --fast."""

LEAD = 1.0
"""Seconds the caller waits for the beep."""

SPEECH = 4.0
LONGEST = 600.0
"""Seconds of call after which the caller gives up."""

_BAR = 30
_QUIETEST = -60.0
_REFRESH = 0.1


class Demo:
    """One call, watched. ``run`` gives the exit status: 0 if the caller's message was recorded."""

    def __init__(self, settings: Settings, console: Console, *, caller: Path | None, fast: bool) -> None:
        self._console = console
        self._speed = SPEED if fast else 1.0
        self._file = caller
        # Its own ports, so that a service on this machine is not in the way, the tick of a clock that runs fast, and no
        # more room than a few seconds take.
        own = {"listen": ("127.0.0.1", 0), "http": ("127.0.0.1", 0), "tick": settings.tick / self._speed}
        self._settings = settings.model_copy(update={**own, "disk_floor": 0})

    def run(self) -> int:
        with TemporaryDirectory(prefix="esl-record-") as spool:
            # The stand-in, like the real one, takes no spool path with a space; where the user stands there may be one.
            self._settings = self._settings.model_copy(update={"spool_dir": Path(spool)})
            return self._run()

    def _run(self) -> int:
        said = self._said()
        logging.getLogger("esl_record").setLevel(logging.WARNING)
        switch = Switch(speed=self._speed)
        # Not that of a real switch, which may run here too.
        address = switch.listen(password=self._settings.event_socket_password)
        service = Service(self._settings.model_copy(update={"event_socket": address}))
        service.start()
        host, port = service.address
        self._print(f"service on {host}:{port}; a stand-in switch calls `voicemail`, and its caller speaks")
        try:
            call = switch.call(service.address, "voicemail", Caller(audio=said, rate=RATE, gives_up_after=LONGEST))
            self._watch(service, call)
            call.wait(service.settings.command_timeout)
        except TimeoutError:
            self._print("the call did not end")
            return 1
        finally:
            service.stop(self._settings.command_timeout)
            switch.close()
        return self._report(service)

    def _said(self) -> NDArray[np.int16]:
        message = voice.say(SPEECH, RATE) if self._file is None else sound.resampled(*sound.read(self._file), RATE)
        return np.concatenate([np.zeros(round(LEAD * RATE), np.int16), message])

    def _watch(self, service: Service, call: Call) -> None:
        seen: set[str] = set()
        with Live(console=self._console, auto_refresh=False, transient=False) as live:
            while not call.finished.wait(_REFRESH / self._speed):
                for recorder in service.calls.recorders:
                    line = state_line(recorder)
                    if self._console.is_terminal:
                        live.update(line, refresh=True)
                    elif (told := self._news(recorder)) not in seen:
                        seen.add(told)
                        self._print(line.plain)

    def _news(self, recorder: Recorder) -> str:
        """What makes a line worth printing where lines cannot be redrawn."""
        speaking = recorder.track is not None and recorder.track.speaking
        return f"{recorder.recording.state} {speaking} {int(recorder.position)}"

    def _report(self, service: Service) -> int:
        recording = service.finished
        if recording is None:
            raise EslRecordError("the demo's call was not recorded")
        audio = recording.audio(service.storage.document_path(recording))
        self._print(f"{recording.state.value}: {_why(recording)}, {recording.duration:.2f} s")
        for start, end in recording.speech:
            self._print(f"  speech {start:6.2f} s to {end:6.2f} s")
        if recording.error:
            self._print(f"  error  {recording.error}")
        if audio is not None:
            self._print(f"  audio  {audio}")
        self._print(f"  facts  {service.storage.document_path(recording)}")
        return 0 if recording.state is State.FINISHED else 1

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)


def state_line(recorder: Recorder) -> Text:
    """State, time, level, detector: one line to be redrawn."""
    track = recorder.track
    level = track.level if track is not None else _QUIETEST
    filled = round(_BAR * min(1.0, max(0.0, 1 - level / _QUIETEST)))
    speaking = track is not None and track.speaking
    return Text.assemble(
        (f"{recorder.recording.state.value:<10}", "bold"),
        f"{recorder.position:7.2f} s  ",
        ("█" * filled + "·" * (_BAR - filled), "green" if speaking else "dim"),
        f" {max(level, _QUIETEST):6.1f} dBFS  ",
        ("speech " if speaking else "silence", "green" if speaking else "dim"),
        f"  score {track.score if track is not None else 0.0:6.2f}",
    )


def _why(recording: Recording) -> str:
    reason = recording.end_reason.value if recording.end_reason else "?"
    return f"ended by {reason}{f' {recording.terminator}' if recording.terminator else ''}"

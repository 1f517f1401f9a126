"""Whole calls under Python handlers: the built-in ones, and those that fail, change, or lose their call."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from phones import Dialled, Ended, FreeSwitchPhone, Live, Phone, StandInPhone
from running import RunningService
from test_record import said

from esl_record.recording.machine import EndReason, State
from esl_record.recording.recording import Recording
from esl_record.standin import applications
from esl_record.standin.session import Frames, Session

pytestmark = pytest.mark.slow

SPOKEN = said(60, lead=0.2)


@pytest.fixture(scope="module")
def handling(switch: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with a folder of handlers."""
    running = RunningService(tmp_path_factory.mktemp("own"), speed=StandInPhone.SPEED if switch == "standin" else 1)
    with_handlers(running)
    running.start()
    yield running
    running.stop()


def with_handlers(service: RunningService) -> Path:
    folder = service.folder / "handlers"
    folder.mkdir()
    service.settings["handlers"] = folder
    return folder


@pytest.fixture
def folder(handling: RunningService, phone: Phone) -> Path:
    """Where the phone's service finds its handlers."""
    phone.service = handling
    return handling.folder / "handlers"


@pytest.fixture
def watch(folder: Path, phone: Phone) -> "Watch":
    return Watch(phone.service)


def press(live: Live, digits: str) -> None:
    for digit in digits:
        if hasattr(live, "call"):
            live.call.press(digit)
        else:
            live._switch.api(f"uuid_send_dtmf {live._uuid} {digit}")  # type: ignore[attr-defined]


def answered(live: Live) -> bool:
    if hasattr(live, "call"):
        return bool(live.call.channel.answered)
    return bool(live._answered.is_set())  # type: ignore[attr-defined]


class Watch:
    """What the service is doing now."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._before = len(service.log)

    @property
    def log(self) -> str:
        return self._service.log[self._before :]

    def recording(self, number: int, *, seconds: float = 2.0) -> None:
        """Waits until the call's recording of that number, from 1, has lasted some seconds of call."""
        self._service.wait(lambda: self.log.count(" begun") == number, f"recording {number}")

        def long_enough() -> bool:
            calls = self._service.get("/api/v1/calls").json()["data"]
            return any(recording["duration"] >= seconds for call in calls for recording in call["recordings"])

        self._service.wait(long_enough, f"{seconds} s of recording {number}")

    def recorded(self, number: int) -> None:
        """Waits until so many recordings are complete."""
        self._service.wait(lambda: self.log.count(": finished, ") == number, f"the end of recording {number}")


def spoken_in(ended: Ended, number: int = 0, channel: int = 0) -> NDArray[np.int16]:
    """The audio of one of the call's recordings, the first begun first."""
    path, recording = sorted(ended.recordings, key=lambda entry: entry[1].start_time)[number]
    audio = recording.audio(path)
    assert audio is not None
    samples, _ = soundfile.read(audio, dtype="int16", always_2d=True)
    return np.asarray(samples[:, channel])


def alike(recorded: NDArray[np.int16], spoken: NDArray[np.int16] = SPOKEN) -> float:
    """The largest correlation of the last second of ``recorded`` with any of ``spoken``, of 1. While a digit is pressed
    the telephone sends no sound, so it is the last before that."""
    a, b = spoken.astype(float), recorded[-10_400:-2400].astype(float)
    size = 1 << (len(a) + len(b)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)[: len(a) - len(b) + 1]
    energies = np.concatenate([[0.0], np.cumsum(a * a)])
    norm = np.sqrt(np.maximum(energies[len(b) :] - energies[: -len(b)], 1.0))
    return float((cross / norm).max() / max(np.linalg.norm(b), 1e-9))


def in_order(ended: Ended) -> list[Recording]:
    return sorted((recording for _, recording in ended.recordings), key=lambda recording: recording.start_time)


# ---- the built-in handlers


def test_voicemail_is_heard_again_spoken_anew_and_kept(phone: Phone) -> None:
    watch = Watch(phone.service)
    live = phone.dial(Dialled("python/voicemail", SPOKEN))
    watch.recording(1)
    press(live, "#")
    watch.recorded(1)
    press(live, "2")
    watch.recording(2)
    press(live, "#")
    watch.recorded(2)
    press(live, "1#")
    ended = live.end()
    first, second = in_order(ended)
    assert [(take.state, take.end_reason, take.document) for take in (first, second)] == [
        (State.FINISHED, EndReason.TERMINATOR, "python/voicemail")
    ] * 2
    assert (alike(spoken_in(ended, 0)), alike(spoken_in(ended, 1))) == (pytest.approx(1, abs=0.1),) * 2
    assert ended.variables["voicemail_id"] == second.recording_id
    assert ended.variables["voicemail_result"] == "success"
    assert f"/recordings/{second.recording_id}/" in ended.variables["voicemail_url"]
    assert (ended.went_on, ended.variables["hangup_cause"]) == (False, "NORMAL_CLEARING")


def test_voicemail_keeps_what_was_said_when_the_caller_hangs_up(phone: Phone) -> None:
    watch = Watch(phone.service)
    live = phone.dial(Dialled("python/voicemail", SPOKEN))
    watch.recording(1)
    live.hang_up()
    ended = live.end()
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    assert alike(spoken_in(ended)) > 0.9


def test_an_announcement_is_recorded_and_played_back(phone: Phone) -> None:
    watch = Watch(phone.service)
    live = phone.dial(Dialled("python/announcement", SPOKEN))
    watch.recording(1)
    press(live, "#")
    watch.recorded(1)
    press(live, "1")
    ended = live.end()
    assert ended.went_on
    assert ended.variables["announcement_path"] == str(ended.audio)
    assert alike(spoken_in(ended)) > 0.9
    if not isinstance(phone, FreeSwitchPhone):
        heard = live.call.heard  # type: ignore[attr-defined]
        assert alike(spoken_in(ended), heard) > 0.9


@pytest.mark.parametrize(("entered", "recorded"), [("1234#", 1), ("9999#1#12345#", 0)])
def test_an_announcement_may_ask_for_a_pin(phone: Phone, entered: str, recorded: int) -> None:
    watch = Watch(phone.service)
    live = phone.dial(Dialled("python/announcement/1234", SPOKEN))
    phone.service.wait(lambda: answered(live), "the answer")
    press(live, entered)
    if recorded:
        watch.recording(1)
        live.hang_up()
    ended = live.end()
    assert len(ended.recordings) == recorded
    assert ended.variables["hangup_cause"] == ("NORMAL_CLEARING" if recorded else "CALL_REJECTED")


@pytest.fixture
def conferences(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rooms the stand-in's calls are in; a real switch needs the module."""
    rooms: list[str] = []
    if isinstance(phone, FreeSwitchPhone):
        if not phone.has("mod_conference"):
            pytest.skip("the switch has no mod_conference")
        return rooms

    def conference(session: Session, argument: str | None) -> Frames[None]:
        rooms.append(argument or "")
        while session.ready and not session.take_break():
            yield

    monkeypatch.setitem(applications.APPLICATIONS, "conference", conference)
    return rooms


def test_a_conference_leg_is_recorded(phone: Phone, conferences: list[str]) -> None:
    watch = Watch(phone.service)
    live = phone.dial(Dialled("python/conference_leg/room1", SPOKEN))
    watch.recording(1, seconds=3)
    live.hang_up()
    ended = live.end()
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.HANGUP)
    assert ended.recording.channels == 2
    assert alike(spoken_in(ended)) > 0.9
    assert ended.variables["conference_leg_id"] == ended.recording.recording_id
    assert conferences in ([], ["room1@default"])


# ---- handlers of one's own


def write(folder: Path, name: str, *lines: str) -> str:
    """Puts a handler into the folder; gives its path in a ``socket`` action."""
    body = "\n".join(f"    {line}" for line in lines)
    (folder / f"{name}.py").write_text(f"def handler(session, args):\n{body}\n")
    return f"python/{name}"


def test_a_handler_that_returns_gives_the_call_back(watch: Watch, folder: Path, phone: Phone) -> None:
    path = write(folder, "greeter", "session.answer()", "session.setVariable('greeted', args)")
    ended = phone.call(Dialled(f"{path}/some-args"))
    assert ended.went_on
    assert ended.variables["greeted"] == "some-args"
    assert not {"playback_terminators", "sleep_eat_digits", "script_error"} & set(ended.variables)


def test_a_changed_handler_runs_as_it_is_now(watch: Watch, folder: Path, phone: Phone) -> None:
    for word in ("one", "two"):
        path = write(folder, "greeter", f"session.setVariable('greeted', '{word}')")
        assert phone.call(Dialled(path)).variables["greeted"] == word
    (folder / "greeter.py").write_text("def handler(session, args):\n    session.answer(\n")
    ended = phone.call(Dialled(path))
    assert ended.went_on
    assert ended.variables["script_error"] == "relay_script_parse_error"
    assert f"{folder / 'greeter.py'}, line 2: SyntaxError" in watch.log
    write(folder, "greeter", "session.setVariable('greeted', 'three')")
    assert phone.call(Dialled(path)).variables["greeted"] == "three"


@pytest.mark.parametrize("path", ["python/nowhere", "python/", "python/_x", "python/a.b"])
def test_an_unknown_handler_leaves_the_call_to_the_dialplan(phone: Phone, path: str) -> None:
    ended = phone.call(Dialled(path))
    assert ended.went_on
    assert ended.variables["script_error"] == "relay_script_parse_error"
    assert "no handler" in phone.service.log


def test_an_exception_in_one_call_leaves_another_undisturbed(watch: Watch, folder: Path, phone: Phone) -> None:
    path = write(folder, "recorder", "session.answer()", "session.record(initial_timeout=0, end_silence_timeout=0)")
    live = phone.dial(Dialled(path, SPOKEN))
    watch.recording(1)
    failing = ["1 / 0", "raise KeyboardInterrupt", "raise SystemError('bad')", "session.record(loud=1)"]
    others = [
        phone.dial(Dialled(write(folder, f"broken{number}", "session.answer()", line)))
        for number, line in enumerate([*failing, "raise SystemExit"])
    ]
    for told in ("ZeroDivisionError", "KeyboardInterrupt", "SystemError: bad", "unknown parameter 'loud'"):
        phone.service.wait(lambda told=told: told in watch.log, told)
    press(live, "#")
    recorded, *failed, exited = (call.end() for call in (live, *others))
    assert recorded.went_on
    assert (recorded.recording.state, recorded.recording.end_reason) == (State.FINISHED, EndReason.TERMINATOR)
    assert alike(spoken_in(recorded)) > 0.9
    assert len(spoken_in(recorded)) == round(recorded.recording.duration * 8000)
    for ended in failed:
        assert (ended.went_on, ended.variables["hangup_cause"]) == (False, "NORMAL_TEMPORARY_FAILURE")
        assert ended.variables["script_error"] == "relay_script_method_execute_failed"
    assert exited.went_on
    lines = [line for line in watch.log.splitlines() if " ERROR " in line]
    assert all(": handler broken" in line for line in lines)


def test_the_hang_up_hook_is_called_while_a_verb_waits(watch: Watch, folder: Path, phone: Phone) -> None:
    path = write(
        folder,
        "hooked",
        "session.setHangupHook(lambda s, what, log: log.append((what, s.ready(), s.hangupCause())), called := [])",
        "session.answer()",
        "waited = session.sleep(60000)",
        "session.consoleLog('notice', f'hook {called} sleep {waited} then {session.streamFile(\"/x.wav\")}')",
    )
    ended = phone.call(Dialled(path, hangup_after=1.0))
    assert not ended.went_on
    told = "hook [('hangup', False, 'NORMAL_CLEARING')] sleep 0 then 0"
    phone.service.wait(lambda: told in watch.log, "the hook")


def test_a_loop_that_ignores_the_end_of_its_call_ends(watch: Watch, folder: Path, phone: Phone) -> None:
    path = write(folder, "endless", "session.answer()", "while True: session.streamFile('silence_stream://100')")
    phone.call(Dialled(path, hangup_after=1.0))
    phone.service.wait(lambda: not phone.service.get("/api/v1/calls").json()["data"], "the handler to end")
    assert " ERROR " not in watch.log


def test_digits_go_to_the_input_callback_and_wait_for_who_asks(watch: Watch, folder: Path, phone: Phone) -> None:
    path = write(
        folder,
        "keys",
        "session.answer()",
        "heard = []",
        "def callback(session, what, digit, arg):",
        "    heard.append(what + digit.digit + arg)",
        "    return 'break' if digit.digit == '2' else 'true'",
        "session.setInputCallback(callback, 'x')",
        "played = session.streamFile('silence_stream://30000')",
        "slept = session.sleep(30000)",
        "session.unsetInputCallback()",
        "keys = ' '.join(heard)",
        "session.setVariable('heard', f'{keys} {played} {slept}')",
        "session.streamFile('silence_stream://3000')",
        "session.setVariable('waited', session.getDigits(5, '#', 8000))",
        "session.setVariable('asked', session.playAndGetDigits(2, 4, 2, 8000, '#',"
        " 'silence_stream://30000', '', '^5', 'pin'))",
    )
    digits = [(1.0, "1"), (1.4, "*"), (1.8, "2"), (2.4, "2"), (3.0, "7"), (3.4, "*"), (3.8, "8"), (4.2, "#")]
    digits += [(7.0, "4"), (7.4, "4"), (7.8, "#"), (8.4, "5"), (8.8, "6"), (9.2, "#")]
    ended = phone.call(Dialled(path, digits=tuple(digits)))
    assert ended.variables["heard"] == "dtmf1x dtmf*x dtmf2x dtmf2x 0 0"
    assert ended.variables["waited"] == "7*8"
    assert (ended.variables["asked"], ended.variables["pin"]) == ("56", "56")
    assert ended.went_on


def test_a_call_can_be_sent_elsewhere(watch: Watch, folder: Path, phone: Phone) -> None:
    path = write(
        folder,
        "sender",
        "session.setHangupHook(lambda s, what: session.consoleLog('notice', f'hook {what}'))",
        "session.answer()",
        "recording = session.record_call()",
        "session.sleep(2000)",
        "sent = session.transfer('sleep:1000,hangup:USER_BUSY', 'inline')",
        "session.consoleLog('notice', f'{sent} {recording.result.state} {session.ready()} {session.sleep(1000)}')",
    )
    ended = phone.call(Dialled(path, SPOKEN))
    assert ended.variables["hangup_cause"] == "USER_BUSY"
    assert (ended.recording.state, ended.recording.end_reason) == (State.FINISHED, EndReason.STOP)
    assert alike(spoken_in(ended)) > 0.9
    phone.service.wait(lambda: "1 finished False 0" in watch.log, "the handler")
    assert watch.log.count("hook transfer") == 1


@pytest.mark.parametrize("kind", ["handler", "document"])
def test_a_call_somebody_else_sends_elsewhere_stays_there(watch: Watch, folder: Path, phone: Phone, kind: str) -> None:
    document = phone.service.document("plays", "answer", {"play": "silence:60"}, {"play": "silence:60"})
    handler = write(folder, "plays", "session.answer()", *["session.streamFile('silence_stream://60000')"] * 2)
    live = phone.dial(Dialled(handler if kind == "handler" else document))
    phone.service.wait(lambda: answered(live), "the answer")
    (call,) = phone.service.get("/api/v1/calls").json()["data"]
    switch = live._switch if isinstance(phone, FreeSwitchPhone) else phone.switch  # type: ignore[attr-defined]
    switch.api(f"uuid_transfer {call['id']} sleep:1000,hangup:USER_BUSY inline")
    assert live.end().variables["hangup_cause"] == "USER_BUSY"
    phone.service.wait(lambda: not phone.service.get("/api/v1/calls").json()["data"], "the service to let go")
    assert " ERROR " not in watch.log


@pytest.mark.parametrize("early", [False, True])
def test_a_sound_answers_the_call_unless_early_media_was_opened(folder: Path, phone: Phone, early: bool) -> None:
    path = write(
        folder,
        f"unanswered_{early}",
        *(["session.preAnswer()"] if early else []),
        "recording = session.record_call()",
        "session.streamFile('silence_stream://1000')",
        "session.hangup()",
    )
    ended = phone.call(Dialled(path, SPOKEN))
    assert (int(ended.variables["billmsec"]) > 0) is not early
    assert (ended.variables.get("progress_media_uepoch", "0") != "0") is early
    assert len(ended.recordings) == (0 if early else 1)


def test_the_switch_records_to_a_file_of_its_own(watch: Watch, folder: Path, phone: Phone, tmp_path: Path) -> None:
    if not isinstance(phone, FreeSwitchPhone):
        pytest.skip("the stand-in has no `record`")
    file = tmp_path / "a b.wav"
    path = write(
        folder,
        "filer",
        "session.answer()",
        "session.setInputCallback(lambda session, what, digit: digit.digit != '5')",
        f"session.setVariable('first', session.recordFile('{file}', 30))",
        f"session.setVariable('second', session.recordFile('{file}.wav', 1))",
    )
    ended = phone.call(Dialled(path, SPOKEN, digits=((2.0, "*"), (3.0, "5"))))
    assert (ended.variables["first"], ended.variables["second"]) == ("0", "1")
    assert file.exists()


def test_a_stopping_service_gives_back_the_calls_of_handlers(own_service: RunningService, phone: Phone) -> None:
    folder = with_handlers(own_service)
    phone.service = own_service
    own_service.settings["drain_timeout"] = 0.2
    own_service.start()
    watch = Watch(own_service)
    steps = ["session.answer()", "session.record(initial_timeout=0)"]
    lives = [
        phone.dial(Dialled(write(folder, "records", *steps, "session.hangup()"), SPOKEN)),
        phone.dial(Dialled(write(folder, "sleeps", "session.answer()", "session.sleep(60000)", "session.hangup()"))),
    ]
    watch.recording(1)
    assert own_service.stop() == 0
    own_service.process = None
    recorded, slept = (live.end() for live in lives)
    assert (recorded.recording.state, recorded.recording.end_reason) == (State.FINISHED, EndReason.STOP)
    assert recorded.went_on
    assert slept.went_on

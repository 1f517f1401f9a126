"""Python handlers: how they are found and loaded, and what becomes of those that fail."""

import inspect
import os
import re
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import cast

import gevent
import pytest
from handler_fakes import PATIENCE, FakeSession, ran
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from esl_record import handlers
from esl_record.config import Settings
from esl_record.doctor import examine
from esl_record.errors import CallGone, CommandRefused, ConfigError, DocumentError
from esl_record.esl.session import Session
from esl_record.handlers import call as handled
from esl_record.handlers import loader
from esl_record.handlers import run as running
from esl_record.handlers.loader import Called, Handlers, called_by
from esl_record.handlers.session import CallSession
from esl_record.service import Service

# ---- which handler


@pytest.mark.parametrize(
    ("path", "called"),
    [
        ("python/greeter", Called("greeter", "")),
        ("python:greeter", Called("greeter", "")),
        ("python/greeter some text", Called("greeter", "some text")),
        ("python/greeter/some/text", Called("greeter", "some/text")),
        ("python:greeter:1:2", Called("greeter", "1:2")),
        ("python/greeter two\nlines", Called("greeter", "two\nlines")),
        ("python/", Called("", "")),
        ("python/../greeter", Called("..", "greeter")),
        ("python", None),
        ("pythonic/greeter", None),
        ("voicemail", None),
        ("a/python/greeter", None),
        ("", None),
    ],
)
def test_a_path_names_a_handler(path: str, called: Called | None) -> None:
    assert called_by(cast(Session, FakeSession(path))) == called


def test_arguments_come_from_the_path_or_else_from_a_variable() -> None:
    variable = "anything: a | b"
    assert called_by(cast(Session, FakeSession("python/greeter", handler_args=variable))) == Called("greeter", variable)
    assert called_by(cast(Session, FakeSession("python/greeter x", handler_args=variable))) == Called("greeter", "x")


# ---- loading


def write(folder: Path, name: str, text: str | bytes, *, at: int | None = None) -> Path:
    path = folder / f"{name}.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if at is not None:
        os.utime(path, ns=(at, at))
    return path


def says(word: str) -> str:
    return f"def handler(session, args):\n    return {word!r}\n"


def answer(library: Handlers, name: str) -> object:
    return library.load(name)(None, "")


def test_a_handler_is_loaded_from_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "greeter", says("hello"))
    assert answer(Handlers(tmp_path), "greeter") == "hello"


def test_a_changed_file_is_loaded_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    library = Handlers(tmp_path)
    write(tmp_path, "greeter", says("one"), at=10**18)
    first = library.load("greeter")
    assert library.load("greeter") is first
    write(tmp_path, "greeter", says("two"), at=10**18 + 1)
    assert answer(library, "greeter") == "two"
    assert first(None, "") == "one"


def test_a_file_put_in_the_place_of_another_is_seen_though_time_and_size_are_the_same(tmp_path: Path) -> None:
    library = Handlers(tmp_path)
    write(tmp_path, "greeter", says("one"), at=10**18)
    assert answer(library, "greeter") == "one"
    write(tmp_path, "new", says("two"), at=10**18).replace(tmp_path / "greeter.py")
    assert answer(library, "greeter") == "two"


BROKEN = [
    pytest.param("def handler(session, args)\n    pass\n", ["line 1", "SyntaxError"], id="syntax"),
    pytest.param("\n\nimport nowhere_to_be_found\n" + says("x"), ["line 3", "ModuleNotFoundError"], id="import"),
    pytest.param("def f():\n    return 1 / 0\n\nf()\n" + says("x"), ["line 2", "ZeroDivisionError"], id="its own code"),
    pytest.param("import json\njson.loads('{')\n" + says("x"), ["line 2", "JSONDecodeError"], id="code it calls"),
    pytest.param("raise SystemExit(3)\n", ["line 1", "SystemExit"], id="exit"),
    pytest.param("raise KeyboardInterrupt\n", ["line 1", "KeyboardInterrupt"], id="interrupt"),
    pytest.param("def handle(session, args): pass\n", ["no function handler(session, args)"], id="none"),
    pytest.param("handler = 3\n", ["no function handler(session, args)"], id="no function"),
    pytest.param("async def handler(session, args): pass\n", ["no function handler"], id="a coroutine"),
    pytest.param("def handler(session, args): yield\n", ["no function handler"], id="a generator"),
    pytest.param(b"x = '\xff'\n", ["SyntaxError"], id="no UTF-8"),
    pytest.param(b"x = '\0'\n", ["null bytes"], id="NUL"),
]


@pytest.mark.parametrize(("text", "named"), BROKEN)
def test_a_broken_file_is_told_of_with_its_line_until_it_is_mended(
    tmp_path: Path, text: str | bytes, named: list[str]
) -> None:
    library = Handlers(tmp_path)
    write(tmp_path, "greeter", says("one"), at=10**18)
    assert answer(library, "greeter") == "one"
    path = write(tmp_path, "greeter", text, at=10**18 + 1)
    for _ in range(2):
        with pytest.raises(DocumentError) as caught:
            library.load("greeter")
        assert [word for word in [str(path), *named] if word not in str(caught.value)] == []
        assert caught.value.code == "relay_script_parse_error"
    write(tmp_path, "greeter", says("two"), at=10**18 + 2)
    assert answer(library, "greeter") == "two"


def test_a_file_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "greeter.py").symlink_to(tmp_path / "greeter.py")
    with pytest.raises(DocumentError, match="no handler greeter"):
        Handlers(tmp_path).load("greeter")


@pytest.mark.parametrize("name", ["", "..", ".", "a.b", "a b", "_x", "__init__", "1x", "ä", "x" * 101, "x\n", "x\0"])
def test_a_name_is_letters_digits_and_underscores(tmp_path: Path, name: str) -> None:
    with pytest.raises(DocumentError, match="no handler named"):
        Handlers(tmp_path).load(name)


@given(name=st.text(max_size=20) | st.from_regex(r"(\.\./|[a-z/\\.~]){1,8}", fullmatch=True))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    assume(not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII))
    with pytest.raises(DocumentError, match="no handler named"):
        Handlers(Path(__file__).parent).load(name)


def test_only_the_folder_counts_not_what_python_could_import(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"no handler json: not in .* or among the built-in announcement, conf"):
        Handlers(tmp_path).load("json")
    with pytest.raises(DocumentError, match="no handler json: not among the built-in"):
        Handlers(None).load("json")


def test_the_built_in_handlers_load_and_one_in_the_folder_takes_their_place(tmp_path: Path) -> None:
    assert set(loader.built_in()) == {"announcement", "conference_leg", "voicemail"}
    for name in loader.built_in():
        assert callable(Handlers(None).load(name))
    write(tmp_path, "voicemail", says("mine"))
    assert answer(Handlers(tmp_path), "voicemail") == "mine"


def test_a_handler_may_define_dataclasses(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
    write(tmp_path, "greeter", text + "def handler(session, args):\n    return A(3).x\n")
    assert answer(Handlers(tmp_path), "greeter") == 3


def test_loading_leaves_nothing_beside_the_file_and_no_broken_module_behind(tmp_path: Path) -> None:
    write(tmp_path, "greeter", says("one"))
    write(tmp_path, "broken", "1 / 0\n")
    library = Handlers(tmp_path)
    library.load("greeter")
    with pytest.raises(DocumentError):
        library.load("broken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.py", "greeter.py"]
    assert "esl_record_handler_broken" not in sys.modules


@pytest.mark.parametrize(("text", "named"), BROKEN[:1] + BROKEN[-2:])
def test_a_mistake_is_found_without_running_the_file(tmp_path: Path, text: str | bytes, named: list[str]) -> None:
    told = loader.mistake(write(tmp_path, "greeter", text))
    assert [word for word in named if word not in told] == []


def test_a_file_that_would_run_wrong_is_not_run_to_find_that_out(tmp_path: Path) -> None:
    assert loader.mistake(write(tmp_path, "greeter", "1 / 0\n")) == ""
    assert "Is a directory" in loader.mistake(tmp_path)


def test_a_folder_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", handlers=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"setting handlers = .*nowhere: is no directory"):
        Service(settings).start()


def test_the_doctor_names_the_handlers_and_their_mistakes(tmp_path: Path) -> None:
    write(tmp_path, "good", says("x"))
    write(tmp_path, "bad", "def handler(session, args)\n")
    write(tmp_path, "_helper", "(")
    out = StringIO()
    settings = Settings(data_dir=tmp_path / "data", handlers=tmp_path, event_socket=("127.0.0.1", 9))
    assert examine(settings, Console(file=out, width=1000)) == 1
    lines = [line for line in out.getvalue().splitlines() if line[4:].startswith("handler ")]
    assert [line.split(":")[0] for line in lines] == ["BAD handler bad", "ok  handler good"]
    assert "bad.py, line 1: SyntaxError" in lines[0]


# ---- the names

CORE_SESSION = {
    "answer": "",
    "answered": "",
    "bridged": "",
    "collectDigits": "*timeouts",
    "consoleLog": "level_str msg",
    "consoleLog2": "level_str file func line msg",
    "execute": "app data=",
    "flushDigits": "",
    "flushEvents": "",
    "getDigits": "maxdigits terminators timeout interdigit= abstimeout=",
    "getState": "",
    "getVariable": "var",
    "get_uuid": "",
    "hangup": "cause=",
    "hangupCause": "",
    "mediaReady": "",
    "playAndGetDigits": "min_digits max_digits max_tries timeout terminators audio_files bad_input_audio_files "
    "digits_regex var_name= digit_timeout= transfer_on_failure=",
    "preAnswer": "",
    "read": "min_digits max_digits prompt_audio_file timeout valid_terminators digit_timeout=",
    "ready": "",
    "recordFile": "file_name time_limit= silence_threshold= silence_hits=",
    "say": "tosay module_name say_type say_method say_gender=",
    "sayPhrase": "phrase_name phrase_data= phrase_lang=",
    "setAutoHangup": "val",
    "setHangupHook": "hangup_func arg=",
    "setInputCallback": "cbfunc funcargs=",
    "setVariable": "var val",
    "set_tts_params": "tts_name voice_name",
    "set_tts_parms": "tts_name voice_name",
    "sleep": "ms sync=",
    "speak": "text",
    "streamFile": "file starting_sample_count=",
    "transfer": "extension dialplan= context=",
    "unsetInputCallback": "",
}
"""Methods of ``CoreSession`` and mod_python's ``Session``, and their arguments in order."""

LEFT_OUT = {
    "destroy": "a handler that returns gives the call back",
    "detectSpeech": "execute runs the application detect_speech",
    "get_cb_args": "of the C++ side",
    "getPrivate": "pointers of the C++ side; a Python variable does",
    "setPrivate": "pointers of the C++ side; a Python variable does",
    "getXMLCDR": "not on the event socket",
    "hangupState": "the switch runs the channel's states itself",
    "insertFile": "the switch has no command for it",
    "originate": "a handler has the call it was given",
    "playAndDetectSpeech": "execute runs the application play_and_detect_speech",
    "print": "text channels have no sound to record",
    "process_callback_result": "of the C++ side",
    "run_dtmf_callback": "of the C++ side",
    "check_hangup_hook": "of the C++ side",
    "begin_allow_threads": "of the C++ side",
    "end_allow_threads": "of the C++ side",
    "sendEvent": "handlers get no events, and send none",
    "setDTMFCallback": "setInputCallback is its Python form",
    "setEventData": "handlers get no events, and send none",
    "waitForAnswer": "of calls the script has made itself",
}

OURS = {"record", "record_call", "stop_record_call", "recordings", "setAutoAnswer"}
OURS |= {"begin", "end", "fail", "tell_hangup"}


def shape(function: Callable[..., object]) -> str:
    words = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        words.append(f"{star}{parameter.name}{'' if parameter.default is parameter.empty else '='}")
    return " ".join(words)


def test_the_session_has_freeswitchs_methods_with_their_arguments() -> None:
    methods = {
        name: shape(method)
        for name, method in inspect.getmembers(CallSession, inspect.isfunction)
        if not name.startswith("_") and name not in OURS
    }
    assert methods == CORE_SESSION
    assert not set(methods) & set(LEFT_OUT)
    assert handlers.Session is CallSession


# ---- running


def test_a_handler_has_its_arguments_and_the_dialplan_gets_back_its_variables() -> None:
    def handler(session: CallSession, args: str) -> None:
        given.append((type(session), args))
        during.append(dict(fake.variables))

    given: list[object] = []
    during: list[dict[str, str]] = []
    fake = FakeSession(playback_terminators="#")
    assert ran(handler, fake, args="some args") == []
    assert given == [(CallSession, "some args")]
    assert during == [{"playback_terminators": "none", "sleep_eat_digits": "true"}]
    assert (fake.variables, fake.live) == ({"playback_terminators": "#"}, True)


def test_a_variable_the_handler_has_set_stays() -> None:
    fake = FakeSession(playback_terminators="#")
    ran(lambda session, args: session.setVariable("playback_terminators", "9"), fake)
    assert fake.variables == {"playback_terminators": "9"}


@pytest.mark.parametrize("hang_up", [True, False])
def test_a_call_goes_on_in_the_dialplan_unless_it_is_to_be_hung_up(hang_up: bool) -> None:
    fake = FakeSession()
    ran(lambda session, args: session.setAutoHangup(hang_up), fake)
    assert fake.live is not hang_up


FAILURES = [
    RuntimeError("broken"),
    KeyboardInterrupt(),
    gevent.Timeout(3),
    BaseException("base"),
    CommandRefused("-ERR"),
    RecursionError("deep"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_a_handler_that_fails_is_logged_and_its_call_hung_up(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(session: CallSession, args: str) -> None:
        raise error

    fake = FakeSession()
    assert ran(handler, fake) == [("hangup", "NORMAL_TEMPORARY_FAILURE")]
    assert fake.variables["script_error"] == "relay_script_method_execute_failed"
    lines = [record.getMessage() for record in caplog.records]
    assert all(line.startswith("call 3f5b: handler greeter: ") for line in lines)
    assert type(error).__name__ in lines[-1]
    assert any(__file__ in line for line in lines)


@pytest.mark.parametrize("error", [SystemExit("done"), gevent.GreenletExit(), CallGone("call 3f5b: gone")])
def test_a_handler_may_end_itself(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def handler(session: CallSession, args: str) -> None:
        raise error

    fake = FakeSession()
    assert (ran(handler, fake), fake.live, caplog.records) == ([], True, [])


def test_the_text_of_an_error_forges_no_line(caplog: pytest.LogCaptureFixture) -> None:
    def handler(session: CallSession, args: str) -> None:
        raise ValueError(f"bad name {args}")

    ran(handler, FakeSession(), args="Ann\n2026-01-01 ERROR forged")
    assert [record.getMessage() for record in caplog.records][-2:] == [
        "call 3f5b: handler greeter: ValueError: bad name Ann",
        "call 3f5b: handler greeter: 2026-01-01 ERROR forged",
    ]


def test_a_timeout_left_behind_strikes_nobody() -> None:
    ran(lambda session, args: gevent.Timeout.start_new(0.02), FakeSession())
    gevent.sleep(0.05)


def test_one_handler_that_fails_leaves_another_alone() -> None:
    fake = FakeSession(slow=["playback"])
    played: list[int] = []
    other = gevent.spawn(ran, lambda session, args: played.append(session.streamFile("/a.wav")), fake)
    assert fake.busy.wait(PATIENCE)

    def handler(session: CallSession, args: str) -> None:
        raise SystemError("broken")

    ran(handler, FakeSession())
    fake.complete()
    other.get(timeout=PATIENCE)
    assert (played, fake.live) == ([1], True)


def test_a_loop_that_never_asks_ends_soon_after_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handled, "_AFTERLIFE_PAUSE", 0.0)
    turns: list[int] = []

    def handler(session: CallSession, args: str) -> None:
        while True:
            turns.append(session.streamFile("/a.wav"))
            if len(turns) == 3:
                fake.caller_hangs_up()

    fake = FakeSession()
    ran(handler, fake)
    assert len(turns) == 3 + handled.AFTERLIFE


def test_a_handler_that_fails_long_after_its_call_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handled, "_AFTERLIFE_PAUSE", 0.0)

    def handler(session: CallSession, args: str) -> None:
        fake.caller_hangs_up()
        try:
            while True:
                session.speak("hello")
        except Exception:
            raise ValueError("broken") from None

    fake = FakeSession()
    assert ran(handler, fake) == []
    assert caplog.records[-1].getMessage() == "call 3f5b: handler greeter: ValueError: broken"


def test_a_loop_does_not_hold_up_others() -> None:
    def handler(session: CallSession, args: str) -> None:
        while session.ready():
            pass

    fake = FakeSession()
    gevent.spawn_later(0.02, fake.caller_hangs_up)
    ran(handler, fake)


def test_a_handler_that_goes_on_without_its_call_is_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(running, "WIND_UP", 0.05)

    def handler(session: CallSession, args: str) -> None:
        fake.caller_hangs_up()
        gevent.sleep(PATIENCE * 2)

    fake = FakeSession()
    ran(handler, fake)
    assert "handler greeter goes on 0.05 s after the call: ended" in caplog.text


def test_a_handler_has_time_to_wind_up() -> None:
    done: list[bool] = []

    def handler(session: CallSession, args: str) -> None:
        fake.caller_hangs_up()
        gevent.sleep(0.05)
        done.append(True)

    fake = FakeSession()
    ran(handler, fake)
    assert done == [True]


def test_a_handler_is_ended_with_the_service() -> None:
    ends: list[object] = []

    def handler(session: CallSession, args: str) -> None:
        try:
            session.sleep(10_000)
        except BaseException as error:
            ends.append(type(error))
            raise

    fake = FakeSession(slow=["sleep"], playback_terminators="#")
    call = gevent.spawn(ran, handler, fake)
    assert fake.busy.wait(PATIENCE)
    call.kill(timeout=PATIENCE)
    assert ends == [gevent.GreenletExit]
    assert fake.variables == {"playback_terminators": "#"}


def test_a_call_that_has_gone_before_it_begins_runs_no_handler() -> None:
    fake = FakeSession()
    fake.caller_hangs_up()
    with pytest.raises(CallGone):
        ran(lambda *_: pytest.fail("no call"), fake)

"""Which files documents may play: by where the document came from, the folders of the setting, and links followed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_calls import FakeSession, call_on
from test_fetching import FakeWeb, text

from esl_record.egress import AddressPolicy
from esl_record.errors import DocumentError
from esl_record.esl.digits import Collected
from esl_record.recording.params import ParameterError
from esl_record.swml.call import Call
from esl_record.swml.document import parse
from esl_record.swml.folders import PlayFolders
from esl_record.swml.methods import METHODS, prompt
from esl_record.swml.methods.play import check_playable
from esl_record.swml.runner import run
from esl_record.swml.site import Site

URL = "https://example.com/next"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sounds, beside a secret and with links to it."""
    sounds = tmp_path / "sounds"
    (sounds / "inner").mkdir(parents=True)
    (tmp_path / "sounds-of-others").mkdir()
    for path in ("secret.wav", "sounds/hello.wav", "sounds/inner/hello there.wav", "sounds-of-others/a.wav"):
        (tmp_path / path).touch()
    (sounds / "link.wav").symlink_to(tmp_path / "secret.wav")
    (sounds / "out").symlink_to(tmp_path)
    (sounds / "fine.wav").symlink_to(sounds / "hello.wav")
    (tmp_path / "into.wav").symlink_to(sounds / "hello.wav")
    return sounds


PLAYED = ["hello.wav", "hello.wav@@800", "inner/hello there.wav", "fine.wav", "not-on-this-machine.wav", "../into.wav"]
REFUSED = [
    "../secret.wav",
    "link.wav",
    "link.wav@@1",
    "out/secret.wav",
    "inner/../hello.wav",
    "../sounds-of-others/a.wav",
    "..wav/../../secret.wav",
    "link",
    "hello",
]


@pytest.mark.parametrize("fetched", [False, True])
def test_files_in_the_folders_are_played(folder: Path, fetched: bool) -> None:
    permitted = PlayFolders([folder])
    for name in PLAYED:
        permitted.check(str(folder / name) if "../" not in name else str(folder.parent / name[3:]), fetched=fetched)


@pytest.mark.parametrize("fetched", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_not_played(folder: Path, name: str, fetched: bool) -> None:
    with pytest.raises(ParameterError, match="not in a folder of the setting play_folders"):
        PlayFolders([folder]).check(f"{folder}/{name}", fetched=fetched)


PRIVATE = [
    "http://169.254.169.254/x.wav",
    "http://127.0.0.1:8088/a.wav",
    "https://[::1]/a.wav",
    "http://10.1.2.3/a.wav",
]


def fetched_call(*networks: str) -> Call:
    call = call_on(FakeSession())
    call.site = Site(addresses=AddressPolicy(networks))
    call.origin = ("https", "example.com", 443)
    return call


@pytest.mark.parametrize("url", [*PRIVATE, "http://localhost/a.wav", "http://no-such-name.invalid/a.wav"])
def test_a_fetched_document_has_the_switch_fetch_nothing_from_a_private_address(url: str) -> None:
    with pytest.raises(ParameterError, match="sounds of servers with public addresses"):
        check_playable(fetched_call(), url)


def test_sounds_of_permitted_addresses_are_fetched() -> None:
    check_playable(fetched_call(), "https://93.184.216.34/a.wav")
    check_playable(fetched_call("127.0.0.0/8"), "http://127.0.0.1:8088/a.wav")
    for url in PRIVATE:
        check_playable(call_on(FakeSession()), url)


def test_a_folder_that_is_a_link_is_followed(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    PlayFolders([link]).check(f"{folder}/hello.wav", fetched=True)
    PlayFolders([link]).check(f"{link}/hello.wav", fetched=True)


def test_without_folders_documents_of_this_machine_play_any_file_and_others_none() -> None:
    PlayFolders().check("/etc/secret.wav", fetched=False)
    with pytest.raises(ParameterError, match=r"came from a web server .* play_folders, which is empty"):
        PlayFolders().check("/etc/secret.wav", fetched=True)


@pytest.mark.parametrize("sound", ["tone_stream://%(1,1,440)", "silence_stream://1", "https://example.com/a.wav"])
def test_what_is_no_file_is_played_anyway(sound: str) -> None:
    PlayFolders().check(sound, fetched=True)


# ---- in a document

STEPS: list[dict[str, Any]] = [
    {"play": "/secret.wav"},
    {"play": "file:///secret.wav"},
    {"play": {"urls": ["silence:1", "/secret.wav"]}},
    {"prompt": {"play": ["silence:1", "/secret.wav"], "max_digits": 1}},
    {"connect": {"to": "1001", "ringback": {"url": "/secret.wav"}}},
    {"connect": {"to": "1001", "ringback": ["tone_stream://%(1,1,440)", "/secret.wav"]}},
    {"execute": {"dest": json.dumps({"sections": {"main": [{"play": "/secret.wav"}]}})}},
    {"switch": {"variable": "a", "case": {}, "default": [{"play": "/secret.wav"}]}},
    {"set": {"a": "/secret.wav"}, "play": "${a}"},
]


@pytest.fixture(autouse=True)
def _no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody presses a digit while the sounds of a prompt are played."""

    def collect(_: object, play: Callable[[], object], **__: object) -> Collected:
        play()
        return Collected("", "")

    monkeypatch.setattr(prompt, "collect", collect)


def calling(**given: str | Exception) -> Call:
    call = call_on(FakeSession(answered=True))
    call.site = Site(web=FakeWeb(**given), dial_number="user/{number}")
    return call


def steps_of(step: dict[str, Any]) -> list[object]:
    return [{name: params} for name, params in step.items()]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: json.dumps(step)[:60])
@pytest.mark.parametrize("way", ["execute", "transfer"])
def test_a_document_of_a_server_plays_no_file(step: dict[str, Any], way: str) -> None:
    call = calling(next=text(*steps_of(step)))
    with pytest.raises(DocumentError, match=r"section main, step .*play_folders") as caught:
        run(parse(text({way: URL}), "first"), call)
    assert caught.value.code == "relay_script_method_parameter_invalid_value"
    assert not any("secret" in str(verb) for verb in call.session.verbs)  # type: ignore[attr-defined]


def test_a_document_of_this_machine_plays_its_own_before_and_after() -> None:
    call = calling(next=text({"return": 1}))
    sound = {"play": "/greeting.wav"}
    run(parse(text(sound, {"execute": {"dest": URL, "on_return": [sound]}}, sound), "first"), call)
    played = [verb for verb in call.session.verbs if verb[0] == "playback"]  # type: ignore[attr-defined]
    assert played == [("playback", "/greeting.wav")] * 3


def test_a_delimiter_of_the_dialplan_parts_no_sound() -> None:
    session = FakeSession(answered=True, data={"variable_playback_delimiter": "!"})
    with pytest.raises(ParameterError, match="playback_delimiter"):
        METHODS["play"](call_on(session), "https://example.com/a!/etc/secret.wav")
    METHODS["play"](call_on(session), "https://example.com/a.wav")
    assert session.verbs == [("playback", "https://example.com/a.wav")]

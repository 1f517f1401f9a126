"""Settings: where each comes from, in which order, and what a wrong one says."""

import base64
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from esl_record.config import Settings, check_spool, load
from esl_record.errors import ConfigError

DEFAULTS: Mapping[str, object] = {
    "data_dir": Path("data"),
    "spool_dir": None,
    "listen": ("127.0.0.1", 8084),
    "documents": None,
    "document_timeout": 5.0,
    "document_fallback": False,
    "envs": {},
    "envs_origins": [],
    "play_folders": [],
    "dial_number": "",
    "dial_sip": "sofia/internal/{address}",
    "voices": {},
    "handlers": None,
    "peers": ["127.0.0.0/8", "::1/128"],
    "capacity": 2000,
    "peer_capacity": 0,
    "socket_secrets": [],
    "command_timeout": 5.0,
    "inband_dtmf": "off",
    "stall_timeout": 10.0,
    "drain_timeout": 30.0,
    "tick": 0.1,
    "pause_digits": "",
    "resume_digits": "",
    "pause_behavior": "silence",
    "pause_limit": 0.0,
    "wav_samples": "pcm_16",
    "mp3_bit_rate": 0.0,
    "mp4_bit_rate": 0.0,
    "encryption_key": [],
    "encryption_key_command": "",
    "http": ("127.0.0.1", 8088),
    "public_url": "",
    "link_lifetime": 7 * 86400.0,
    "project_id": "",
    "api_token": "",
    "space_id": "",
    "node_id": socket.gethostname(),
    "database": "",
    "webhook_secrets": [],
    "signing_key": "",
    "callback_networks": [],
    "callback_retry": 5.0,
    "callbacks_kept": 30 * 86400.0,
    "disk_floor": 500_000_000,
    "keep_age": 0.0,
    "keep_size": 0,
    "keep_untold": True,
    "event_socket": ("127.0.0.1", 8021),
    "event_socket_password": "ClueCon",
}


@dataclass(frozen=True)
class Good:
    """A setting's text as file, environment and flag give it, and what each means."""

    file: tuple[str, object]
    environment: tuple[str, object]
    flag: tuple[str, object]


SECRET = f"whsec_{base64.b64encode(bytes(range(24))).decode()}"
OTHER = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
KEYS = [f"AGE-SECRET-KEY-1{digit * 58}" for digit in "QP"]

GOOD = {
    "data_dir": Good(("/f", Path("/f")), ("/e", Path("/e")), ("rel/ative", Path("rel/ative"))),
    "spool_dir": Good(("/f", Path("/f")), ("/e", Path("/e")), ("/g", Path("/g"))),
    "listen": Good(
        ("0.0.0.0:1", ("0.0.0.0", 1)), ("host.example:65535", ("host.example", 65535)), ("[::1]:0", ("::1", 0))
    ),
    "documents": Good(("/f", Path("/f")), ("/e e", Path("/e e")), ("/g", Path("/g"))),
    "document_timeout": Good(("1", 1.0), ("0.5", 0.5), ("1e1", 10.0)),
    "document_fallback": Good(("true", True), ("True", True), ("yes", True)),
    "envs": Good(
        ("{a: 1, b: {c: [x]}}", {"a": 1, "b": {"c": ["x"]}}),
        ("a=1", {"a": "1"}),
        (" a = b=c , d=,", {"a": "b=c", "d": ""}),
    ),
    "envs_origins": Good(
        ("['https://c', 'http://d']", ["https://c", "http://d"]),
        ("https://a.example.com", ["https://a.example.com"]),
        ("http://b:8080/, https://[::1]", ["http://b:8080", "https://[::1]"]),
    ),
    "play_folders": Good(
        ("[/d, /e]", [Path("/d"), Path("/e")]), ("/a", [Path("/a")]), ("/a b, /c", [Path("/a b"), Path("/c")])
    ),
    "dial_number": Good(*[(f"sofia/{one}/{{number}}", f"sofia/{one}/{{number}}") for one in "feg"]),
    "dial_sip": Good(*[(f"sofia/{one}/{{address}}", f"sofia/{one}/{{address}}") for one in "feg"]),
    "voices": Good(
        ("{a: flite|slt}", {"a": "flite|slt"}), ("en-US=flite|kal", {"en-US": "flite|kal"}), ("a=b|c", {"a": "b|c"})
    ),
    "handlers": Good(("/f", Path("/f")), ("/e", Path("/e")), ("/g", Path("/g"))),
    "peers": Good(
        ("[10.0.0.0/8, '::1']", ["10.0.0.0/8", "::1/128"]),
        ("10.1.2.3", ["10.1.2.3/32"]),
        (" 10.1.2.3/8 , fe80::/10, ", ["10.0.0.0/8", "fe80::/10"]),
    ),
    "capacity": Good(("1", 1), ("20", 20), ("300", 300)),
    "peer_capacity": Good(("0", 0), ("20", 20), ("300", 300)),
    "socket_secrets": Good(
        (f"[{'f' * 16}, {'F' * 128}]", ["f" * 16, "F" * 128]),
        ("e" * 32, ["e" * 32]),
        ("g-_+/=.~" * 2, ["g-_+/=.~" * 2]),
    ),
    "command_timeout": Good(("1", 1.0), ("0.5", 0.5), ("1e1", 10.0)),
    "stall_timeout": Good(("1", 1.0), ("0.5", 0.5), ("1e1", 10.0)),
    "drain_timeout": Good(("0", 0.0), ("0.5", 0.5), ("60", 60.0)),
    "tick": Good(("0.001", 0.001), ("0.02", 0.02), ("1", 1.0)),
    "inband_dtmf": Good(("start_dtmf", "start_dtmf"), ("spandsp", "spandsp"), ("off", "off")),
    "pause_digits": Good(("'*5'", "*5"), ("a#1", "A#1"), ("0" * 16, "0" * 16)),
    "resume_digits": Good(("'6'", "6"), ("*6", "*6"), ("1234567890ABCD*#", "1234567890ABCD*#")),
    "pause_behavior": Good(("skip", "skip"), ("silence", "silence"), ("skip", "skip")),
    "pause_limit": Good(("0", 0.0), ("0.5", 0.5), ("300", 300.0)),
    "wav_samples": Good(("ulaw", "ulaw"), ("alaw", "alaw"), ("ulaw", "ulaw")),
    "mp3_bit_rate": Good(("24", 24.0), ("0", 0.0), ("320", 320.0)),
    "mp4_bit_rate": Good(("24", 24.0), ("0", 0.0), ("320", 320.0)),
    "encryption_key": Good((f"[{KEYS[0]}, {KEYS[1]}]", KEYS), (f" {', '.join(KEYS)},", KEYS), (KEYS[1], KEYS[1:])),
    "encryption_key_command": Good(("f f", "f f"), ("e e", "e e"), ("g g", "g g")),
    "http": Good(("0.0.0.0:80", ("0.0.0.0", 80)), ("[::]:8088", ("::", 8088)), ("h:0", ("h", 0))),
    "public_url": Good(
        ("http://f", "http://f"),
        ("https://e.example:8443/pbx/", "https://e.example:8443/pbx"),
        ("http://g", "http://g"),
    ),
    "link_lifetime": Good(("1", 1.0), ("0.5", 0.5), ("1e9", 1e9)),
    "project_id": Good(("f", "f"), ("e", "e"), ("g", "g")),
    "api_token": Good(("f", "f"), ("e", "e"), ("g", "g")),
    "space_id": Good(("f", "f"), ("e", "e"), ("g", "g")),
    "node_id": Good(("f", "f"), ("e", "e"), ("g", "g")),
    "database": Good(("sqlite:///f", "sqlite:///f"), ("e", "e"), ("g", "g")),
    "webhook_secrets": Good((f"['{SECRET}', '{OTHER}']", [SECRET, OTHER]), (SECRET, [SECRET]), (OTHER, [OTHER])),
    "signing_key": Good(("f", "f"), ("e", "e"), ("g", "g")),
    "callback_networks": Good(("[10.0.0.0/8]", ["10.0.0.0/8"]), ("10.1.2.3", ["10.1.2.3/32"]), ("::1", ["::1/128"])),
    "callback_retry": Good(("1", 1.0), ("0.5", 0.5), ("1e1", 10.0)),
    "callbacks_kept": Good(("1", 1.0), ("0.5", 0.5), ("1e1", 10.0)),
    "disk_floor": Good(("0", 0), ("20", 20), ("1000000000000", 10**12)),
    "keep_age": Good(("0", 0.0), ("0.5", 0.5), ("1e9", 1e9)),
    "keep_size": Good(("0", 0), ("20", 20), ("1000000000000", 10**12)),
    "keep_untold": Good(("false", False), ("False", False), ("no", False)),
    "event_socket": Good(("f:1", ("f", 1)), ("[fe80::1]:2", ("fe80::1", 2)), ("g:3", ("g", 3))),
    "event_socket_password": Good(("from file", "from file"), ("from env", "from env"), ("from flag", "from flag")),
}

PARTNERS: Mapping[str, Mapping[str, object]] = {
    "project_id": {"api_token": "partner"},
    "api_token": {"project_id": "partner"},
}
"""Settings that are wanted with another."""

BAD = {
    "listen": ["8084", "127.0.0.1", ":8084", "127.0.0.1:", "h:65536", "h:-1", "h:http", "h:8084 ", "h:\u0663", ""],
    "peers": ["everyone", "10.0.0.0/33", "127.0.0.1;10.0.0.1", "1.2.3"],
    "capacity": ["0", "-5", "many", "1.5", "", "1e3", "inf"],
    "peer_capacity": ["-1", "many", "1.5", ""],
    "socket_secrets": ["short", "x" * 15, "x" * 129, "with a blank in it", "${uuid}${uuid}${uuid}", "'quoted quoted'"],
    "document_timeout": ["0", "-1", "nan", "inf", "soon"],
    "document_fallback": ["perhaps", "2", ""],
    "envs": ["a", "=1", "a=1,b"],
    "envs_origins": ["example.com", "ftp://a", "https://", "https://a/b", "https://u:p@a", "https://a:99999", "*"],
    "play_folders": ["sounds", "../a", "file:///a"],
    "dial_number": ["{number}", "sofia/{address}", "a/{number}|b/{number}", "{a=b}x/{number}"],
    "dial_sip": ["{address}", "sofia/{number}", "a/{address},b/{address}", "<a=b>x/{address}"],
    "voices": ["flite", "=flite|kal", "en-US=slt", "en-US=flite|", "en-US=flite|a b"],
    "disk_floor": ["-1", "1.5", "much"],
    "keep_age": ["-0.1", "nan", "inf", "soon"],
    "keep_size": ["-1", "1.5", "much"],
    "keep_untold": ["perhaps", "2", ""],
    "command_timeout": ["0", "-1", "nan", "inf", "soon", "", "5s"],
    "stall_timeout": ["0", "-1", "nan", "inf", "soon"],
    "drain_timeout": ["-0.1", "nan", "inf", "soon"],
    "tick": ["0", "0.0009", "1.1", "nan", "inf", "soon"],
    "inband_dtmf": ["on", "true", "", "rfc2833"],
    "pause_digits": ["*5w", "star", "* 5", "0" * 17, "\u0665"],
    "resume_digits": ["*6w", "E", "* 6", "*" * 17, "\u0666"],
    "pause_behavior": ["mute", "Silence", ""],
    "pause_limit": ["-0.1", "nan", "inf", "soon"],
    "wav_samples": ["pcm_24", "PCM_16", "", "mp3"],
    "mp3_bit_rate": ["-1", "321", "nan", "inf", "best"],
    "mp4_bit_rate": ["-1", "321", "nan", "inf", "best"],
    "encryption_key": [
        "secret",
        KEYS[0][:-1],
        KEYS[0] + "Q",
        KEYS[0].lower(),
        KEYS[0][:-1] + "B",
        "age1" + "q" * 58,
        "",
        " , ",
    ],
    "encryption_key_command": ["", "  "],
    "http": ["8088", "h:65536", "http://h:80"],
    "public_url": ["pbx.example.com", "ftp://h", "http://", "http://h/?a=b", "http://h/#a", "//h"],
    "link_lifetime": ["0", "-1", "nan", "inf", "week"],
    "webhook_secrets": ["secret", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64 at all, is it", SECRET[6:]],
    "callback_networks": ["everywhere", "10.0.0.0/33"],
    "callback_retry": ["0", "-1", "nan", "inf", "soon"],
    "callbacks_kept": ["0", "-1", "nan", "inf", "month"],
    "event_socket": ["8021", "h:65536", "h"],
}

ANY = {
    "handlers",
    "dial_number",
    "dial_sip",
    "data_dir",
    "spool_dir",
    "documents",
    "event_socket_password",
    "database",
} | {
    "project_id",
    "api_token",
    "space_id",
    "node_id",
    "signing_key",
}
"""Those that any text is good for."""


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("ESL_RECORD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def variable(name: str) -> str:
    return f"ESL_RECORD_{name.upper()}"


def settings_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def refusal(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags or {}, file)
    return str(caught.value)


def names_value(message: str, name: str, value: str) -> bool:
    """Whether ``message`` shows the value, or of a secret not even that."""
    secret = name in ("webhook_secrets", "socket_secrets", "encryption_key", "encryption_key_command")
    return f"{name} = *** (" in message if secret else value in message


def test_every_setting_is_tested_here() -> None:
    names = set(Settings.model_fields)
    assert set(GOOD) == set(DEFAULTS) == names
    assert set(BAD) | ANY == names


def test_without_anything_given_the_defaults_hold() -> None:
    assert load({}).model_dump() == DEFAULTS


@pytest.mark.parametrize("name", GOOD)
def test_the_file_comes_before_the_default(name: str, tmp_path: Path) -> None:
    text, expected = GOOD[name].file
    settings = load(PARTNERS.get(name, {}), settings_file(tmp_path, f"{name}: {text}"))
    assert settings.model_dump() == {**DEFAULTS, **PARTNERS.get(name, {}), name: expected}


@pytest.mark.parametrize("name", GOOD)
def test_the_environment_comes_before_the_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = GOOD[name].environment
    monkeypatch.setenv(variable(name), text)
    settings = load(PARTNERS.get(name, {}), settings_file(tmp_path, f"{name}: {GOOD[name].file[0]}"))
    assert settings.model_dump() == {**DEFAULTS, **PARTNERS.get(name, {}), name: expected}


@pytest.mark.parametrize("name", GOOD)
def test_a_flag_comes_before_all(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = GOOD[name].flag
    monkeypatch.setenv(variable(name), GOOD[name].environment[0])
    settings = load({**PARTNERS.get(name, {}), name: text}, settings_file(tmp_path, f"{name}: {GOOD[name].file[0]}"))
    assert settings.model_dump() == {**DEFAULTS, **PARTNERS.get(name, {}), name: expected}


@pytest.mark.parametrize("name", GOOD)
def test_a_flag_that_was_not_given_leaves_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = GOOD[name].environment
    monkeypatch.setenv(variable(name), text)
    assert getattr(load({**dict.fromkeys(Settings.model_fields), **PARTNERS.get(name, {})}), name) == expected


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_value_behind_a_right_one_does_no_harm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settings_file(tmp_path, yaml.safe_dump({name: BAD[name][0]}))
    text, expected = GOOD[name].environment
    monkeypatch.setenv(variable(name), text)
    assert getattr(load({}, file), name) == expected


@pytest.mark.parametrize(
    "text",
    [
        f"{KEYS[0]}: 1",
        f"event_socket: {KEYS[0]}",
        f"encryption_key: *{KEYS[0]}",
        f"encryption_key: {KEYS[0].lower()} {KEYS[0]}",
        f"encryption_key: [[{KEYS[0]}]]",
        f'listen: "\\e[2J{KEYS[0]}\\e]0;"',
        '"\\e[2J": 1',
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(tmp_path: Path, text: str) -> None:
    message = refusal(file=settings_file(tmp_path, text))
    assert KEYS[0][20:].lower() not in message.lower()
    assert message.isprintable()


def test_who_prints_the_settings_prints_no_key() -> None:
    assert KEYS[0] not in repr(load({"encryption_key": KEYS[0]}))
    assert "pass show" not in repr(load({"encryption_key_command": "pass show key"}))


def test_sources_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESL_RECORD_TICK", "0.2")
    file = settings_file(tmp_path, "capacity: 5\ntick: 0.3\ndrain_timeout: 1\n")
    settings = load({"drain_timeout": "2"}, file)
    assert (settings.capacity, settings.tick, settings.drain_timeout, settings.stall_timeout) == (5, 0.2, 2.0, 10.0)


# ---- the file


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESL_RECORD_CONFIG", str(settings_file(tmp_path, "capacity: 7")))
    assert load({}).capacity == 7


def test_a_file_named_by_flag_comes_before_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("capacity: 8\ntick: 0.5")
    monkeypatch.setenv("ESL_RECORD_CONFIG", str(other))
    settings = load({}, settings_file(tmp_path, "capacity: 7"))
    assert (settings.capacity, settings.tick) == (7, 0.1)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load({}, settings_file(tmp_path, text)).model_dump() == DEFAULTS


@pytest.mark.parametrize(
    "content",
    [
        b"capacity",
        b"[capacity, 5]",
        b"5",
        b"capacity: [5",
        b"capacity: 5: 6",
        b"\tcapacity: 5",
        b"\xff\xfe\xfa",
        b"capacity: \xff",
        b"capacity: 5\x00",
        b"capacity: 2001-99-99",
        b'capacity: !!int ""',
        b"capacity: !!bool perhaps",
        b"capacity: !!python/object/apply:os.getcwd []",
        b"{[a]: b}",
        b"[" * 50_000,
    ],
    ids=lambda content: repr(content)[:40],
)
def test_a_file_that_is_no_settings_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    message = refusal(file=file)
    assert str(file) in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["missing", "directory"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / kind
    if kind == "directory":
        path.mkdir()
    assert str(path) in refusal(file=path)
    monkeypatch.setenv("ESL_RECORD_CONFIG", str(path))
    assert str(path) in refusal()


@pytest.mark.parametrize("name", ["capcity", "Capacity", "config", "data-dir", "5"])
def test_an_unknown_setting_in_the_file_is_refused_and_the_known_ones_listed(tmp_path: Path, name: str) -> None:
    file = settings_file(tmp_path, f"{name}: 5")
    message = refusal(file=file)
    assert message.startswith(f"setting {name} (settings file {file}): unknown; known are ")
    assert all(known in message for known in Settings.model_fields)


WRONG_TYPES = [
    ("capacity", "[5]"),
    ("capacity", "{a: 5}"),
    ("capacity", "~"),
    ("tick", "[0.1]"),
    ("data_dir", "5"),
    ("data_dir", "~"),
    ("documents", "[a]"),
    ("peers", "5"),
    ("peers", "[5]"),
    ("peers", "[[10.0.0.0/8]]"),
    ("peers", "{a: b}"),
    ("listen", "8084"),
    ("listen", "[127.0.0.1]"),
    ("listen", "[127.0.0.1, http]"),
    ("listen", "[127.0.0.1, 70000]"),
    ("listen", "[127.0.0.1, -1]"),
    ("listen", "~"),
]


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_in_the_file_is_refused(tmp_path: Path, name: str, value: str) -> None:
    file = settings_file(tmp_path, f"{name}: {value}")
    message = refusal(file=file)
    assert f"setting {name} = " in message
    assert f"(settings file {file})" in message


# ---- what is wrong


@pytest.mark.parametrize("pair", [("*5", "*5"), ("*5", "*"), ("A", "a1")])
def test_pause_and_resume_digits_that_contain_each_other_are_refused(pair: tuple[str, str]) -> None:
    pause, resume = (digits.upper() for digits in pair)
    assert refusal({"pause_digits": pair[0], "resume_digits": pair[1]}) == (
        f"settings: pause_digits = {pause!r} and resume_digits = {resume!r}: neither may contain the other, "
        "such as *5 and *6"
    )


@pytest.mark.parametrize("given", ["project_id", "api_token"])
def test_half_of_the_credentials_is_refused(given: str) -> None:
    assert refusal({given: "secret"}) == "settings: project_id and api_token are wanted both, or neither"
    whole = load({"project_id": "p", "api_token": "t"})
    assert (whole.project_id, whole.api_token) == ("p", "t")


def test_two_ways_to_a_key_are_refused() -> None:
    message = refusal({"encryption_key": KEYS[0], "encryption_key_command": "secret"})
    assert message == "settings: encryption_key or encryption_key_command is wanted, not both"


BAD_VALUES = [(name, value) for name, values in BAD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=ascii)
def test_a_bad_flag_is_named_with_its_value(name: str, value: str) -> None:
    message = refusal({name: value})
    assert f"setting {name} = " in message
    assert names_value(message, name, value)
    assert f"(flag --{name.replace('_', '-')}): " in message


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=ascii)
def test_a_bad_environment_variable_is_named_with_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable(name), value)
    message = refusal()
    assert f"setting {name} = " in message
    assert names_value(message, name, value)
    assert f"(environment variable {variable(name)}): " in message


@pytest.mark.parametrize(("name", "value"), BAD_VALUES, ids=ascii)
def test_a_bad_value_in_the_file_is_named_with_the_file(name: str, value: str, tmp_path: Path) -> None:
    file = settings_file(tmp_path, yaml.safe_dump({name: value}))
    message = refusal(file=file)
    assert f"setting {name} = " in message
    assert names_value(message, name, value)
    assert f"(settings file {file}): " in message


ALLOWED = [
    ("listen", "x", "host:port"),
    ("peers", "x", "networks are wanted"),
    ("capacity", "0", "greater than or equal to 1"),
    ("command_timeout", "0", "greater than 0"),
    ("drain_timeout", "-1", "greater than or equal to 0"),
    ("tick", "2", "less than or equal to 1"),
    ("tick", "0", "greater than or equal to 0.001"),
    ("capacity", "x", "integer"),
    ("tick", "x", "number"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), ALLOWED)
def test_a_refusal_says_what_is_allowed(name: str, value: str, allowed: str) -> None:
    assert allowed in refusal({name: value})


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESL_RECORD_TICK", "9")
    message = refusal({"capacity": "0"}, settings_file(tmp_path, "stall_timeout: 0"))
    assert message.count("setting ") == 3
    for source in ("flag --capacity", "environment variable ESL_RECORD_TICK", "settings file"):
        assert source in message


@pytest.mark.parametrize("folder", ["/with space", "/a,b", "/a{b", "/a}b", "/it's", '/a"b'])
def test_a_folder_the_switch_cannot_be_given_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match=r"setting spool_dir = .*: must hold no space, comma, quote or brace"):
        check_spool(Path(folder))
    check_spool(Path("/var/spool/esl-record_1.2"))


def test_a_relative_folder_is_judged_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with space").mkdir()
    monkeypatch.chdir(tmp_path / "with space")
    with pytest.raises(ConfigError, match="with space/data/spool"):
        check_spool(Path("data/spool"))


@pytest.mark.parametrize(
    "text",
    [
        "event_socket_password: 5309",
        "event_socket_password: [5309]",
        "event_socket_password: {a: 5309}",
        "event_socket_password: 5309: more",
        "event_socket_password: '5309",
        "event_socket_password: 5309\n  x: y",
        "event_socket_pasword: 5309",
        "event_socket_password: !secret 5309",
        "event_socket_password: 5309\x01",
    ],
)
def test_no_refusal_shows_the_password(tmp_path: Path, text: str) -> None:
    message = refusal(file=settings_file(tmp_path, text))
    assert "5309" not in message.replace(str(tmp_path), "")
    assert "settings file" in message


def test_settings_do_not_change_while_the_service_runs() -> None:
    settings = load({})
    with pytest.raises(ValidationError):
        settings.capacity = 5
    assert settings.capacity == 2000


@pytest.mark.parametrize("text", ["off", "'off'"])
def test_off_needs_no_quotes_in_a_file(tmp_path: Path, text: str) -> None:
    assert load({}, settings_file(tmp_path, f"inband_dtmf: {text}")).inband_dtmf == "off"

"""The command line: what `recordings` shows, and what a wrong question is answered with."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esl_record import __version__
from esl_record.cli import main
from esl_record.config import Settings
from esl_record.recording.machine import EndReason, State
from esl_record.recording.params import RecordParams
from esl_record.recording.recording import Party, Recording
from esl_record.recording.storage import Storage
from esl_record.service import open_ledger
from esl_record.status.ledger import Ledger

START = 1704164645.25  # 2024-01-02 03:04:05.25 UTC


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The environment, working directory and root logger of a process of its own."""
    for name in [name for name in os.environ if name.upper().startswith("ESL_RECORD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    root.handlers[:], root.level = handlers, level


def recording(number: int = 1, *, caller: str = "+15550100", **changes: Any) -> Recording:
    party = Party(call_id="3f5b", caller_number=caller, destination="7000", document="voicemail")
    begun = Recording.begun(f"{number:08d}-0000-4000-8000-000000000000", party, RecordParams(), START + number)
    return begun.model_copy(
        update={
            "sample_rate": 8000,
            "state": State.FINISHED,
            "end_reason": EndReason.TERMINATOR,
            "duration": 12.345,
            "file": f"{number}.wav",
            **changes,
        }
    )


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    storage = Storage(tmp_path / "data")
    storage.prepare()
    return storage


def exit_status(*arguments: str) -> int:
    """What the process would end with."""
    try:
        return main(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1


# ---- prune


def test_pruning_deletes_the_oldest_and_says_which(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        storage.file(recording(number, size=100))
    assert exit_status("prune", "--keep-size", "150", "--dry-run") == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert [str(storage.document_path(recording(number))) in line for number, line in zip((1, 2), lines, strict=True)]
    assert total == "2 recordings, 200 bytes would be deleted"
    assert len(list(storage.filed())) == 3
    assert exit_status("prune", "--keep-size", "150") == 0
    assert capsys.readouterr().out.splitlines() == [*lines, "2 recordings, 200 bytes deleted"]
    assert [one.recording_id[:8] for _, one in storage.filed()] == ["00000003"]


def test_pruning_without_a_limit_deletes_nothing(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    storage.file(recording(1))
    assert exit_status("prune") == 2
    assert "--keep-age, --keep-size" in capsys.readouterr().err
    assert len(list(storage.filed())) == 1


# ---- recordings


@pytest.mark.parametrize("arguments", [["recordings"], ["recordings", "list"]])
def test_the_list_has_a_line_for_every_recording_oldest_first(
    storage: Storage, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    for number in (2, 1, 3):
        storage.file(recording(number))
    assert exit_status(*arguments) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["00000001", "00000002", "00000003"]
    assert [word for word in ("id", "start (UTC)", "state", "ended by") if word not in head] == []
    for word in ("2024-01-02 03:04:06", "+15550100", "7000", "finished", "terminator", "12.3"):
        assert word in lines[0]
    assert max(len(line) for line in (head, *lines)) <= 80


def test_a_recording_without_audio_is_listed_too(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    storage.file(recording(state=State.ERROR, end_reason=None, file="", duration=0.0))
    assert exit_status("recordings") == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["00000001", "2024-01-02", "03:04:06", "+15550100", "7000", "error", "0.00"]


@pytest.mark.parametrize("made", [True, False])
def test_no_recordings_are_told_with_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str], made: bool) -> None:
    if made:
        Storage(tmp_path / "elsewhere").prepare()
    assert exit_status("recordings", "--data-dir", "elsewhere") == 0
    assert "no recordings in elsewhere/recordings" in capsys.readouterr().out


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert exit_status("recordings", "--data-dir", "elsewhere") == 0
    assert list(tmp_path.iterdir()) == []


def test_the_list_as_json_is_all_there_is_to_know(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    kept = [recording(1), recording(2, file="")]
    for one in kept:
        storage.file(one)
    assert exit_status("recordings", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    audio, none = (entry.pop("path") for entry in listed)
    assert (Path(audio).absolute(), none) == (storage.document_path(kept[0]).with_name("1.wav"), "")
    assert [Recording.model_validate(entry) for entry in listed] == kept


def test_no_recordings_as_json_are_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("recordings", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_file_that_is_no_recording_is_told_of_beside_the_list(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.file(recording())
    storage.document_path(recording()).with_name("x.json").write_text("{")
    assert exit_status("recordings", "--json") == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1
    assert "x.json" in err


@pytest.mark.parametrize("asked", ["00000002-0000-4000-8000-000000000000", "00000002", "00000002-"])
def test_one_is_shown_by_its_id_or_how_it_begins(
    storage: Storage, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    for number in (1, 2):
        storage.file(recording(number))
    assert exit_status("recordings", "show", asked) == 0
    shown = json.loads(capsys.readouterr().out)
    assert Path(shown["path"]).absolute() == storage.document_path(recording(2)).with_name("2.wav")
    assert shown["recording_id"] == recording(2).recording_id
    assert shown["end_reason"] == "terminator"


@pytest.mark.parametrize("asked", ["0", "9", "../../etc/passwd", "*"])
def test_none_or_several_are_not_shown(storage: Storage, capsys: pytest.CaptureFixture[str], asked: str) -> None:
    for number in (1, 2):
        storage.file(recording(number))
    assert exit_status("recordings", "show", asked) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert asked in err


def test_show_without_an_id_is_wrongly_asked(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    storage.file(recording())
    assert exit_status("recordings", "show") == 2
    assert "None" not in capsys.readouterr().err


HOSTILE = [
    "[bold red]x[/bold red]",
    "[/]",
    "[link=http://example.com]x[/link]",
    "x\\",
    "\\[x]",
    ":bomb:",
]


@pytest.mark.parametrize("caller", HOSTILE)
def test_a_callers_number_is_listed_as_it_is(storage: Storage, capsys: pytest.CaptureFixture[str], caller: str) -> None:
    storage.file(recording(caller=caller))
    assert exit_status("recordings") == 0
    assert f" {caller} " in capsys.readouterr().out


@pytest.mark.parametrize("caller", ["\x1b[2Jx", "a\nb", "a\rb", "\u202eb", "\x9b31m"], ids=ascii)
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["table", "json"])
def test_a_callers_number_cannot_drive_the_terminal(
    storage: Storage, capsys: pytest.CaptureFixture[str], caller: str, as_json: list[str]
) -> None:
    storage.file(recording(caller=caller))
    assert exit_status("recordings", *as_json) == 0
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert as_json or len(out.splitlines()) == 2


# ---- wrongly asked

BAD = {
    "listen": "nonsense",
    "peers": "everyone",
    "capacity": "0",
    "command_timeout": "soon",
    "stall_timeout": "-1",
    "drain_timeout": "nan",
    "tick": "5",
    "event_socket": "nowhere",
}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_a_bad_flag_of_serve_is_status_2_and_named(capsys: pytest.CaptureFixture[str], name: str, value: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert exit_status("serve", f"{flag}={value}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"esl-record: setting {name} = {value!r} (flag {flag}): ")


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_a_bad_environment_variable_is_status_2_and_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ESL_RECORD_{name.upper()}", value)
    assert exit_status("recordings") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"esl-record: setting {name} = {value!r} (environment variable ESL_RECORD_{name.upper()}): ")


@pytest.mark.parametrize("command", ["serve", "demo", "recordings", "doctor"])
def test_a_bad_setting_in_the_file_is_status_2_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "settings.yaml").write_text("capacity: none")
    assert exit_status(command, "--config", "settings.yaml") == 2
    assert capsys.readouterr().err == (
        "esl-record: setting capacity = 'none' (settings file settings.yaml): "
        "Input should be a valid integer, unable to parse string as an integer\n"
    )


def test_a_missing_settings_file_is_status_2_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("recordings", "--config", "nowhere.yaml") == 2
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["record"],
        ["recordings", "delete"],
        ["recordings", "show", "1", "2"],
        ["recordings", "--volume", "5"],
        ["recordings", "--data-dir"],
        ["serve", "now"],
        ["dial"],
        ["dial", "7000", "--wait", "long"],
        ["demo", "--fast=5"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_status_2_with_a_word_on_how_to_ask(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert exit_status(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: esl-record")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("--version") == 0
    assert capsys.readouterr().out == f"esl-record {__version__}\n"


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_help_names_every_setting(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert exit_status(command, "--help") == 0
    out = capsys.readouterr().out
    assert [name for name in Settings.model_fields if f"--{name.replace('_', '-')} VALUE" not in out] == []


# ---- callbacks

STATUS_URL = "https://ann:secret@example.com/status#ot=500"


@pytest.fixture
def told(storage: Storage, tmp_path: Path) -> Iterator[Ledger]:
    """A service's ledger with the events of one recording, none of them delivered yet."""
    ledger = open_ledger(Settings(data_dir=tmp_path / "data", node_id="n"), storage)
    begun = recording(1, state=State.RECORDING, end_reason=None)
    begun = begun.model_copy(update={"parameters": {**begun.parameters, "status_url": STATUS_URL}})
    ledger.tell(begun)
    ledger.tell(begun.model_copy(update={"state": State.FINISHED, "end_reason": EndReason.STOP}))
    yield ledger
    ledger.close()


def test_callbacks_are_listed_without_the_password(told: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = told.outbox.listed()
    told.outbox.died(first, 1704164645.0, "timed out after 15 s")
    assert exit_status("callbacks") == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [one.callback_id[4:12] for one in (first, second)]
    for word in ("00000001", "recording", "dead", "1", "https://***@example.com/status#ot=500", "timed out after 15 s"):
        assert word in lines[0]
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "states"),
    [
        ([], ["recording", "finished"]),
        (["--status", "dead"], ["recording"]),
        (["--status", "pending"], ["finished"]),
        (["--status", "delivered"], []),
        (["--recording", "00000001-0000-4000-8000-000000000000"], ["recording", "finished"]),
        (["--recording", "another"], []),
        (["--limit", "1"], ["finished"]),
    ],
)
def test_callbacks_can_be_chosen(
    told: Ledger, capsys: pytest.CaptureFixture[str], arguments: list[str], states: list[str]
) -> None:
    told.outbox.died(told.outbox.listed()[0], 1.0, "500")
    assert exit_status("callbacks", "list", "--json", *arguments) == 0
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == states


def test_one_callback_is_shown_whole(told: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    callback = told.outbox.listed()[1]
    assert exit_status("callbacks", "show", callback.callback_id[4:16]) == 0
    text = capsys.readouterr().out
    shown = json.loads(text)
    assert shown["body"]["params"]["state"] == "finished"
    assert (shown["callback_id"], shown["status"]) == (callback.callback_id, "pending")
    assert "secret" not in text


def test_dead_callbacks_are_sent_again(told: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = told.outbox.listed()
    for one in (first, second):
        told.outbox.died(one, 1.0, "500")
    assert exit_status("callbacks", "resend", first.callback_id) == 0
    assert [one.seq for one in told.outbox.pending()] == [first.seq]
    assert exit_status("callbacks", "resend") == 0
    assert "1 to be sent again" in capsys.readouterr().out.splitlines()[-1]
    assert [one.seq for one in told.outbox.pending()] == [first.seq, second.seq]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["show"], 2),
        (["show", "nothing"], 1),
        (["resend", "nothing"], 1),
        (["resend"], 1),
        (["resend", "--status", "delivered"], 1),
    ],
)
def test_a_callback_that_is_not_there_is_an_error(told: Ledger, arguments: list[str], status: int) -> None:
    assert exit_status("callbacks", *arguments) == status
    assert len(told.outbox.pending()) == 2


@pytest.mark.parametrize("arguments", [["list"], ["list", "--status", "dead"]])
def test_where_no_service_has_run_there_are_no_callbacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert exit_status("callbacks", *arguments, "--data-dir", "elsewhere") == 0
    assert "no callbacks" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


# ---- check


def test_a_documents_mistakes_are_listed_with_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "greeting.yaml"
    document.write_text(
        """version: 1.0.0
sections:
  main:
    - answer
    - recrod: {}
    - cond:
        - when: "true"
          then:
            - play: say:Hi
            - sleep: -5
    - goto: {label: nowhere}
"""
    )
    assert exit_status("check", str(document)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1] for line in lines] == ["5", "10", "11"]
    assert [line.split(": ")[1] for line in lines] == [
        "relay_script_method_undefined",
        "relay_script_method_parameter_invalid_value",
        "relay_script_method_parameter_invalid_value",
    ]
    assert "section main, step 3 cond 1 then 2: sleep: duration = '-5'" in lines[1]


def test_json_has_lines_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "greeting.json"
    tree = {"version": "1.0.0", "sections": {"main": ["answer", {"recrod": {}}]}}
    document.write_text(json.dumps(tree, indent=1))
    assert exit_status("check", str(document)) == 1
    place = document.read_text().splitlines().index("   {") + 1
    assert capsys.readouterr().out.startswith(f"{document}:{place}: ")


def test_good_documents_are_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for name in ("a", "b"):
        documents.append(tmp_path / name)
        documents[-1].write_text("version: 1.0.0\nsections: {main: [answer, record, {sleep: '${later}'}]}")
    assert exit_status("check", *map(str, documents)) == 0
    assert capsys.readouterr().out.splitlines() == [f"{one}: good" for one in documents]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("version: 2", "relay_script_version_invalid"),
        ("a: [", "relay_script_parse_error"),
        ("", "relay_script_parse_error"),
    ],
)
def test_what_is_no_document_is_told_with_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: str
) -> None:
    (tmp_path / "a").write_text(text)
    assert exit_status("check", "a") == 1
    assert capsys.readouterr().out.startswith(code)


def test_a_document_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("check", "nowhere.yaml") == 1
    assert "nowhere.yaml" in capsys.readouterr().err

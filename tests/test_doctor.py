"""The doctor finds what a recording call lacks, says how to mend it, and leaves nothing behind."""

import os
import shlex
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pyrage
import pytest
from gevent import socket
from gevent.server import StreamServer
from rich.console import Console
from test_dial import FakeSwitch, Wire

from esl_record import doctor
from esl_record.config import Settings
from esl_record.doctor import examine
from esl_record.esl.link import WITHOUT


class Patient:
    """A switch in good health, but for what a test takes from it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.missing: set[str] = set()
        self.makes: Callable[[Path], object] = Path.touch
        """What becomes of a file the switch is to make."""
        self.switch = FakeSwitch(self._answer)
        self.service = StreamServer(("127.0.0.1", 0), lambda sock, _: sock.close())
        self.service.start()

    def _answer(self, wire: Wire, command: str) -> None:
        words = shlex.split(command)
        if words[:2] == ["api", "version"]:
            wire.api("FreeSWITCH Version 1.10.12 (git 1)\nmore\n")
        elif words[:2] == ["api", "module_exists"]:
            wire.api("false" if words[2] in self.missing else "true")
        elif words[:3] == ["api", "system", "touch"]:
            self.makes(Path(words[3]))
            wire.api("-ERR no reply\n")
        else:
            wire.reply("-ERR command not found")

    def settings(self, **named: Any) -> Settings:
        listen = (self.service.server_host, self.service.server_port)
        given = {"data_dir": self.data, "listen": listen, "disk_floor": 0, **named}
        return self.switch.settings(**given)

    def examined(self, **named: Any) -> tuple[int, list[str]]:
        """The exit status and the lines printed."""
        out = StringIO()
        status = examine(self.settings(**named), Console(file=out, width=1000))
        return status, out.getvalue().splitlines()

    def files(self) -> list[Path]:
        return [path for path in self.data.parent.rglob("*") if path.is_file()]

    def close(self) -> None:
        self.service.stop()
        self.switch.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    patient = Patient(tmp_path / "data")
    yield patient
    patient.close()


def findings(lines: list[str], mark: str) -> list[str]:
    return [line.removeprefix(mark).strip() for line in lines if line.startswith(mark)]


def mend(lines: list[str], subject: str) -> str:
    """How the finding about ``subject`` is to be mended."""
    (at,) = [number for number, line in enumerate(lines) if line[4:].startswith(subject)]
    return lines[at + 1].strip() if at + 1 < len(lines) and lines[at + 1].startswith("      ") else ""


def test_where_all_is_well_the_status_is_0(patient: Patient) -> None:
    status, lines = patient.examined()
    assert status == 0
    assert lines[-1] == "nothing to mend"
    assert findings(lines, "BAD") == findings(lines, "--") == []
    good = findings(lines, "ok")
    assert "event socket: FreeSWITCH 1.10.12 (git 1)" in good
    assert "mod_sndfile: loaded: raw spool files" in good
    assert f"data directory: {patient.data / 'recordings'}: this user can write there" in good
    assert "spool folder, switch's side: FreeSWITCH can write there, and what it writes can be read here" in good
    assert f"service: listens at 127.0.0.1:{patient.service.server_port}" in good
    assert {f"Python package {name}" for name in doctor.PACKAGES} <= {line.split(":")[0] for line in good}
    assert all(not line.startswith("      ") for line in lines)


def test_nothing_is_left_behind(patient: Patient) -> None:
    patient.examined()
    assert patient.files() == []
    assert [command for command in patient.switch.commands if "touch" in command]


def test_the_spool_folder_is_left_as_the_service_makes_it(patient: Patient) -> None:
    """Asked before the first start: the switch's user must be able to write there afterwards."""
    patient.examined()
    spool = patient.data / "spool"
    assert not spool.exists() or spool.stat().st_mode & 0o7777 == 0o2770


def test_what_others_can_write_is_to_be_mended(patient: Patient, tmp_path: Path) -> None:
    handlers = tmp_path / "handlers"
    handlers.mkdir()
    handlers.chmod(0o707)
    status, lines = patient.examined(handlers=handlers)
    assert status == 1
    (told,) = (line for line in findings(lines, "BAD") if line.startswith("permissions"))
    assert told == f"permissions: handlers: {handlers} can be written by everybody (mode 0707)"
    assert mend(lines, "permissions") == f"chmod o-w {handlers}"
    handlers.chmod(0o755)
    assert patient.examined(handlers=handlers)[0] == 0


@pytest.mark.parametrize("makes", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname")], ids=["fifo", "link"])
def test_what_the_switch_puts_there_is_not_followed(patient: Patient, makes: Callable[[Path], object]) -> None:
    patient.makes = makes
    status, lines = patient.examined()
    assert status == 1
    assert "no regular file" in "".join(findings(lines, "BAD"))


def test_a_key_that_is_good_is_told_of(patient: Patient) -> None:
    status, lines = patient.examined(encryption_key=[str(pyrage.x25519.Identity.generate())])
    assert (status, "encryption: recordings can be encrypted" in findings(lines, "ok")) == (0, True)
    assert not any("encryption" in line for line in patient.examined()[1])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"encryption_key": ["AGE-SECRET-KEY-1" + "Q" * 58]}, "AGE-SECRET-KEY-1... is wanted"),
        ({"encryption_key_command": "false"}, "false ended with status 1"),
    ],
)
def test_a_key_that_is_none_is_bad(patient: Patient, given: dict[str, Any], why: str) -> None:
    status, lines = patient.examined(**given)
    (bad,) = findings(lines, "BAD")
    assert (status, why in bad) == (1, True)
    assert mend(lines, "encryption") == "settings encryption_key and encryption_key_command"


@pytest.mark.parametrize("module", sorted(doctor.NEEDED))
def test_a_missing_module_is_bad_and_has_its_remedy(patient: Patient, module: str) -> None:
    patient.missing = {module}
    status, lines = patient.examined()
    assert status == 1
    assert findings(lines, "BAD") == [f"{module}: missing: {doctor.NEEDED[module]}"]
    assert mend(lines, module) == f"fs_cli -x 'load {module}', and name it in modules.conf.xml"
    assert lines[-1] == "1 to mend"


@pytest.mark.parametrize("module", sorted(doctor.WANTED))
def test_a_module_one_can_do_without_is_only_told_of(patient: Patient, module: str) -> None:
    patient.missing = {module}
    status, lines = patient.examined()
    assert status == 0
    assert findings(lines, "--") == [f"{module}: missing: {doctor.WANTED[module]}"]
    assert f"load {module}" in mend(lines, module)


def test_a_spool_folder_that_cannot_be_made_is_bad(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, lines = patient.examined(spool_dir=tmp_path / "file" / "spool")
    assert status == 1
    told = findings(lines, "BAD")
    assert told[0] == f"spool folder: {tmp_path}/file/spool: Not a directory"
    assert "set spool_dir" in mend(lines, "spool folder:")


def test_a_data_directory_that_cannot_be_made_is_bad(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, lines = patient.examined(data_dir=tmp_path / "file", spool_dir=tmp_path / "spool")
    assert status == 1
    assert [line.split(":")[0] for line in findings(lines, "BAD")] == ["data directory"]
    assert "set data_dir" in mend(lines, "data directory")


def test_a_disk_with_less_room_than_the_floor_is_bad(patient: Patient) -> None:
    floor = 10**18
    status, lines = patient.examined(disk_floor=floor)
    assert status == 1
    for folder, told in zip(("recordings", "spool"), findings(lines, "BAD"), strict=True):
        assert told.startswith(f"room: {patient.data / folder} has ")
        assert told.endswith(f" bytes free, fewer than disk_floor = {floor}")
    assert lines.count("      make room there, or set disk_floor lower (0 = off)") == 2


def test_a_disk_with_more_than_that_is_good(patient: Patient) -> None:
    good = [told for told in findings(patient.examined(disk_floor=1)[1], "ok") if told.startswith("room: ")]
    assert [told.split(" has ")[0] for told in good] == [
        f"room: {patient.data / folder}" for folder in ("recordings", "spool")
    ]
    assert all(told.endswith(" bytes free; disk_floor = 1") for told in good)


def test_a_spool_folder_the_switch_cannot_write_is_bad(patient: Patient) -> None:
    patient.makes = lambda path: None
    status, lines = patient.examined()
    assert status == 1
    assert findings(lines, "BAD") == [
        f"spool folder, switch's side: FreeSWITCH cannot write to {patient.data / 'spool'}"
    ]
    assert "the user FreeSWITCH runs as and uid" in mend(lines, "spool folder, switch's side")


def test_what_the_switch_writes_and_nobody_can_read_is_bad(patient: Patient) -> None:
    patient.makes = Path.mkdir
    status, lines = patient.examined()
    assert status == 1
    assert findings(lines, "BAD")[0].startswith("spool folder, switch's side: what FreeSWITCH writes: ")
    assert "umask 0027" in mend(lines, "spool folder, switch's side")


def test_a_quote_in_the_path_is_no_shell_command(patient: Patient, tmp_path: Path) -> None:
    asked: list[Path] = []
    patient.makes = lambda path: (asked.append(path), path.touch())
    spool = tmp_path / "a;touch$(id)&b"
    assert patient.examined(spool_dir=spool)[0] == 0
    assert [path.parent for path in asked] == [spool]


def test_a_wrong_password_is_bad_and_names_the_setting(patient: Patient) -> None:
    status, lines = patient.examined(event_socket_password="wrong")
    assert status == 1
    (told,) = findings(lines, "BAD")
    assert "wrong password: set event_socket_password" in told
    assert mend(lines, "event socket") == "set event_socket and event_socket_password as event_socket.conf.xml has them"
    assert patient.switch.commands == []


def test_a_switch_that_is_not_there_is_bad(patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    status, lines = patient.examined(event_socket=address)
    assert status == 1
    (told,) = findings(lines, "BAD")
    assert f"no event socket at 127.0.0.1:{address[1]}" in told
    assert told.endswith(WITHOUT)


def test_a_service_that_is_not_started_is_only_told_of(patient: Patient) -> None:
    patient.service.stop()
    status, lines = patient.examined()
    assert status == 0
    assert f"nobody listens at 127.0.0.1:{patient.service.server_port}" in findings(lines, "--")[0]
    assert mend(lines, "service") == "start `esl-record serve`"


def test_a_missing_package_is_bad(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("gevent", "no-such-package-at-all"))
    status, lines = patient.examined()
    assert status == 1
    assert findings(lines, "BAD") == ["Python package no-such-package-at-all: not installed"]
    assert "pip install" in mend(lines, "Python package no-such")


def test_every_fault_is_told_and_counted(patient: Patient) -> None:
    patient.missing = {"mod_sndfile", "mod_flite", "mod_tone_stream"}
    patient.makes = lambda path: None
    status, lines = patient.examined()
    assert status == 1
    assert lines[-1] == "3 to mend"
    assert len(findings(lines, "BAD")) == 3
    assert len(findings(lines, "--")) == 1

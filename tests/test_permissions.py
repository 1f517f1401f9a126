"""What the service trusts, and others can write: it does not start, and says how to mend that."""

import grp
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esl_record import cli, permissions
from esl_record.config import Settings
from esl_record.errors import ConfigError
from esl_record.permissions import check, lax
from esl_record.recording.storage import Storage
from esl_record.service import Service

SWITCH = 4711
"""The user of the switch, who alone is in the group of the spool folder besides this one."""


class Machine:
    """An installation, with documents and handlers, and its users and groups."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(
            data_dir=folder / "data",
            documents=folder / "documents",
            handlers=folder / "handlers",
            listen=("127.0.0.1", 0),
            http=("127.0.0.1", 0),
            capacity=10,
        )
        self.storage = Storage(self.settings.data_dir)
        self.storage.prepare()
        for path in (folder / "documents" / "sub" / "a.yaml", folder / "handlers" / "a.py"):
            path.parent.mkdir(mode=0o755, parents=True)
            path.write_text("")
        self.gid = self.storage.spool_dir.stat().st_gid
        self.members = ["switch"]
        me = pwd.getpwuid(os.geteuid())
        users = [SimpleNamespace(pw_name="switch", pw_uid=SWITCH, pw_gid=SWITCH), me]
        monkeypatch.setattr(permissions.pwd, "getpwall", lambda: users)
        monkeypatch.setattr(permissions.grp, "getgrgid", self._group)

    def _group(self, gid: int) -> Any:
        if gid == self.gid:
            return SimpleNamespace(gr_name="shared", gr_mem=self.members)
        raise KeyError(gid)

    def complaints(self) -> list[str]:
        return [str(one) for one in lax(self.settings, self.storage)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    umask = os.umask(0o022)
    try:
        return Machine(tmp_path, monkeypatch)
    finally:
        os.umask(umask)


def test_an_ordinary_installation_is_good(machine: Machine) -> None:
    assert machine.complaints() == []
    check(machine.settings, machine.storage)


@pytest.mark.parametrize(
    ("place", "mode", "setting"),
    [
        ("data", 0o777, "data_dir"),
        ("data", 0o1777, "data_dir"),
        ("data/recordings", 0o757, "data_dir"),
        ("data/pending", 0o702, "data_dir"),
        ("data/recordings/2026", 0o777, "data_dir"),
        ("data/recordings/2026/11", 0o777, "data_dir"),
        ("data/recordings/2026/11/29", 0o777, "data_dir"),
        ("documents", 0o757, "documents"),
        ("documents", 0o1777, "documents"),
        ("documents/sub", 0o777, "documents"),
        ("documents/sub/a.yaml", 0o666, "documents"),
        ("handlers", 0o777, "handlers"),
        ("handlers/a.py", 0o646, "handlers"),
        (".", 0o777, ".*"),
    ],
)
def test_what_everybody_can_write_is_named_with_its_command(
    machine: Machine, tmp_path: Path, place: str, mode: int, setting: str
) -> None:
    path = tmp_path / place
    if not path.exists():
        path.mkdir(parents=True)
    path.chmod(mode)
    try:
        (found,) = lax(machine.settings, machine.storage)
        told = (
            rf"setting {setting}: {re.escape(str(path))} can be written by everybody \(mode {mode:04o}\): chmod g?o-w "
        )
        assert re.match(told, str(found))
        with pytest.raises(ConfigError, match=told):
            check(machine.settings, machine.storage)
        subprocess.run(found.mend, shell=True, check=True)
        assert machine.complaints() == []
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    "place", ["data", "data/recordings", "documents", "documents/sub", "handlers", "handlers/a.py", "."]
)
def test_what_the_switchs_group_can_write_is_named_unless_this_user_is_alone_in_it(
    machine: Machine, tmp_path: Path, place: str
) -> None:
    path = tmp_path / place
    path.chmod(path.stat().st_mode | 0o020)
    (found,) = lax(machine.settings, machine.storage)
    assert (found.path, found.mend) == (path, f"chmod g-w {path}")
    assert "can be written by group shared, in which there are others" in found.why
    machine.members.clear()
    assert machine.complaints() == []


def test_another_group_may_maintain_documents_and_handlers_but_no_data(machine: Machine, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files to any group")
    for place in ("documents", "handlers", "handlers/a.py"):
        os.chown(tmp_path / place, 1000, 2000)
        (tmp_path / place).chmod(0o775)
    assert machine.complaints() == []
    os.chown(tmp_path / "data", -1, 2000)
    (tmp_path / "data").chmod(0o770)
    (told,) = machine.complaints()
    assert "data can be written by group 2000" in told


def test_a_folder_of_the_switch_is_no_place_for_data_or_spool(machine: Machine, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, SWITCH, -1)
    for settings in (
        machine.settings.model_copy(update={"data_dir": theirs / "data"}),
        machine.settings.model_copy(update={"spool_dir": theirs / "spool"}),
    ):
        storage = Storage(settings.data_dir, settings.spool_dir)
        storage.prepare()
        (found,) = lax(settings, storage)
        assert found.path == theirs
        assert "as whom the switch may run" in found.why


def test_a_link_on_the_way_counts_as_well(machine: Machine, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    (loose / "data").symlink_to(tmp_path / "data")
    settings = machine.settings.model_copy(update={"data_dir": loose / "data"})
    (found,) = lax(settings, Storage(settings.data_dir))
    assert found.path == loose


@pytest.mark.parametrize("name", ["link.key", "webhook.secret", "calls.key"])
@pytest.mark.parametrize("mode", [0o602, 0o604, 0o640, 0o660])
def test_a_key_is_this_users_alone(machine: Machine, tmp_path: Path, name: str, mode: int) -> None:
    path = tmp_path / "data" / name
    path.write_text("")
    path.chmod(mode)
    (found,) = lax(machine.settings, machine.storage)
    assert (found.path, found.mend) == (path, f"chmod 600 {path}, or remove it for a new one")
    path.chmod(0o600)
    assert machine.complaints() == []


def test_a_spool_folder_everybody_can_write_is_named(machine: Machine) -> None:
    spool = machine.storage.spool_dir
    spool.chmod(0o2777)
    (found,) = lax(machine.settings, machine.storage)
    assert found.mend == f"chgrp GROUP {spool} && chmod 2770 {spool}, GROUP the switch's"


def test_what_nobody_can_write_is_good_whatever_its_mode(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted configuration has mode 0777 in some containers, and is read-only."""
    assert machine.settings.documents is not None
    machine.settings.documents.chmod(0o777)
    real = os.statvfs

    def statvfs(path: Path) -> Any:
        return SimpleNamespace(f_flag=real(path).f_flag | os.ST_RDONLY)

    monkeypatch.setattr(permissions.os, "statvfs", statvfs)
    assert machine.complaints() == []


def test_a_service_does_not_start_where_others_can_write(machine: Machine) -> None:
    assert machine.settings.handlers is not None
    machine.settings.handlers.chmod(0o777)
    with pytest.raises(ConfigError, match=r"setting handlers: .*chmod go-w "):
        Service(machine.settings).start()


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("umask", [0, 0o077])
def test_each_folder_has_its_mode_whatever_the_umask(tmp_path: Path, no_umask: None, umask: int) -> None:
    os.umask(umask)
    Storage(tmp_path / "data").prepare()
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "data", *(tmp_path / "data").iterdir())}
    assert modes == {"data": 0o750, "recordings": 0o750, "pending": 0o700, "spool": 0o2770}


def test_the_command_sets_the_umask_of_its_process(
    tmp_path: Path, no_umask: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["recordings", "--data-dir", str(tmp_path / "data")]) == 0
    assert os.umask(0) == 0o027


def test_an_unknown_group_is_no_reason_to_fail(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(gid: int) -> Any:
        raise KeyError(gid)

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert machine.complaints() == []

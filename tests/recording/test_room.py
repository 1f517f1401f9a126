"""When no recording is begun for want of disk, what is said about it, and that it ends by itself."""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent.monkey import get_original
from hypothesis import given
from hypothesis import strategies as st

from esl_record.audio import part
from esl_record.recording import room
from esl_record.recording.room import AGAIN, FILES, LEAST, TRIED, Room, shortage, write_probe
from esl_record.recording.storage import Storage

FLOOR = 100_000_000
BLOCK = 1000


def disk(free: int, *, files: int = 0, of: int = 5_000_000_000, reserved: int = 0) -> os.statvfs_result:
    """``files`` of 0 is a file system that does not count them; what is ``reserved`` is root's."""
    inodes = 65536 if files else 0
    blocks = (of // BLOCK, (free + reserved) // BLOCK, free // BLOCK)
    return os.statvfs_result((4096, BLOCK, *blocks, inodes, files + reserved, files, 0, 255))


class Machine:
    """A spool and recordings, each on a disk of its own, and a clock."""

    def __init__(self, floor: int = FLOOR) -> None:
        self.spool, self.recordings = Path("/spool"), Path("/data/recordings")
        self.disks = {self.spool: disk(FLOOR * 3), self.recordings: disk(FLOOR * 2)}
        self.gone: set[Path] = set()
        self.broken: dict[Path, int] = {}
        self.tried: list[tuple[float, Path]] = []
        self.now = 100.0
        self.room = Room(
            (self.spool, self.recordings),
            floor,
            statvfs=self._statvfs,
            probe=self._probe,
            clock=lambda: self.now,
        )
        self.room.on_room = lambda: self.found.append(self.now)
        self.found: list[float] = []
        """When there was room again."""

    def _statvfs(self, folder: Path) -> os.statvfs_result:
        if folder in self.gone:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.disks[folder]

    def _probe(self, folder: Path) -> None:
        self.tried.append((self.now, folder))
        if folder in self.broken:
            raise OSError(self.broken[folder], os.strerror(self.broken[folder]))

    def look(self, times: int = 1) -> str:
        """A look a second; the refusal after the last."""
        for _ in range(times):
            self.now += 1
            self.room.look()
        return self.room.refusal


@pytest.fixture
def machine(caplog: pytest.LogCaptureFixture) -> Machine:
    caplog.set_level(logging.INFO)
    return Machine()


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_with_room_everywhere_nothing_is_refused_and_nothing_said(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    assert machine.look(30) == ""
    assert (lines(caplog), machine.found) == ([], [])


@pytest.mark.parametrize("which", ["spool", "recordings"])
def test_below_the_floor_it_refuses_with_one_line_and_takes_back_with_another(
    machine: Machine, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    folder = getattr(machine, which)
    machine.disks[folder] = disk(FLOOR - BLOCK)
    refusal = f"{folder} has 99999000 of 5000000000 bytes free, fewer than disk_floor = 100000000"
    assert machine.look(30) == refusal
    assert machine.room.fault() == ""
    told = f"no recording is begun any more: {refusal}; mend that, or set disk_floor lower (0 = off), and they are"
    assert lines(caplog) == [("ERROR", f"{told} begun again")]
    assert machine.found == []
    machine.disks[folder] = disk(FLOOR * 2)
    assert machine.look(30) == ""
    ((level, again),) = lines(caplog)[1:]
    assert level == "INFO"
    assert again.startswith("recordings are begun again: /spool has ")
    assert f"{folder} has 200000000 bytes free" in again
    assert machine.found == [131.0]


def test_around_the_floor_it_says_nothing_more(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        machine.disks[machine.spool] = disk(FLOOR + (BLOCK if number % 2 else -BLOCK))
        assert "fewer than disk_floor" in machine.look()
    assert len(lines(caplog)) == 1
    machine.disks[machine.spool] = disk(round(FLOOR * AGAIN))
    assert machine.look() == ""
    machine.disks[machine.spool] = disk(FLOOR)
    assert machine.look() == ""


@given(
    frees=st.lists(st.integers(0, 3 * FLOOR), max_size=30),
    floor=st.sampled_from([0, 1, FLOOR]),
)
def test_it_refuses_below_the_floor_and_never_with_enough_above(frees: list[int], floor: int) -> None:
    machine = Machine(floor)
    for free in frees:
        machine.disks[machine.recordings] = found = disk(free)
        has = found.f_bavail * found.f_frsize
        refused = bool(machine.look())
        assert refused or has >= max(floor, LEAST)
        assert not refused or has < max(floor * AGAIN, LEAST * 2)


def test_what_is_reserved_for_root_is_not_free(machine: Machine) -> None:
    machine.disks[machine.spool] = disk(LEAST * 2, reserved=FLOOR * 9)
    assert "fewer than disk_floor" in machine.look()


@pytest.mark.parametrize(
    ("found", "floor", "short"),
    [
        (disk(FLOOR, files=FILES), FLOOR, False),
        (disk(FLOOR, files=FILES - 1), FLOOR, True),
        (disk(FLOOR, files=FILES - 1), 1, True),
        (disk(FLOOR, files=1), 0, False),
        (disk(0), 0, False),
        (disk(0, of=0), FLOOR, False),
    ],
    ids=["enough", "few inodes", "with any floor", "no floor, few inodes", "no floor, full", "counts no blocks"],
)
def test_what_is_too_little(found: os.statvfs_result, floor: int, short: bool) -> None:
    assert bool(shortage(Path("/spool"), found, floor)) is short


def test_a_floor_larger_than_the_disk_tells_its_size(machine: Machine) -> None:
    machine.disks[machine.spool] = disk(FLOOR - BLOCK, of=FLOOR)
    assert "has 99999000 of 100000000 bytes free, fewer than disk_floor = 100000000" in machine.look()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_a_fault_whatever_the_floor(
    caplog: pytest.LogCaptureFixture, number: int
) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine(floor=0)
    machine.broken[machine.spool] = number
    fault = f"/spool cannot be written: {os.strerror(number)}"
    assert machine.look(5) == fault
    assert machine.room.fault() == machine.room.fault(machine.spool) == fault
    assert machine.room.fault(machine.recordings) == ""
    assert lines(caplog) == [("ERROR", f"no recording is begun any more: {fault}; mend that, and they are begun again")]
    machine.broken.clear()
    assert machine.look(2) == ""
    assert [level for level, _ in lines(caplog)] == ["ERROR", "INFO"]
    assert machine.found == [107.0]


def test_a_disk_is_full_until_there_is_room_for_more_than_what_one_gives_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine(floor=0)
    for free in (0, LEAST - BLOCK, LEAST, 2 * LEAST - BLOCK):
        machine.disks[machine.spool] = full = disk(free)
        assert machine.look() == f"/spool is full: {full.f_bavail * BLOCK} bytes free"
        assert machine.room.fault(machine.spool) == machine.room.refusal
    machine.disks[machine.spool] = disk(2 * LEAST + BLOCK)
    assert machine.look() == ""
    assert [level for level, _ in lines(caplog)] == ["ERROR", "INFO"]
    machine.disks[machine.spool] = disk(0, of=0)
    assert machine.look() == ""


def test_a_folder_that_is_gone_is_noticed_at_the_next_look(machine: Machine) -> None:
    machine.look()
    machine.gone.add(machine.recordings)
    assert machine.look() == "/data/recordings cannot be written: No such file or directory"
    machine.gone.clear()
    assert machine.look() == ""


def test_a_file_is_written_now_and_then_and_at_every_look_while_that_fails(machine: Machine) -> None:
    machine.look(round(TRIED) * 2)
    assert machine.tried == [(at, folder) for at in (101.0, 111.0) for folder in (machine.spool, machine.recordings)]
    machine.look()
    machine.tried.clear()
    machine.broken[machine.spool] = errno.EROFS
    assert machine.look(round(TRIED)) != ""
    assert [at for at, _ in machine.tried[::2]] == [131.0]
    machine.look(3)
    assert [at for at, _ in machine.tried[::2]] == [131.0, 132.0, 133.0, 134.0]


def test_what_could_not_be_written_has_it_looked_into_at_once(machine: Machine) -> None:
    machine.look()
    machine.broken[machine.spool] = errno.ENOSPC
    assert machine.look() == ""
    machine.room.doubt()
    assert machine.look() == "/spool cannot be written: No space left on device"


def test_what_was_doubted_and_is_well_is_not_tried_again(machine: Machine) -> None:
    machine.look()
    machine.room.doubt()
    machine.look(5)
    assert [at for at, _ in machine.tried[::2]] == [101.0, 102.0]


def test_a_fault_that_leaves_too_little_room_behind_is_not_over(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.broken[machine.spool] = errno.ENOSPC
    machine.disks[machine.spool] = disk(FLOOR // 2)
    assert "cannot be written" in machine.look()
    machine.broken.clear()
    assert "cannot be written" in machine.look()
    assert "fewer than disk_floor" in machine.look()
    assert [level for level, _ in lines(caplog)] == ["ERROR", "ERROR"]
    assert (machine.found, machine.room.fault()) == ([], "")


def test_another_kind_of_reason_is_told_of(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.disks[machine.spool] = disk(FLOOR - BLOCK)
    machine.look(5)
    machine.broken[machine.spool] = errno.EROFS
    machine.look(20)
    fault = "/spool cannot be written: Read-only file system"
    told = f"still no recording is begun: {fault}; mend that, and they are begun again"
    assert lines(caplog)[1:] == [("ERROR", told)]


def test_a_quota_that_lets_one_through_now_and_then_is_used_up(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        machine.broken = {} if number % 2 else {machine.spool: errno.EDQUOT}
        assert machine.look() == f"/spool cannot be written: {os.strerror(errno.EDQUOT)}"
    assert machine.look() == ""
    assert [level for level, _ in lines(caplog)] == ["ERROR", "INFO"]
    assert machine.found == [121.0]


# ---- looking on and on


def until(condition: Callable[[], object]) -> None:
    with gevent.Timeout(10.0, AssertionError("waited in vain")):
        while not condition():
            gevent.sleep(0.001)


@pytest.fixture
def watching(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(room, "EVERY", 0.001)
    greenlet = gevent.spawn(machine.room.watch)
    yield machine
    greenlet.kill()


def test_a_look_that_fails_is_not_the_last(watching: Machine, caplog: pytest.LogCaptureFixture) -> None:
    failures = [RuntimeError("dictionary changed size")] * 3

    def failing() -> None:
        raise failures.pop()

    watching.room.on_room = failing
    for number in range(3):
        watching.disks[watching.spool] = disk(0)
        until(lambda: watching.room.refusal)
        watching.disks[watching.spool] = disk(FLOOR * 2)
        until(lambda left=2 - number: len(failures) == left)
    until(lambda: caplog.text.count("the disks could not be looked at") == 3)
    assert watching.room.refusal == ""


def test_a_disk_that_does_not_answer_is_a_reason_until_it_does(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(room, "EVERY", 0.001)
    monkeypatch.setattr(room, "LATE", 0.02)
    answers, asked = get_original("threading", "Event")(), []

    def hanging(folder: Path) -> os.statvfs_result:
        if folder == machine.recordings:
            asked.append(folder)
            answers.wait()
        return disk(FLOOR * 2)

    watched = Room((machine.spool, machine.recordings), FLOOR, statvfs=hanging, probe=lambda folder: None)
    again: list[bool] = []
    watched.on_room = lambda: again.append(True)
    greenlet = gevent.spawn(watched.watch)
    try:
        # The first look is late already, and nobody waits for it longer.
        with gevent.Timeout(10.0, AssertionError("it is still waited for")):
            watched.looked.wait()
        assert watched.refusal == "/data/recordings has not answered for 0.02 s"
        assert (watched.late, watched.fault(), len(asked), again) == (True, "", 1, [])
        answers.set()
        until(lambda: again)
        assert (watched.late, watched.refusal) == (False, "")
        assert [level for level, _ in lines(caplog)] == ["ERROR", "INFO"]
        assert "any more: /data/recordings has not answered for 0.02 s; mend that, and" in caplog.text
    finally:
        answers.set()
        greenlet.kill()


# ---- real folders


def test_of_a_file_that_was_written_nothing_stays(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.prepare()
    watched = Room((storage.spool_dir, storage.recordings), 0)
    watched.look()
    assert watched.refusal == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("make", [lambda folder: None, Path.touch], ids=["missing", "a file"])
def test_what_is_no_folder_cannot_be_written(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "spool")
    watched = Room((tmp_path / "spool",), 0)
    watched.look()
    assert watched.fault(tmp_path / "spool").startswith(f"{tmp_path}/spool cannot be written: N")


@pytest.mark.parametrize("unnamed", [True, False])
def test_what_is_written_has_no_name_anybody_could_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        monkeypatch.setattr(part, "_UNNAMED", 0)
    opened: list[tuple[str, int]] = []

    def opening(path: Path, flags: int, mode: int = 0o777) -> int:
        opened.append((path.name, flags))
        return real(path, flags, mode)

    real = os.open
    monkeypatch.setattr(os, "open", opening)
    for _ in range(2):
        write_probe(tmp_path)
    assert all(flags & os.O_EXCL for _, flags in opened)
    assert len({name for name, _ in opened}) == (1 if unnamed else 2)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_is_told_of_with_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    watched = Room((Path("spool"),), 0)
    watched.look()
    assert str(tmp_path / "spool") in watched.fault(tmp_path / "spool")
